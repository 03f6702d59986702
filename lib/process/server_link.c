/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * server_link.c: how this process comes by its server, and asks it.
 *
 * The server is forked at first need, if the program has one thread then, because a fork copies locks that other threads hold. When it has others,
 * only an execution of the program is safe, which needs crew_init().
 *
 * After a fork the child has no server: the parent's is not its to use, and it makes one of its own when it needs one. So does a process whose
 * server was killed.
 *
 * The lock holds the generation of the process that took it: a child that was forked while some thread of its parent held it finds a word that means "free".
 */
#include "process/server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/single_threaded.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/futex.h"
#include "base/signals.h"
#include "core/registry.h"
#include "core/service.h"
#include "ipc/family.h"
#include "process/execution.h"
#include "process/parcel.h"
#include "process/pidfd.h"

/* ThreadSanitizer has a thread of its own, and two in the child of a process that had none yet. */
#if defined(__SANITIZE_THREAD__)
#define SANITIZER_THREADS 2
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZER_THREADS 2
#endif
#endif
#ifndef SANITIZER_THREADS
#define SANITIZER_THREADS 0
#endif

enum { EXIT_MS = 2000 }; /* for a server to end when it is told to */

static struct {
	uint32_t lock; /* 2 * generation + 1: taken; anything else: free; futex */
	/* guarded by lock */
	uint32_t generation; /* whose server it is */
	struct server server;
} common = { .server = { .socket = -1, .pidfd = -1 } };

/* ---- is it safe to fork? ---- */

static uint32_t thread_count(void)
{
	struct stat st;

	if (stat("/proc/self/task", &st) == 0 && st.st_nlink > 2)
		return (uint32_t)st.st_nlink - 2;
	return __libc_single_threaded ? 1 : UINT32_MAX; /* no /proc */
}

/* One that was joined a moment ago may still be counted: the kernel takes it down after its joiner was woken, and tells nobody when it has; so a
   count that is too high is looked at again for a while. */
bool crew__is_threaded(void)
{
	const struct timespec pause = { 0, 1000000 };

	for (int i = 0; i < 50; i++) {
		if (thread_count() <= 1 + SANITIZER_THREADS + ck_pr_load_32(&crew__service_threads))
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

/* Has the program left us our descriptors? See loss.c. */
static bool is_ours(const struct server *server)
{
	return crew__fd_is(server->socket, &server->mark);
}

/* ---- the lock ---- */

static void lock(void)
{
	uint32_t taken = 2 * crew__fork_generation + 1, old = ck_pr_load_32(&common.lock);

	for (;;) {
		if (old != taken && ck_pr_cas_32_value(&common.lock, old, taken, &old))
			break;
		if (old == taken) {
			crew__futex_wait(&common.lock, taken, NEVER, false); /* woken by unlock */
			old = ck_pr_load_32(&common.lock);
		}
	}
	ck_pr_fence_acquire();
	if (common.generation != crew__fork_generation) { /* the parent's: our copies of its descriptors are of no use */
		struct server parents = common.server;

		common.server = SERVER_NULL;
		if (is_ours(&parents)) {
			close(parents.socket);
			close(parents.pidfd);
		}
		common.generation = crew__fork_generation;
	}
}

static void unlock(void)
{
	ck_pr_fence_release();
	ck_pr_store_32(&common.lock, 2 * crew__fork_generation);
	crew__futex_wake(&common.lock, 1, false);
}

/* ---- making one ---- */

static int fork_server(int socket, int other_end, int host, pid_t *ret)
{
	sigset_t before;

	fflush(NULL); /* or its children would print it again */
	before = signals_block();
	*ret = fork();
	if (*ret == 0) {
		close(other_end);
		crew__server_serve(socket, host, false);
	}
	signals_restore(&before);
	return *ret < 0 ? -errno : 0;
}

static int begin(int socket, int other_end, int host, bool execute, pid_t *ret)
{
	const int fds[] = { socket, host };
	struct child_request request = { .kind = CHILD_SERVER, .fds = fds, .fd_count = 2 };

	return execute ? crew__execution_spawn(&request, ret) : fork_server(socket, other_end, host, ret);
}

/* A request that does not fit into the socket waits for so long, not for ever. */
static void limit_sends(int socket)
{
	const struct timeval limit = { SILENCE_MS / 1000, 0 };

	setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static int make_by(bool execute, struct server *ret)
{
	int pair[2], host = crew__pidfd_of(getpid()), rc = host < 0 ? host : crew__parcel_pair(pair);

	if (rc == 0) {
		rc = begin(pair[1], pair[0], host, execute, &ret->pid);
		close(pair[1]);
		ret->pidfd = rc ? -1 : crew__pidfd_of(ret->pid);
		if (rc == 0 && ret->pidfd < 0) {
			rc = ret->pidfd;
			shutdown(pair[0], SHUT_RDWR); /* it sees that, and ends */
			while (waitpid(ret->pid, NULL, 0) < 0 && errno == EINTR)
				;
		}
		if (rc) {
			close(pair[0]);
			*ret = SERVER_NULL;
		} else {
			ret->socket = pair[0];
			crew__fd_mark(pair[0], &ret->mark);
			limit_sends(pair[0]);
		}
	}
	if (host >= 0)
		close(host);
	return rc;
}

static int make(struct server *ret)
{
	int rc;

	*ret = SERVER_NULL;
	rc = crew__family_join();
	if (rc)
		return rc;
	if (!crew__is_threaded())
		return make_by(false, ret);
	rc = crew__execution_check();
	return rc == CREW_EINIT ? CREW_ETHREADED : rc ? rc : make_by(true, ret);
}

/* ---- asking ---- */

static int await_birth(int status, struct child *ret)
{
	uint32_t fd_count;
	int32_t birth;
	int rc = crew__parcel_await(status, SILENCE_MS);
	long n;

	if (rc)
		return rc;
	n = crew__parcel_receive(status, false, &birth, sizeof birth, &ret->pidfd, 1, &fd_count);
	if (n != sizeof birth)
		return n < 0 && n != -EPIPE ? (int)n : -EPIPE;
	if (birth < 0)
		return birth;
	ret->pid = birth;
	ret->status = status;
	return fd_count == 1 ? 0 : -EMFILE;
}

int crew__server_ask(const struct server *server, enum crew_start how, const struct child_request *request, struct child *ret)
{
	struct request_head head = { request->kind, how, 0 };
	struct iovec iov[] = { { &head, sizeof head }, { (void *)(uintptr_t)request->data, request->size } };
	int fds[SERVER_FDS_MAX + 1], pair[2], rc;

	*ret = (struct child){ .pidfd = -1, .status = -1 };
	if (request->size > SERVER_DATA_MAX || request->fd_count > SERVER_FDS_MAX)
		return -E2BIG;
	rc = crew__parcel_pair(pair);
	if (rc)
		return rc;
	fds[0] = pair[1];
	for (uint32_t i = 0; i < request->fd_count; i++)
		fds[i + 1] = request->fds[i];
	rc = crew__parcel_send(server->socket, true, iov, 2, fds, request->fd_count + 1);
	close(pair[1]);
	if (rc == -EAGAIN) /* its time is up; as an answer it is the server's: there may be no more processes, and nothing is wrong with it */
		rc = -ETIMEDOUT;
	if (rc == 0)
		rc = await_birth(pair[0], ret);
	if (rc) {
		close(pair[0]);
		*ret = (struct child){ .pidfd = -1, .status = -1 };
	}
	return rc == -ECONNRESET || rc == -ECONNREFUSED || rc == -ENOTCONN ? -EPIPE : rc;
}

int crew__server_obituary(int status, bool wait, struct obituary *ret)
{
	uint32_t fd_count;
	long n = crew__parcel_receive(status, wait, ret, sizeof *ret, NULL, 0, &fd_count);

	if (n == -EAGAIN)
		return 0;
	if (n != sizeof *ret)
		*ret = (struct obituary){ 0 };
	return 1;
}

/* ---- ending ---- */

static void bury(struct server *server)
{
	struct server gone = *server;

	*server = SERVER_NULL; /* before: a fork in another thread must not find numbers that are somebody else's by then */
	while (waitid(P_PIDFD, (id_t)gone.pidfd, &(siginfo_t){ 0 }, WEXITED) && errno == EINTR)
		; /* ECHILD: the host, or the kernel for it, was faster, or another process is its parent */
	close(gone.pidfd);
	close(gone.socket);
}

/* It sees its socket close, and ends. */
static void lose(struct server *server)
{
	pid_t pid = server->pid;

	*server = SERVER_NULL;
	crew__pidfd_reap_lost(pid, "crew-server");
}

static void kill_server(struct server *server)
{
	syscall(SYS_pidfd_send_signal, server->pidfd, SIGKILL, NULL, 0);
	crew__parcel_await(server->pidfd, CREW_FOREVER); /* SIGKILL cannot be refused */
	bury(server);
}

void crew__server_end(struct server *server)
{
	if (server->pidfd < 0)
		return;
	if (!is_ours(server)) {
		lose(server);
		return;
	}
	shutdown(server->socket, SHUT_RDWR); /* of all copies, also those of forked children */
	if (crew__parcel_await(server->pidfd, EXIT_MS))
		kill_server(server);
	else
		bury(server);
}

/* ---- the one of this process ---- */

/* It was killed: its place is free. The lock is held. */
static bool has_died(struct server *server)
{
	if (server->pidfd < 0)
		return true;
	if (!is_ours(server)) {
		lose(server);
		return true;
	}
	if (crew__parcel_await(server->pidfd, 0))
		return false;
	bury(server);
	return true;
}

/* The lock is held. */
static int see_to_it(void)
{
	int rc = crew__registry_install();

	if (rc)
		return rc;
	if (crew__execution_pending())
		return CREW_EINIT;
	return has_died(&common.server) ? make(&common.server) : 0;
}

int crew__server_ready(void)
{
	int rc;

	lock();
	rc = see_to_it();
	unlock();
	return rc;
}

int crew__server_start(enum crew_start how, const struct child_request *request, struct child *ret)
{
	int rc = how == CREW_START_SPAWN ? crew__execution_check() : 0;

	if (rc)
		return rc;
	lock();
	for (int attempt = 0; attempt < 2; attempt++) { /* it may die under our hands; twice is no accident */
		rc = see_to_it();
		if (rc == 0)
			rc = crew__server_ask(&common.server, how, request, ret);
		if ((rc == -ETIMEDOUT || rc == -EPIPE) && common.server.pidfd >= 0)
			kill_server(&common.server);
		if (rc != -EPIPE)
			break;
	}
	unlock();
	return rc;
}

bool crew__server_keeps(int fd, pid_t pid)
{
	bool keeps;

	lock();
	keeps = common.server.pidfd >= 0 && (fd == common.server.socket || fd == common.server.pidfd || pid == common.server.pid);
	unlock();
	return keeps;
}

/* The program ends, and all its exit hooks have run. */
__attribute__((__destructor__)) static void program_ended(void)
{
	if (common.generation == crew__fork_generation)
		crew__server_end(&common.server);
}
