/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nursery.c: executes programs, one after the other, in a thread of its own.
 *
 *	caller ── launch ──> thread ── clone(VM, VFORK) ──> signals, limits, descriptors, death signal → exec
 *	caller <── pid and pidfd, or the errno that the child wrote into memory both have ──┘
 *
 * The child borrows our memory, and the thread stands still until it has executed or given up: that is what posix_spawn() does too, which knows no
 * death signal, no limits, no niceness. The child calls the kernel and nothing else: what libc or a sanitizer would note down about it they would note
 * down about us.
 */
#include "process/nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/futex.h"
#include "core/service.h"

#define STACK_SIZE ((size_t)1 << 18)

/* ThreadSanitizer keeps books on a thread in memory that a child would then write, too: it gets a copy. */
#define BORROWED_MEMORY CLONE_VM
#if defined(__SANITIZE_THREAD__)
#undef BORROWED_MEMORY
#define BORROWED_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#undef BORROWED_MEMORY
#define BORROWED_MEMORY 0
#endif
#endif

static struct {
	pthread_mutex_t gate; /* one launch, start or end of the thread at a time */
	/* guarded by gate */
	pthread_t thread;
	uint32_t programs; /* that have the thread's death signal */
	bool started;
	/* the caller's while turn is not ORDER, the thread's while it is */
	const struct launch *launch;
	pid_t outcome;
	int pidfd;
	uint32_t turn; /* both, by turns; a futex */
} nursery = { .gate = PTHREAD_MUTEX_INITIALIZER };

enum { IDLE, ORDER, DONE, STOP };

/* ---- in the child, in our memory ---- */

struct attempt {
	const struct launch *launch;
	pid_t self;
	int error; /* the child's; read when it has executed or ended */
};

static bool redirect(const struct launch *l)
{
	for (int i = 0; i < 3; i++) {
		long fd = l->birth->silent[i] ? syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0) : l->stdio[i];

		if (fd < 0 && l->birth->silent[i])
			return false;
		if (fd >= 0 && fd != i && syscall(SYS_dup3, fd, i, 0) < 0)
			return false;
	}
	return true;
}

static _Noreturn void give_up(struct attempt *a, int error)
{
	a->error = error;
	for (;;)
		syscall(SYS_exit_group, 127);
}

static int child(void *arg)
{
	struct attempt *a = arg;
	const struct launch *l = a->launch;
	const uint64_t none = 0;

	if (l->birth->detach)
		syscall(SYS_setsid);
	else if (syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && syscall(SYS_getppid) != a->self)
		give_up(a, ESRCH);
	crew__child_prepare(l->birth);
	if ((l->directory && syscall(SYS_chdir, l->directory)) || !redirect(l))
		give_up(a, errno);
	if (!l->inherit_fds)
		syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC: a kernel without it leaves what is not close-on-exec */);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
	execvpe(l->argv[0], l->argv, l->environment ? l->environment : environ);
	give_up(a, errno);
}

/* ---- in the thread ---- */

/* Above 2 if that can be had: it is not worth a program that runs already. */
static int lift(int fd)
{
	int lifted = fd > 2 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (lifted < 0)
		return fd;
	close(fd);
	return lifted;
}

/* Its descriptor comes with it: of no other process, whoever reaps what; where there is no room for one the program does not begin. */
static pid_t execute(const struct launch *l, int *ret_pidfd)
{
	char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct attempt *a = (struct attempt *)(void *)stack; /* at its far end, and shared in any case */
	pid_t pid;

	if (stack == MAP_FAILED)
		return -errno;
	*a = (struct attempt){ .launch = l, .self = getpid() };
	pid = clone(child, stack + STACK_SIZE, BORROWED_MEMORY | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, a, ret_pidfd);
	if (pid < 0)
		pid = -errno;
	if (pid > 0 && a->error) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			; /* ECHILD: somebody was faster */
		close(*ret_pidfd);
		pid = -a->error;
	} else if (pid > 0) {
		*ret_pidfd = lift(*ret_pidfd);
	}
	munmap(stack, STACK_SIZE);
	return pid;
}

/* Pairs with await_turn on the other side. */
static void pass_turn(uint32_t turn)
{
	store_release_32(&nursery.turn, turn);
	crew__futex_wake(&nursery.turn, 1, false);
}

static uint32_t await_turn(uint32_t one, uint32_t other)
{
	uint32_t turn;

	while ((turn = load_acquire_32(&nursery.turn)) != one && turn != other)
		crew__futex_wait(&nursery.turn, turn, NEVER, false); /* woken by pass_turn */
	return turn;
}

static void *nurse(void *arg)
{
	pthread_setname_np(pthread_self(), "crew-nursery");
	while (await_turn(ORDER, STOP) == ORDER) {
		nursery.outcome = execute(nursery.launch, &nursery.pidfd);
		pass_turn(DONE);
	}
	return arg;
}

/* ---- in the caller ---- */

static int start(void)
{
	int rc;

	if (nursery.started)
		return 0;
	nursery.turn = IDLE;
	rc = crew__service_start(&nursery.thread, nurse, NULL);
	nursery.started = rc == 0;
	return rc;
}

static void stop(void)
{
	if (!nursery.started || nursery.programs)
		return;
	pass_turn(STOP);
	crew__service_join(nursery.thread);
	nursery.started = false;
}

pid_t crew__nursery_launch(const struct launch *launch, int *ret_pidfd)
{
	pid_t pid;

	pthread_mutex_lock(&nursery.gate);
	pid = start();
	if (pid == 0) {
		nursery.launch = launch;
		pass_turn(ORDER);
		await_turn(DONE, DONE);
		pid = nursery.outcome;
		*ret_pidfd = nursery.pidfd;
	}
	nursery.programs += pid > 0 && !launch->birth->detach;
	stop();
	pthread_mutex_unlock(&nursery.gate);
	return pid;
}

void crew__nursery_release(void)
{
	pthread_mutex_lock(&nursery.gate);
	nursery.programs--;
	stop();
	pthread_mutex_unlock(&nursery.gate);
}

void crew__nursery_forked(void)
{
	memset(&nursery, 0, sizeof nursery);
	pthread_mutex_init(&nursery.gate, NULL);
}
