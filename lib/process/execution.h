/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * execution.h: the program executed once more, to become something else within crew_init().
 *
 *	us ──channel: kind, bytes, descriptors──> (exec of /proc/self/exe, CREW_CHANNEL=fd) ──> crew_init() ──> the kind's main
 *
 * The message waits in the channel before there is anybody to read it, so nobody has to be there to write it.
 */
#ifndef CREW_LIB_EXECUTION_H
#define CREW_LIB_EXECUTION_H

#include "process/server.h"

/* What precedes the bytes of a request, over the channel and over a server's socket. */
struct request_head {
	uint32_t kind, start; /* enum child_kind, enum crew_start */
	int32_t parent;	      /* over the channel: who executed it */
};

/* Can this program be executed? 0; CREW_EINIT: crew_init() was not called; -errno: there is no /proc/self/exe. Any thread. */
int crew__execution_check(void);

/* Was this process executed by us, and main() has not come to crew_init() yet? Then it must not start anything. */
bool crew__execution_pending(void);

/* In a process of one thread that was forked for this: it becomes the execution. _exit(127) when it cannot. */
_Noreturn void crew__execution_become(const struct child_request *request);

/* From a process with any threads: a child that is one. It has an empty signal mask and default dispositions. -errno. */
int crew__execution_spawn(const struct child_request *request, pid_t *ret);

/* What a child of this kind is there for. */
_Noreturn void crew__child_main(enum child_kind kind, const void *data, size_t size, const int *fds, uint32_t fd_count);

#endif
