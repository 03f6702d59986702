/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * parcel.c: sendmsg and recvmsg with descriptors, and nothing lost on any way out.
 *
 * The kernel hands descriptors over before we can say how many we want: what arrives beyond that, or with a message that is refused, is closed here.
 */
#include "process/parcel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/descriptor.h"

#include "base/clock.h"

union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(PARCEL_FDS_MAX * sizeof(int))];
};

int crew__parcel_pair(int ret[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret))
		return -errno;
	for (int i = 0; i < 2; i++)
		ret[i] = crew__fd_keep(ret[i]);
	if (ret[0] >= 0 && ret[1] >= 0)
		return 0;
	for (int i = 0; i < 2; i++)
		if (ret[i] >= 0)
			close(ret[i]);
	return -EMFILE;
}

int crew__parcel_send(int socket, bool wait, const struct iovec *iov, size_t iov_count, const int *fds, uint32_t fd_count)
{
	union control control = { 0 };
	struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = iov_count };

	if (fd_count > PARCEL_FDS_MAX)
		return -E2BIG;
	if (fd_count) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(fd_count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
	}
	while (sendmsg(socket, &message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT)) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* All that came along, ours or not. False: one could not be moved from 0, 1 or 2. */
static bool collect(struct msghdr *message, int *fds, uint32_t room, uint32_t *ret_count)
{
	uint32_t count = 0;
	bool good = !(message->msg_flags & (MSG_TRUNC | MSG_CTRUNC));

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		uint32_t n = c->cmsg_type == SCM_RIGHTS ? (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)) : 0;

		for (uint32_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			fd = crew__fd_keep(fd);
			if (fd >= 0 && count < room)
				fds[count++] = fd;
			else if (fd >= 0)
				close(fd);
			good &= fd >= 0;
		}
	}
	*ret_count = count;
	return good;
}

long crew__parcel_receive(int socket, bool wait, void *data, size_t size, int *fds, uint32_t fds_room, uint32_t *ret_fd_count)
{
	union control control;
	struct iovec iov = { data, size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	ssize_t n;

	*ret_fd_count = 0;
	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (n <= 0)
		return -EPIPE; /* nobody sends an empty one */
	if (collect(&message, fds, fds_room, ret_fd_count))
		return n;
	while (*ret_fd_count > 0)
		close(fds[--*ret_fd_count]);
	return -EMSGSIZE;
}

int crew__parcel_await(int fd, int ms)
{
	uint64_t deadline = crew__deadline(ms);
	struct pollfd ready = { fd, POLLIN, 0 };

	for (;;) {
		uint64_t now = crew__now();
		int rc = poll(&ready, 1, deadline == NEVER ? -1 : now >= deadline ? 0 : (int)((deadline - now) / MS_TO_NS) + 1);

		if (rc > 0)
			return 0;
		if (deadline != NEVER && crew__now() >= deadline)
			return -ETIMEDOUT;
	}
}
