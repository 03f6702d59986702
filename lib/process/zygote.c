/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zygote.c: forks workers when asked, tells of each birth and death, and takes all of them along when the host dies.
 *
 *	poll {orders, SIGCHLD by signalfd, the host's pidfd}
 *
 * Who dies with whom. Workers have PDEATHSIG on the zygote's thread, which is its only one, so they cannot outlive it. The zygote itself has none:
 * that signal comes when the *thread* that forked it ends, and the opener's may end long before the program. It watches the host by a pidfd
 * that was opened before the fork. An end-of-file on the socket would not do: any child the host forks keeps that open.
 *
 * Signals. Everything is blocked here, so Ctrl-C or a SIGTERM to the whole group does not reach it. Dispositions are set to what workers need, once;
 * a worker only has to empty its mask.
 *
 * The zygote is the workers' parent, hence the only one that can wait for them: that it waits for any child is no rudeness, all it has are workers.
 */
#include "process/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <crew/process.h>

#include "base/signals.h"
#include "process/execution.h"
#include "process/parcel.h"
#include "process/pidfd.h"

struct zygote {
	struct worker_plan *plan;
	struct mapping mappings[3]; /* of SPAWN: their descriptors, pub's for reading only; else no longer open */
	int socket, host, signals;
	pid_t self;
	pid_t *pids;		/* by worker; 0: none */
	uint32_t *incarnations; /* likewise */
	bool quitting;
};

/* ---- in the zygote ---- */

/* The host is gone, or we must go: nobody stays. */
static _Noreturn void end(struct zygote *z, int status)
{
	for (uint32_t i = 0; i < z->plan->ring.geometry.workers; i++)
		if (z->pids[i] > 0)
			kill(z->pids[i], SIGKILL); /* not waited for yet, so the number is still its own */
	while (waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED) == 0)
		;
	_exit(status);
}

static void wait_for_room(struct zygote *z)
{
	struct pollfd fds[] = { { z->socket, POLLOUT, 0 }, { z->host, POLLIN, 0 } };

	poll(fds, 2, -1);
	if (fds[1].revents)
		end(z, 1);
}

static void tell(struct zygote *z, const struct news *news, const struct birth *birth)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof *birth)];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)news, sizeof *news };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t n = birth && birth->output >= 0 ? sizeof *birth : sizeof birth->pidfd;

	if (birth) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n);
		control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), birth, n);
	}
	while (sendmsg(z->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		if (errno == EAGAIN || errno == ENOBUFS)
			wait_for_room(z);
		else if (errno != EINTR)
			end(z, 1);
	}
}

static _Noreturn void execute_worker(struct zygote *z, uint32_t index, uint32_t incarnation)
{
	const int fds[] = { z->mappings[0].fd, z->mappings[1].fd, z->mappings[2].fd, z->plan->bell };
	struct worker_call call = { *z->plan, index, incarnation };
	const struct child_request request = { CHILD_WORKER, &call, sizeof call, fds, 4 };

	crew__execution_become(&request);
}

/* In the child: nothing of the zygote's stays open, and if the zygote is gone already, so are we. */
static _Noreturn void become_worker(struct zygote *z, uint32_t index, uint32_t incarnation, const int output[2])
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != z->self)
		_exit(1);
	close(z->socket);
	close(z->host);
	close(z->signals);
	if (output[1] >= 0) {
		dup2(output[1], STDERR_FILENO);
		close(output[0]);
		close(output[1]);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (z->plan->start == CREW_START_SPAWN)
		execute_worker(z, index, incarnation);
	crew__worker_main(z->plan, index, incarnation);
}

/* A pipe whose writing end becomes the worker's stderr; none if it is to have the program's. -errno. */
static int open_output(const struct zygote *z, int ret[2])
{
	ret[0] = ret[1] = -1;
	if (z->plan->raw_stderr)
		return 0;
	if (pipe2(ret, O_CLOEXEC))
		return -errno;
	ret[0] = crew__fd_keep(ret[0]);
	ret[1] = crew__fd_keep(ret[1]);
	if (ret[0] >= 0 && ret[1] >= 0 && fcntl(ret[0], F_SETFL, O_NONBLOCK) == 0)
		return 0;
	return ret[0] < 0 ? ret[0] : ret[1] < 0 ? ret[1] : -errno;
}

/* Its pid; -errno. */
static pid_t fork_watched(struct zygote *z, uint32_t index, uint32_t incarnation, const int output[2], int *ret_pidfd)
{
	pid_t pid = fork();

	if (pid == 0)
		become_worker(z, index, incarnation, output);
	if (pid < 0)
		return -errno;
	*ret_pidfd = crew__pidfd_of_child(pid);
	return *ret_pidfd < 0 ? *ret_pidfd : pid;
}

static void close_if(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void fork_worker(struct zygote *z, uint32_t index, uint32_t incarnation)
{
	struct news news = { .kind = WORKER_BORN, .worker = index, .incarnation = incarnation };
	struct birth birth = { -1, -1 };
	int output[2], rc = open_output(z, output);

	news.pid = rc ? rc : fork_watched(z, index, incarnation, output, &birth.pidfd);
	birth.output = output[0];
	if (news.pid > 0) {
		if (z->pids[index] > 0)
			kill(z->pids[index], SIGKILL); /* the host takes it for dead: nobody would ever end it */
		z->pids[index] = news.pid;
		z->incarnations[index] = incarnation;
		tell(z, &news, &birth);
	} else {
		news.kind = WORKER_UNBORN;
		tell(z, &news, NULL);
	}
	close_if(birth.pidfd);
	close_if(output[0]);
	close_if(output[1]);
}

static uint32_t worker_of(const struct zygote *z, pid_t pid)
{
	uint32_t i = 0;

	while (i < z->plan->ring.geometry.workers && z->pids[i] != pid)
		i++;
	return i;
}

static int32_t ms_of(struct timeval t)
{
	return t.tv_sec > 2000000 ? INT32_MAX : (int32_t)(t.tv_sec * 1000 + t.tv_usec / 1000);
}

static void reap(struct zygote *z)
{
	for (;;) {
		siginfo_t info = { 0 };
		struct news news = { .kind = WORKER_DEAD };
		struct rusage used = { 0 };

		if (syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG, &used) || info.si_pid == 0) /* libc's tells no usage */
			return;
		news.worker = worker_of(z, info.si_pid);
		if (news.worker == z->plan->ring.geometry.workers)
			continue;
		if (info.si_code == CLD_TRAPPED) { /* it made us its tracer, which is told of its stops, and would stand still for ever */
			kill(info.si_pid, SIGKILL);
			continue;
		}
		news.incarnation = z->incarnations[news.worker];
		news.pid = info.si_pid;
		news.code = info.si_code;
		news.status = info.si_status;
		news.user_ms = ms_of(used.ru_utime);
		news.system_ms = ms_of(used.ru_stime);
		news.max_rss_kib = used.ru_maxrss;
		z->pids[news.worker] = 0;
		tell(z, &news, NULL);
	}
}

/* The image of the program at the open, kept for zygotes to come; nothing of this executor's stays in it. */
static _Noreturn void become_keeper(struct zygote *z, int socket)
{
	const struct ring *ring = &z->plan->ring;

	munmap(ring->pub, ring->geometry.pub_size);
	munmap(ring->rw, ring->geometry.rw_size);
	munmap(ring->blocks, ring->geometry.blocks_size);
	close(z->plan->bell);
	close(z->socket);
	close(z->signals);
	crew__server_serve(socket, z->host, true);
}

/* Failing to is no harm yet. */
static void fork_keeper(struct zygote *z)
{
	struct news news = { .kind = KEEPER_BORN };
	struct birth birth = { -1, -1 };
	int pair[2];

	if (crew__parcel_pair(pair))
		return;
	news.pid = fork();
	if (news.pid == 0) {
		close(pair[0]);
		become_keeper(z, pair[1]);
	}
	close(pair[1]);
	birth.pidfd = news.pid > 0 ? crew__pidfd_of(news.pid) : -1;
	birth.output = pair[0];
	if (birth.pidfd >= 0)
		tell(z, &news, &birth);
	close_if(birth.pidfd);
	close(pair[0]); /* a keeper that nobody heard of sees that, and ends */
}

static void obey(struct zygote *z)
{
	struct order order;
	ssize_t n = recv(z->socket, &order, sizeof order, MSG_DONTWAIT);

	if (n == 0)
		end(z, 1); /* nobody holds the other end any more */
	if (n != sizeof order || order.worker >= z->plan->ring.geometry.workers)
		return;
	if (order.kind == ZYGOTE_FORK)
		fork_worker(z, order.worker, order.incarnation);
	else if (order.kind == ZYGOTE_KEEPER)
		fork_keeper(z);
	else if (order.kind == ZYGOTE_QUIT)
		z->quitting = true;
	else if (z->pids[order.worker] > 0 && z->incarnations[order.worker] == order.incarnation)
		kill(z->pids[order.worker], SIGKILL); /* not waited for yet, so the number is still its own */
}

static bool childless(const struct zygote *z)
{
	for (uint32_t i = 0; i < z->plan->ring.geometry.workers; i++)
		if (z->pids[i])
			return false;
	return true;
}

static _Noreturn void serve(struct zygote *z)
{
	struct pollfd fds[] = { { z->socket, POLLIN, 0 }, { z->signals, POLLIN, 0 }, { z->host, POLLIN, 0 } };
	struct signalfd_siginfo child;

	for (uint32_t i = 0; i < z->plan->ring.geometry.workers; i++)
		fork_worker(z, i, z->plan->incarnation);
#ifdef CREW_FAULT_UNWATCHED /* for test/fault, which must find it */
	fds[2].fd = -1;
#endif
	while (!z->quitting || !childless(z)) {
		poll(fds, 3, -1);
		if (fds[2].revents)
			end(z, 1);
		if (fds[1].revents)
			(void)!read(z->signals, &child, sizeof child);
		reap(z);
		if (fds[0].revents)
			obey(z);
	}
	reap(z); /* a keeper that ended before us */
	_exit(0);
}

/* Every disposition as after exec, but SIGINT ignored: Ctrl-C is the host's to deal with. Nothing is delivered here. */
static void set_signals(struct zygote *z)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	signals_reset();
	sigaction(SIGINT, &ignore, NULL);
	z->signals = crew_signal_fd(&(int){ SIGCHLD }, 1);
}

/* Map all of it at our own addresses, or keep it for workers that are executed. False: it cannot be done. */
static bool take_memory(struct zygote *z)
{
	struct mapping *m = z->mappings;
	struct geometry geometry = z->plan->ring.geometry;
	void *bases[3];

	if (z->plan->start == CREW_START_SPAWN)
		return crew__mapping_restrict(&m[0]) == 0;
	for (int i = 0; i < 3; i++)
		bases[i] = crew__mapping_adopt(&m[i], i > 0);
	if (!bases[0] || !bases[1] || !bases[2])
		return false;
	crew__ring_attach(&z->plan->ring, &geometry, bases[0], bases[1], bases[2]);
	return true;
}

void crew__zygote_main(struct worker_plan *plan, const struct mapping mappings[3], int socket, int host)
{
	struct zygote z = { .plan = plan, .socket = socket, .host = host, .self = getpid() };

	memcpy(z.mappings, mappings, sizeof z.mappings);
	z.pids = calloc(plan->ring.geometry.workers, sizeof *z.pids);
	z.incarnations = calloc(plan->ring.geometry.workers, sizeof *z.incarnations);
	set_signals(&z);
	if (!z.pids || !z.incarnations || z.signals < 0 || !take_memory(&z))
		_exit(1);
	prctl(PR_SET_NAME, "crew-zygote");
	serve(&z);
}

/* As a child of the server, or of a keeper. */
void crew__zygote_child(const void *data, size_t size, const int *fds, uint32_t fd_count)
{
	struct worker_plan plan;
	struct mapping mappings[3];

	if (size != sizeof plan || fd_count != ZYGOTE_FDS)
		_exit(1);
	memcpy(&plan, data, sizeof plan);
	crew__plan_mappings(&plan, fds + 2, mappings);
	plan.bell = fds[5];
	crew__zygote_main(&plan, mappings, fds[0], fds[1]);
}
