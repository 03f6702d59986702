/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process_worker.h: what a worker process knows of itself: process_worker.c takes tickets, job.c runs and answers them.
 */
#ifndef CREW_LIB_PROCESS_WORKER_H
#define CREW_LIB_PROCESS_WORKER_H

#include <unistd.h>

#include "base/spinning.h"
#include "core/context.h"
#include "process/zygote.h"

/* A stock as its worker sees it. A bit for each unit. */
struct held_stock {
	uint64_t offset, size;	   /* size 0: there is none */
	uint64_t taken;		   /* in use: by the task that runs, or by a result that was not given back */
	uint64_t mine;		   /* of those: the task's */
	uint64_t seen;		   /* of orders->returned */
	uint8_t span[STOCK_UNITS]; /* units of the room that begins there, for `mine` */
};

/* Where results are made. */
struct rooms {
	uint64_t used;	      /* of the grant */
	uint64_t begin, last; /* where the task's part of it begins, and its newest room */
	bool in_grant;	      /* it has a part */
	uint32_t put;	      /* answers that lie in a grant, ever */
	uint32_t asked;	      /* requests, ever */
	uint32_t next;	      /* slot of the stock to give up next */
	struct held_stock stock[STOCKS];
};

struct worker {
	struct ring *ring;
	struct worker_plan *plan;
	struct orders *orders;
	struct report *report;
	uint32_t index, incarnation;
	uint32_t generation; /* another one after a task: the task forked, and this is its child */
	uint64_t tail;	     /* as last seen */
	uint32_t average;    /* of our tasks, ns */
	uint32_t woken;	     /* the parent's sleep that we ended last */
	uint32_t singles;    /* batches of one, while tasks are tiny */
	uint32_t done;	     /* tasks, for max_tasks */
	uint64_t ticket;     /* the one that runs */
	struct context context;
	const crew_task **tasks; /* by number; NULL: not looked up yet */
	unsigned char *scratch;	 /* for structs of arguments and results that are larger than usual */
	size_t scratch_size;
	struct rooms rooms;
	struct worker_executor *executor; /* what its tasks submit to */
	void *stack; /* where its own begins, if it has one */
	uint32_t replied; /* orders.replied when it last looked after its errands */
	bool cold;	  /* it has been woken from a long sleep, and has not been out of work since */
	uint32_t batches; /* taken since it was woken; no more than 2 */
	uint32_t waker;	  /* rw.waker, when it was woken from a short sleep; 0 */
	struct spin_memory spins; /* after a single batch */
	struct fd_mark bell; /* what plan->bell was at birth */
	bool mute;	     /* a task has closed that: the worker retires */
};

/* Its number may be a file of the task's by now. Who cannot ring is heard when the engine ticks. */
static inline void ring_engine(struct worker *w)
{
	uint64_t one = 1;

	if (unlikely(!crew__fd_is(w->plan->bell, &w->bell)))
		w->mute = true;
	else
		(void)!write(w->plan->bell, &one, sizeof one);
}

static inline void set_bit(uint64_t *bits, const struct worker *w)
{
	ck_pr_or_64(&bits[w->index / 64], (uint64_t)1 << (w->index % 64));
}

/* ---- job.c ---- */

/* Run the claimed ticket's job and write its answer, all but the ticket that publishes it. */
void crew__job_run(struct worker *w, const struct job *job);

/* The task forked, and this is its child that came back from it: it ends. */
void crew__check_fork(const struct worker *w);

/* struct context.stopping: has the parent set STOP in the claim word? */
bool crew__job_stopping(struct context *c);

/* ---- rooms.c ---- */

/* For the context of tasks. */
extern const struct result_memory crew__rooms;

/* The task has ended, and n bytes at data are its result, or data is NULL and it has none: all its rooms are free again but what the result lies in. ANSWER_LARGE or
   ANSWER_BLOCK with its place; 0: it lies in no room. */
uint32_t crew__room_answer(struct worker *w, const void *data, size_t n, struct extent *ret);

/* A room with a copy, after that. 0: no memory. */
uint32_t crew__room_copy(struct worker *w, const void *data, size_t n, struct extent *ret);

/* After the answer: stocks that were for a result that did not come. */
void crew__rooms_clean(struct worker *w);

#endif
