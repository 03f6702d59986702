/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ready.c: waiting for things of several kinds: everything becomes a descriptor, and poll() does the rest.
 *
 * Futures have none of their own: a callback of each rings one eventfd, and is taken back at the end, so that a loop of short waits leaves nothing behind.
 */
#include <crew/pipe.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"
#include "core/context.h"
#include "core/waiting.h"
#include "ipc/pipe_end.h"
#include "ipc/queue_memory.h"

enum kind { ON_FD = 1, ON_PIPE, ON_QUEUE, ON_FUTURE };

struct watcher {
	struct callback cb;
	bool subscribed;
};

struct wait_set {
	crew_waitable *things;
	size_t n;
	int bell; /* of futures; -1: there are none */
	struct pollfd *fds;
	struct watcher *watchers;
};

crew_waitable crew_on_fd(int fd)
{
	return (crew_waitable){ .kind = ON_FD, .fd = fd };
}

crew_waitable crew_on_pipe(crew_pipe p)
{
	return (crew_waitable){ .kind = ON_PIPE, .handle = p.handle };
}

crew_waitable crew_on_queue(crew_queue q)
{
	return (crew_waitable){ .kind = ON_QUEUE, .handle = q.handle };
}

crew_waitable crew_on_future(crew_future *f)
{
	return (crew_waitable){ .kind = ON_FUTURE, .future = f };
}

/* ---- is it ready? ---- */

static bool future_done(crew_future *f)
{
	return !f || crew__check(f) || crew__done(f) || (crew__context && crew__help(f));
}

/* Something to get; if its descriptor only says so because others were faster, that is set right. */
static bool queue_ready(crew_queue q)
{
	int n = crew__queue_state(q);

	if (n == 0)
		crew__queue_watch_empty(q.handle);
	return n != 0;
}

static bool thing_ready(const struct wait_set *set, size_t i)
{
	const crew_waitable *w = &set->things[i];

	switch (w->kind) {
	case ON_PIPE:
		return crew_pipe_poll((crew_pipe){ w->handle }, 0) != -EAGAIN;
	case ON_QUEUE:
		return queue_ready((crew_queue){ w->handle });
	case ON_FUTURE:
		return future_done(w->future);
	default:
		return w->fd < 0 || set->fds[i].revents != 0;
	}
}

static int count_ready(const struct wait_set *set)
{
	int n = 0;

	for (size_t i = 0; i < set->n; i++) {
		set->things[i].ready = thing_ready(set, i);
		n += set->things[i].ready;
	}
	return n;
}

/* ---- what to poll ---- */

static void rung(crew_future *f, void *arg)
{
	(void)f;
	eventfd_write(*(int *)arg, 1);
}

static int watch_future(struct wait_set *set, size_t i)
{
	crew_future *f = set->things[i].future;
	struct watcher *w = &set->watchers[i];
	int rc;

	if (future_done(f))
		return 0;
	if (set->bell < 0) {
		set->bell = crew__fd_keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
		if (set->bell < 0)
			return set->bell;
		set->fds[set->n] = (struct pollfd){ .fd = set->bell, .events = POLLIN };
	}
	w->cb = (struct callback){ .fn = rung, .arg = &set->bell, .embedded = true };
	rc = crew__subscribe(f, &w->cb);
	w->subscribed = rc == 0;
	return rc > 0 ? 0 : rc;
}

static int watch(struct wait_set *set, size_t i)
{
	const crew_waitable *w = &set->things[i];
	int fd;

	switch (w->kind) {
	case ON_FD:
		fd = w->fd;
		break;
	case ON_PIPE:
		fd = crew_pipe_fd((crew_pipe){ w->handle });
		break;
	case ON_QUEUE:
		fd = crew_queue_fd((crew_queue){ w->handle });
		break;
	case ON_FUTURE:
		return watch_future(set, i);
	default:
		return -EINVAL;
	}
	set->fds[i] = (struct pollfd){ .fd = fd, .events = POLLIN };
	return fd < 0 && (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -EAGAIN) ? fd : 0;
}

static void close_set(struct wait_set *set)
{
	for (size_t i = 0; set->watchers && i < set->n; i++) {
		struct watcher *w = &set->watchers[i];

		if (w->subscribed)
			crew__unsubscribe(set->things[i].future, &w->cb); /* waits for one that is running */
	}
	if (set->bell >= 0)
		close(set->bell);
	free(set->fds);
	free(set->watchers);
}

static int open_set(struct wait_set *set)
{
	int rc = 0;

	set->fds = calloc(set->n + 1, sizeof *set->fds);
	set->watchers = calloc(set->n + 1, sizeof *set->watchers);
	if (!set->fds || !set->watchers)
		return -ENOMEM;
	for (size_t i = 0; i <= set->n; i++)
		set->fds[i].fd = -1;
	for (size_t i = 0; i < set->n && rc == 0; i++)
		rc = watch(set, i);
	return rc;
}

static int wait_on(struct wait_set *set, uint64_t deadline)
{
	for (;;) {
		eventfd_t count;
		int n;

		n = poll(set->fds, set->n + 1, 0);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (set->bell >= 0)
			(void)eventfd_read(set->bell, &count); /* before the look at what it stands for */
		n = count_ready(set);
		if (n || crew__now() >= deadline)
			return n;
		if (poll(set->fds, set->n + 1, crew__ms_left(deadline)) < 0 && errno != EINTR)
			return -errno;
	}
}

int crew_wait_ready(crew_waitable *things, size_t n, int ms)
{
	struct wait_set set = { .things = things, .n = n, .bell = -1 };
	uint64_t deadline = crew__deadline(ms);
	int rc;

	if ((!things && n) || n > 1 << 20)
		return -EINVAL;
	rc = open_set(&set);
	if (rc == 0)
		rc = wait_on(&set, deadline);
	close_set(&set);
	return rc;
}
