/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zygote_link.c: the host's side of a zygote: making one, by whichever method, giving orders, reading news, and learning how it ended.
 *
 * The opener's fork and a server's request bring the same things: the plan, the memory, one end of a socket, and the pidfd of the host, which the zygote
 * watches. What it needs to know beyond the plan lies in shared memory, so that a plan is a few bytes whatever the program passes to its workers.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/signals.h"
#include "process/parcel.h"
#include "process/pidfd.h"
#include "process/zygote.h"

/* ---- making one ---- */

/* From this process as it is. */
static int by_fork(const struct worker_plan *plan, const struct mapping mappings[3], const int pair[2], int host, struct zygote_link *ret)
{
	struct worker_plan copy = *plan;
	sigset_t before;
	pid_t pid;
	int rc;

	before = signals_block();
	pid = fork();
	rc = -errno;
	if (pid == 0) {
		close(pair[0]);
		crew__zygote_main(&copy, mappings, pair[1], host);
	}
	signals_restore(&before);
	if (pid < 0)
		return rc;
	ret->pid = pid;
	ret->pidfd = crew__pidfd_of(pid);
	return ret->pidfd < 0 ? ret->pidfd : 0;
}

static int by_request(const struct worker_plan *plan, const struct mapping mappings[3], const int pair[2], int host, const struct server *keeper,
		      struct zygote_link *ret)
{
	const int fds[ZYGOTE_FDS] = { pair[1], host, mappings[0].fd, mappings[1].fd, mappings[2].fd, plan->bell };
	const struct child_request request = { CHILD_ZYGOTE, plan, sizeof *plan, fds, ZYGOTE_FDS };
	struct child child;
	int rc = keeper ? crew__server_ask(keeper, CREW_START_SERVER, &request, &child) : crew__server_start(CREW_START_SERVER, &request, &child);

	if (rc)
		return rc;
	ret->pid = child.pid;
	ret->pidfd = child.pidfd;
	ret->status = child.status;
	return 0;
}

int crew__zygote_open(const struct worker_plan *plan, const struct mapping mappings[3], const struct server *keeper, struct zygote_link *ret)
{
	int pair[2], host = crew__pidfd_of(getpid()), rc = host < 0 ? host : crew__parcel_pair(pair);

	*ret = ZYGOTE_LINK_NULL;
	if (rc == 0) {
		rc = plan->start == CREW_START_FORK && !keeper ? by_fork(plan, mappings, pair, host, ret) :
								by_request(plan, mappings, pair, host, keeper, ret);
		close(pair[1]);
		if (rc) {
			close(pair[0]); /* a zygote that was forked all the same sees that, and ends */
			while (ret->pid > 0 && waitpid(ret->pid, NULL, 0) < 0 && errno == EINTR)
				;
			*ret = ZYGOTE_LINK_NULL;
		} else {
			ret->socket = pair[0];
		}
	}
	if (host >= 0)
		close(host);
	return rc;
}

struct obituary crew__zygote_bury(struct zygote_link *link)
{
	struct obituary ret = { 0 };
	siginfo_t info = { 0 };

	if (link->status >= 0) {
		if (crew__parcel_await(link->status, SILENCE_MS) == 0)
			crew__server_obituary(link->status, false, &ret);
		close(link->status);
	} else if (link->pidfd >= 0) {
		while (waitid(P_PIDFD, (id_t)link->pidfd, &info, WEXITED) && errno == EINTR)
			; /* ECHILD: the host, or the kernel for it, was faster */
		ret.code = info.si_pid ? info.si_code : 0;
		ret.status = info.si_pid ? info.si_status : 0;
	}
	if (link->socket >= 0)
		close(link->socket);
	if (link->pidfd >= 0)
		close(link->pidfd);
	*link = ZYGOTE_LINK_NULL;
	return ret;
}

/* ---- talking to it ---- */

int crew__zygote_read(int socket, bool poll, struct news *ret, struct birth *ret_birth)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof *ret_birth)];
	} control = { 0 };
	struct iovec iov = { ret, sizeof *ret };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	ssize_t n;

	*ret_birth = (struct birth){ -1, -1 };
	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (poll ? MSG_DONTWAIT : 0));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -EPIPE;
	if (n != sizeof *ret)
		return -EPIPE;
	if (message.msg_controllen >= CMSG_LEN(sizeof(int)) && control.header.cmsg_type == SCM_RIGHTS) {
		memcpy(ret_birth, CMSG_DATA(&control.header),
		       control.header.cmsg_len >= CMSG_LEN(sizeof *ret_birth) ? sizeof *ret_birth : sizeof ret_birth->pidfd);
		ret_birth->pidfd = crew__fd_keep(ret_birth->pidfd);
		if (ret_birth->output >= 0)
			ret_birth->output = crew__fd_keep(ret_birth->output);
	}
	return 1;
}

int crew__zygote_ask(int socket, enum zygote_order kind, uint32_t worker, uint32_t incarnation)
{
	struct order order = { kind, worker, incarnation };

	return send(socket, &order, sizeof order, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}
