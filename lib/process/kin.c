/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kin.c: who this process is, who made it, and which children it has: for crew_process_current() and crew_children(), and for the two moments
 * when that changes as a whole: fork and the end of the program.
 *
 * fork: the child has none of these children. It closes the copies of their descriptors: a pipe that a sibling reads would not end otherwise. Who it is
 * itself is told to it by child_life.c; a process that the program forked by hand has the name it had, and no parent.
 *
 * End of the program: daemonic children are terminated, the others and all threads of ours that are not daemonic are waited for. The objects may be in use
 * by threads that go on, so only duplicates of their descriptors are.
 */
#include "process/kin.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/futex.h"
#include "core/registry.h"
#include "process/nursery.h"

enum { GRACE_MS = 1000 };

static struct {
	pthread_mutex_t mutex;
	pthread_once_t once;
	int installed; /* 0 or -errno; written once */
	/* guarded by mutex */
	crew_process *first;
	uint32_t processes, threads_ever; /* for names */
	enum crew_start method;
	/* written before there are threads: at the start of a child, and by the fork hook */
	crew_process self, parent;
	bool has_parent;
	char path[PATH_ROOM];
	/* any thread, atomic */
	uint32_t threads; /* of crew_thread_start(), not daemonic, that have not ended; a futex */
} kin = {
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.once = PTHREAD_ONCE_INIT,
	.self = { .magic = PROCESS_MAGIC, .kind = KIN_SELF, .fd = -EDEADLK, .mutex = PTHREAD_MUTEX_INITIALIZER, .name = "MainProcess",
		  .end = { .state = CREW_PROCESS_RUNNING, .exit_code = -1 } },
};
static __thread crew_process *this_thread __attribute__((__tls_model__("initial-exec")));

/* ---- hooks ---- */

static void before_fork(void)
{
	pthread_mutex_lock(&kin.mutex);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&kin.mutex);
}

static void disown(const crew_process *p)
{
	const int fds[] = { p->fd, p->status, p->letter, p->pipes[0], p->pipes[1], p->pipes[2] };

	if (!crew__process_owns(p))
		return;
	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void after_fork_child(void)
{
	for (crew_process *p = kin.first; p; p = p->next)
		disown(p);
	pthread_mutex_init(&kin.mutex, NULL);
	pthread_mutex_init(&kin.self.mutex, NULL);
	kin.first = NULL;
	kin.processes = kin.threads_ever = kin.threads = 0;
	kin.self.pid = getpid();
	kin.self.generation = crew__fork_generation; /* the registry's hook came first, as it was installed first */
	kin.has_parent = false;
	this_thread = NULL;
	crew__nursery_forked();
}

static void install(void)
{
	kin.installed = crew__registry_install();
	kin.self.pid = getpid();
	kin.self.generation = crew__fork_generation;
	if (kin.installed == 0 && (pthread_atfork(before_fork, after_fork_parent, after_fork_child) || atexit(crew__kin_end)))
		kin.installed = -ENOMEM;
}

int crew__kin_install(void)
{
	pthread_once(&kin.once, install);
	return kin.installed;
}

/* ---- the list ---- */

void crew__kin_add(crew_process *p)
{
	pthread_mutex_lock(&kin.mutex);
	p->previous = NULL;
	p->next = kin.first;
	if (kin.first)
		kin.first->previous = p;
	kin.first = p;
	pthread_mutex_unlock(&kin.mutex);
}

static void unlink_locked(crew_process *p)
{
	if (p->next)
		p->next->previous = p->previous;
	if (p->previous)
		p->previous->next = p->next;
	else if (kin.first == p)
		kin.first = p->next;
	p->next = p->previous = NULL;
}

void crew__kin_remove(crew_process *p)
{
	pthread_mutex_lock(&kin.mutex);
	unlink_locked(p);
	pthread_mutex_unlock(&kin.mutex);
}

void crew__kin_abandon(crew_process *p)
{
	pthread_mutex_lock(&kin.mutex);
	p->abandoned = true;
	pthread_mutex_unlock(&kin.mutex);
}

void crew__kin_reap(void)
{
	pthread_mutex_lock(&kin.mutex);
	for (crew_process *p = kin.first, *next; p; p = next) {
		next = p->next;
		if (crew__process_settle(p, 0) == 0 && p->abandoned) {
			unlink_locked(p);
			crew__process_free(p);
		}
	}
	pthread_mutex_unlock(&kin.mutex);
}

int crew_children(crew_process **ret, size_t n)
{
	int count = 0;

	crew__kin_reap();
	pthread_mutex_lock(&kin.mutex);
	for (crew_process *p = kin.first; p; p = p->next) {
		if (p->abandoned || crew__process_settle(p, 0) == 0)
			continue;
		if (ret && (size_t)count < n)
			ret[count] = p;
		count++;
	}
	pthread_mutex_unlock(&kin.mutex);
	return count;
}

/* ---- who we are ---- */

void crew__kin_path(char *name, char *path, const char *kind, bool thread)
{
	uint32_t number;

	pthread_mutex_lock(&kin.mutex);
	number = thread ? ++kin.threads_ever : ++kin.processes;
	pthread_mutex_unlock(&kin.mutex);
	snprintf(path, PATH_ROOM, "%.50s%s%u", thread ? "" : kin.path, kin.path[0] && !thread ? ":" : "", number);
	snprintf(name, NAME_ROOM, "%.8s-%.54s", kind, path);
}

const char *crew__kin_name(void)
{
	return kin.self.name;
}

bool crew__kin_daemonic(void)
{
	return kin.self.daemon;
}

void crew__kin_become(const struct birth *b, int creator)
{
	crew__kin_install();
	memcpy(kin.path, b->path, sizeof kin.path);
	memcpy(kin.self.name, b->name, sizeof kin.self.name);
	kin.self.daemon = b->daemon;
	kin.parent = (crew_process){ .magic = PROCESS_MAGIC, .kind = KIN_PARENT, .generation = crew__fork_generation, .pid = b->creator,
				     .fd = creator, .status = -1, .letter = -1, .pipes = { -1, -1, -1 },
				     .end = { .state = CREW_PROCESS_RUNNING, .exit_code = -1 } };
	memcpy(kin.parent.name, b->creator_name, sizeof kin.parent.name);
	pthread_mutex_init(&kin.parent.mutex, NULL);
	kin.has_parent = true;
}

crew_process *crew_process_current(void)
{
	if (this_thread)
		return this_thread;
	crew__kin_install();
	return &kin.self;
}

crew_process *crew_process_parent(void)
{
	return kin.has_parent ? &kin.parent : NULL;
}

int crew_parent_fd(void)
{
	return kin.has_parent ? kin.parent.fd : -ESRCH;
}

/* ---- threads ---- */

void crew__kin_enter_thread(crew_process *p)
{
	this_thread = p;
}

void crew__kin_thread_begins(void)
{
	ck_pr_inc_32(&kin.threads);
}

void crew__kin_thread_ends(void)
{
	ck_pr_fence_release();
	ck_pr_dec_32(&kin.threads);
	crew__futex_wake(&kin.threads, INT_MAX, false); /* pairs with await_threads */
}

static void await_threads(void)
{
	uint32_t own = this_thread && !this_thread->daemon, left;

	while ((left = load_acquire_32(&kin.threads)) > own)
		crew__futex_wait(&kin.threads, left, NEVER, false); /* woken by crew__kin_thread_ends */
}

/* ---- the start method ---- */

int crew_set_start_method(enum crew_start start, bool force)
{
	int rc = 0;

	if ((unsigned)start > CREW_START_SPAWN)
		return -EINVAL;
	pthread_mutex_lock(&kin.mutex);
	if (kin.method != CREW_START_DEFAULT && !force)
		rc = -EALREADY;
	else
		kin.method = start;
	pthread_mutex_unlock(&kin.mutex);
	return rc;
}

enum crew_start crew_start_method(void)
{
	enum crew_start method;

	pthread_mutex_lock(&kin.mutex);
	method = kin.method;
	pthread_mutex_unlock(&kin.mutex);
	return method == CREW_START_DEFAULT ? CREW_START_SERVER : method;
}

/* ---- the end ---- */

struct left {
	int fd;
	bool daemon;
};

static size_t collect(struct left **ret)
{
	struct left *left;
	size_t count = 0, i = 0;

	pthread_mutex_lock(&kin.mutex);
	for (crew_process *p = kin.first; p; p = p->next)
		count++;
	left = calloc(count + 1, sizeof *left);
	for (crew_process *p = kin.first; left && p; p = p->next)
		if (!p->detached && crew__process_settle(p, 0) != 0)
			left[i++] = (struct left){ dup(p->fd), p->daemon };
	pthread_mutex_unlock(&kin.mutex);
	*ret = left;
	return i;
}

static void await_fd(int fd, int ms)
{
	uint64_t deadline = crew__deadline(ms);
	struct pollfd end = { fd, POLLIN, 0 };

	while (poll(&end, 1, crew__ms_left(deadline)) < 0 && errno == EINTR)
		;
}

void crew__kin_end(void)
{
	struct left *left;
	size_t n;

	await_threads();
	n = collect(&left);
	for (size_t i = 0; i < n; i++)
		if (left[i].daemon)
			syscall(SYS_pidfd_send_signal, left[i].fd, SIGTERM, NULL, 0);
	for (size_t i = 0; i < n; i++) {
		if (left[i].daemon) {
			await_fd(left[i].fd, GRACE_MS);
			syscall(SYS_pidfd_send_signal, left[i].fd, SIGKILL, NULL, 0);
		}
		await_fd(left[i].fd, CREW_FOREVER);
		close(left[i].fd);
	}
	free(left);
	crew__kin_reap();
}
