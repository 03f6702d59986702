/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shortages.c: what if there is no more? The k-th call that asks the system for something fails, for every k until a round of work asks less often
 * than that; once, and from then on.
 *
 *	for each executor, for each call: k = 1, 2, … { arm · open, work, close · disarm · nothing left? }
 *
 * The linker puts the functions below between the library and libc (-Wl,--wrap). What must hold each time: an executor that could not be opened says
 * why; every future ends, with the right value or an error; an executor that is not broken works again when the shortage is over; after the close
 * nothing is left of it, not one block of memory, no descriptor, child, thread or mapping.
 *
 * The count goes on in processes that are forked meanwhile, each on its own copy: so zygote and workers run short, too.
 */
#include <crew/crew.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "census.h"
#include "runner.h"

/* ---- the calls ---- */

enum call { MEMORY, MAP, ADVISE, MEMFD, GROW, EVENTFD, TIMERFD, SIGNALFD, EPOLL, WATCH, DUP, SOCKETS, PIPE, PROCESS, PIDFD, THREAD, SEND, CALLS };

static const struct {
	const char *name;
	int error;
} calls[CALLS] = {
	[MEMORY] = { "malloc", ENOMEM },	  [MAP] = { "mmap", ENOMEM },
	[ADVISE] = { "madvise", ENOMEM },	  [MEMFD] = { "memfd_create", EMFILE },
	[GROW] = { "posix_fallocate", ENOSPC },	  [EVENTFD] = { "eventfd", EMFILE },
	[TIMERFD] = { "timerfd_create", EMFILE }, [SIGNALFD] = { "signalfd", EMFILE },
	[EPOLL] = { "epoll_create1", EMFILE },	  [WATCH] = { "epoll_ctl", ENOSPC },
	[DUP] = { "fcntl", EMFILE },		  [SOCKETS] = { "socketpair", EMFILE },
	[PIPE] = { "pipe2", EMFILE },		  [PROCESS] = { "fork", EAGAIN },
	[PIDFD] = { "pidfd_open", EMFILE },	  [THREAD] = { "pthread_create", EAGAIN },
	[SEND] = { "sendmsg", ENOBUFS },
};

static enum call armed = CALLS;
static bool for_ever;
static long countdown; /* calls until the one that fails; 0 or less: it has come */
static long live;      /* blocks of memory, of this process */

static bool fails(enum call call)
{
	long left;

	if (__atomic_load_n(&armed, __ATOMIC_RELAXED) != call)
		return false;
	left = __atomic_sub_fetch(&countdown, 1, __ATOMIC_RELAXED);
	if (left != 0 && (left > 0 || !for_ever))
		return false;
	errno = calls[call].error;
	return true;
}

/* Did the shortage come? Then the next one is to come later. */
static bool came(void)
{
	return __atomic_load_n(&countdown, __ATOMIC_RELAXED) <= 0;
}

#define REAL(type_, name_, ...) \
	type_ __real_##name_(__VA_ARGS__); \
	type_ __wrap_##name_(__VA_ARGS__); \
	type_ __wrap_##name_(__VA_ARGS__)

static void *counted(void *p)
{
	if (p)
		__atomic_add_fetch(&live, 1, __ATOMIC_RELAXED);
	return p;
}

REAL(void *, malloc, size_t n)
{
	return fails(MEMORY) ? NULL : counted(__real_malloc(n));
}

REAL(void *, calloc, size_t n, size_t size)
{
	return fails(MEMORY) ? NULL : counted(__real_calloc(n, size));
}

REAL(void *, aligned_alloc, size_t alignment, size_t n)
{
	return fails(MEMORY) ? NULL : counted(__real_aligned_alloc(alignment, n));
}

REAL(void *, realloc, void *p, size_t n)
{
	if (fails(MEMORY))
		return NULL;
	return p ? __real_realloc(p, n) : counted(__real_realloc(p, n));
}

REAL(char *, strdup, const char *text)
{
	return fails(MEMORY) ? NULL : counted(__real_strdup(text));
}

REAL(void, free, void *p)
{
	if (p)
		__atomic_sub_fetch(&live, 1, __ATOMIC_RELAXED);
	__real_free(p);
}

REAL(void *, mmap, void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
	return fails(MAP) ? MAP_FAILED : __real_mmap(at, n, protection, flags, fd, offset);
}

REAL(int, madvise, void *at, size_t n, int advice)
{
	return fails(ADVISE) ? -1 : __real_madvise(at, n, advice);
}

REAL(int, memfd_create, const char *name, unsigned flags)
{
	return fails(MEMFD) ? -1 : __real_memfd_create(name, flags);
}

REAL(int, posix_fallocate, int fd, off_t offset, off_t n)
{
	return fails(GROW) ? ENOSPC : __real_posix_fallocate(fd, offset, n);
}

REAL(int, fallocate, int fd, int mode, off_t offset, off_t n)
{
	return mode == 0 && fails(GROW) ? -1 : __real_fallocate(fd, mode, offset, n);
}

REAL(int, ftruncate, int fd, off_t n)
{
	return fails(GROW) ? -1 : __real_ftruncate(fd, n);
}

REAL(int, eventfd, unsigned count, int flags)
{
	return fails(EVENTFD) ? -1 : __real_eventfd(count, flags);
}

REAL(int, timerfd_create, int clock, int flags)
{
	return fails(TIMERFD) ? -1 : __real_timerfd_create(clock, flags);
}

REAL(int, signalfd, int fd, const sigset_t *set, int flags)
{
	return fails(SIGNALFD) ? -1 : __real_signalfd(fd, set, flags);
}

REAL(int, epoll_create1, int flags)
{
	return fails(EPOLL) ? -1 : __real_epoll_create1(flags);
}

REAL(int, epoll_ctl, int epoll, int operation, int fd, struct epoll_event *event)
{
	return operation != EPOLL_CTL_DEL && fails(WATCH) ? -1 : __real_epoll_ctl(epoll, operation, fd, event);
}

REAL(int, fcntl, int fd, int command, ...)
{
	va_list list;
	long argument;

	va_start(list, command);
	argument = va_arg(list, long);
	va_end(list);
	return (command == F_DUPFD_CLOEXEC || command == F_DUPFD) && fails(DUP) ? -1 : __real_fcntl(fd, command, argument);
}

REAL(int, socketpair, int domain, int type, int protocol, int pair[2])
{
	return fails(SOCKETS) ? -1 : __real_socketpair(domain, type, protocol, pair);
}

REAL(int, pipe2, int pair[2], int flags)
{
	return fails(PIPE) ? -1 : __real_pipe2(pair, flags);
}

REAL(pid_t, fork, void)
{
	return fails(PROCESS) ? -1 : __real_fork();
}

REAL(ssize_t, sendmsg, int fd, const struct msghdr *message, int flags)
{
	return fails(SEND) ? -1 : __real_sendmsg(fd, message, flags);
}

REAL(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg)
{
	return fails(THREAD) ? EAGAIN : __real_pthread_create(thread, attributes, run, arg);
}

REAL(long, syscall, long number, ...)
{
	va_list list;
	long a[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_pidfd_open && fails(PIDFD))
		return -1;
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- a round of work ---- */

CREW_TASK(long, twice, (long, x))
{
	return 2 * x;
}

CREW_TASK(crew_bytes, echo, (crew_bytes, in))
{
	return crew_result_copy(in.data, in.len);
}

CREW_TASK(const char *, name, (const char *, of), (int, n))
{
	return n ? of : NULL;
}

CREW_TASK(int, refuse, (int, code))
{
	return crew_raise(code, "no");
}

struct wide {
	long word[12];
};
CREW_TASK(struct wide, spread, (long, x))
{
	struct wide wide;

	for (int i = 0; i < 12; i++)
		wide.word[i] = x;
	return wide;
}

enum { BIG = 200000 };
static unsigned char big[BIG];

/* The future has ended, one way or the other; true: well. */
static bool ended(crew_future *f, int code)
{
	crew_error error = *crew_future_error(f);

	CHECK(crew_future_done(f));
	CHECK_NE(code, -ETIMEDOUT);
	CHECK_NE(code, -EDEADLK);
	if (code == 0)
		CHECK_EQ(error.code, 0);
	else if (code == CREW_ERAISED)
		CHECK(error.code != 0 && error.message[0]);
	return code == 0;
}

static void count(crew_future *f, void *counter)
{
	(void)f;
	__atomic_add_fetch((int *)counter, 1, __ATOMIC_RELAXED);
}

static void numbers(crew_executor *ex)
{
	crew_future *fs[8];
	int counter = 0, registered = 0;
	long y;

	for (long i = 0; i < 8; i++)
		fs[i] = crew_submit(ex, twice, i);
	for (int i = 0; i < 8; i++)
		registered += crew_future_on_done(fs[i], count, &counter) == 0;
	CHECK_GE(crew_wait(fs, 8, CREW_ALL_COMPLETED, 20000), -ENOMEM);
	for (long i = 0; i < 8; i++) {
		int code = crew_result_within(fs[i], &y, 20000);

		if (ended(fs[i], code))
			CHECK_EQ(y, 2 * i);
		crew_future_free(fs[i]);
	}
	CHECK_NE(crew_executor_wait(ex, 20000), -ETIMEDOUT); /* callbacks come after the waiters were woken */
	CHECK_EQ(__atomic_load_n(&counter, __ATOMIC_RELAXED), registered);
}

static void runs(crew_executor *ex)
{
	crew_bytes in = { big, BIG }, out;
	crew_future *f = crew_submit(ex, echo, in);
	struct wide wide;
	const char *text;

	if (ended(f, crew_result_within(f, &out, 20000)))
		CHECK(out.len == BIG && memcmp(out.data, big, BIG) == 0);
	crew_future_free(f);
	f = crew_submit(ex, name, "a text", 1);
	if (ended(f, crew_result_within(f, &text, 20000)))
		CHECK(strcmp(text, "a text") == 0);
	crew_future_free(f);
	f = crew_submit(ex, spread, 7);
	if (ended(f, crew_result_within(f, &wide, 20000)))
		CHECK(wide.word[0] == 7 && wide.word[11] == 7);
	crew_future_free(f);
}

static void failures(crew_executor *ex)
{
	crew_future *f = crew_submit_with(ex, (.priority = 1, .timeout_ms = 20000), refuse, EDOM);
	int y;

	CHECK(!ended(f, crew_result_within(f, &y, 20000)));
	crew_future_free(f);
}

static void many(crew_executor *ex)
{
	long in[64], out[64];
	int rc;

	for (long i = 0; i < 64; i++)
		in[i] = i;
	rc = crew_map(ex, twice, in, out, 64);
	for (long i = 0; rc == 0 && i < 64; i++)
		CHECK_EQ(out[i], 2 * i);
	CREW_SCOPE (g, crew_group(ex)) {
		long y;

		rc = crew_run(g, &y, twice, 4);
		if (rc == 0)
			CHECK_EQ(y, 8);
	}
}

/* Each once, whatever there is no memory for: the set that orders them, or the futures themselves, which are then all the same one. */
static void one_by_one(crew_executor *ex)
{
	crew_future *fs[5];
	int told = 0, different = 0;

	for (long i = 0; i < 4; i++)
		fs[i] = crew_submit(ex, twice, i);
	fs[4] = fs[0];
	for (int i = 0; i < 5; i++) {
		bool again = false;

		for (int k = 0; k < i; k++)
			again |= fs[k] == fs[i];
		different += !again;
	}
	CREW_AS_COMPLETED_WITHIN (f, fs, 5, 20000, NULL) {
		long y;

		ended(f, crew_result_within(f, &y, 0));
		told++;
	}
	CHECK_EQ(told, different);
	for (int i = 0; i < 4; i++)
		crew_future_free(fs[i]);
}

static void delivered(crew_future *f, void *counter)
{
	count(f, counter);
}

static void events(crew_executor *ex)
{
	int counter = 0;
	struct pollfd readable = { crew_executor_fd(ex), POLLIN, 0 };

	crew_submit_to(ex, delivered, &counter, twice, 3);
	while (counter == 0 && readable.fd >= 0) {
		CHECK_EQ(poll(&readable, 1, 20000), 1);
		crew_drain(ex);
	}
	CHECK_LE(counter, 1);
}

static void share(crew_executor *ex)
{
	crew_bytes block = crew_shared_alloc(ex, 70000), out;
	crew_future *f;

	if (!block.data)
		return;
	memset(block.data, 7, block.len);
	f = crew_submit(ex, echo, block);
	if (ended(f, crew_result_within(f, &out, 20000)))
		CHECK(out.len == 70000 && memcmp(out.data, block.data, 70000) == 0);
	crew_future_free(f);
	crew_shared_free(ex, block);
}

static void work(crew_executor *ex)
{
	numbers(ex);
	runs(ex);
	failures(ex);
	many(ex);
	one_by_one(ex);
	events(ex);
	share(ex);
}

/* ---- the sweep ---- */

struct opener {
	const char *name;
	bool apart; /* its workers have a copy of the shortage, and nobody ends that */
	crew_executor *(*open)(void);
};

static crew_executor *open_inline(void)
{
	return crew_inline();
}

static crew_executor *open_threads(void)
{
	return crew_threads(2);
}

static crew_executor *open_forked(void)
{
	return crew_processes(.workers = 2, .start = CREW_START_FORK);
}

static void arm(enum call call, long k)
{
	countdown = k;
	__atomic_store_n(&armed, call, __ATOMIC_SEQ_CST);
}

static void disarm(void)
{
	__atomic_store_n(&armed, CALLS, __ATOMIC_SEQ_CST);
}

/* One life under a shortage. */
static void live_once(const struct opener *opener, enum call call, long k)
{
	crew_executor *ex;
	crew_error error;
	long y;

	if (k)
		arm(call, k);
	ex = opener->open();
	if (crew_executor_error(ex, &error))
		CHECK(error.code != 0 && error.message[0]);
	work(ex);
	disarm();
	if (crew_executor_error(ex, NULL) == 0 && (crew_run(ex, &y, twice, 21) || y != 42) && !(for_ever && opener->apart))
		test_fail(__FILE__, __LINE__, "%s: no work after the %ld-th %s failed", opener->name, k, calls[call].name);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

/* Blocks that each such life leaves. What one may add to the process for good (a leaf of the map of records) it adds once. */
static long leak_of(const struct opener *opener, enum call call, long k, long *baseline)
{
	long before = *baseline;

	live_once(opener, call, k);
	*baseline = __atomic_load_n(&live, __ATOMIC_RELAXED);
	if (*baseline == before)
		return 0;
	before = *baseline;
	live_once(opener, call, k);
	*baseline = __atomic_load_n(&live, __ATOMIC_RELAXED);
	return *baseline - before;
}

static void sweep(const struct opener *opener, bool lasting)
{
	struct census before;
	char left[400];
	long baseline, leak;

	for_ever = lasting;
	memset(big, 5, sizeof big);
	live_once(opener, CALLS, 0);
	live_once(opener, CALLS, 0); /* what the first one leaves in the process for good is there */
	baseline = __atomic_load_n(&live, __ATOMIC_RELAXED);
	census_take(&before);
	for (enum call call = 0; call < CALLS && !(lasting && call == SEND) /* a socket that never takes anything is a dead one */; call++) {
		long k = 0, step = test_scaled(100) >= 100 ? 1 : 3;

		do {
			k += k < 8 ? 1 : step;
			leak = leak_of(opener, call, k, &baseline);
			if (leak)
				test_fail(__FILE__, __LINE__, "%s, the %ld-th %s fails: %ld blocks are left", opener->name, k, calls[call].name, leak);
			if (!census_settled(&before, left, sizeof left))
				test_fail(__FILE__, __LINE__, "%s, the %ld-th %s fails: left behind: %s", opener->name, k, calls[call].name, left);
		} while (came());
		fprintf(stderr, "%s: %s fails at each of %ld places%s\n", opener->name, calls[call].name, k - 1, lasting ? ", for good" : "");
	}
}

#define SWEEP(name_, opener_)                                       \
	TEST_WITHIN (name_##_survives_any_call_that_fails_once, 300) \
	{                                                           \
		sweep(&opener_, false);                             \
	}                                                           \
	TEST_WITHIN (name_##_survives_any_call_that_fails_for_good, 300) \
	{                                                           \
		sweep(&opener_, true);                              \
	}

static const struct opener inlined = { "inline", false, open_inline }, threaded = { "threads", false, open_threads },
			   forked = { "processes", true, open_forked };

SWEEP(inline_executor, inlined)
SWEEP(thread_executor, threaded)
SWEEP(process_executor, forked)
