/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * birth.c: starting a child: crew_start() and crew_process_exec().
 *
 *	options → birth, descriptors, letter → fork | the server | the nursery → object
 *
 * A forked child waits at a gate until its creator has opened its descriptor: it cannot have ended before, so the descriptor is of this very process, also
 * where the program ignores SIGCHLD or another thread reaps whatever there is. Everything the creator opened for the child is closed again in one place,
 * however far the start has come.
 *
 * A detached child is forked once more, in a session of its own; the one in between tells of it and ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/niceness.h"
#include "base/signals.h"
#include "core/service.h"
#include "process/kin.h"
#include "process/nursery.h"
#include "process/pidfd.h"
#include "process/server.h"
#include "thread/thread_pool.h"

enum { FDS_MAX = FD_STDIO + 3 + 1 };

/* A start on its way. */
struct delivery {
	crew_process *p;
	struct birth birth;
	const crew_task *task;
	const void *arguments;
	int fds[FDS_MAX]; /* what travels; all are ours to close afterwards */
	uint32_t count;
	int detached; /* our end of the socket on which a detached child is told of; -1 */
};

/* ---- descriptors ---- */

static int keep(struct delivery *d, int fd)
{
	if (fd >= 0)
		d->fds[d->count++] = fd;
	return fd < 0 ? fd : 0;
}

static int make_pipe(struct delivery *d, int which)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fds[0] = crew__fd_keep(fds[0]);
	fds[1] = crew__fd_keep(fds[1]);
	d->p->pipes[which] = fds[which == 0];
	d->birth.piped[which] = true;
	if (fds[0] < 0 || fds[1] < 0) {
		if (fds[which != 0] >= 0)
			close(fds[which != 0]);
		return fds[0] < 0 ? fds[0] : fds[1];
	}
	return keep(d, fds[which != 0]);
}

static int open_stdio(struct delivery *d, const int wanted[3])
{
	int rc = 0;

	for (int i = 0; i < 3 && rc == 0; i++) {
		if (wanted[i] == CREW_DEVNULL) {
			d->birth.silent[i] = true;
		} else if (wanted[i] == CREW_PIPE) {
			rc = make_pipe(d, i);
		} else if (wanted[i] > 0) {
			int copy = fcntl(wanted[i], F_DUPFD_CLOEXEC, 3);

			d->birth.piped[i] = true;
			rc = copy < 0 ? -errno : keep(d, copy);
		} else if (wanted[i] < 0) {
			rc = -EINVAL;
		}
	}
	return rc;
}

static void close_all(struct delivery *d)
{
	for (uint32_t i = 0; i < d->count; i++)
		if (d->fds[i] != d->p->letter)
			close(d->fds[i]);
	if (d->detached >= 0)
		close(d->detached);
}

/* ---- options ---- */

static int fill(struct birth *b, const struct crew_start_options *o)
{
	char name[NAME_ROOM];

	if (o->max_cpu_s < 0 || o->max_files < 0 || !niceness_is_possible(o->nice) || o->reserved_)
		return -EINVAL;
	crew__kin_path(name, b->path, "Process", false);
	snprintf(b->name, sizeof b->name, "%s", o->name ? o->name : name);
	snprintf(b->creator_name, sizeof b->creator_name, "%s", crew__kin_name());
	b->creator = getpid();
	b->daemon = o->daemon;
	b->detach = o->detach;
	b->nice = o->nice;
	b->max_memory = o->max_memory;
	b->max_cpu_s = o->max_cpu_s;
	b->max_files = o->max_files;
	b->placed = o->cpus != NULL;
	return o->cpus && crew__cpus_parse(o->cpus, &b->cpus) ? -EINVAL : 0;
}

/* ---- detaching ---- */

static void send_pidfd(int socket, pid_t pid, int pidfd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { &pid, sizeof pid };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (pidfd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
		control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof pidfd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), &pidfd, sizeof pidfd);
	}
	(void)sendmsg(socket, &message, MSG_NOSIGNAL);
}

/* In the one in between. It has opened the descriptor before it ends, and so before anybody else could reap its child. */
void crew__child_detach(int socket)
{
	pid_t pid;

	setsid();
	pid = fork();
	if (pid == 0) {
		close(socket);
		return;
	}
	send_pidfd(socket, pid < 0 ? -errno : pid, pid < 0 ? -1 : crew__pidfd_of(pid));
	_exit(0);
}

/* In the creator; the one in between has been started. */
static int take_detached(struct delivery *d)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	pid_t pid = 0;
	struct iovec iov = { &pid, sizeof pid };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct pollfd fds[] = { { d->detached, POLLIN, 0 }, { d->p->fd, POLLIN, 0 } };
	ssize_t n;

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	do
		n = recvmsg(d->detached, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); /* it is there, or the one in between has ended without a word */
	while (n < 0 && errno == EINTR);
	crew__process_settle(d->p, CREW_FOREVER); /* reaps the one in between */
	memset(&d->p->error, 0, sizeof d->p->error);
	free(d->p->value); /* of the real one, if it was that fast: it is read again at its own end */
	d->p->value = NULL;
	d->p->answered = false;
	close(d->p->fd);
	if (d->p->status >= 0)
		close(d->p->status);
	d->p->fd = d->p->status = -1;
	if (n == sizeof pid && message.msg_controllen >= CMSG_LEN(sizeof(int)))
		memcpy(&d->p->fd, CMSG_DATA(&control.header), sizeof d->p->fd);
	d->p->fd = d->p->fd < 0 ? -1 : crew__fd_keep(d->p->fd);
	if (n != sizeof pid || pid <= 0 || d->p->fd < 0)
		return n == sizeof pid && pid < 0 ? pid : -ECHILD;
	d->p->kind = KIN_DETACHED;
	d->p->pid = pid;
	d->p->ended = false;
	d->p->end = (struct crew_status){ .state = CREW_PROCESS_RUNNING, .exit_code = -1 };
	return 0;
}

static int open_socket(struct delivery *d)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	d->detached = crew__fd_keep(pair[0]);
	pair[1] = crew__fd_keep(pair[1]);
	if (d->detached < 0)
		close(pair[1]);
	return d->detached < 0 ? d->detached : keep(d, pair[1]);
}

/* ---- fork ---- */

/* Threads of the library's own do not count: they lock no stream. */
static bool single_threaded(void)
{
	struct stat st;

	return stat("/proc/self/task", &st) == 0 && st.st_nlink <= 3 + ck_pr_load_32(&crew__service_threads);
}

/* A thread that waits for input has its stream locked: with other threads only those two that are not for reading are flushed. */
static void flush(void)
{
	if (single_threaded()) {
		fflush(NULL);
	} else {
		fflush(stdout);
		fflush(stderr);
	}
}

/* Until the creator lets us go. It may die instead, or find that it cannot follow us. */
static void wait_at(int gate, int creator)
{
	struct pollfd fds[] = { { gate, POLLIN, 0 }, { creator, POLLIN, 0 } };
	char go = 0;

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	if (!(fds[0].revents & POLLIN) || read(gate, &go, 1) != 1 || !go)
		_exit(1);
	close(gate);
}

static _Noreturn void forked(struct delivery *d, const int gate[2])
{
	close(gate[1]);
	for (int i = 0; i < 3; i++)
		if (d->p->pipes[i] >= 0)
			close(d->p->pipes[i]);
	if (d->detached >= 0)
		close(d->detached);
	wait_at(gate[0], d->fds[FD_CREATOR]);
	crew__child_live(&d->birth, d->fds, d->task, (void *)(uintptr_t)d->arguments);
}

static int start_fork(struct delivery *d)
{
	sigset_t before;
	int gate[2], rc = 0;
	pid_t pid;

	if (pipe2(gate, O_CLOEXEC))
		return -errno;
	gate[0] = crew__fd_keep(gate[0]);
	gate[1] = crew__fd_keep(gate[1]);
	flush();
	before = signals_block();
	pid = gate[0] < 0 || gate[1] < 0 ? -1 : fork();
	if (pid < 0)
		rc = gate[0] < 0 ? gate[0] : gate[1] < 0 ? gate[1] : -errno;
	if (pid == 0)
		forked(d, gate);
	signals_restore(&before);
	if (pid > 0) {
		d->p->kind = KIN_FORKED;
		d->p->pid = pid;
		d->p->fd = crew__pidfd_of(pid);
		rc = d->p->fd < 0 ? d->p->fd : 0;
		(void)!write(gate[1], rc ? "" : "1", 1);
		while (rc && waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED) && errno == EINTR)
			;
	}
	close(gate[0]);
	close(gate[1]);
	return rc;
}

static int start_served(struct delivery *d, enum crew_start how)
{
	struct child_request request = { CHILD_PROCESS, &d->birth, sizeof d->birth, d->fds, d->count };
	struct child child;
	int rc = crew__letter_write(d->p->letter, d->task, d->arguments);

	if (rc == 0)
		rc = crew__server_start(how, &request, &child);
	if (rc)
		return rc;
	d->p->kind = KIN_SERVED;
	d->p->pid = child.pid;
	d->p->fd = child.pidfd;
	d->p->status = child.status;
	return 0;
}

void crew__process_child(const void *data, size_t size, const int *fds, uint32_t fd_count)
{
	struct birth birth;

	if (size != sizeof birth || fd_count < FD_STDIO)
		_exit(1);
	memcpy(&birth, data, sizeof birth);
	crew__child_live(&birth, fds, NULL, NULL);
}

/* ---- crew_start ---- */

static int refuse(const crew_task *task, const void *arguments, enum crew_start how, const char **why)
{
	*why = "it cannot be started";
	if (!task || task->size < sizeof *task || (!task->run && !task->raw)) {
		*why = "no task was given";
		return CREW_ENOTASK;
	}
	if (!crew__arguments(task, arguments)) {
		*why = "no arguments were given";
		return -EINVAL;
	}
	if (((task->flags & CREW_TASK_POINTERS) && how != CREW_START_FORK) || CREW_TYPE_CLASS(task->result) == CREW_POINTER) {
		*why = "it takes or returns a pointer";
		return CREW_EPOINTER;
	}
	if (crew__kin_daemonic()) {
		*why = "daemonic processes may not have children";
		return -EPERM;
	}
	return 0;
}

static int deliver(struct delivery *d, const struct crew_start_options *o, enum crew_start how)
{
	const int wanted[] = { o->stdin_fd, o->stdout_fd, o->stderr_fd };
	int rc = fill(&d->birth, o);

	if (rc == 0)
		rc = keep(d, d->p->letter = crew__letter_open());
	if (rc == 0)
		rc = crew__fd_mark(d->p->letter, &d->p->mark);
	if (rc == 0)
		rc = keep(d, crew__pidfd_of(getpid()));
	if (rc == 0)
		rc = open_stdio(d, wanted);
	if (rc == 0 && o->detach)
		rc = open_socket(d);
	if (rc)
		return rc;
	d->birth.watch = how == CREW_START_FORK && !o->detach;
	rc = how == CREW_START_FORK ? start_fork(d) : start_served(d, how);
	return rc == 0 && o->detach ? take_detached(d) : rc;
}

crew_process *crew_process_start(const crew_task *task, const void *arguments, const struct crew_start_options *options, size_t size)
{
	struct crew_start_options o;
	struct delivery d = { .task = task, .detached = -1 };
	enum crew_start how;
	const char *why = "an option that this version does not know";
	int rc = crew__kin_install();

	d.p = crew__process_new(KIN_FAILED, "");
	if (rc || !d.p)
		return crew__process_failed(d.p, -ENOMEM, "no memory for a process");
	crew__kin_reap();
	rc = crew__options(&o, sizeof o, options, size);
	how = rc ? CREW_START_FORK : o.start == CREW_START_DEFAULT ? crew_start_method() : o.start;
	if (rc == 0)
		rc = refuse(task, arguments, how, &why);
	if (rc)
		return crew__process_failed(d.p, rc, "'%s': %s (%s)", task ? task->name : "?", why, crew_strerror(rc));
	d.p->task = task;
	d.arguments = crew__arguments(task, arguments);
	rc = deliver(&d, &o, how);
	close_all(&d);
	memcpy(d.p->name, d.birth.name, sizeof d.p->name);
	if (rc)
		return crew__process_failed(d.p, rc, "'%s' could not be started as a process: %s", task->name, crew_strerror(rc));
	d.p->daemon = o.daemon;
	d.p->detached = o.detach;
	crew__kin_add(d.p);
	return d.p;
}

/* ---- crew_process_exec ---- */

static void spread(const struct delivery *d, int stdio[3])
{
	uint32_t next = 0;

	for (int i = 0; i < 3; i++)
		stdio[i] = d->birth.piped[i] ? d->fds[next++] : -1;
}

static int launch(struct delivery *d, char *const *argv, const struct crew_exec_options *o)
{
	const int wanted[] = { o->stdin_fd, o->stdout_fd, o->stderr_fd };
	const char *base = strrchr(argv[0], '/');
	struct crew_start_options same = { .name = o->name ? o->name : base ? base + 1 : argv[0], .daemon = o->daemon, .detach = o->detach,
					   .nice = o->nice, .cpus = o->cpus, .max_memory = o->max_memory, .max_cpu_s = o->max_cpu_s,
					   .max_files = o->max_files, .reserved_ = o->reserved_ };
	struct launch l = { &d->birth, argv, o->environment, o->directory, o->inherit_fds, { -1, -1, -1 } };
	int rc = fill(&d->birth, &same);

	if (rc == 0)
		rc = open_stdio(d, wanted);
	if (rc)
		return rc;
	spread(d, l.stdio);
	flush();
	d->p->pid = crew__nursery_launch(&l, &d->p->fd);
	if (d->p->pid < 0)
		return d->p->pid;
	d->p->nursed = !o->detach;
	d->p->kind = KIN_FORKED;
	return 0;
}

crew_process *crew_process_start_program(char *const *argv, const struct crew_exec_options *options, size_t size)
{
	struct crew_exec_options o;
	struct delivery d = { .detached = -1 };
	int rc = crew__kin_install();

	d.p = crew__process_new(KIN_FAILED, argv && argv[0] ? argv[0] : "?");
	if (rc || !d.p)
		return crew__process_failed(d.p, -ENOMEM, "no memory for a process");
	crew__kin_reap();
	if (!argv || !argv[0] || crew__options(&o, sizeof o, options, size))
		return crew__process_failed(d.p, -EINVAL, "no program, or an option that this version does not know");
	if (crew__kin_daemonic())
		return crew__process_failed(d.p, -EPERM, "daemonic processes may not have children");
	rc = launch(&d, argv, &o);
	close_all(&d);
	if (rc)
		return crew__process_failed(d.p, rc, "'%s' could not be executed: %s", argv[0], crew_strerror(rc));
	memcpy(d.p->name, d.birth.name, sizeof d.p->name);
	d.p->daemon = o.daemon;
	d.p->detached = o.detach;
	crew__kin_add(d.p);
	return d.p;
}
