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
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct zygote {
	struct worker_plan *plan;
	int socket, host, signals;
	pid_t self;
	pid_t *pids;		/* by worker; 0: none */
	uint32_t *incarnations; /* likewise */
	bool quitting;
};

static int pidfd_open(pid_t pid)
{
	return crew__fd_keep((int)syscall(SYS_pidfd_open, pid, 0));
}

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

static void tell(struct zygote *z, const struct news *news, int pidfd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)news, sizeof *news };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (pidfd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
		control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof pidfd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), &pidfd, sizeof pidfd);
	}
	while (sendmsg(z->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		if (errno == EAGAIN || errno == ENOBUFS)
			wait_for_room(z);
		else if (errno != EINTR)
			end(z, 1);
	}
}

/* In the child: nothing of the zygote's stays open, and if the zygote is gone already, so are we. */
static _Noreturn void become_worker(struct zygote *z, uint32_t index, uint32_t incarnation)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != z->self)
		_exit(1);
	close(z->socket);
	close(z->host);
	close(z->signals);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	crew__worker_main(z->plan, index, incarnation);
}

static void fork_worker(struct zygote *z, uint32_t index, uint32_t incarnation)
{
	struct news news = { .kind = WORKER_BORN, .worker = index, .incarnation = incarnation };
	int pidfd = -1;

	news.pid = fork();
	if (news.pid == 0)
		become_worker(z, index, incarnation);
	if (news.pid > 0) {
		z->pids[index] = news.pid;
		z->incarnations[index] = incarnation;
		pidfd = pidfd_open(news.pid); /* before anybody waits for it: it is this very process */
	}
	if (pidfd < 0) {
		if (news.pid > 0) {
			kill(news.pid, SIGKILL);
			waitid(P_PID, (id_t)news.pid, &(siginfo_t){ 0 }, WEXITED);
			z->pids[index] = 0;
		}
		news.kind = WORKER_UNBORN;
		news.pid = news.pid > 0 ? pidfd : -errno;
	}
	tell(z, &news, pidfd);
	if (pidfd >= 0)
		close(pidfd);
}

static uint32_t worker_of(const struct zygote *z, pid_t pid)
{
	uint32_t i = 0;

	while (i < z->plan->ring.geometry.workers && z->pids[i] != pid)
		i++;
	return i;
}

static void reap(struct zygote *z)
{
	for (;;) {
		siginfo_t info = { 0 };
		struct news news = { .kind = WORKER_DEAD };

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) || info.si_pid == 0)
			return;
		news.worker = worker_of(z, info.si_pid);
		if (news.worker == z->plan->ring.geometry.workers)
			continue;
		news.incarnation = z->incarnations[news.worker];
		news.pid = info.si_pid;
		news.code = info.si_code;
		news.status = info.si_status;
		z->pids[news.worker] = 0;
		tell(z, &news, -1);
	}
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
	else
		z->quitting = true;
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
		fork_worker(z, i, 1);
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
	_exit(0);
}

/* Every disposition as after exec, but SIGINT ignored: Ctrl-C is the host's to deal with. All is blocked already. */
static void set_signals(struct zygote *z)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t child;

	for (int i = 1; i < NSIG; i++)
		if (i != SIGKILL && i != SIGSTOP)
			sigaction(i, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGINT, &action, NULL);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	z->signals = crew__fd_keep(signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
}

static _Noreturn void zygote_main(struct zygote *z, const struct mapping mappings[3])
{
	struct worker_plan *plan = z->plan;
	void *pub = crew__mapping_adopt(&mappings[0], false), *rw = crew__mapping_adopt(&mappings[1], true),
	     *blocks = crew__mapping_adopt(&mappings[2], true);
	struct geometry geometry = plan->ring.geometry;

	z->self = getpid();
	z->pids = calloc(geometry.workers, sizeof *z->pids);
	z->incarnations = calloc(geometry.workers, sizeof *z->incarnations);
	set_signals(z);
	if (!pub || !rw || !blocks || !z->pids || !z->incarnations || z->signals < 0)
		_exit(1);
	crew__ring_attach(&plan->ring, &geometry, pub, rw, blocks);
	prctl(PR_SET_NAME, "crew-zygote");
	serve(z);
}

/* ---- in the host ---- */

int crew__zygote_fork(const struct worker_plan *plan, const struct mapping mappings[3], int *ret_socket, int *ret_pidfd, pid_t *ret_pid)
{
	struct worker_plan copy = *plan;
	struct zygote z = { .plan = &copy };
	int pair[2], rc, host = pidfd_open(getpid());
	sigset_t all, old;
	pid_t pid;

	if (host < 0)
		return host;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		rc = -errno;
		close(host);
		return rc;
	}
	pair[0] = crew__fd_keep(pair[0]);
	pair[1] = crew__fd_keep(pair[1]);
	z.socket = pair[1];
	z.host = host;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* no handler of the host's runs in the child */
	pid = pair[0] < 0 || pair[1] < 0 ? -1 : fork();
	rc = -errno;
	if (pid == 0) {
		close(pair[0]);
		zygote_main(&z, mappings);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	close(host);
	close(pair[1]);
	*ret_pidfd = pid > 0 ? pidfd_open(pid) : -1;
	if (pid < 0 || *ret_pidfd < 0) {
		close(pair[0]); /* a zygote that was forked sees that, and ends */
		return pid < 0 ? rc : *ret_pidfd;
	}
	*ret_socket = pair[0];
	*ret_pid = pid;
	return 0;
}

int crew__zygote_read(int socket, bool poll, struct news *ret, int *ret_pidfd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { ret, sizeof *ret };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	ssize_t n;

	*ret_pidfd = -1;
	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (poll ? MSG_DONTWAIT : 0));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -EPIPE;
	if (n != sizeof *ret)
		return -EPIPE;
	if (message.msg_controllen >= CMSG_LEN(sizeof(int)) && control.header.cmsg_type == SCM_RIGHTS) {
		memcpy(ret_pidfd, CMSG_DATA(&control.header), sizeof *ret_pidfd);
		*ret_pidfd = crew__fd_keep(*ret_pidfd);
	}
	return 1;
}

int crew__zygote_ask(int socket, enum zygote_order kind, uint32_t worker, uint32_t incarnation)
{
	struct order order = { kind, worker, incarnation };

	return send(socket, &order, sizeof order, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}
