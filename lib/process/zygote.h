/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zygote.h: the small process that forks all workers of one executor. It has one thread and does nothing else, so each fork of it is safe,
 * whatever the host has become since.
 *
 *	host ──orders (seqpacket)──> zygote ──fork──> workers
 *	host <──news: born (with a pidfd and the reading end of its stderr), unborn, dead──┘
 */
#ifndef CREW_LIB_ZYGOTE_H
#define CREW_LIB_ZYGOTE_H

#include <crew/processes.h>
#include <sched.h>

#include "process/mapping.h"
#include "process/ring.h"

/* What every worker is, fixed before the first fork. */
struct worker_plan {
	struct ring ring; /* in zygote and workers: at their own addresses */
	int bell;	  /* eventfd that wakes the engine */
	char name[16];
	crew_initializer_fn *initializer;
	crew_finalizer_fn *finalizer;
	void *arg;
	uint32_t max_tasks; /* 0: no limit */
	int nice;
	bool placed;
	cpu_set_t cpus;
	size_t stack_size;
	bool raw_stderr; /* a worker's stderr is the zygote's; else a pipe that the host reads */
};

enum zygote_order { ZYGOTE_FORK = 1, ZYGOTE_KILL, ZYGOTE_QUIT };
enum zygote_news { WORKER_BORN = 1, WORKER_UNBORN, WORKER_DEAD };

struct order {
	uint32_t kind, worker, incarnation;
};

struct news {
	uint32_t kind, worker, incarnation;
	int32_t pid;   /* or -errno of the fork */
	int32_t code, status; /* of waitid: CLD_EXITED, CLD_KILLED, CLD_DUMPED and what goes with it */
	int32_t user_ms, system_ms; /* what the dead one had used */
	int64_t max_rss_kib;
};

/* What comes along with a birth; -1: does not. The receiver's. */
struct birth {
	int pidfd;
	int output; /* what the worker writes to stderr is read here; does not block */
};

/* Fork it; it forks all workers, incarnation 1, at once. The caller has flushed stdio and reads the news. *ret_socket is the host's end. -errno. */
int crew__zygote_fork(const struct worker_plan *plan, const struct mapping mappings[3], int *ret_socket, int *ret_pidfd, pid_t *ret_pid);

/* One piece of news; waits for it unless `poll`. 1; 0: there is none; -EPIPE: the zygote is gone. *ret_birth is empty unless a worker was born. */
int crew__zygote_read(int socket, bool poll, struct news *ret, struct birth *ret_birth);

/* Ask. Never blocks. -errno. */
int crew__zygote_ask(int socket, enum zygote_order kind, uint32_t worker, uint32_t incarnation);

/* A worker's life, in its process. */
_Noreturn void crew__worker_main(struct worker_plan *plan, uint32_t index, uint32_t incarnation);

#endif
