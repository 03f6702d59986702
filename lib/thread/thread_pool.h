/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thread_pool.h: the shapes that the files of the thread executor share, and who may write each word of
 * them.
 *
 *	injection      one queue per submitting thread (in its port), hints only
 *	priority_lane  hints with a priority
 *	parking        who sleeps, who is woken, when
 *	thread_worker  the loop of a worker, from its thread's start to its end
 *	frames         crew_spawn and crew_sync
 *	waiting        a thread that waits for a future, and waits that can never end
 *	placement      which CPU a woken worker runs on
 *	thread_executor  the opener and the table of operations
 */
#ifndef CREW_LIB_THREAD_POOL_H
#define CREW_LIB_THREAD_POOL_H

#include <crew/spawn.h>
#include <crew/threads.h>
#include <sched.h>

#include "base/spinning.h"
#include "core/context.h"
#include "core/executor_ops.h"
#include "thread/injection.h"
#include "thread/priority_lane.h"

#define WORKERS_MAX 4096
#define WORKER_WORDS (WORKERS_MAX / 64)

/* A submitting thread's part of the executor. */
struct thread_port {
	struct port base;
	uint32_t gathering; /* between batch_begin and batch_end; owner thread only */
	struct injection queue;
};

/* What a worker does when it is rung. Written by who took its parked bit, before the bell. */
enum worker_role {
	ROLE_SEARCHER, /* it holds the search token */
	ROLE_WORKER,
	ROLE_SENTINEL /* see parking.c */
};

struct thread_worker {
	/* fixed after open */
	struct thread_pool *pool;
	int index;

	/* its thread only */
	struct thread_port *port;	/* NULL: its tasks have not submitted anything here yet */
	struct injection *last_queue;	/* where it last found something */
	struct thread_port *cursor;	/* where its round over the ports begins */
	crew_future *enclosing;		/* the task it runs in place, or a stolen frame of; NULL: its context's */
	char *stack_floor;		/* below this a wait runs nothing in place any more; NULL: not known yet */
	uint32_t batches;		/* taken since it was parked; no more than 2 */
	struct spin_memory spins;	/* after a single one */
	uint64_t moved_at;		/* ns */
	uint32_t looks, random, crowded;
	int quota;			/* tasks until this thread is replaced; INT_MAX: never */
	bool searching;			/* it holds the search token */
	bool relied_on;			/* it has held it and not looked since: some submit may have left a task to it */

	/* who took its parked bit writes, it reads once rung (or started) */
	enum worker_role role;
	int waker_cpu;			/* -1: no matter */
	bool conversation;		/* its waker spins for the answer */
	bool pushed;			/* its affinity was narrowed to `narrowed`; put `affinity` back */
	cpu_set_t affinity, narrowed;
	/* each thread of this worker, which joins its predecessor first; the closer at the end */
	pthread_t thread;
	bool joinable;

	/* its context: its thread only, but for blocked workers, which others read under pool->blocked_mutex */
	struct context context;

	/* frames, see frames.c */
	uint64_t shared CREW__ALIGNED;	/* tail:32 | split:32; owner and thieves, by CAS */
	uint32_t armed;			/* FRAMES_…; owner and thieves, by CAS */
	struct crew_frame **frames;	/* the owner sets it before it first shares */
	struct crew_frames *owner;	/* its thread's words; valid for others while armed is FRAMES_ARMING */

	/* who rings sets it, it clears it and sleeps on it */
	uint32_t bell CREW__ALIGNED;

	/* it writes, thieves and watchers read */
	uint32_t next CREW__ALIGNED;	/* of the batch, the next to run … */
	uint32_t end;			/* … and where it ends; 0: no batch is running */
	uint32_t runs;			/* tasks begun, modulo 2^32 */
	crew_future *batch[BATCH_MAX];

	/* the sentinel only */
	uint32_t runs_seen CREW__ALIGNED;
};

/* A worker that sleeps until a future is done, without a deadline. On its stack; guarded by blocked_mutex. */
struct blocked {
	struct blocked *next;
	struct context *context; /* innermost; the chain stands still while it sleeps */
	crew_future *future;
};

struct thread_pool {
	struct crew_executor base;

	/* fixed after open */
	struct crew_threads_options options;
	int count;	      /* of workers */
	int limit;	      /* workers that may be awake: the CPUs they have */
	int sharers;	      /* the lesser of both: who takes from a queue leaves the others their part */
	bool membarrier;      /* it works, and is worth it: `light` may be set */
	bool placed;	      /* cpus is known */
	cpu_set_t cpus;	      /* options.cpus, or the opener's */
	pthread_attr_t attributes;
	struct thread_worker *workers;

	/* read by each submit and each task, written on transitions only */
	uint32_t parked CREW__ALIGNED; /* workers that sleep or have no thread, no fewer than bits; POOL_BROKEN */
	uint32_t sentinel;	       /* 1: a worker watches the others' progress */
	uint32_t stop;		       /* 1: shut down; workers leave when there is nothing left */
	uint32_t notice;	       /* NOTICE_… */
	uint32_t light;		       /* 1: no fence in submit, a heavy one in who parks; from shutdown on 0 */

	/* 1: a worker is looking for work, or has been woken to. Changes with each task of a conversation, so it has its own line */
	uint32_t search CREW__ALIGNED;

	/* any thread, atomic, on transitions */
	uint32_t blocked CREW__ALIGNED; /* workers asleep inside a task */
	uint32_t alive;			/* threads started and not ended; shutdown sleeps on it */
	uint32_t high;			/* workers with an index at or above it never had a thread */
	uint64_t create_after;		/* ns; after a pthread_create that failed */
	uint64_t parked_bits[WORKER_WORDS];
	uint64_t alive_bits[WORKER_WORDS];

	struct priority_lane lane;

	pthread_mutex_t blocked_mutex;
	struct blocked *blocked_list; /* guarded by it */
};

#define POOL_BROKEN (1u << 31)

enum {
	NOTICE_LATE = 1 << LANE_LATE,
	NOTICE_URGENT = 1 << LANE_URGENT,
	NOTICE_BROKEN = 4 /* run nothing, fail everything */
};

static inline struct thread_pool *pool_of(crew_executor *ex)
{
	return (struct thread_pool *)ex;
}

/* The worker that this thread is, of whatever pool; NULL. */
static inline struct thread_worker *crew__self(void)
{
	return crew_frames.worker;
}

/* What comes before is visible to others before what comes after is read, also where a CAS is no barrier. */
static inline void full_fence(void)
{
#ifdef CK_MD_TSO
	uint32_t own = 0;

	(void)ck_pr_fas_32(&own, 1); /* a locked exchange with one's own stack is a full barrier there, at half the price of mfence */
#else
	ck_pr_fence_memory();
#endif
}

/* ---- parking.c ---- */

bool crew__membarrier_works(void);
/* The heavy side of the fence whose light side is in submit. */
void crew__heavy_fence(const struct thread_pool *pool);
/* From the return on every submit either has its slot visible, or fences by itself. */
void crew__heavy_fence_last(struct thread_pool *pool);

/* Anything that a worker could run now? May say yes in vain, never no when there was something before the call. */
bool crew__any_work(struct thread_pool *pool);

/* Is a wake in order, as far as relaxed loads can tell? */
bool crew__want_wake(const struct thread_pool *pool);
bool crew__wake_one(struct thread_pool *pool);
/* After a submit, when `parked` is not 0. */
void crew__wake_for_submit(struct thread_pool *pool);
int crew__awake(const struct thread_pool *pool);

/* Give back the search token, if w has it. Then: a full fence, and another look. */
void crew__stop_search(struct thread_worker *w);
void crew__announce_search(struct thread_worker *w);

/* Sleep until rung, unless there is work. */
void crew__park(struct thread_worker *w);
/* What it was woken for: sentinel's duty, or to search. */
void crew__woken(struct thread_worker *w);

/* As the last thing of a thread: its place is free again. False: there is work, and the place is still ours. */
bool crew__leave(struct thread_worker *w);
/* Wake all that sleep, so that they leave. */
void crew__wake_all(struct thread_pool *pool);

/* Whom this thread's last submit has woken since it last asked: see waiting.c. */
enum wake {
	WAKE_NONE,
	WAKE_TALK,   /* a sleeper, in a conversation */
	WAKE_WARM,   /* a sleeper, not long after another */
	WAKE_COLD,   /* a sleeper, after a pause */
	WAKE_STARTED /* a new thread */
};
enum wake crew__last_wake(void);

/* ---- thread_worker.c ---- */

/* Start the thread of w, whose place the caller holds. 0, -errno. */
int crew__worker_start(struct thread_worker *w);
/* One round over all there is to run. False: nothing was found. */
bool crew__look(struct thread_worker *w);
/* Hand f, which has a priority, to the lane. -ENOMEM. */
int crew__submit_priority(struct thread_pool *pool, crew_future *f, int priority);
/* Break the executor and fail everything that waits. */
void crew__pool_break(struct thread_pool *pool, int code, const char *format, ...) CREW_PRINTF(3, 4);
void crew__fail_waiting(struct thread_pool *pool);

/* ---- frames.c ---- */

void crew__frames_attach(struct thread_worker *w); /* by its thread, as detach */
void crew__frames_detach(struct thread_worker *w);
void crew__frames_free(struct thread_worker *w); /* at close */
void crew__frames_share(struct thread_worker *w); /* before its owner blocks, or runs another task in place */
void crew__frames_arm(struct thread_worker *victim); /* ask for frames */
bool crew__frames_any(const struct thread_worker *w);
bool crew__frames_steal(struct thread_worker *thief);

/* ---- waiting.c ---- */

int crew__threads_wait(crew_executor *ex, crew_future *f, uint64_t deadline);
bool crew__threads_help(crew_executor *ex, crew_future *f);
/* Around a sleep inside a task: let another worker have the CPU. */
void crew__block_begin(struct thread_worker *w);
void crew__block_end(struct thread_worker *w);

/* ---- placement.c ---- */

/* "0-3,8". -EINVAL. */
int crew__cpus_parse(const char *text, cpu_set_t *ret);
/* The workers of pool: how many CPUs they have. */
int crew__cpus_usable(const struct thread_pool *pool);
int crew__place_first(const struct thread_pool *pool); /* a new worker's. -errno */
void crew__place_away(struct thread_worker *w);	  /* before a worker wakes another, w */
void crew__place_restore(struct thread_worker *w); /* by w, once awake */
void crew__leave_waker(const struct thread_worker *w, int cpu); /* by w, after it was woken from that CPU */

#endif
