/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * server_loop.c: a server's life: take a request, fork, tell who was born, and when it has ended, how.
 *
 *	poll {requests, SIGCHLD by signalfd, the host's pidfd}
 *
 * It has one thread and runs no code of the program's, so each of its forks is safe. What it keeps open is what it needs: of the host's descriptors a
 * server that all executors share has the standard streams only. All signals are blocked, so that Ctrl-C or a SIGTERM to the group leave it alone;
 * dispositions are the defaults, so that a child only has to empty its mask.
 *
 * Who dies with whom: the server and its children when the host does, whose pidfd it watches; a process when the server is killed (PDEATHSIG on its only
 * thread); a zygote not, it watches the host itself, and its executor goes on without a server.
 *
 * The server is its children's parent, hence the only one that can wait for them: no stranger is among them.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <crew/process.h>

#include "base/clock.h"
#include "base/signals.h"
#include "ipc/family.h"
#include "process/execution.h"
#include "process/parcel.h"
#include "process/pidfd.h"

enum { ZYGOTES_MS = 1500 }; /* less than who ends a server waits for that */

struct offspring {
	pid_t pid;
	int status; /* our end of its status socket */
	bool zygote;
};

struct request {
	struct request_head head;
	unsigned char data[SERVER_DATA_MAX];
};

struct server_loop {
	int socket, host, signals;
	pid_t self;
	struct request *request;
	struct offspring *children;
	size_t count, capacity;
};

static _Noreturn void end(struct server_loop *s);

/* ---- births ---- */

static _Noreturn void become_child(struct server_loop *s, size_t size, int *fds, uint32_t fd_count)
{
	struct child_request request = { s->request->head.kind, s->request->data, size, fds + 1, fd_count - 1 };
	sigset_t none;

	if (request.kind != CHILD_ZYGOTE) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != s->self)
			_exit(1);
	}
	close(s->socket);
	close(s->host);
	close(s->signals);
	close(fds[0]);
	for (size_t i = 0; i < s->count; i++)
		close(s->children[i].status);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (s->request->head.start == CREW_START_SPAWN)
		crew__execution_become(&request);
	crew__child_main(request.kind, request.data, request.size, request.fds, request.fd_count);
}

static bool make_room(struct server_loop *s)
{
	size_t capacity = s->capacity ? 2 * s->capacity : 8;
	struct offspring *children;

	if (s->count < s->capacity)
		return true;
	children = realloc(s->children, capacity * sizeof *children);
	if (!children)
		return false;
	s->children = children;
	s->capacity = capacity;
	return true;
}

/* Its pid, or -errno. */
static pid_t bear(struct server_loop *s, size_t size, int *fds, uint32_t fd_count, int *ret_pidfd)
{
	pid_t pid;

	if (!make_room(s))
		return -ENOMEM;
	pid = fork();
	if (pid == 0)
		become_child(s, size, fds, fd_count);
	if (pid < 0)
		return -errno;
	*ret_pidfd = crew__pidfd_of_child(pid);
	return *ret_pidfd < 0 ? *ret_pidfd : pid;
}

static void obey(struct server_loop *s)
{
	int fds[SERVER_FDS_MAX + 1], pidfd = -1;
	uint32_t fd_count;
	long n = crew__parcel_receive(s->socket, false, s->request, sizeof *s->request, fds, SERVER_FDS_MAX + 1, &fd_count);
	int32_t birth;

	if (n == -EPIPE)
		end(s);
	if (n < (long)sizeof s->request->head || fd_count == 0) {
		while (n >= 0 && fd_count > 0)
			close(fds[--fd_count]);
		return;
	}
	birth = bear(s, (size_t)n - sizeof s->request->head, fds, fd_count, &pidfd);
	if (crew__parcel_send(fds[0], false, &(struct iovec){ &birth, sizeof birth }, 1, &pidfd, pidfd >= 0) && birth > 0) {
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); /* nobody would know of it; who asked sees the end of file, and asks again */
		birth = -EPIPE;
	}
	if (birth > 0)
		s->children[s->count++] = (struct offspring){ birth, fds[0], s->request->head.kind == CHILD_ZYGOTE };
	else
		close(fds[0]); /* who asked has the answer in its end */
	if (pidfd >= 0)
		close(pidfd);
	for (uint32_t i = 1; i < fd_count; i++)
		close(fds[i]);
}

/* ---- deaths ---- */

static int milliseconds(struct timeval t)
{
	return (int)(t.tv_sec * 1000 + t.tv_usec / 1000);
}

/* The socket has room: nothing but the birth was ever put in. */
static void tell(struct offspring *child, const siginfo_t *info, const struct rusage *usage)
{
	struct obituary obituary = { info->si_code, info->si_status, milliseconds(usage->ru_utime), milliseconds(usage->ru_stime), usage->ru_maxrss };

	crew__parcel_send(child->status, false, &(struct iovec){ &obituary, sizeof obituary }, 1, NULL, 0);
	close(child->status);
}

static void reap(struct server_loop *s)
{
	siginfo_t info;
	struct rusage usage;

	for (;;) {
		size_t i = 0;

		info.si_pid = 0;
		if (syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG, &usage) || info.si_pid == 0)
			return;
		while (i < s->count && s->children[i].pid != info.si_pid)
			i++;
		if (info.si_code == CLD_TRAPPED) /* it made us its tracer, which is told of its stops, and would stand still for ever */
			kill(info.si_pid, SIGKILL);
		if (i == s->count || info.si_code == CLD_TRAPPED)
			continue;
		tell(&s->children[i], &info, &usage);
		s->children[i] = s->children[--s->count];
	}
}

/* ---- the end ---- */

static void kill_all(const struct server_loop *s, bool zygotes)
{
	for (size_t i = 0; i < s->count; i++)
		if (zygotes || !s->children[i].zygote)
			kill(s->children[i].pid, SIGKILL); /* not waited for yet, so the number is still its own */
}

/* Zygotes see for themselves what we have seen, and end workers whose death signal a task has taken off: they get a moment for that. */
static void await_zygotes(struct server_loop *s)
{
	uint64_t deadline = crew__deadline(ZYGOTES_MS);
	struct pollfd death = { s->signals, POLLIN, 0 };
	struct signalfd_siginfo child;

	reap(s);
	while (s->count && crew__ms_left(deadline) > 0) {
		if (poll(&death, 1, crew__ms_left(deadline)) == 1)
			(void)!read(s->signals, &child, sizeof child);
		reap(s);
	}
}

/* The host is gone, or wants us gone: nobody stays. */
static _Noreturn void end(struct server_loop *s)
{
	kill_all(s, false);
	await_zygotes(s);
	kill_all(s, true);
	while (waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED) == 0 || errno == EINTR)
		;
	_exit(0);
}

/* ---- life ---- */

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* All but the standard streams and these. */
static void close_others(int *fds, int count)
{
	unsigned first = 3;

	qsort(fds, (size_t)count, sizeof *fds, by_number);
	for (int i = 0; i < count; i++) {
		if (fds[i] < (int)first)
			continue; /* there is none */
		if (fds[i] > (int)first)
			close_range(first, (unsigned)fds[i] - 1, 0);
		first = (unsigned)fds[i] + 1;
	}
	close_range(first, ~0u, 0);
}

/* All is blocked, and as after exec. */
static void set_signals(struct server_loop *s)
{
	signals_reset();
	s->signals = crew_signal_fd(&(int){ SIGCHLD }, 1);
}

void crew__server_serve(int socket, int host, bool keep)
{
	struct server_loop s = { .socket = socket, .host = host, .self = getpid(), .request = malloc(sizeof *s.request) };
	struct pollfd fds[3];
	struct signalfd_siginfo child;

	if (!keep)
		close_others((int[]){ socket, host, crew__family_fd() }, 3);
	set_signals(&s);
	prctl(PR_SET_NAME, keep ? "crew-keeper" : "crew-server");
	if (!s.request || s.signals < 0)
		_exit(1);
	fds[0] = (struct pollfd){ socket, POLLIN, 0 };
	fds[1] = (struct pollfd){ s.signals, POLLIN, 0 };
	fds[2] = (struct pollfd){ host, POLLIN, 0 };
#ifdef CREW_FAULT_UNWATCHED /* for test/fault, which must find it */
	fds[2].fd = -1;
#endif
	for (;;) {
		poll(fds, 3, -1);
		if (fds[2].revents)
			end(&s);
		if (fds[1].revents)
			(void)!read(s.signals, &child, sizeof child);
		reap(&s);
		if (fds[0].revents)
			obey(&s);
	}
}

void crew__server_child(const void *data, size_t size, const int *fds, uint32_t fd_count)
{
	(void)data, (void)size;
	if (fd_count < 2)
		_exit(1);
	crew__server_serve(fds[0], fds[1], false);
}
