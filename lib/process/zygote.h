/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zygote.h: the small process that forks all workers of one executor. It has one thread and does nothing else, so each fork of it is safe,
 * whatever the host has become since.
 *
 *	host ──orders (seqpacket)──> zygote ──fork──> workers
 *	host <──news: born (with a pidfd), unborn, dead──┘
 *
 * Where it comes from is its executor's start method: forked by the opener (FORK), or by the server (SERVER, SPAWN). With SPAWN each worker is an execution of
 * the program. When it is killed, its workers die with it, and the executor gets another from the server, or (FORK) from its keeper: a server
 * that the first zygote has forked, before it did anything else but fork.
 */
#ifndef CREW_LIB_ZYGOTE_H
#define CREW_LIB_ZYGOTE_H

#include <crew/processes.h>
#include <sched.h>

#include "process/mapping.h"
#include "process/ring.h"
#include "process/server.h"

/* A function of the program, for processes that do not share its addresses. */
struct named_function {
	struct task_identity id;
	struct extent path; /* as a numbered_task's */
};

/* What every worker is, fixed before the first fork, but for `incarnation`. It travels as bytes. */
struct worker_plan {
	struct ring ring; /* in zygote and workers: at their own addresses */
	int bell;	  /* eventfd that wakes the engine; their own number of it */
	uint32_t incarnation; /* of the workers that the zygote forks at once, without being asked */
	enum crew_start start; /* not DEFAULT */
	char name[16];
	/* FORK: the addresses; else the names, from which each worker finds its own addresses */
	crew_initializer_fn *initializer;
	crew_finalizer_fn *finalizer;
	struct named_function initializer_named, finalizer_named;
	bool has_initializer, has_finalizer;
	void *arg;	      /* of FORK when `argument` is empty */
	struct extent argument; /* in the arena of pub: each worker has a copy */
	uint32_t max_tasks; /* 0: no limit */
	int nice;
	bool placed;
	cpu_set_t cpus;
	size_t stack_size;
	bool raw_stderr; /* a worker's stderr is the zygote's; else a pipe that the host reads */
};

enum zygote_order { ZYGOTE_FORK = 1, ZYGOTE_KILL, ZYGOTE_QUIT, ZYGOTE_KEEPER };
enum zygote_news { WORKER_BORN = 1, WORKER_UNBORN, WORKER_DEAD, KEEPER_BORN };

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
	int output; /* what the worker writes to stderr is read here; does not block. Of a keeper: the socket for requests */
};

/* What the host has of it. */
struct zygote_link {
	pid_t pid;
	int socket, pidfd; /* -1: there is none */
	int status;	   /* where its obituary comes; -1: it is our own child */
};
#define ZYGOTE_LINK_NULL ((struct zygote_link){ .socket = -1, .pidfd = -1, .status = -1 })

/* By the plan's start method; it forks all workers, of the plan's incarnation, at once. keeper: of FORK, when it is not the first; else NULL. The caller has
   flushed stdio and reads the news. May wait for the server, 10 s at most. -errno and what crew__server_start() says. */
int crew__zygote_open(const struct worker_plan *plan, const struct mapping mappings[3], const struct server *keeper, struct zygote_link *ret);

/* How it ended, when it has: waits for that. For once. */
struct obituary crew__zygote_bury(struct zygote_link *link); /* closes what is in it */

/* One piece of news; waits for it unless `poll`. 1; 0: there is none; -EPIPE: the zygote is gone. *ret_birth is empty unless a worker was born. */
int crew__zygote_read(int socket, bool poll, struct news *ret, struct birth *ret_birth);

/* Ask. Never blocks. -errno. */
int crew__zygote_ask(int socket, enum zygote_order kind, uint32_t worker, uint32_t incarnation);

/* ---- between zygote.c, zygote_link.c, worker_plan.c and a worker ---- */

enum { ZYGOTE_FDS = 6 }; /* its end of the socket, the host's pidfd, three mappings, the bell */

/* What an executed worker is told. */
struct worker_call {
	struct worker_plan plan;
	uint32_t index, incarnation;
};

/* Three descriptors as mappings that are to be adopted, where the sender of the plan had them if that is free. */
void crew__plan_mappings(const struct worker_plan *plan, const int *fds, struct mapping ret[3]);

/* In a worker: what the plan names, at its own addresses. -ENOMEM; CREW_ENOTASK: a function cannot be had. */
int crew__plan_settle(struct worker_plan *plan);

/* The zygote's life; the caller has forked it. Takes over the descriptors. */
_Noreturn void crew__zygote_main(struct worker_plan *plan, const struct mapping mappings[3], int socket, int host);

/* A worker's life, in its process. The plan's ring is attached. */
_Noreturn void crew__worker_main(struct worker_plan *plan, uint32_t index, uint32_t incarnation);

#endif
