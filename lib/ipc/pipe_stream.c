/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipe_stream.c: messages over TCP, where bytes come in any pieces.
 *
 * What has come of a frame stays with the end between calls, so a receive may give up at any point. A body grows as its bytes come, at most
 * GROW ahead of them: a length that somebody claims costs nothing. A send that gives up within a frame has spoilt the stream: it is closed.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "ipc/pipe_end.h"

enum { GROW = 64 << 10 };

static void advance(struct iovec *iov, int count, size_t n)
{
	for (int i = 0; i < count && n; i++) {
		size_t k = n < iov[i].iov_len ? n : iov[i].iov_len;

		iov[i].iov_base = (char *)iov[i].iov_base + k;
		iov[i].iov_len -= k;
		n -= k;
	}
}

int crew__stream_send(struct pipe_end *e, const void *data, size_t n, uint64_t deadline)
{
	unsigned char head[FRAME_HEAD];
	struct iovec iov[2] = { { head, sizeof head }, { (void *)(uintptr_t)data, n } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };
	size_t left = sizeof head + n;

	if (e->broken)
		return -EPIPE;
	if (n > FRAME_MOST)
		return -EMSGSIZE;
	crew__frame_write(head, FRAME_DATA, n);
	while (left) {
		ssize_t k = sendmsg(e->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		int rc = 0;

		if (k >= 0) {
			advance(iov, 2, (size_t)k);
			left -= (size_t)k;
		} else if (errno == EAGAIN) {
			rc = crew__fd_await(e->fd, POLLOUT, deadline);
		} else if (errno != EINTR) {
			rc = errno == ECONNRESET ? -EPIPE : -errno;
		}
		if (rc && left == sizeof head + n)
			return rc;
		if (rc) {
			e->broken = true;
			shutdown(e->fd, SHUT_RDWR);
			return rc;
		}
	}
	return 0;
}

/* Up to n bytes: how many; 0 is the end. */
static ssize_t some(int fd, void *p, size_t n)
{
	ssize_t k;

	do
		k = recv(fd, p, n, MSG_DONTWAIT);
	while (k < 0 && errno == EINTR);
	if (k < 0)
		return errno == ECONNRESET ? CREW_ECLOSED : -errno;
	return k ? k : CREW_ECLOSED;
}

static int spoilt(struct pipe_end *e)
{
	e->spoilt = true;
	shutdown(e->fd, SHUT_RDWR);
	return CREW_EPROTO;
}

static int recv_head(struct pipe_end *e)
{
	while (e->have < FRAME_HEAD) {
		ssize_t k = some(e->fd, e->head + e->have, FRAME_HEAD - e->have);

		if (k < 0)
			return e->have && k == CREW_ECLOSED ? CREW_EPROTO : (int)k;
		e->have += (size_t)k;
	}
	if (crew__frame_read(e->head, FRAME_HEAD, FRAME_MOST, &e->frame) || e->frame.kind != FRAME_DATA)
		return spoilt(e);
	return 0;
}

static int room_for_more(struct pipe_end *e, size_t done)
{
	size_t want = done + GROW < e->frame.length ? done + GROW : (size_t)e->frame.length;
	unsigned char *body;

	if (e->body && want <= e->capacity)
		return 0;
	if (want < e->capacity * 2 && e->capacity * 2 <= e->frame.length)
		want = e->capacity * 2;
	body = realloc(e->body, want + 1);
	if (!body)
		return -ENOMEM;
	e->body = body;
	e->capacity = want;
	return 0;
}

int crew__stream_recv(struct pipe_end *e)
{
	int rc = e->spoilt ? CREW_EPROTO : e->have < FRAME_HEAD ? recv_head(e) : 0;

	while (rc == 0 && e->have - FRAME_HEAD < e->frame.length) {
		size_t done = e->have - FRAME_HEAD;
		ssize_t k;

		rc = room_for_more(e, done);
		if (rc)
			break;
		k = some(e->fd, e->body + done, (e->capacity < e->frame.length ? e->capacity : (size_t)e->frame.length) - done);
		if (k < 0)
			rc = k == CREW_ECLOSED ? CREW_EPROTO : (int)k;
		else
			e->have += (size_t)k;
	}
	if (rc)
		return rc;
	e->waiting = (struct parcel){ true, e->frame, e->body, -1 };
	e->body = NULL;
	e->capacity = e->have = 0;
	return 0;
}
