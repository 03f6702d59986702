/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process_worker.h: what a worker process knows of itself: process_worker.c takes tickets, job.c runs and answers them.
 */
#ifndef CREW_LIB_PROCESS_WORKER_H
#define CREW_LIB_PROCESS_WORKER_H

#include <unistd.h>

#include "core/context.h"
#include "process/zygote.h"

struct worker {
	struct ring *ring;
	const struct worker_plan *plan;
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
	uint32_t put;  /* large answers given */
	uint64_t used; /* of the grant */
	uint32_t grant; /* the request that it answered */
};

static inline void ring_engine(const struct worker *w)
{
	uint64_t one = 1;

	(void)!write(w->plan->bell, &one, sizeof one);
}

static inline void set_bit(uint64_t *bits, const struct worker *w)
{
	ck_pr_or_64(&bits[w->index / 64], (uint64_t)1 << (w->index % 64));
}

/* ---- job.c ---- */

/* Run the claimed ticket's job and write its answer, all but the ticket that publishes it. */
void crew__job_run(struct worker *w, const struct job *job);

/* struct context.stopping: has the parent set STOP in the claim word? */
bool crew__job_stopping(struct context *c);

#endif
