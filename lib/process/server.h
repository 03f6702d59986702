/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * server.h: processes that are not forked from the host as it is now, but from a small single-threaded one, the server, or that execute the
 * program afresh. What asks for one: executors for their zygotes, crew_start() for its children.
 *
 *	host ──request: kind, bytes, descriptors──> server ──fork──> child ──> the kind's main
 *	host <──pid, pidfd── ; on the status socket, once: how it ended
 *
 * There is one for the whole process, made at first need; an executor of the fork method has one of its own, its keeper, which is as
 * the program was when it was opened. Each request brings the socket that its answers go to, so that any thread may ask at any time and none gets
 * another's answer; a server that dies closes all of them.
 */
#ifndef CREW_LIB_SERVER_H
#define CREW_LIB_SERVER_H

#include <crew/processes.h>
#include <sys/types.h>

#include "base/descriptor.h"


enum { SERVER_FDS_MAX = 16, SERVER_DATA_MAX = 64 << 10, SILENCE_MS = 10000 /* counts as death */ };

enum child_kind { CHILD_ZYGOTE = 1, CHILD_PROCESS, CHILD_SERVER, CHILD_WORKER, CHILD_PROBE /* of tests */ };

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

/* ---- the server of this process ---- */

/* how: CREW_START_SERVER or CREW_START_SPAWN. May block for the time of a fork (10 s at most: then -ETIMEDOUT). 0; CREW_ETHREADED, CREW_EINIT; -errno.
   Any thread. The child dies when the host does, if it does not see to something else by itself. A child that the server forked dies with the server,
   but for zygotes, which outlive it. */
int crew__server_start(enum crew_start how, const struct child_request *request, struct child *ret);

/* After the pidfd (or the status descriptor) became readable. 1: *ret is filled; 0: not there yet (never when `wait`). A status that will never come
   because the server was killed is one of code 0. Does not close anything. */
int crew__server_obituary(int status, bool wait, struct obituary *ret);

/* Is it there, or can it be made? It is made when it is not there. As crew__server_start() without a request. */
int crew__server_ready(void);

/* It and its descriptors stay as long as the program runs: is this one of them? For whoever counts what is left. */
bool crew__server_keeps(int fd, pid_t pid);

/* ---- any server ---- */

struct server {
	pid_t pid;
	int socket, pidfd;
	struct fd_mark mark; /* of the socket: while that is ours the pidfd is */
};
#define SERVER_NULL ((struct server){ .socket = -1, .pidfd = -1 })

/* As crew__server_start(), of this one. -EPIPE: it is gone. */
int crew__server_ask(const struct server *server, enum crew_start how, const struct child_request *request, struct child *ret);

/* It ends, and all children of its that have not ended; waits for it. Closes what is in it. */
void crew__server_end(struct server *server);

/* Does this process have threads that are not the library's? */
bool crew__is_threaded(void);

/*
 * In the server; the caller has forked it and is its only thread. socket: where requests come from; host: the pidfd of the process with which it ends.
 * keep: it keeps the other descriptors it was forked with, for its children.
 */
_Noreturn void crew__server_serve(int socket, int host, bool keep);

/*
 * In the child, instead of returning to main(). One for each kind; runs on a clean signal mask with default dispositions. data and fds are its own.
 */
_Noreturn void crew__zygote_child(const void *data, size_t size, const int *fds, uint32_t fd_count);
_Noreturn void crew__process_child(const void *data, size_t size, const int *fds, uint32_t fd_count);
_Noreturn void crew__server_child(const void *data, size_t size, const int *fds, uint32_t fd_count); /* server_loop.c; fds: socket, host */
_Noreturn void crew__worker_child(const void *data, size_t size, const int *fds, uint32_t fd_count);
_Noreturn void crew__probe_child(const void *data, size_t size, const int *fds, uint32_t fd_count);

#endif
