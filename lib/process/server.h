/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * server.h: processes that are not forked from the host as it is now, but from a small single-threaded one, the server, or that execute the
 * program afresh. What asks for one: executors for their zygotes, crew_start() for its children.
 *
 *	host ──request: kind, bytes, descriptors──> server ──fork──> child ──> the kind's main
 *	host <──pid, pidfd── ; on the status socket, once: how it ended
 */
#ifndef CREW_LIB_SERVER_H
#define CREW_LIB_SERVER_H

#include <crew/processes.h>
#include <sys/types.h>

enum { SERVER_FDS_MAX = 16, SERVER_DATA_MAX = 64 << 10 };

enum child_kind { CHILD_ZYGOTE = 1, CHILD_PROCESS };

struct child_request {
	enum child_kind kind;
	const void *data; /* copied; up to SERVER_DATA_MAX */
	size_t size;
	const int *fds; /* the child gets duplicates, in this order, close-on-exec, none of them 0, 1 or 2 */
	uint32_t fd_count;
};

struct child {
	pid_t pid;
	int pidfd;  /* the caller's */
	int status; /* the caller's; see crew__server_obituary() */
};

/* How a child ended, as waitid says; code 0: it is not known. */
struct obituary {
	int code, status;
	int user_ms, system_ms;
	long max_rss_kib;
};

/* how: CREW_START_SERVER or CREW_START_SPAWN. May block for the time of a fork (10 s at most: then -ETIMEDOUT). 0; CREW_ETHREADED, CREW_EINIT; -errno.
   Any thread. The child dies when the host does, if it does not see to something else by itself. */
int crew__server_start(enum crew_start how, const struct child_request *request, struct child *ret);

/* After the pidfd (or the status descriptor) became readable. 1: *ret is filled; 0: not there yet (never when `wait`). A status that will never come
   because the server was killed is one of code 0. Does not close anything. */
int crew__server_obituary(int status, bool wait, struct obituary *ret);

/*
 * In the child, instead of returning to main(). One for each kind; runs on a clean signal mask with default dispositions. data and fds are its own.
 */
_Noreturn void crew__zygote_child(const void *data, size_t size, const int *fds, uint32_t fd_count);
_Noreturn void crew__process_child(const void *data, size_t size, const int *fds, uint32_t fd_count);

#endif
