/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * delays.c: what if a thread or process is held up right there? Around each system call that the library makes, in the program, its server, zygotes, workers and
 * successors, somebody may lose the processor for a moment: mostly not at all, sometimes for a few microseconds, now and then for milliseconds.
 *
 *	library ── futex, read, epoll_wait, fork, … ──> a random delay ──> libc ──> another ──> library
 *
 * The linker puts the functions below between the library and libc (-Wl,--wrap, as in shortage.c). The delays follow from a seed; `--seed` has the same ones again,
 * as far as the system's scheduler plays along. A spawned process finds it in its environment.
 *
 * Under them a round of all that may happen to a task: runs, cancels, deadlines, kills, and deaths of its worker. What must hold is what storms.c asks: every
 * future ends once, with an end that it may have; as many fail with a worker as workers were killed; nothing runs twice; all who asked are told; the
 * pool is whole again.
 */
#include <crew/crew.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dooms.h"

/* ---- delays ---- */

#define SEED "CREW_TEST_DELAYS"

static bool delaying;
static uint64_t random_state; /* a forked process goes on with its copy */
static uint64_t delays, sleeps; /* of this process */

static uint64_t next_random(void)
{
	uint64_t z = __atomic_add_fetch(&random_state, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

long __real_syscall(long number, ...);

/* One in 16 sleeps up to 100 µs, one in 512 up to 4 ms, one in 8 lets others go first. */
static void delay(void)
{
	uint64_t random = next_random(), ns = random >> 32;
	int before = errno;

	if (!delaying)
		return;
	__atomic_add_fetch(&delays, 1, __ATOMIC_RELAXED);
	ns %= random % 512 == 0 ? 4000000 : 100000;
	if (random % 16 == 0) {
		__atomic_add_fetch(&sleeps, 1, __ATOMIC_RELAXED);
		__real_syscall(SYS_nanosleep, &(struct timespec){ 0, (long)ns }, NULL);
	} else if (random % 16 < 3) {
		__real_syscall(SYS_sched_yield);
	}
	errno = before;
}

static void begin_delays(uint64_t seed)
{
	char text[24];

	snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
	setenv(SEED, text, 1);
	random_state = seed;
	delaying = true;
}

/* In a process that was executed: each its own. */
__attribute__((__constructor__)) static void inherit_delays(void)
{
	const char *text = getenv(SEED);

	if (!text)
		return;
	random_state = strtoull(text, NULL, 10) + (uint64_t)getpid() * 0x632be59bd9b4e019u;
	delaying = true;
}

#define DELAYED(type_, name_, parameters_, arguments_) \
	type_ __real_##name_ parameters_;              \
	type_ __wrap_##name_ parameters_;              \
	type_ __wrap_##name_ parameters_               \
	{                                              \
		type_ rc;                              \
                                                       \
		delay();                               \
		rc = __real_##name_ arguments_;        \
		delay();                               \
		return rc;                             \
	}

DELAYED(ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
DELAYED(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
DELAYED(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
DELAYED(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
DELAYED(ssize_t, recv, (int fd, void *to, size_t n, int flags), (fd, to, n, flags))
DELAYED(int, poll, (struct pollfd *fds, nfds_t n, int ms), (fds, n, ms))
DELAYED(int, epoll_wait, (int epoll, struct epoll_event *events, int n, int ms), (epoll, events, n, ms))
DELAYED(int, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event), (epoll, operation, fd, event))
DELAYED(int, timerfd_settime, (int fd, int flags, const struct itimerspec *when, struct itimerspec *old), (fd, flags, when, old))
DELAYED(int, waitid, (idtype_t type, id_t id, siginfo_t *info, int options), (type, id, info, options))
DELAYED(pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options))
DELAYED(int, kill, (pid_t pid, int signal), (pid, signal))
DELAYED(int, close, (int fd), (fd))
DELAYED(int, memfd_create, (const char *name, unsigned flags), (name, flags))
DELAYED(int, posix_fallocate, (int fd, off_t offset, off_t n), (fd, offset, n))
DELAYED(void *, mmap, (void *at, size_t n, int protection, int flags, int fd, off_t offset), (at, n, protection, flags, fd, offset))
DELAYED(int, munmap, (void *at, size_t n), (at, n))
DELAYED(pid_t, fork, (void), ())
DELAYED(int, pthread_create, (pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg), (thread, attributes, run, arg))

int __real_clone(int (*run)(void *), void *stack, int flags, void *arg, ...);
int __wrap_clone(int (*run)(void *), void *stack, int flags, void *arg, ...);
int __wrap_clone(int (*run)(void *), void *stack, int flags, void *arg, ...)
{
	int rc;

	delay();
	rc = __real_clone(run, stack, flags, arg);
	delay();
	return rc;
}

long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	va_list list;
	long a[6], rc;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	delay(); /* futex, futex_waitv, pidfd_open, pidfd_send_signal, clone, … */
	rc = __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	delay();
	return rc;
}

/* ---- a round of work ---- */

enum { WORKERS = 3, NOTES = 8 };

/* In memory that outlives workers. */
struct board {
	uint32_t pid[NOTES]; /* of workers that have run something: they were ready, so their deaths are not counted as births that failed */
	unsigned char runs[];
};

/* What is done to a task, and what it does. */
enum fate { LEFT_ALONE, CANCELLED, OVERDUE, KILLED };
enum manner { ENDS, LISTENS, IS_DEAF };

CREW_TASK(long, live, (crew_bytes, at), (int, i), (int, manner))
{
	struct board *board = at.data;

	__atomic_add_fetch(&board->runs[i], 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&board->pid[i % NOTES], (uint32_t)getpid(), __ATOMIC_RELEASE);
	while (manner == LISTENS && !crew_task_cancelled())
		sched_yield();
	while (manner == IS_DEAF)
		pause();
	return (long)i * 3 + 1;
}

struct one {
	crew_future *f;
	enum fate fate;
	enum manner manner;
	bool withdrawn; /* its cancel said that it never runs */
};

struct round {
	crew_executor *ex;
	crew_bytes at;
	struct board *board;
	bool processes;
	size_t n;
	struct one *ones;
	uint32_t told;
	unsigned long kills, failed;
};

static void tell(crew_future *f, void *counter)
{
	(void)f;
	__atomic_add_fetch((uint32_t *)counter, 1, __ATOMIC_RELAXED);
}

static void submit_one(struct round *r, int i)
{
	struct one *one = &r->ones[i];
	uint64_t random = test_random();

	one->fate = random % 16 < 13 ? random % 16 % 8 == 0 ? CANCELLED : LEFT_ALONE : random % 16 == 13 ? KILLED : OVERDUE;
	one->manner = one->fate == OVERDUE || one->fate == KILLED ? r->processes && random >> 8 & 1 ? IS_DEAF : LISTENS : ENDS;
	if (one->fate == OVERDUE)
		one->f = crew_submit_with(r->ex, (.timeout_ms = 1 + (int)((random >> 16) % 8)), live, r->at, i, one->manner);
	else
		one->f = crew_submit(r->ex, live, r->at, i, one->manner);
	CHECK_EQ(crew_future_on_done(one->f, tell, &r->told), 0);
	if (one->fate == CANCELLED)
		one->withdrawn = crew_future_cancel(one->f, NULL) == 1;
	else if (one->fate == KILLED)
		one->withdrawn = crew_future_kill(one->f, NULL, (int)((random >> 16) % 4)) == 1;
}

/* One that has run something, and has its place still. */
static void kill_worker(struct round *r)
{
	pid_t pid = crew_executor_worker_pid(r->ex, (int)(test_random() % WORKERS));
	bool noted = false;

	for (int i = 0; i < NOTES; i++)
		noted |= (pid_t)__atomic_load_n(&r->board->pid[i], __ATOMIC_ACQUIRE) == pid;
	if (pid > 0 && noted)
		r->kills += kill(pid, SIGKILL) == 0;
}

static bool may_end_with(const struct round *r, const struct one *one, int code)
{
	if (code == 0)
		return !one->withdrawn && one->manner != IS_DEAF;
	if (code == CREW_EWORKER)
		return r->processes && !one->withdrawn;
	return one->fate == OVERDUE ? code == CREW_EDEADLINE : one->fate != LEFT_ALONE && code == -ECANCELED;
}

static void judge(struct round *r, int i)
{
	struct one *one = &r->ones[i];
	const crew_error *e = crew_future_error(one->f); /* waits */
	int runs = r->board->runs[i];
	long y;

	if (!may_end_with(r, one, e->code))
		test_fail(__FILE__, __LINE__, "task %d of fate %d ended with %d, %s", i, one->fate, e->code, e->message);
	CHECK_LE(runs, one->withdrawn ? 0 : 1);
	if (e->code == 0)
		CHECK(runs == 1 && crew_result(one->f, &y) == 0 && y == (long)i * 3 + 1);
	if (e->code == CREW_EWORKER)
		CHECK_EQ(e->signal, SIGKILL);
	r->failed += e->code == CREW_EWORKER;
}

static void work(crew_executor *ex, bool processes)
{
	struct round r = { .ex = ex, .processes = processes, .n = test_scaled(300) };
	struct crew_stats stats;

	CHECK_EQ(crew_executor_error(ex, NULL), 0);
	r.ones = calloc(r.n, sizeof *r.ones);
	r.at = crew_shared_alloc(ex, sizeof *r.board + r.n);
	r.board = r.at.data;
	memset(r.board, 0, r.at.len);
	for (size_t i = 0; i < r.n; i++) {
		submit_one(&r, (int)i);
		if (i % 16 == 7 && processes)
			kill_worker(&r);
	}
	for (size_t i = 0; i < r.n; i++)
		judge(&r, (int)i);
	(void)crew_executor_wait(ex, CREW_FOREVER); /* callbacks come after those who wait */
	CHECK_EQ(__atomic_load_n(&r.told, __ATOMIC_RELAXED), r.n);
	CHECK_LE(r.failed, r.kills);
	if (processes)
		check_strength(ex, WORKERS);
	CHECK_EQ(crew_executor_stats(ex, &stats, sizeof stats), 0);
	CHECK_EQ(stats.lost, r.failed);
	for (size_t i = 0; i < r.n; i++)
		crew_future_free(r.ones[i].f);
	crew_shared_free(ex, r.at);
	free(r.ones);
	printf("%zu tasks, %lu kills, %lu lost with their workers; %llu delays here, %llu of them sleeps\n", r.n, r.kills, r.failed, (unsigned long long)delays,
	       (unsigned long long)sleeps);
}

TEST_WITHIN(threads_may_be_held_up_at_any_call, 120)
{
	begin_delays(test_random());
	CREW_SCOPE (ex, crew_threads(WORKERS))
		work(ex, false);
}

TEST_WITHIN(a_server_and_its_workers_may_be_held_up_at_any_call, 120)
{
	begin_delays(test_random());
	CREW_SCOPE (ex, crew_processes(WORKERS))
		work(ex, true);
}

TEST_WITHIN(forked_workers_may_be_held_up_at_any_call, 120)
{
	begin_delays(test_random());
	CREW_SCOPE (ex, crew_processes(.workers = WORKERS, .start = CREW_START_FORK, .spares = 1))
		work(ex, true);
}

TEST_WITHIN(spawned_workers_may_be_held_up_at_any_call, 120)
{
	begin_delays(test_random());
	CREW_SCOPE (ex, crew_processes(.workers = WORKERS, .start = CREW_START_SPAWN))
		work(ex, true);
}
