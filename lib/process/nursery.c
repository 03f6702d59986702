/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nursery.c: executes programs, one after the other, in a thread of its own.
 *
 *	caller ── launch ──> thread ── clone(VM, VFORK) ──> signals, limits, descriptors, death signal → exec
 *	caller <── pid, or the errno that the child wrote into memory both have ──┘
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

#include "core/registry.h"

#define STACK_SIZE ((size_t)1 << 18)

static struct {
	pthread_mutex_t gate; /* one launch, start or end of the thread at a time */
	/* guarded by gate */
	pthread_t thread;
	uint32_t programs; /* that have the thread's death signal */
	bool started;
	/* guarded by mutex */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	const struct launch *launch; /* NULL: none, or it is done */
	pid_t outcome;
	bool stop;
} nursery = { .gate = PTHREAD_MUTEX_INITIALIZER, .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* ---- in the child, in our memory ---- */

struct attempt {
	const struct launch *launch;
	pid_t self;
	int error; /* the child's; read when it has executed or ended */
};

static bool redirect(const struct launch *l)
{
	for (int i = 0; i < 3; i++) {
		int fd = l->birth->silent[i] ? open("/dev/null", O_RDWR) : l->stdio[i];

		if (fd >= 0 && fd != i && dup2(fd, i) < 0)
			return false;
		if (l->birth->silent[i] && fd < 0)
			return false;
	}
	return true;
}

static int child(void *arg)
{
	struct attempt *a = arg;
	const struct launch *l = a->launch;
	uint64_t none = 0;

	if (l->birth->detach)
		setsid();
	else if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() != a->self)
		_exit(1);
	crew__child_prepare(l->birth);
	if ((l->directory && chdir(l->directory)) || !redirect(l)) {
		a->error = errno;
		_exit(127);
	}
	if (!l->inherit_fds)
		syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC: a kernel without it leaves what is not close-on-exec */);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
	execvpe(l->argv[0], l->argv, l->environment ? l->environment : environ);
	a->error = errno;
	_exit(127);
}

/* ---- in the thread ---- */

static pid_t execute(const struct launch *l)
{
	struct attempt a = { .launch = l, .self = getpid() };
	char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	pid_t pid;

	if (stack == MAP_FAILED)
		return -errno;
	pid = clone(child, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD, &a);
	if (pid < 0)
		pid = -errno;
	munmap(stack, STACK_SIZE);
	if (pid > 0 && a.error) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			; /* ECHILD: somebody was faster */
		pid = -a.error;
	}
	return pid;
}

static void *nurse(void *arg)
{
	pthread_setname_np(pthread_self(), "crew-nursery");
	pthread_mutex_lock(&nursery.mutex);
	while (!nursery.stop) {
		if (nursery.launch) {
			nursery.outcome = execute(nursery.launch);
			nursery.launch = NULL;
			pthread_cond_broadcast(&nursery.changed);
		} else {
			pthread_cond_wait(&nursery.changed, &nursery.mutex);
		}
	}
	pthread_mutex_unlock(&nursery.mutex);
	return arg;
}

/* ---- in the caller ---- */

static int start(void)
{
	sigset_t all, old;
	int rc;

	if (nursery.started)
		return 0;
	nursery.stop = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&nursery.thread, NULL, nurse, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	nursery.started = rc == 0;
	if (rc == 0)
		ck_pr_inc_32(&crew__service_threads);
	return rc;
}

static void stop(void)
{
	if (!nursery.started || nursery.programs)
		return;
	pthread_mutex_lock(&nursery.mutex);
	nursery.stop = true;
	pthread_cond_broadcast(&nursery.changed);
	pthread_mutex_unlock(&nursery.mutex);
	pthread_join(nursery.thread, NULL);
	nursery.started = false;
	ck_pr_dec_32(&crew__service_threads);
}

pid_t crew__nursery_launch(const struct launch *launch)
{
	pid_t pid;

	pthread_mutex_lock(&nursery.gate);
	pid = start();
	if (pid == 0) {
		pthread_mutex_lock(&nursery.mutex);
		nursery.launch = launch;
		pthread_cond_broadcast(&nursery.changed);
		while (nursery.launch)
			pthread_cond_wait(&nursery.changed, &nursery.mutex);
		pid = nursery.outcome;
		pthread_mutex_unlock(&nursery.mutex);
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
	pthread_mutex_init(&nursery.mutex, NULL);
	pthread_cond_init(&nursery.changed, NULL);
}
