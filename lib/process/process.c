/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process.c: the object that stands for one child, and what can be asked of it.
 *
 *	descriptor readable → status (waitid, the server's obituary, or nobody knows) + letter (value, error, exit) → ended
 *
 * Everything is learnt in one place, settle, under the object's mutex, once; whoever waits only polls the descriptor, so any number of threads may.
 * The wait status is the truth about the end, the letter about the task. They are combined: a status that somebody else has taken (ECHILD) is lost only if
 * the letter does not say how the child ended either.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/futex.h"
#include "process/kin.h"
#include "process/nursery.h"
#include "process/pidfd.h"
#include "process/server.h"

#define LOST "the program has closed the file descriptors of '%s' (process %d)"
enum { GRACE_MS = 1000 };

/* ---- life ---- */

static crew_process no_memory = {
	.magic = PROCESS_MAGIC,
	.kind = KIN_FAILED,
	.fd = -1,
	.status = -1,
	.letter = -1,
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.pipes = { -1, -1, -1 },
	.ended = true,
	.end = { .state = CREW_PROCESS_FAILED, .exit_code = -1 },
	.error = { .code = -ENOMEM, .exit_status = -1, .message = "no memory for a process" },
};

crew_process *crew__process_new(enum kin_kind kind, const char *name)
{
	crew_process *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->magic = PROCESS_MAGIC;
	p->kind = kind;
	p->generation = crew__fork_generation;
	p->fd = p->status = p->letter = -1;
	p->pipes[0] = p->pipes[1] = p->pipes[2] = -1;
	p->end = (struct crew_status){ .state = CREW_PROCESS_RUNNING, .exit_code = -1 };
	p->error.exit_status = -1;
	p->refs = 1;
	snprintf(p->name, sizeof p->name, "%s", name);
	pthread_mutex_init(&p->mutex, NULL);
	return p;
}

static void close_if_open(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* A program that closes all descriptors closes those of its children, too, and may have files of its own there by now. The letter is unmistakable. */
bool crew__process_owns(const crew_process *p)
{
	if (p->kind == KIN_THREAD)
		return p->fd < 0 || crew__fd_is(p->fd, &p->mark);
	if (p->kind != KIN_FORKED && p->kind != KIN_SERVED && p->kind != KIN_DETACHED)
		return true;
	return p->letter >= 0 ? crew__fd_is(p->letter, &p->mark) : p->fd < 0 || crew__pidfd_is(p->fd, p->pid);
}

static void forget_descriptors(crew_process *p)
{
	p->fd = p->status = p->letter = p->pipes[0] = p->pipes[1] = p->pipes[2] = -1;
}

void crew__process_free(crew_process *p)
{
	if (!crew__process_owns(p))
		forget_descriptors(p);
	for (int i = 0; i < 3; i++)
		close_if_open(&p->pipes[i]);
	close_if_open(&p->fd);
	close_if_open(&p->status);
	close_if_open(&p->letter);
	if (p->nursed)
		crew__nursery_release();
	pthread_mutex_destroy(&p->mutex);
	free(p->value);
	p->magic = 0;
	free(p);
}

void crew__process_unref(crew_process *p)
{
	if (ck_pr_faa_32(&p->refs, (uint32_t)-1) == 1)
		crew__process_free(p);
}

crew_process *crew__process_failed(crew_process *p, int code, const char *format, ...)
{
	va_list list;

	if (!p)
		return &no_memory;
	for (int i = 0; i < 3; i++)
		close_if_open(&p->pipes[i]);
	close_if_open(&p->fd);
	close_if_open(&p->status);
	close_if_open(&p->letter);
	p->kind = KIN_FAILED;
	p->ended = true;
	p->pid = 0;
	p->end.state = CREW_PROCESS_FAILED;
	p->error.code = code;
	va_start(list, format);
	vsnprintf(p->error.message, sizeof p->error.message, format, list);
	va_end(list);
	return p;
}

int crew__process_check(const crew_process *p)
{
	if (!p || p->magic != PROCESS_MAGIC)
		return CREW_EHANDLE;
	return p->generation == crew__fork_generation || p == &no_memory ? 0 : CREW_EFORKED;
}

/* ---- how it ended ---- */

static void take_status(struct crew_status *end, int code, int status)
{
	end->lost = code != CLD_EXITED && code != CLD_KILLED && code != CLD_DUMPED;
	if (code == CLD_EXITED)
		end->exit_code = status & 255;
	else if (!end->lost)
		end->signal = status;
	end->core = code == CLD_DUMPED;
}

static int ms_of(struct timeval t)
{
	return (int)(t.tv_sec * 1000 + t.tv_usec / 1000);
}

/* The descriptor is readable, so this does not wait; unless the status was taken by somebody else: ECHILD. */
static void ask_kernel(crew_process *p)
{
	siginfo_t info = { 0 };
	struct rusage usage = { 0 };
	long rc;

	do
		rc = syscall(SYS_waitid, P_PIDFD, p->fd, &info, WEXITED, &usage);
	while (rc && errno == EINTR);
	take_status(&p->end, rc ? 0 : info.si_code, info.si_status);
	p->end.user_ms = ms_of(usage.ru_utime);
	p->end.system_ms = ms_of(usage.ru_stime);
	p->end.max_rss_kib = usage.ru_maxrss;
}

/* The server reaps it and says so; should the server be stopped, we do not stop with it. */
static void ask_server(crew_process *p)
{
	struct pollfd news = { p->status, POLLIN, 0 };
	struct obituary o = { 0 };

	while (poll(&news, 1, SILENCE_MS) < 0 && errno == EINTR)
		;
	if (!news.revents || crew__server_obituary(p->status, false, &o) != 1)
		o.code = 0;
	take_status(&p->end, o.code, o.status);
	p->end.user_ms = o.user_ms;
	p->end.system_ms = o.system_ms;
	p->end.max_rss_kib = o.max_rss_kib;
}

static void say(crew_process *p, int code, const char *format, ...) __attribute__((__format__(printf, 3, 4)));
static void say(crew_process *p, int code, const char *format, ...)
{
	va_list list;

	p->error.code = code;
	if (p->task)
		snprintf(p->error.task, sizeof p->error.task, "%s", p->task->name);
	va_start(list, format);
	vsnprintf(p->error.message, sizeof p->error.message, format, list);
	va_end(list);
}

/* An error for an end that no task made. */
static void explain(crew_process *p, bool by_task)
{
	const char *what = p->task ? p->task->name : p->name;

	if (p->end.signal)
		say(p, CREW_EWORKER, "'%s' (process %d) was killed by signal %d, %s%s", what, (int)p->pid, p->end.signal,
		    strsignal(p->end.signal), p->end.core ? ", core dumped" : "");
	else if (p->end.lost)
		say(p, -ENODATA, "'%s' (process %d) has ended, but somebody else took its status", what, (int)p->pid);
	else if (p->end.exit_code > 0 && !by_task)
		say(p, CREW_EWORKER, "'%s' (process %d) ended with exit status %d", what, (int)p->pid, p->end.exit_code);
}

/* What the letter knows. A status that is lost is found again if the child came to an end in order. */
static void open_letter(crew_process *p)
{
	int status = 0, answer = ANSWER_NONE;

	if (p->letter >= 0)
		answer = crew__letter_open_answer(p->letter, p->task, &p->value, &p->error, &status);
	p->answered = answer == ANSWER_VALUE;
	if (p->end.lost && answer != ANSWER_NONE) {
		p->end.lost = false;
		p->end.exit_code = answer == ANSWER_EXIT ? status : answer == ANSWER_RAISED;
		if (answer == ANSWER_VALUE && p->task->result == CREW_TYPE_OF(int))
			p->end.exit_code = *(int *)p->value & 255;
	}
	p->error.exit_status = p->end.exit_code;
	p->error.signal = p->end.signal;
	p->error.worker = p->pid;
	p->error.attempts = 1;
	p->error.user_ms = p->end.user_ms;
	p->error.system_ms = p->end.system_ms;
	p->error.max_rss_kib = p->end.max_rss_kib;
	if (answer != ANSWER_RAISED)
		explain(p, answer == ANSWER_VALUE);
	if (p->task && p->letter < 0 && p->error.code == 0)
		say(p, CREW_EBROKEN, LOST, p->task->name, (int)p->pid);
}

/* A child of our own can be had again by its number, as long as nobody has waited for it: how it ends will be known, what it answers not. Those of the
   server end with that. The mutex is held. */
static void lose(crew_process *p)
{
	siginfo_t info;

	forget_descriptors(p);
	if (p->kind == KIN_FORKED && waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
		p->fd = crew__pidfd_of(p->pid);
	if (p->fd >= 0)
		return;
	p->fd = -1;
	p->end.lost = true;
	p->end.state = CREW_PROCESS_ENDED;
	p->ended = true;
	say(p, CREW_EBROKEN, LOST, p->task ? p->task->name : p->name, (int)p->pid);
}

static void look_after_descriptors(crew_process *p)
{
	pthread_mutex_lock(&p->mutex);
	if (p->kind != KIN_THREAD && !p->ended && !crew__process_owns(p))
		lose(p);
	pthread_mutex_unlock(&p->mutex);
}

static void learn(crew_process *p)
{
	pthread_mutex_lock(&p->mutex);
	if (!p->ended) {
		if (p->kind == KIN_FORKED)
			ask_kernel(p);
		else if (p->kind == KIN_SERVED)
			ask_server(p);
		else
			p->end.lost = true;
		if (p->kind != KIN_PARENT)
			open_letter(p);
		p->end.state = CREW_PROCESS_ENDED;
		p->ended = true;
	}
	pthread_mutex_unlock(&p->mutex);
}

static bool has_ended(crew_process *p)
{
	bool ended;

	pthread_mutex_lock(&p->mutex);
	ended = p->ended;
	pthread_mutex_unlock(&p->mutex);
	return ended;
}

/* Its descriptor is for others to poll, who may also close it. */
static int settle_thread(crew_process *p, uint64_t deadline)
{
	while (!load_acquire_32(&p->over)) { /* pairs with the release in announce (thread_child.c) */
		if (crew__ms_left(deadline) == 0)
			return -ETIMEDOUT;
		crew__futex_wait(&p->over, 0, deadline, false); /* woken by announce */
	}
	return 0;
}

int crew__process_settle(crew_process *p, int ms)
{
	uint64_t deadline = crew__deadline(ms);
	struct pollfd end = { -1, POLLIN, 0 };
	int n;

	if (p->kind == KIN_THREAD)
		return settle_thread(p, deadline);
	look_after_descriptors(p);
	if (has_ended(p))
		return 0;
	end.fd = p->fd;
	do
		n = poll(&end, 1, crew__ms_left(deadline));
	while (n < 0 && errno == EINTR);
	if (n != 1)
		return -ETIMEDOUT;
	learn(p);
	return 0;
}

/* ---- public ---- */

/* 0, or what every call answers for this one. */
static int usable(const crew_process *p)
{
	int rc = crew__process_check(p);

	return rc ? rc : p->kind == KIN_FAILED ? p->error.code : 0;
}

static bool is_caller(const crew_process *p)
{
	return p->kind == KIN_SELF || p == crew_process_current();
}

int crew_process_join(crew_process *p, int ms)
{
	int rc = usable(p);

	if (rc == 0 && is_caller(p))
		rc = -EDEADLK;
	return rc ? rc : crew__process_settle(p, ms);
}

bool crew_process_alive(crew_process *p)
{
	return usable(p) == 0 && (is_caller(p) || crew__process_settle(p, 0) != 0);
}

/* The letter behind the name in /proc: the name may hold anything, so it is sought from the end. The descriptor says afterwards that it was this process. */
static bool is_stopped(const crew_process *p)
{
	struct pollfd end = { p->fd, POLLIN, 0 };
	char path[64], text[512], *close_paren = NULL;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)p->pid);
	file = fopen(path, "re");
	if (file && fgets(text, sizeof text, file))
		close_paren = strrchr(text, ')');
	if (file)
		fclose(file);
	return close_paren && close_paren[1] == ' ' && (close_paren[2] == 'T' || close_paren[2] == 't') && poll(&end, 1, 0) == 0;
}

int crew_process_status(crew_process *p, struct crew_status *ret)
{
	int rc = crew__process_check(p);
	bool running;

	if (rc || !ret)
		return rc ? rc : -EINVAL;
	running = p->kind != KIN_FAILED && (is_caller(p) || crew__process_settle(p, 0) != 0);
	pthread_mutex_lock(&p->mutex);
	*ret = p->end;
	pthread_mutex_unlock(&p->mutex);
	if (running && p->kind != KIN_THREAD && p->kind != KIN_SELF && is_stopped(p))
		ret->state = CREW_PROCESS_STOPPED;
	return p->kind == KIN_FAILED ? p->error.code : 0;
}

int crew_process_exitcode(crew_process *p, int *ret)
{
	struct crew_status status;
	int rc = crew_process_status(p, &status);

	if (rc || !ret)
		return rc ? rc : -EINVAL;
	if (status.state != CREW_PROCESS_ENDED)
		return -EAGAIN;
	if (status.lost)
		return -ENODATA;
	*ret = status.signal ? -status.signal : status.exit_code;
	return 0;
}

int crew_process_take_result(crew_process *p, void *y, size_t size, int type, int ms)
{
	int rc = crew_process_join(p, ms);

	if (rc)
		return rc;
	if (!p->answered)
		return p->error.code ? CREW_ERAISED : -ENODATA;
	if (type != p->task->result || size != CREW_TYPE_SIZE(type) || !y)
		return CREW_ETYPE;
	memcpy(y, p->value, size);
	return 0;
}

const crew_error *crew_process_error(crew_process *p)
{
	static const crew_error no_process = { .code = CREW_EHANDLE, .exit_status = -1, .message = "not a live object of this library" };
	static const crew_error forked = { .code = CREW_EFORKED, .exit_status = -1, .message = "the process is the child of our parent" };
	static const crew_error itself = { .code = -EDEADLK, .exit_status = -1, .message = "a process cannot wait for itself" };
	int rc = crew__process_check(p);

	if (rc)
		return rc == CREW_EFORKED ? &forked : &no_process;
	if (p->kind == KIN_FAILED)
		return &p->error;
	if (crew_process_join(p, CREW_FOREVER) == -EDEADLK)
		return &itself;
	return &p->error;
}

int crew_process_signal(crew_process *p, int signal)
{
	int rc = usable(p);

	if (rc)
		return rc;
	if (p->kind == KIN_THREAD)
		return -ENOTSUP;
	if (signal <= 0 || signal >= NSIG)
		return -EINVAL;
	if (p->kind != KIN_SELF)
		look_after_descriptors(p);
	if (p->kind != KIN_SELF && has_ended(p))
		return 0;
	if (p->kind == KIN_SELF)
		return kill(p->pid, signal) ? -errno : 0;
	if (syscall(SYS_pidfd_send_signal, p->fd, signal, NULL, 0) == 0 || errno == ESRCH)
		return 0;
	return -errno;
}

int crew_process_terminate(crew_process *p)
{
	return crew_process_signal(p, SIGTERM);
}

int crew_process_kill(crew_process *p)
{
	return crew_process_signal(p, SIGKILL);
}

int crew_process_interrupt(crew_process *p)
{
	return crew_process_signal(p, SIGINT);
}

pid_t crew_process_pid(crew_process *p)
{
	return usable(p) ? 0 : p->pid;
}

const char *crew_process_name(crew_process *p)
{
	return crew__process_check(p) ? "" : p->name;
}

bool crew_process_daemon(crew_process *p)
{
	return crew__process_check(p) == 0 && p->daemon;
}

int crew_process_fd(crew_process *p)
{
	int rc = usable(p);

	return rc ? rc : p->kind == KIN_THREAD && !crew__process_owns(p) ? -EBADF : p->fd;
}

int crew_process_pipe(crew_process *p, int which)
{
	int rc = usable(p), fd;

	if (rc)
		return rc;
	if (which < 0 || which > 2)
		return -EINVAL;
	look_after_descriptors(p);
	pthread_mutex_lock(&p->mutex);
	fd = p->pipes[which];
	p->pipes[which] = -1;
	pthread_mutex_unlock(&p->mutex);
	return fd < 0 ? -EBADF : fd;
}

/* Pipes first: a child that reads to the end of its input, or writes to one that nobody reads, ends by itself. */
static void end_child(crew_process *p)
{
	look_after_descriptors(p);
	for (int i = 0; i < 3; i++)
		close_if_open(&p->pipes[i]);
	if (p->daemon) {
		crew_process_terminate(p);
		if (crew__process_settle(p, GRACE_MS))
			crew_process_kill(p);
	}
	crew__process_settle(p, CREW_FOREVER);
}

crew_process *crew_process_close(crew_process *p)
{
	int rc = crew__process_check(p);

	if (rc == CREW_EFORKED && p->kind != KIN_SELF && p->kind != KIN_PARENT) { /* those two were never allocated */
		if (p->kind == KIN_THREAD)
			crew__fd_close(p->fd, &p->mark);
		free(p->value); /* our copy; a child's descriptors were closed by the fork's hook */
		free(p);
	}
	if (rc || p == &no_memory)
		return NULL;
	if (p->kind == KIN_SELF || p->kind == KIN_PARENT || is_caller(p))
		return p;
	if (p->kind == KIN_THREAD) {
		if (!p->daemon)
			crew__process_settle(p, CREW_FOREVER);
		crew__process_unref(p);
		return NULL;
	}
	if (p->kind != KIN_FAILED && !p->detached)
		end_child(p);
	else if (p->kind == KIN_FORKED && crew__process_settle(p, 0)) {
		crew__kin_abandon(p);
		return NULL;
	}
	crew__kin_remove(p);
	crew__process_free(p);
	return NULL;
}
