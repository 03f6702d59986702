/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * child_life.c: what a single child does from its first instruction to its last, whatever start method made it.
 *
 *	signals, limits, stdio → who am I → a watch on the creator → the task → the answer → its own children → _exit
 *
 * The watch is a thread, in children that were forked from their creator. A death signal would be simpler, but it comes when the *thread* that forked
 * ends, and that may be long before the program does. The server's children have the signal: the server has one thread.
 *
 * A child that calls exit() in its task is noticed by a handler that is told the status; it runs the atexit handlers it inherited, as any fork
 * would. One that returns from its task leaves by _exit and runs none.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/futex.h"
#include "base/niceness.h"
#include "core/service.h"
#include "process/kin.h"
#include "process/pidfd.h"

/* For the exit handler, which has no other way to know: written once, before the task. */
static int letter = -1;
static struct fd_mark letter_mark;
static pid_t owner; /* a process that the task forks by hand has the handler too */

/* ---- as it is to be ---- */

static void limit(int resource, uint64_t soft, uint64_t hard)
{
	struct rlimit now, wanted = { soft, hard };

	if (soft == 0 || getrlimit(resource, &now))
		return;
	if (now.rlim_max != RLIM_INFINITY && wanted.rlim_max > now.rlim_max)
		wanted.rlim_max = now.rlim_max;
	if (wanted.rlim_cur > wanted.rlim_max)
		wanted.rlim_cur = wanted.rlim_max;
	setrlimit(resource, &wanted);
}

void crew__child_prepare(const struct birth *b)
{
	const uint64_t action[4] = { 0 }; /* the kernel's: SIG_DFL, no flags. A sanitizer would remember sigaction() as done by our creator */

	for (int i = 1; i < NSIG; i++)
		if (i != SIGKILL && i != SIGSTOP)
			syscall(SYS_rt_sigaction, i, action, NULL, sizeof action[0]);
	limit(RLIMIT_AS, b->max_memory, b->max_memory);
	limit(RLIMIT_CPU, (uint64_t)b->max_cpu_s, (uint64_t)b->max_cpu_s + 1);
	limit(RLIMIT_NOFILE, (uint64_t)b->max_files, (uint64_t)b->max_files);
	niceness_add(b->nice);
	if (b->placed)
		sched_setaffinity(0, sizeof b->cpus, &b->cpus);
}

/* Descriptors 0, 1 and 2; those passed are consumed. */
static const int *redirect(const struct birth *b, const int *fds)
{
	for (int i = 0; i < 3; i++) {
		int fd = b->silent[i] ? open("/dev/null", O_RDWR) : b->piped[i] ? *fds++ : -1; /* it may be i already */

		if (fd < 0)
			continue;
		dup2(fd, i);
		if (fd > 2)
			close(fd);
	}
	return fds;
}

/* ---- the watch ---- */

/*
 * A task may fork by hand at once, and what it forks may start children. Libc's locks are free in a copy; those of AddressSanitizer are as they were: a
 * thread that had not quite begun holds one, and the copy would wait for it. With that in the program the thread has begun before the task does, which
 * costs 0.1 ms; unless we are such a copy ourselves, of a program whose threads were at it, and it never begins. ThreadSanitizer frees its locks.
 */
enum { WATCH_BEGINS_MS = 2000 };
void __lsan_do_leak_check(void) __attribute__((__weak__));

static uint32_t watching; /* a futex: 0 before there is the thread that watches, which sets it when it has begun and that sanitizer is there */

static void *watch(void *arg)
{
	struct pollfd creator = { (int)(intptr_t)arg, POLLIN, 0 };

	if (__lsan_do_leak_check) {
		ck_pr_store_32(&watching, 1);
		crew__futex_wake(&watching, 1, false);
	}
	while (poll(&creator, 1, -1) < 0 && errno == EINTR)
		;
	if (creator.revents & POLLIN)
		kill(getpid(), SIGKILL);
	return NULL;
}

static bool start_watch(int creator)
{
	pthread_attr_t attributes;
	pthread_t thread;
	uint64_t end;
	bool started;

	if (pthread_attr_init(&attributes))
		return false;
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, (size_t)1 << 16);
	watching = 0; /* our creator's, if it was started so, too */
	started = pthread_create(&thread, &attributes, watch, (void *)(intptr_t)creator) == 0; /* every signal is blocked by now */
	pthread_attr_destroy(&attributes);
	if (!started)
		return false;
	ck_pr_inc_32(&crew__service_threads);
	end = crew__now() + WATCH_BEGINS_MS * MS_TO_NS;
	while (__lsan_do_leak_check && !ck_pr_load_32(&watching) && crew__now() < end)
		crew__futex_wait(&watching, 0, end, false);
	return true;
}

/* ---- its end ---- */

/* -1: the task has closed it, and may have a file of its own there. */
static int own_letter(void)
{
	return crew__fd_is(letter, &letter_mark) ? letter : -1;
}

static void exiting(int status, void *arg)
{
	(void)arg;
	if (owner == getpid())
		crew__letter_exit(own_letter(), status);
}

static _Noreturn void leave(int status)
{
	crew__kin_end();
	fflush(NULL);
	_exit(status);
}

static _Noreturn void refuse(int code, const char *what)
{
	crew_error error;

	memset(&error, 0, sizeof error);
	error.code = code;
	error.exit_status = -1;
	error.worker = getpid();
	snprintf(error.message, sizeof error.message, "%s: %s", what, crew_strerror(code));
	crew__letter_raise(own_letter(), &error);
	_exit(1);
}

/* ---- the task ---- */

static int run(const crew_task *task, void *arguments)
{
	size_t size = CREW_TYPE_SIZE(task->result);
	void *result = calloc(1, size < 16 ? 16 : size);
	struct context context;
	struct block *block;
	crew_error *error;
	int status = 0, rc = 0;

	if (!result)
		refuse(-ENOMEM, "no memory for the result");
	crew__context_init(&context, NULL, -1);
	error = crew__call(&context, task, arguments, result, &block);
	if (error)
		crew__letter_raise(own_letter(), error);
	else
		rc = crew__letter_answer(own_letter(), task, result);
	if (rc)
		refuse(rc, "the result could not be passed on");
	if (error)
		status = 1;
	else if (task->result == CREW_TYPE_OF(int))
		memcpy(&status, result, sizeof status);
	crew__error_free(error);
	crew__context_fini(&context);
	free(result);
	return status & 255;
}

void crew__child_live(const struct birth *b, const int *fds, const crew_task *task, void *arguments)
{
	sigset_t mask;
	int creator, rc = 0;

	sigfillset(&mask);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
#ifdef CREW_FAULT_LATE_WATCH /* for test/fault, which must find it */
	usleep(2000);	     /* as if we had not been given a CPU at once */
	creator = crew__pidfd_of(getppid());
#else
	creator = fds[FD_CREATOR];
#endif
	letter = fds[FD_LETTER];
	crew__fd_mark(letter, &letter_mark);
	owner = getpid();
	prctl(PR_SET_NAME, b->name);
	fds = redirect(b, fds + FD_STDIO);
	if (b->detach) {
		crew__child_detach(*fds);
		owner = getpid();
	}
	crew__child_prepare(b);
	crew__kin_become(b, creator);
	if (b->watch && !start_watch(creator))
		refuse(-EAGAIN, "no thread to watch the creator");
	if (!task)
		rc = crew__letter_read(letter, &task, &arguments);
	if (rc)
		refuse(rc, "the task could not be started");
	on_exit(exiting, NULL);
	sigemptyset(&mask);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	leave(run(task, arguments));
}
