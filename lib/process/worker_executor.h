/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * worker_executor.h: what crew_task_executor() is in a process worker: an executor whose workers are the whole pool. errand.h has the protocol.
 *
 *	worker_executor.c  its operations: submit, wait, cancel, naps
 *	offer.c            the worker's cells: what is offered, taken back, answered
 *	circle.c           waits that could never end
 *
 * Nearly always one thread uses it, the worker's own. Tasks may start threads, and those may submit and wait here too: hence the mutex, which is never
 * held while a task or a callback runs. Only the worker's own thread claims tickets: the parent takes an idle worker that owns one for a mad one.
 */
#ifndef CREW_LIB_WORKER_EXECUTOR_H
#define CREW_LIB_WORKER_EXECUTOR_H

#include "core/executor_ops.h"
#include "process/errand.h"
#include "process/process_worker.h"

enum { KNOWN_TASKS = 64 };

/* What the worker knows of one of its errands. */
struct offer {
	crew_future *f; /* NULL: it ran here, under its ticket; the cell waits for the parent to see that */
	uint32_t number;
};

struct worker_executor {
	crew_executor base;
	/* fixed */
	struct worker *w;
	pthread_t thread; /* the worker's own */
	/* guarded by mutex */
	pthread_mutex_t mutex;
	uint64_t busy; /* cells in use; read without it as a hint */
	struct offer offers[ERRANDS];
	uint32_t number; /* of the last offer */
	struct known {
		const crew_task *task;
		uint32_t number; /* the parent's; TASKS_MAX: not known yet */
		struct task_identity identity;
	} known[KNOWN_TASKS];
};

static inline struct worker_executor *worker_executor_of(crew_executor *ex)
{
	return (struct worker_executor *)ex;
}

static inline bool in_own_thread(const struct worker_executor *x)
{
	return pthread_equal(x->thread, pthread_self());
}

/* ---- worker_executor.c ---- */
struct worker_executor *crew__worker_executor_new(struct worker *w); /* NULL: no memory */

/* A task of this worker has run: what it submitted and nobody took is run now, so that it is not done before that is. */
void crew__run_leftovers(struct worker_executor *x);

/* Between tasks: complete what has come back; what callbacks of those submit is run. */
void crew__look_after_errands(struct worker_executor *x);

/* The worker leaves: until everything that was submitted here is done. */
void crew__finish_errands(struct worker_executor *x);

/* ---- offer.c ---- */
enum whereabouts {
	NOT_OURS,  /* no cell: held back by a group, or another thread runs it */
	OPEN,	   /* nobody has taken it */
	QUEUED,	   /* in the ring, not begun */
	ELSEWHERE, /* begun, as far as one can tell */
	BACK	   /* the reply is there */
};

/* How an errand ended, the value in place. */
struct ending {
	crew_future *f; /* NULL: nobody is to be told */
	uint32_t add;	/* as for crew__complete(); 0: it failed with `error`, or was cancelled with its message */
	bool cancelled;
	crew_error *error;
};

/* Offer f, whose arguments are in place. False: there is no free cell, or no memory: run it here. */
bool crew__offer(struct worker_executor *x, crew_future *f);

/* Where f is, without waiting; its ticket if it has one. */
enum whereabouts crew__offer_where(struct worker_executor *x, const crew_future *f, uint64_t *ret_ticket);

/* f is the caller's to run or to cancel, nobody else will: claimed. False: it has begun elsewhere, or is done. *ret_ticket: not 0, then
   crew__errand_ran_here() is due. Waits for the engine while that is taking it. */
bool crew__offer_withdraw(struct worker_executor *x, crew_future *f, uint64_t *ret_ticket);

/* The oldest that nobody has taken, claimed; NULL: there is none. */
crew_future *crew__offer_oldest(struct worker_executor *x);

/* Until each cell is either free or placed in the ring. No cell is open. */
void crew__offers_settle(struct worker_executor *x);

/* f's ending, if it has come back. */
bool crew__offer_back(struct worker_executor *x, const crew_future *f, struct ending *ret);
/* Any one's. False: none has come back. */
bool crew__offer_any_back(struct worker_executor *x, struct ending *ret);

/* Ask the task in f's cell to stop, wherever it runs. */
void crew__offer_stop(struct worker_executor *x, const crew_future *f);

/* As crew__offer_withdraw(), of whatever no other worker has begun; NULL: there is none. *ret_pending: some cell has one all the same. */
crew_future *crew__offer_withdraw_any(struct worker_executor *x, uint64_t *ret_ticket, bool *ret_pending);

static inline bool has_errands(const struct worker_executor *x)
{
	return ck_pr_load_64(&x->busy) != 0;
}

/* ---- circle.c ---- */
/* Say that the worker's innermost task waits for this ticket, until crew__await_end(). False: its task waits for the caller's in turn. */
bool crew__await_begin(struct worker *w, uint64_t ticket);
void crew__await_end(struct worker *w);

/* ---- process_worker.c ---- */
bool crew__claim_ticket(struct worker *w, uint64_t ticket);
/* A ticket of an errand of ours that we claimed ourselves is over. */
void crew__errand_ran_here(struct worker *w, uint64_t ticket);

#endif
