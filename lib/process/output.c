/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * output.c: what workers write to stderr passes through here, so that the last of it can be told with a worker's death.
 *
 *	worker's fd 2 ─pipe─> engine ─┬─> the program's stderr, as it was at the open
 *	                              └─> tail: its last bytes, for crew_error.output
 *
 * Nothing is invented and nothing held up: bytes go on as they come, in order for each worker. When stderr does not take any more, what was read is held and no
 * more is read; a worker's pipe runs full and it waits in its write, as it would have on stderr itself. The engine never does: it writes without blocking,
 * and asks epoll to say when there is room. Only a death is not waited for: what a dead worker left in its pipe is read at once, and held.
 *
 * A pipe of a dead worker that somebody else has open, a process that its task had started, is an orphan: its bytes go on, to nobody's tail.
 *
 * All of this is the engine's but the tails, which are guarded by the lock. Before the engine runs, bytes are held.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "process/process_executor.h"

enum {
	CHUNK = 64 << 10, /* all that fits into a pipe: so it ends where a write did, and lines stay whole */
	HELD_MAX = 1 << 20,
	FLUSH_MS = 1000,
	ORPHANS = WORKERS_MAX, /* in epoll, an orphan is this and its descriptor */
};

/* ---- the program's stderr ---- */

/* A description of our own that does not block, where there can be one. A file's must be shared, it has the place where to write; files do not block. */
static int open_target(struct relay *r)
{
	struct stat st;
	int fd = -1;

	if (fstat(STDERR_FILENO, &st))
		return -1;
	r->socket = S_ISSOCK(st.st_mode);
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
		fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	r->shared = fd < 0;
	return crew__fd_keep(fd >= 0 ? fd : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
}

/* Does it take some now? A shared description may block, but not for what fits into a pipe that says that it has room. */
static bool has_room(const struct relay *r)
{
	struct pollfd target = { r->target, POLLOUT, 0 };

	return !r->shared || r->socket || poll(&target, 1, 0) == 1;
}

/* Others write there, too: not in the middle of a line. */
static size_t whole_lines(const unsigned char *bytes, size_t n)
{
	const unsigned char *end = memrchr(bytes, '\n', n);

	return end ? (size_t)(end - bytes) + 1 : n;
}

/* How many of n bytes it took, 0: none now. Those that it will never take (its reader is gone, its disk is full) count as taken. SIGPIPE is
   blocked in the engine. */
static size_t put(const struct relay *r, const unsigned char *bytes, size_t n)
{
	ssize_t taken;

	if (r->target < 0)
		return n;
	if (!has_room(r))
		return 0;
	n = n < PIPE_BUF ? n : whole_lines(bytes, PIPE_BUF);
	do
		taken = r->socket ? send(r->target, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(r->target, bytes, n);
	while (taken < 0 && errno == EINTR);
	if (taken < 0)
		return errno == EAGAIN ? 0 : n;
	return (size_t)taken;
}

/* ---- what is held ---- */

/* Whom the engine listens to: the workers, or stderr until it takes what is held. */
static void listen_to(struct process_executor *p, bool workers)
{
	struct epoll_event from_workers = { .events = workers ? EPOLLIN : 0, .data.u32 = FROM_OUTPUT };
	struct epoll_event from_target = { .events = EPOLLOUT, .data.u32 = FROM_OUTPUT };

	epoll_ctl(p->epoll, EPOLL_CTL_MOD, p->relay.epoll, &from_workers);
	epoll_ctl(p->epoll, workers ? EPOLL_CTL_DEL : EPOLL_CTL_ADD, p->relay.target, &from_target);
}

static void hold(struct process_executor *p, const unsigned char *bytes, size_t n)
{
	struct relay *r = &p->relay;
	unsigned char *held = r->held_size + n <= HELD_MAX ? realloc(r->held, r->held_size + n) : NULL;

	if (!held)
		return; /* a program that does not read what it is told, or has no memory */
	memcpy(held + r->held_size, bytes, n);
	if (r->held_size == 0 && r->running)
		listen_to(p, false);
	r->held = held;
	r->held_size += n;
}

/* As much as is taken now. */
static void flush(struct process_executor *p)
{
	struct relay *r = &p->relay;
	size_t done = 0, n;

	while (done < r->held_size && (n = put(r, r->held + done, r->held_size - done)))
		done += n;
	r->held_size -= done;
	if (r->held_size) {
		memmove(r->held, r->held + done, r->held_size);
	} else if (r->held) {
		free(r->held);
		r->held = NULL;
		listen_to(p, true);
	}
}

static void pass_on(struct process_executor *p, const unsigned char *bytes, size_t n)
{
	size_t done = 0, taken;

	while (p->relay.running && p->relay.held_size == 0 && done < n && (taken = put(&p->relay, bytes + done, n - done)))
		done += taken;
	if (done < n)
		hold(p, bytes + done, n - done);
}

/* ---- reading ---- */

static void keep_tail(struct process_executor *p, struct outlet *outlet, const unsigned char *bytes, size_t n)
{
	size_t over;

	if (n > sizeof outlet->tail) {
		bytes += n - sizeof outlet->tail;
		n = sizeof outlet->tail;
	}
	latch_take(&p->lock);
	over = outlet->size + n > sizeof outlet->tail ? outlet->size + n - sizeof outlet->tail : 0;
	memmove(outlet->tail, outlet->tail + over, outlet->size - over);
	memcpy(outlet->tail + outlet->size - over, bytes, n);
	outlet->size += (uint32_t)(n - over);
	latch_release(&p->lock);
}

/* Up to `most` bytes, which go on. 0: there are none; -1: nobody will write any more. outlet NULL: an orphan's. */
static ssize_t read_some(struct process_executor *p, int fd, struct outlet *outlet, size_t most)
{
	unsigned char *bytes = p->relay.chunk;
	ssize_t n;

	do
		n = read(fd, bytes, most < CHUNK ? most : CHUNK);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 && errno == EAGAIN ? 0 : -1;
	if (outlet)
		keep_tail(p, outlet, bytes, (size_t)n);
	pass_on(p, bytes, (size_t)n);
	return n;
}

/* What is there now; somebody may be writing all the time. False: nobody will any more. */
static bool read_rest(struct process_executor *p, int fd, struct outlet *outlet)
{
	int there = 0;
	ssize_t n = 1;

	(void)ioctl(fd, FIONREAD, &there);
	while (there > 0 && (n = read_some(p, fd, outlet, (size_t)there)) > 0)
		there -= (int)n;
	return n > 0 ? read_some(p, fd, outlet, 1) >= 0 : n == 0;
}

static void end_fd(struct process_executor *p, int *fd)
{
	if (*fd < 0)
		return;
	epoll_ctl(p->relay.epoll, EPOLL_CTL_DEL, *fd, NULL);
	close(*fd);
	*fd = -1;
}

/* ---- orphans ---- */

static void adopt(struct process_executor *p, int fd)
{
	struct relay *r = &p->relay;
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = ORPHANS + (uint32_t)fd };
	int *place = &r->orphans[r->next_orphan++ % ORPHANS_MAX];

	end_fd(p, place); /* the oldest has to go */
	*place = fd;
	epoll_ctl(r->epoll, EPOLL_CTL_MOD, fd, &event);
}

static void end_orphan(struct process_executor *p, int fd)
{
	for (int i = 0; i < ORPHANS_MAX; i++)
		if (p->relay.orphans[i] == fd)
			end_fd(p, &p->relay.orphans[i]);
}

/* ---- the engine's ---- */

void crew__output_run(struct process_executor *p)
{
	struct relay *r = &p->relay;
	struct epoll_event events[16];
	int n;

	if (r->held_size)
		flush(p);
	n = r->held_size ? 0 : epoll_wait(r->epoll, events, 16, 0);
	for (int i = 0; i < n && r->held_size == 0; i++) {
		uint32_t from = events[i].data.u32;
		struct outlet *outlet = from < ORPHANS ? &p->seats[from].output : NULL;
		int fd = outlet ? outlet->fd : (int)(from - ORPHANS);

		if (fd < 0 || read_some(p, fd, outlet, CHUNK) >= 0)
			continue;
		if (outlet)
			end_fd(p, &outlet->fd);
		else
			end_orphan(p, fd);
	}
}

void crew__output_begin(struct process_executor *p)
{
	p->relay.running = true;
	if (p->relay.held_size)
		listen_to(p, false);
}

void crew__output_end(struct process_executor *p)
{
	struct relay *r = &p->relay;
	struct pollfd target = { r->target, POLLOUT, 0 };
	uint64_t deadline = crew__deadline(FLUSH_MS);

	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		if (p->seats[i].output.fd >= 0)
			read_rest(p, p->seats[i].output.fd, &p->seats[i].output);
	for (int i = 0; i < ORPHANS_MAX; i++)
		if (r->orphans[i] >= 0)
			read_rest(p, r->orphans[i], NULL);
	while (r->held_size && crew__now() < deadline) {
		poll(&target, 1, crew__ms_left(deadline));
		flush(p);
	}
	r->running = false;
}

/* ---- seats ---- */

void crew__output_attach(struct process_executor *p, uint32_t worker, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = worker };
	struct outlet *outlet = &p->seats[worker].output;

	outlet->fd = fd;
	outlet->size = 0;
	if (fd >= 0)
		epoll_ctl(p->relay.epoll, EPOLL_CTL_ADD, fd, &event);
}

void crew__output_detach(struct process_executor *p, uint32_t worker)
{
	struct outlet *outlet = &p->seats[worker].output;

	if (outlet->fd < 0)
		return;
	if (read_rest(p, outlet->fd, outlet))
		adopt(p, outlet->fd);
	else
		end_fd(p, &outlet->fd);
	outlet->fd = -1;
}

/* A string, whatever the bytes are; it does not begin in the middle of a character. */
void crew__output_copy(const struct outlet *outlet, char *to, size_t size)
{
	size_t from = 0, n;

	if (outlet->size == sizeof outlet->tail)
		while (from < 3 && (outlet->tail[from] & 0xc0) == 0x80)
			from++;
	n = outlet->size - from < size - 1 ? outlet->size - from : size - 1;
	for (size_t i = 0; i < n; i++)
		to[i] = outlet->tail[from + i] ? (char)outlet->tail[from + i] : ' ';
	to[n] = '\0';
}

/* ---- life ---- */

int crew__output_open(struct process_executor *p)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = FROM_OUTPUT };
	struct relay *r = &p->relay;

	if (p->plan.raw_stderr)
		return 0;
	r->chunk = malloc(CHUNK);
	if (!r->chunk)
		return -ENOMEM;
	r->target = open_target(r);
	r->epoll = crew__fd_keep(epoll_create1(EPOLL_CLOEXEC));
	if (r->epoll < 0)
		return r->epoll;
	return epoll_ctl(p->epoll, EPOLL_CTL_ADD, r->epoll, &event) ? -errno : 0;
}

void crew__output_init(struct relay *r)
{
	r->epoll = r->target = -1;
	for (int i = 0; i < ORPHANS_MAX; i++)
		r->orphans[i] = -1;
}

void crew__output_fini(struct process_executor *p)
{
	struct relay *r = &p->relay;
	bool ours = !crew__deprived(p);

	for (uint32_t i = 0; ours && p->seats && i < p->ring.geometry.workers; i++)
		end_fd(p, &p->seats[i].output.fd);
	for (int i = 0; ours && i < ORPHANS_MAX; i++)
		end_fd(p, &r->orphans[i]);
	if (ours && r->epoll >= 0)
		close(r->epoll);
	if (ours && r->target >= 0)
		close(r->target);
	free(r->held);
	free(r->chunk);
}
