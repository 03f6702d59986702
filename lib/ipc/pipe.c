/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipe.c: sending and receiving.
 *
 *	up to INLINE_MOST bytes:  one packet: head, bytes
 *	more:			  one packet: head, and a memory file with the bytes (SCM_RIGHTS)
 *	a descriptor:		  one packet: head, and that
 *
 * A packet comes whole or not at all, and to one: so nobody is left with half a message, whoever is killed, and any number may send and receive. (Connections
 * over TCP are pipe_stream.c's.) A receive takes the packet in one call, straight into the user's buffer; what does not fit there goes to
 * the end's own, and stays as `waiting` for the next receive.
 *
 * Who sleeps in poll() takes tens of microseconds to wake, and waking him costs the sender ten times the message. So a receiver that finds nothing looks
 * a few times more before it sleeps; for how long it learns: longer after a look that was worth it, shorter after a vain one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/descriptor.h"
#include "core/context.h"
#include "ipc/pipe_end.h"

enum { INLINE_MOST = 64 << 10, PATIENCE_MOST = 20000, PATIENCE_LEAST = 300, PAUSES = 32 };

int crew__fd_await(int fd, short events, uint64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		int n = deadline == 0 ? 0 : poll(&p, 1, crew__ms_left(deadline));

		if (n > 0)
			return 0;
		if (n == 0 && (deadline == 0 || crew__now() >= deadline))
			return deadline == 0 ? -EAGAIN : -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* 0 means: do not wait. */
static uint64_t deadline_of(int ms)
{
	return ms == 0 ? 0 : crew__deadline(ms);
}

int crew_pipe_make(crew_pipe ret[2], unsigned flags)
{
	int fds[2], rc = 0;

	if (!ret)
		return -EINVAL;
	if (flags & ~(unsigned)CREW_PIPE_ONEWAY)
		rc = -EINVAL;
	else if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		rc = -errno;
	if (rc) {
		ret[0] = ret[1] = (crew_pipe){ crew__handle_failed(rc) };
		return rc;
	}
	ret[0] = crew__end_make(fds[0], END_RECEIVES | (flags & CREW_PIPE_ONEWAY ? 0 : END_SENDS));
	ret[1] = crew__end_make(fds[1], END_SENDS | (flags & CREW_PIPE_ONEWAY ? 0 : END_RECEIVES));
	for (int i = 0; i < 2 && rc == 0; i++)
		rc = crew_handle_error(ret[i]);
	if (rc) {
		crew_pipe_drop(ret[0]);
		crew_pipe_drop(ret[1]);
		ret[0] = ret[1] = (crew_pipe){ crew__handle_failed(rc) };
	}
	return rc;
}

/* ---- descriptors in packets ---- */

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int))];
};

static void enclose(struct msghdr *message, union control *control, int fd)
{
	struct cmsghdr *c;

	memset(control, 0, sizeof *control);
	message->msg_control = control->bytes;
	message->msg_controllen = sizeof control->bytes;
	c = CMSG_FIRSTHDR(message);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
}

/* The descriptor that came, never 0, 1 or 2; -1: none did; -EMFILE: it did not fit into our table. */
static int enclosed(struct msghdr *message)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(message);
	int fd;

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return message->msg_flags & MSG_CTRUNC ? -EMFILE : -1;
	memcpy(&fd, CMSG_DATA(c), sizeof fd);
	fd = crew__fd_keep(fd);
	return fd < 0 ? -EMFILE : fd;
}

/* ---- sending ---- */

static int send_packet(struct pipe_end *e, enum frame_kind kind, const void *data, size_t n, int fd, uint64_t deadline)
{
	unsigned char head[FRAME_HEAD];
	struct iovec iov[2] = { { head, sizeof head }, { (void *)(uintptr_t)data, n } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = kind == FRAME_DATA && n ? 2 : 1 };
	union control control;

	crew__frame_write(head, kind, n);
	if (fd >= 0)
		enclose(&message, &control, fd);
	for (;;) {
		int rc = 0;

		if (sendmsg(e->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EAGAIN)
			rc = crew__fd_await(e->fd, POLLOUT, deadline);
		else if (errno != EINTR)
			rc = errno == ECONNRESET ? -EPIPE : -errno;
		if (rc)
			return rc;
	}
}

static int write_all(int fd, const unsigned char *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n < (1u << 30) ? n : 1u << 30);

		if (k < 0 && errno != EINTR)
			return -errno;
		if (k > 0) {
			p += k;
			n -= (size_t)k;
		}
	}
	return 0;
}

/* In a memory file. Beyond the limit of file sizes a write is a signal, which nobody wants. */
static int send_large(struct pipe_end *e, const void *data, size_t n, uint64_t deadline)
{
	struct rlimit limit;
	int fd, rc;

	if (e->flags & END_FOREIGN && n > FRAME_MOST)
		return -EMSGSIZE;
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && n > limit.rlim_cur)
		return -EFBIG;
	fd = crew__fd_keep(memfd_create("crew-message", MFD_CLOEXEC));
	if (fd < 0)
		return fd;
#ifdef CREW_FAULT_TORN_MESSAGE
	rc = send_packet(e, FRAME_LARGE, NULL, n, fd, deadline);
	if (rc == 0)
		rc = write_all(fd, data, n);
#else
	rc = write_all(fd, data, n);
	if (rc == 0)
		rc = send_packet(e, FRAME_LARGE, NULL, n, fd, deadline);
#endif
	close(fd);
	return rc == -ENOSPC ? -ENOMEM : rc;
}

static int send_bytes(struct pipe_end *e, const void *data, size_t n, uint64_t deadline)
{
	int rc;

	if (e->flags & END_STREAM) {
		pthread_mutex_lock(&e->sending);
		rc = crew__stream_send(e, data, n, deadline);
		pthread_mutex_unlock(&e->sending);
		return rc;
	}
	rc = n <= INLINE_MOST ? send_packet(e, FRAME_DATA, data, n, -1, deadline) : -EMSGSIZE;
	return rc == -EMSGSIZE ? send_large(e, data, n, deadline) : rc; /* also where socket buffers are tiny */
}

/* The end, if it goes that way. */
static struct pipe_end *end_for(crew_pipe p, uint32_t way, int *ret)
{
	struct pipe_end *e = crew__end_get(p, ret);

	if (!e || e->flags & way)
		return e;
	crew__end_put(e);
	*ret = -EBADF;
	return NULL;
}

int crew_pipe_send(crew_pipe p, const void *data, size_t n, int ms)
{
	struct pipe_end *e;
	int rc;

	if (!data && n)
		return -EINVAL;
	e = end_for(p, END_SENDS, &rc);
	if (!e)
		return rc;
	rc = send_bytes(e, data, n, deadline_of(ms));
	crew__end_put(e);
	return rc;
}

int crew_pipe_send_fd(crew_pipe p, int fd, int ms)
{
	struct pipe_end *e;
	int rc;

	if (fd < 0)
		return -EBADF;
	e = end_for(p, END_SENDS, &rc);
	if (!e)
		return rc;
	rc = e->flags & END_STREAM ? -ENOTSUP : send_packet(e, FRAME_FD, NULL, 0, fd, deadline_of(ms));
	crew__end_put(e);
	return rc;
}

/* ---- receiving ---- */

void crew__parcel_drop(struct parcel *parcel)
{
	if (!parcel->there)
		return;
	free(parcel->data);
	if (parcel->fd >= 0)
		close(parcel->fd);
	*parcel = (struct parcel){ .fd = -1 };
}

/* Keep what is too long for the user: the part in his buffer, and the rest, which is in ours already. Both together fit there. */
static void keep(struct pipe_end *e, const struct frame *frame, const void *data, size_t n)
{
	if (n) {
		memmove(e->body + n, e->body, frame->length - n);
		memcpy(e->body, data, n);
	}
	e->waiting = (struct parcel){ true, *frame, e->body, -1 };
	e->body = NULL;
}

static int recv_raw(int fd, struct msghdr *message)
{
	int resets = 0;

	for (;;) {
		ssize_t n = recvmsg(fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n > 0)
			return (int)n;
		if (n == 0)
			return CREW_ECLOSED;
		if (errno == ECONNRESET && resets++ == 0)
			continue; /* they went without reading all; what they sent before is still there */
		if (errno != EINTR)
			return errno == ECONNRESET ? CREW_ECLOSED : -errno;
	}
}

/* A packet into the user's n bytes: how many they are; or into e->waiting: 0 and *ret_kept. */
static ssize_t recv_packet(struct pipe_end *e, void *data, size_t n, bool *ret_kept)
{
	unsigned char head[FRAME_HEAD], whole[FRAME_HEAD];
	size_t direct = n < INLINE_MOST ? n : INLINE_MOST;
	struct iovec iov[3] = { { head, sizeof head }, { data, direct }, { NULL, INLINE_MOST - direct } };
	union control control;
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 3, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
	struct frame frame;
	int got, fd, rc;

	if (!e->body)
		e->body = malloc(INLINE_MOST); /* touched only by what is too long */
	if (!e->body)
		return -ENOMEM;
	iov[2].iov_base = e->body;
	got = recv_raw(e->fd, &message);
	if (got < 0)
		return got;
	fd = enclosed(&message);
	memcpy(whole, head, sizeof whole);
	rc = crew__frame_packet(whole, (size_t)got, e->flags & END_FOREIGN ? FRAME_MOST : SIZE_MAX / 2, &frame);
	if (rc == 0 && (frame.kind > FRAME_FD || (frame.kind == FRAME_DATA) != (fd == -1)))
		rc = fd == -EMFILE ? -EMFILE : CREW_EPROTO;
	if (rc || frame.kind == FRAME_DATA) {
		if (fd >= 0)
			close(fd);
		if (rc == 0 && frame.length <= direct)
			return (ssize_t)frame.length;
		*ret_kept = rc == 0;
		if (rc == 0)
			keep(e, &frame, data, direct);
		return rc;
	}
	e->waiting = (struct parcel){ true, frame, NULL, fd };
	*ret_kept = true;
	return 0;
}

static int read_all(int fd, unsigned char *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t k = pread(fd, p + done, n - done < (1u << 30) ? n - done : 1u << 30, (off_t)done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return CREW_EPROTO; /* not the file that it should be */
		done += (size_t)k;
	}
	return 0;
}

/* Is the file as large as the frame says? Before memory is found for it. */
static bool as_large_as_said(const struct parcel *parcel)
{
	struct stat st;

	return parcel->frame.kind != FRAME_LARGE ||
	       (fstat(parcel->fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size >= parcel->frame.length);
}

static int unpack(struct parcel *parcel, unsigned char *to)
{
	int rc = 0;

	if (parcel->frame.kind == FRAME_LARGE)
		rc = read_all(parcel->fd, to, parcel->frame.length);
	else if (parcel->frame.length)
		memcpy(to, parcel->data, parcel->frame.length);
	crew__parcel_drop(parcel);
	return rc;
}

/* Have a message in e->waiting; with `data`, it may also be put there, and *ret_n says so. 0; -EAGAIN; the end, an error. */
static int pull(struct pipe_end *e, void *data, size_t n, ssize_t *ret_n)
{
	bool kept = false;
	ssize_t got;

	*ret_n = -1;
	if (e->waiting.there)
		return 0;
	if (e->flags & END_STREAM)
		return crew__stream_recv(e);
	got = recv_packet(e, data, n, &kept);
	if (got < 0)
		return (int)got;
	if (!kept)
		*ret_n = got;
	else if (!as_large_as_said(&e->waiting)) {
		crew__parcel_drop(&e->waiting);
		return CREW_EPROTO;
	}
	return 0;
}

/* As pull; e->receiving is held on success. */
static int pull_once(struct pipe_end *e, void *data, size_t n, ssize_t *ret_n)
{
	int rc;

	pthread_mutex_lock(&e->receiving);
	rc = pull(e, data, n, ret_n);
	if (rc)
		pthread_mutex_unlock(&e->receiving);
	return rc;
}

/* As pull_once, for a while. */
static int pull_eagerly(struct pipe_end *e, void *data, size_t n, ssize_t *ret_n, uint64_t deadline)
{
	uint32_t patience = ck_pr_load_32(&e->patience);
	uint64_t start = crew__now(), now = start;
	bool probe = (start & 0xf00) == 0; /* one in 16: has the other side become quick? */
	int rc = -EAGAIN;

	if (patience == 0 || probe)
		patience = PATIENCE_MOST;
	while (rc == -EAGAIN && now - start < patience && now < deadline) {
		for (int i = 0; i < PAUSES; i++)
			ck_pr_stall(); /* each look takes the socket from the sender */
		rc = pull_once(e, data, n, ret_n);
		now = crew__now();
	}
	if (rc == -EAGAIN)
		patience = patience / 2 > PATIENCE_LEAST ? patience / 2 : PATIENCE_LEAST;
	else
		patience = patience * 2 < PATIENCE_MOST ? patience * 2 : PATIENCE_MOST;
	ck_pr_store_32(&e->patience, patience);
	return rc;
}

/* Until pull has something; e->receiving is held on success. */
static int pull_within(struct pipe_end *e, void *data, size_t n, ssize_t *ret_n, uint64_t deadline)
{
	int rc = pull_once(e, data, n, ret_n);

	if (rc == -EAGAIN && deadline != 0 && !(e->flags & END_STREAM) && crew__cpu_to_spare())
		rc = pull_eagerly(e, data, n, ret_n, deadline);
	while (rc == -EAGAIN) {
		rc = crew__fd_await(e->fd, POLLIN, deadline);
		if (rc)
			break;
		rc = pull_once(e, data, n, ret_n);
	}
	return rc;
}

ssize_t crew_pipe_recv(crew_pipe p, void *data, size_t n, int ms)
{
	struct pipe_end *e;
	ssize_t got;
	int rc;

	if (!data && n)
		return -EINVAL;
	e = end_for(p, END_RECEIVES, &rc);
	if (!e)
		return rc;
	rc = pull_within(e, data, n, &got, deadline_of(ms));
	if (rc == 0) {
		if (got < 0) {
			uint64_t length = e->waiting.frame.length;

			rc = e->waiting.frame.kind == FRAME_FD ? CREW_ETYPE : length > n ? -EMSGSIZE : unpack(&e->waiting, data);
			got = rc ? rc : (ssize_t)length;
		}
		pthread_mutex_unlock(&e->receiving);
	}
	crew__end_put(e);
	return rc ? rc : got;
}

int crew_pipe_recv_bytes(crew_pipe p, crew_bytes *ret, int ms)
{
	struct block *block = NULL;
	struct pipe_end *e;
	uint64_t length = 0;
	ssize_t got;
	int rc;

	if (!ret)
		return -EINVAL;
	e = end_for(p, END_RECEIVES, &rc);
	if (!e)
		return rc;
	rc = pull_within(e, NULL, 0, &got, deadline_of(ms));
	if (rc == 0) {
		length = got >= 0 ? 0 : e->waiting.frame.length;
		if (got < 0 && e->waiting.frame.kind == FRAME_FD)
			rc = CREW_ETYPE;
		else if (!(block = crew__block_new(length)))
			rc = -ENOMEM;
		else if (got < 0)
			rc = unpack(&e->waiting, block->data);
		pthread_mutex_unlock(&e->receiving);
	}
	crew__end_put(e);
	if (rc)
		crew__block_free(block);
	else
		*ret = (crew_bytes){ block->data, length };
	return rc;
}

int crew_pipe_recv_fd(crew_pipe p, int ms)
{
	struct pipe_end *e;
	ssize_t got;
	int rc, fd = -1;

	e = end_for(p, END_RECEIVES, &rc);
	if (!e)
		return rc;
	rc = pull_within(e, NULL, 0, &got, deadline_of(ms));
	if (rc == 0) {
		if (got >= 0) /* an empty message: put it back */
			e->waiting = (struct parcel){ true, { FRAME_DATA, 0 }, NULL, -1 };
		if (e->waiting.frame.kind == FRAME_FD) {
			fd = e->waiting.fd;
			e->waiting.fd = -1;
			crew__parcel_drop(&e->waiting);
		} else {
			rc = CREW_ETYPE;
		}
		pthread_mutex_unlock(&e->receiving);
	}
	crew__end_put(e);
	return rc ? rc : fd;
}

/* ---- looking ---- */

/* Something waits for the user. */
static bool has_waiting(struct pipe_end *e)
{
	bool there;

	pthread_mutex_lock(&e->receiving);
	there = e->waiting.there;
	pthread_mutex_unlock(&e->receiving);
	return there;
}

int crew_pipe_poll(crew_pipe p, int ms)
{
	struct pipe_end *e;
	int rc;

	e = end_for(p, END_RECEIVES, &rc);
	if (!e)
		return rc;
	if (!has_waiting(e)) {
		rc = crew__fd_await(e->fd, POLLIN, crew__deadline(ms));
		rc = rc == -ETIMEDOUT && ms == 0 ? -EAGAIN : rc;
	}
	crew__end_put(e);
	return rc;
}

static ssize_t look(crew_pipe p, bool skip)
{
	struct pipe_end *e;
	ssize_t got, length;
	int rc;

	e = end_for(p, END_RECEIVES, &rc);
	if (!e)
		return rc;
	rc = pull_within(e, NULL, 0, &got, 0);
	if (rc) {
		crew__end_put(e);
		return rc;
	}
	if (got >= 0)
		e->waiting = (struct parcel){ true, { FRAME_DATA, 0 }, NULL, -1 };
	length = (ssize_t)e->waiting.frame.length;
	if (skip)
		crew__parcel_drop(&e->waiting);
	pthread_mutex_unlock(&e->receiving);
	crew__end_put(e);
	return length;
}

ssize_t crew_pipe_next_size(crew_pipe p)
{
	return look(p, false);
}

int crew_pipe_skip(crew_pipe p)
{
	ssize_t length = look(p, true);

	return length < 0 ? (int)length : 0;
}

int crew_pipe_fd(crew_pipe p)
{
	struct pipe_end *e;
	int rc, fd;

	e = crew__end_get(p, &rc);
	if (!e)
		return rc;
	fd = e->fd;
	crew__end_put(e);
	return fd;
}
