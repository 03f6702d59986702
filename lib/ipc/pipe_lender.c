/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipe_lender.c: hands out copies of this process's ends to others of the family that hold a handle.
 *
 *	them: connect ─ handle ─> us: of our user? ours? ─ status, descriptor (SCM_RIGHTS) ─> them
 *
 * One thread with an abstract socket, so that nothing is left in the file system however we end. Its name is 128 random bits, which stand in
 * the family's memory alone; whoever connects must be of our user all the same. It runs while there are ends that somebody could ask for, and ends by itself: the
 * last to be closed may be a gift, which the thread closes.
 *
 * A program may close all descriptors: then the thread sleeps on what only it still has, touches nothing when it wakes, and goes; the next to make an end starts
 * another.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"
#include "core/service.h"
#include "ipc/pipe_end.h"

enum { PATIENCE_MS = 1000, FETCH_MS = 10000 };

static struct {
	pthread_mutex_t mutex;
	bool running;
	uint32_t ends;	  /* that may be asked for */
	uint64_t name[2];
	int listener, bell; /* bell: an eventfd; look at the count */
	struct fd_mark mark; /* of the listener: are the two still ours? */
} lender = { .mutex = PTHREAD_MUTEX_INITIALIZER, .listener = -1, .bell = -1 };

static socklen_t address_of(const uint64_t name[2], struct sockaddr_un *ret)
{
	int n;

	memset(ret, 0, sizeof *ret);
	ret->sun_family = AF_UNIX;
	n = snprintf(ret->sun_path + 1, sizeof ret->sun_path - 1, "crew-%016llx%016llx", (unsigned long long)name[0],
		     (unsigned long long)name[1]);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static bool of_our_user(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == geteuid();
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) > 0;
}

static void answer(int fd, int code, int lent)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { &code, sizeof code };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (lent >= 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof control.bytes;
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &lent, sizeof lent);
	}
	(void)sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT); /* an empty socket buffer has room for it */
}

static void serve(int fd)
{
	crew_handle handle;
	int lent;

	if (!of_our_user(fd) || !readable(fd, PATIENCE_MS) || recv(fd, &handle, sizeof handle, MSG_DONTWAIT) != sizeof handle)
		return;
	lent = crew__end_lend(handle);
	answer(fd, lent < 0 ? lent : 0, lent);
	if (lent >= 0)
		close(lent);
}

/* The mutex is held. */
static bool at_home(void)
{
	return lender.running && crew__fd_is(lender.listener, &lender.mark);
}

/* The mutex is held. */
static void ring(void)
{
	if (at_home())
		eventfd_write(lender.bell, 1);
}

/* Another has our place, or the descriptors are gone. */
static bool displaced(ino_t mine)
{
	bool gone;

	pthread_mutex_lock(&lender.mutex);
	gone = lender.mark.ino != mine || !at_home();
	if (gone && lender.mark.ino == mine)
		lender.running = false;
	if (gone)
		crew__service_leave();
	pthread_mutex_unlock(&lender.mutex);
	return gone;
}

/* Nothing to lend any more: true, and the next to make an end starts another. */
static bool retire(ino_t mine)
{
	bool last;

	pthread_mutex_lock(&lender.mutex);
	last = lender.ends == 0 && lender.mark.ino == mine && at_home();
	if (last) {
		close(lender.listener);
		close(lender.bell);
		lender.listener = lender.bell = -1;
		lender.running = false;
		crew__service_leave();
	}
	pthread_mutex_unlock(&lender.mutex);
	return last;
}

static void *lend(void *argument)
{
	struct pollfd fds[2] = { { .fd = lender.listener, .events = POLLIN }, { .fd = lender.bell, .events = POLLIN } };
	const ino_t mine = (ino_t)(uintptr_t)argument;
	eventfd_t count;

	do {
		poll(fds, 2, crew__ms_left(crew__end_expire()));
		if (displaced(mine))
			return NULL;
		if (fds[0].revents) {
			int fd = crew__fd_keep(accept4(lender.listener, NULL, NULL, SOCK_CLOEXEC));

			if (fd >= 0) {
				serve(fd);
				close(fd);
			}
		}
		if (fds[1].revents)
			(void)eventfd_read(lender.bell, &count);
		crew__end_expire();
	} while (!retire(mine));
	return NULL;
}

static int start(void)
{
	struct sockaddr_un address;
	int rc = 0;

	if (getrandom(lender.name, sizeof lender.name, 0) != sizeof lender.name)
		return -EAGAIN;
	lender.listener = crew__fd_keep(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	lender.bell = crew__fd_keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (lender.listener < 0 || lender.bell < 0 ||
	    bind(lender.listener, (struct sockaddr *)&address, address_of(lender.name, &address)) || listen(lender.listener, 128) ||
	    crew__fd_mark(lender.listener, &lender.mark))
		rc = -errno;
	if (rc == 0)
		rc = crew__service_start(NULL, lend, (void *)(uintptr_t)lender.mark.ino);
	lender.running = rc == 0;
	if (rc) {
		close(lender.listener);
		close(lender.bell);
		lender.listener = lender.bell = -1;
	}
	return rc;
}

int crew__lender_open(uint64_t ret_name[2])
{
	int rc;

	pthread_mutex_lock(&lender.mutex);
	rc = at_home() ? 0 : start();
	if (rc == 0) {
		lender.ends++;
		memcpy(ret_name, lender.name, sizeof lender.name);
	}
	pthread_mutex_unlock(&lender.mutex);
	return rc;
}

void crew__lender_close(void)
{
	pthread_mutex_lock(&lender.mutex);
	if (--lender.ends == 0)
		ring();
	pthread_mutex_unlock(&lender.mutex);
}

void crew__lender_look(void)
{
	pthread_mutex_lock(&lender.mutex);
	ring();
	pthread_mutex_unlock(&lender.mutex);
}

void crew__lender_forked(void)
{
	pthread_mutex_init(&lender.mutex, NULL);
	if (at_home()) {
		close(lender.listener);
		close(lender.bell);
	}
	lender.listener = lender.bell = -1;
	lender.running = false;
	lender.ends = 0;
}

/* ---- the other side ---- */

static int fetched(int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	int code = CREW_ECLOSED, lent = -1;
	struct iovec iov = { &code, sizeof code };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
	struct cmsghdr *c;

	if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != sizeof code)
		return CREW_ECLOSED;
	c = CMSG_FIRSTHDR(&message);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&lent, CMSG_DATA(c), sizeof lent);
	return code ? code : lent < 0 ? -EMFILE : lent;
}

int crew__lender_fetch(const struct end_object *object, crew_handle handle)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), rc;
	struct sockaddr_un address;

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, address_of(object->lender, &address)))
		rc = errno == ECONNREFUSED ? CREW_ECLOSED : -errno;
	else if (!of_our_user(fd))
		rc = CREW_ECLOSED;
	else if (send(fd, &handle, sizeof handle, MSG_NOSIGNAL) != sizeof handle)
		rc = CREW_ECLOSED;
	else
		rc = readable(fd, FETCH_MS) ? fetched(fd) : -ETIMEDOUT;
	close(fd);
	return rc;
}
