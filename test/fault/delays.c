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
 * Under them a round of all that may happen to a task (fates.c).
 */
#include <crew/crew.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
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

#include "fates.h"
#include "runner.h"

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

/* ---- under them ---- */

static void meet(crew_executor *ex, bool processes)
{
	fates_meet(ex, processes, test_scaled(300));
	printf("%llu delays here, %llu of them sleeps\n", (unsigned long long)delays, (unsigned long long)sleeps);
}

TEST_WITHIN(threads_may_be_held_up_at_any_call, 120)
{
	begin_delays(test_random());
	CREW_SCOPE (ex, crew_threads(FATES_WORKERS))
		meet(ex, false);
}

TEST_WITHIN(a_server_and_its_workers_may_be_held_up_at_any_call, 120)
{
	begin_delays(test_random());
	CREW_SCOPE (ex, crew_processes(FATES_WORKERS))
		meet(ex, true);
}

TEST_WITHIN(forked_workers_may_be_held_up_at_any_call, 120)
{
	begin_delays(test_random());
	CREW_SCOPE (ex, crew_processes(.workers = FATES_WORKERS, .start = CREW_START_FORK, .spares = 1))
		meet(ex, true);
}

TEST_WITHIN(spawned_workers_may_be_held_up_at_any_call, 120)
{
	begin_delays(test_random());
	CREW_SCOPE (ex, crew_processes(.workers = FATES_WORKERS, .start = CREW_START_SPAWN))
		meet(ex, true);
}
