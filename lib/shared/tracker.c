/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tracker.c: both ends of the tracker.
 *
 *	this process ──add, forget──> socket ──> tracker: a table of names
 *	      └──pidfd───────────────────────────> has ended: unlink what is left, end
 *
 * The tracker is forked when the first name is to be tracked, twice, so that it is nobody's child: no host that waits for any child, or that ignores SIGCHLD, meets
 * it. It leaves the session and blocks all signals: only SIGKILL ends it before its time; then the next message finds the socket closed, and a new one is
 * started and told everything. The host may have threads: the tracker calls nothing but the system, allocates nothing but by mmap(), and keeps no descriptor.
 *
 * With the last name it goes; a host that executes another program, which has not made the names, has closed the socket as well.
 *
 * A child that the host forks has no tracker and no names; if it makes some, it starts one of its own.
 */
#include "shared/tracker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#define DIRECTORY "/dev/shm/"

enum { SOCKET = 0, HOST = 1, NAMES_AT_FIRST = 16 }; /* the tracker's descriptors */

struct message {
	uint64_t dev, ino;
	bool add;
	char name[BLOCK_NAME_MOST + 1];
};

/* ---- the tracker ---- */

struct table {
	struct message *entry;
	size_t count, capacity;
};

static bool grow(struct table *t)
{
	size_t size = t->capacity * sizeof *t->entry;
	void *p = t->entry ? mremap(t->entry, size, 2 * size, MREMAP_MAYMOVE)
			   : mmap(NULL, NAMES_AT_FIRST * sizeof *t->entry, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return false;
	t->capacity = t->entry ? 2 * t->capacity : NAMES_AT_FIRST;
	t->entry = p;
	return true;
}

static void note(struct table *t, const struct message *m)
{
	for (size_t i = 0; i < t->count; i++)
		if (strcmp(t->entry[i].name, m->name) == 0) {
			if (m->add)
				t->entry[i] = *m;
			else
				t->entry[i] = t->entry[--t->count];
			return;
		}
	if (m->add && (t->count < t->capacity || grow(t)))
		t->entry[t->count++] = *m;
}

static void sweep(const struct message *m)
{
	char path[sizeof DIRECTORY + BLOCK_NAME_MOST] = DIRECTORY;
	struct stat st;

	memcpy(path + sizeof DIRECTORY - 1, m->name, sizeof m->name);
	if (stat(path, &st) == 0 && st.st_dev == m->dev && st.st_ino == m->ino)
		unlink(path);
}

/* Everything that is in the socket. False: the host has closed it. */
static bool listen_to(struct table *t)
{
	struct message m;
	ssize_t n;

	while ((n = recv(SOCKET, &m, sizeof m, MSG_DONTWAIT)) == sizeof m) {
		m.name[BLOCK_NAME_MOST] = '\0';
		note(t, &m);
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static _Noreturn void track(int socket, int host)
{
	struct pollfd events[2] = { { SOCKET, POLLIN, 0 }, { HOST, POLLIN, 0 } };
	pid_t self = (pid_t)syscall(SYS_getpid);
	struct table t = { NULL, 0, 0 };
	sigset_t all;

	setsid();
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_NAME, "crew-tracker");
	if (dup2(socket, SOCKET) < 0 || dup2(host, HOST) < 0 || syscall(SYS_close_range, 2, ~0u, 0) || send(SOCKET, &self, sizeof self, MSG_NOSIGNAL) < 0)
		_exit(1);
	do
		poll(events, 2, -1);
	while (listen_to(&t) && !events[1].revents);
	for (size_t i = 0; i < t.count; i++)
		sweep(&t.entry[i]);
	_exit(0);
}

/* ---- this process ---- */

struct name {
	struct name *next;
	struct message message;
};

static struct {
	pthread_mutex_t mutex;
	pthread_once_t once;
	int socket; /* -1: no tracker */
	pid_t pid;
	struct name *names; /* what the next tracker has to be told */
} tracker = { .mutex = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT, .socket = -1 };

static void before_fork(void)
{
	pthread_mutex_lock(&tracker.mutex);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&tracker.mutex);
}

/* The names are the parent's, which goes on looking after them. */
static void after_fork_child(void)
{
	pthread_mutex_init(&tracker.mutex, NULL);
	if (tracker.socket >= 0)
		close(tracker.socket);
	tracker.socket = -1;
	tracker.pid = 0;
	while (tracker.names) {
		struct name *name = tracker.names;

		tracker.names = name->next;
		free(name);
	}
}

static void install(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* Fork by the system call: the hooks of fork() take the mutex that we hold, and the tracker needs none of what they do. */
static pid_t raw_fork(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static void stop(void)
{
	if (tracker.socket >= 0)
		close(tracker.socket);
	tracker.socket = -1;
	tracker.pid = 0;
}

static int start(void)
{
	int pair[2], host = (int)syscall(SYS_pidfd_open, getpid(), 0), rc = -EAGAIN;
	pid_t pid;

	if (host < 0)
		return -EAGAIN;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		close(host);
		return -EAGAIN;
	}
	pid = raw_fork();
	if (pid == 0) {
		/* low numbers are taken last, so that neither is overwritten before it is moved */
		int far = fcntl(pair[1], F_DUPFD, 8), farther = fcntl(host, F_DUPFD, 8);

		if (far < 0 || farther < 0 || raw_fork() != 0)
			_exit(0);
		track(far, farther);
	}
	close(pair[1]);
	close(host);
	if (pid > 0) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		if (recv(pair[0], &tracker.pid, sizeof tracker.pid, 0) == (ssize_t)sizeof tracker.pid)
			rc = 0;
	}
	tracker.socket = pair[0];
	if (rc)
		stop();
	return rc;
}

static bool tell(const struct message *m)
{
	ssize_t n;

	do
		n = tracker.socket < 0 ? -1 : send(tracker.socket, m, sizeof *m, MSG_NOSIGNAL);
	while (n < 0 && tracker.socket >= 0 && errno == EINTR);
	return n == (ssize_t)sizeof *m;
}

/* A new tracker, that knows everything. */
static int restart(void)
{
	int rc;

	stop();
	rc = start();
	for (struct name *name = tracker.names; name && rc == 0; name = name->next)
		if (!tell(&name->message))
			rc = -EAGAIN;
	return rc;
}

int crew__tracker_add(const char *name, const struct stat *file)
{
	struct name *new = calloc(1, sizeof *new);
	int rc = 0;

	if (!new)
		return -ENOMEM;
	new->message.add = true;
	new->message.dev = file->st_dev;
	new->message.ino = file->st_ino;
	strncpy(new->message.name, name, BLOCK_NAME_MOST);
	pthread_once(&tracker.once, install);
	pthread_mutex_lock(&tracker.mutex);
	new->next = tracker.names;
	tracker.names = new;
	if (!tell(&new->message))
		rc = restart();
	if (rc) {
		tracker.names = new->next;
		free(new);
	}
	pthread_mutex_unlock(&tracker.mutex);
	return rc;
}

void crew__tracker_forget(const char *name)
{
	struct message m = { .add = false };

	strncpy(m.name, name, BLOCK_NAME_MOST);
	pthread_once(&tracker.once, install);
	pthread_mutex_lock(&tracker.mutex);
	for (struct name **place = &tracker.names; *place; place = &(*place)->next)
		if (strcmp((*place)->message.name, m.name) == 0) {
			struct name *gone = *place;

			*place = gone->next;
			free(gone);
			if (!tell(&m) && tracker.names)
				restart();
			if (!tracker.names)
				stop(); /* it finds the socket closed, and ends */
			break;
		}
	pthread_mutex_unlock(&tracker.mutex);
}

pid_t crew__tracker_pid(void)
{
	pid_t pid;

	pthread_mutex_lock(&tracker.mutex);
	pid = tracker.pid;
	pthread_mutex_unlock(&tracker.mutex);
	return pid;
}
