/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * executor_ops.h: what an implementation of an executor is, seen from core/executor.c, which does the checks that all share (alive? forked?
 * shut down? a task? pointers?) before any slot is called, and everything that can be said in terms of futures after it.
 *
 * An implementation embeds struct crew_executor as its first member, fills a table and calls crew__executor_init(). The slots it leaves NULL
 * have the meaning given in brackets. No slot is called under a lock of core's.
 */
#ifndef CREW_LIB_EXECUTOR_OPS_H
#define CREW_LIB_EXECUTOR_OPS_H

#include <crew/executor.h>
#include <crew/processes.h>

#include "core/packing.h"
#include "core/record.h"

struct executor_ops {
	const char *kind; /* "threads": for messages */

	/* Workers see this process's memory: pointers may be passed, chunks of a map may be worked on in place. */
	bool shares_memory;

	/* Core copies arguments to the record before the submit, as it does where memory is shared. */
	bool keeps_arguments;

	/* Size of the implementation's port, whose first member is struct port. [struct port] */
	size_t port_size;

	/* What a port, whose rest begins as zeroes, has come to own is given back, at close. [nothing] */
	void (*port_fini)(crew_executor *ex, struct port *port);

	/*
	 * Take over f, which is PENDING, complete but for its arguments if neither `shares_memory` nor `keeps_arguments` (then `arguments` is the caller's
	 * struct and must be copied before return; else they are in f already and `arguments` is NULL). Any thread, port is its own. Must not
	 * block. 0; negative: f was not taken, core fails it with that code. From success on the implementation must see to it that f is completed,
	 * once, whatever happens.
	 */
	int (*submit)(crew_executor *ex, struct port *port, crew_future *f, const void *arguments);

	/* Between these two calls on one thread submits may be gathered; the second makes sure that they run. [each submit does] */
	void (*batch_begin)(crew_executor *ex, struct port *port);
	void (*batch_end)(crew_executor *ex, struct port *port);

	/* Claim f for cancelling: 1 it was PENDING, is now claimed (private state RUNNING), and no worker will ever run it; 0 it runs (and has been
	   asked to stop: STATE_STOP is set by core; whatever else must be told is told here); -EALREADY it is done. [core claims the word] */
	int (*cancel)(crew_executor *ex, crew_future *f);

	/* f runs and has been asked to stop: end it by force at `at` if it is not done by then; it is CANCELLED, with the reason, which may be NULL and
	   is copied. Does not wait. 0, -EALREADY, -ENOMEM. [it is only asked] */
	int (*kill)(crew_executor *ex, crew_future *f, const char *reason, uint64_t at);

	/* Look whether f is done or running elsewhere and bring its word up to date. Never blocks. [the word is always up to date] */
	void (*refresh)(crew_executor *ex, crew_future *f);

	/* f is still pending or running: sleep until it may be done, or the deadline. May return early for any reason, also when it did some
	   work for f instead (a waiter in a worker). 0; -EDEADLK: it can be shown that it would never end. [futex on f->state] */
	int (*wait)(crew_executor *ex, crew_future *f, uint64_t deadline);
	bool wait_refreshes; /* it begins with what refresh does: no need of that before a wait without any deadline */

	/* Run f here if it has not started and this thread may (it is a worker, or .help). True: f is done now. Used by waits for many. [false] */
	bool (*help)(crew_executor *ex, crew_future *f);

	/* A sleep of core's for something that futures of ex may bring about: until *word is not `value` any more or the deadline, as a futex wait; may
	   return early. Others may need this worker's CPU meanwhile; or completions must be looked for. [futex] */
	void (*nap)(crew_executor *ex, const uint32_t *word, uint32_t value, uint64_t deadline);

	/* STATE_NOTIFY was set on f: its completion must be noticed without anybody waiting for it. [completion always runs crew__complete] */
	void (*watch)(crew_executor *ex, crew_future *f);

	/* f is about to be recycled and STATE_BACKEND was set. Any thread. */
	void (*forget)(crew_executor *ex, crew_future *f);

	/* Until all that was submitted so far is done, or the deadline: 0, -ETIMEDOUT. Never called inside. [core walks the records and sleeps on each
	   word] */
	int (*drain)(crew_executor *ex, uint64_t deadline);

	/* Is this thread one of the executor's: a worker in a task, or a thread in its callbacks? Then it must not wait for all of it. [false] */
	bool (*inside)(crew_executor *ex);

	/* The number of the calling worker, and how many there are, for sizing chunks. */
	int (*workers)(crew_executor *ex);

	/* How many threads work on a job that this one calls for: the workers, and this one too where it helps. [the workers] */
	int (*hands)(crew_executor *ex);

	/*
	 * No submit will come any more (but some may be in progress in other threads). Finish what is queued, and return when all is done or
	 * the deadline has passed. kill: when it has passed, end what runs by force where that can be done (its futures fail) and return when
	 * that is done. Pending tasks were cancelled by core already, if that was asked. May be called again; idempotent.
	 */
	void (*shutdown)(crew_executor *ex, uint64_t deadline, bool kill);

	/* After a shutdown without deadline: join, unmap, free all but the struct itself, ports and records. Called once. Every future is done when it returns. */
	void (*close)(crew_executor *ex);

	/* Fill in what core does not know: workers, running, lost, workers_lost. [zeros] */
	void (*stats)(crew_executor *ex, struct crew_stats *ret);

	/* Memory for crew_shared_alloc, seen by every worker. NULL with errno. n > 0. [the heap] */
	void *(*shared_alloc)(crew_executor *ex, size_t n);
	void (*shared_free)(crew_executor *ex, void *p, size_t n);

	/* Where all its shared blocks lie, for packing what points into them; workers have the same in crew__shared_here. [nowhere] */
	void (*shared_range)(crew_executor *ex, struct shared_range *ret);

	/* The exit hook of the program: kill, reap, do not wait for anything that may not end. No lock may be needed. [nothing] */
	void (*exit)(crew_executor *ex);

	pid_t (*worker_pid)(crew_executor *ex, int i); /* [-EINVAL] */

	int (*signal)(crew_executor *ex, int signal); /* to every worker process; how many got it [0] */
};

static inline bool keeps_arguments(const struct executor_ops *ops)
{
	return ops->shares_memory || ops->keeps_arguments;
}

struct crew_executor {
	uint32_t magic; /* EXECUTOR_MAGIC while it lives */
	uint32_t closed; /* shut down: no submits; any thread, atomic, as the next */
	int broken;	 /* 0, or why submits fail; `error` is written before it */
	/* fixed after open */
	const struct executor_ops *ops;
	uint64_t id;	     /* unique in the process, never used again */
	uint32_t generation; /* crew__fork_generation when it was opened */
	char name[16];
	int task_timeout_ms; /* of tasks that have none of their own; 0: none */
	/* guarded by mutex */
	pthread_mutex_t mutex;
	struct slab *slabs;
	struct port *ports; /* read without it: append only */
	crew_future *spilled; /* chains of CHAIN_RECORDS free records, linked by value.word[0] */
	struct shared_block *blocks;
	crew_executor *registry_prev, *registry_next; /* guarded by the registry's mutex */
	/* any thread, atomic */
	crew_error error; /* why it is broken */
	int first_failure; /* since the last crew_executor_wait() */
	uint32_t groups;   /* open groups over it */
	uint64_t failed, cancelled, done_elsewhere;
	crew_inbox *inbox; /* made at first need */
	uint32_t has_blocks;
};
#define EXECUTOR_MAGIC 0x63726577u

/* Set up the common part; ops->close's counterpart. ex is zeroed and embeds the implementation. */
int crew__executor_init(crew_executor *ex, const struct executor_ops *ops, const char *name);

/* What an opener returns when it failed: `ex` (initialised or NULL) torn down, a failed executor in its place. Never NULL. */
crew_executor *crew__executor_failed(const struct executor_ops *ops, int code, const char *format, ...)
	CREW_PRINTF(3, 4);

/* Is ex there, and ours? 0, CREW_EHANDLE, CREW_EFORKED. */
int crew__executor_check(const crew_executor *ex);

/* A task's code as the result of a call, where negative means failure: a positive one is an errno, negated. */
static inline int crew__as_result(int code)
{
	return code > 0 ? -code : code;
}

/* 0, or why it is broken; ex->error is readable then. */
int crew__executor_broken(crew_executor *ex);

/* Would a submit of this task be refused, whatever its arguments? 0 or the code. ex and task are alive. */
int crew__refuse(crew_executor *ex, const crew_task *task);

/* Is this thread in a task or callback of ex? */
bool crew__inside(crew_executor *ex);

/* From now on submits fail with CREW_EBROKEN; the first reason stays. What waits must be failed by the implementation. */
void crew__executor_break(crew_executor *ex, int code, const char *format, ...) CREW_PRINTF(3, 4);
void crew__executor_break_with(crew_executor *ex, const crew_error *error);

/* An options struct as the caller knew it, in the size that we know: newer fields 0. -EINVAL when a field that we do not know is set. */
int crew__options(void *ours, size_t our_size, const void *theirs, size_t their_size);

static inline struct port *crew__port(crew_executor *ex)
{
	return likely(crew__last_id == ex->id) ? crew__last_port : crew__port_slow(ex);
}

/* A record that owns nothing, done, to which nobody refers any more. Any thread. */
static inline void crew__recycle_empty(crew_future *f)
{
	crew_executor *ex = executor_of(f);
	struct port *port;

	ck_pr_store_32(&f->refs, (ck_pr_load_32(&f->refs) & ~REFS_MASK) + ONE_GENERATION);
	if (unlikely(!ex)) {
		crew__recycle_orphan(f);
		return;
	}
	store_release_32(&f->state, PHASE_FREE);
	port = crew__port(ex);
	if (unlikely(!port))
		return; /* no memory for a port: the record rests until the executor closes */
	f->value.word[1] = (uintptr_t)port->free;
	port->free = f;
	if (unlikely(++port->free_count == CHAIN_RECORDS))
		crew__spill(port);
}

/* Bumped in the child of every fork: objects of an older generation are the parent's. */
extern uint32_t crew__fork_generation;

#endif
