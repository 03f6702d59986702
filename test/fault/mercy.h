/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mercy.h: for who kills workers, and what forks them, without end. An executor gives up when STRIKES_WITHOUT workers in a row have died before any of them got
 * ready, or as many zygotes: so it should, where a program cannot start. On a machine that takes its time to start them a killer may come to that, who means
 * something else. From half-way on he has mercy with the newborn.
 */
#ifndef CREW_TEST_MERCY_H
#define CREW_TEST_MERCY_H

#include "process/process_executor.h"

enum { MERCY_FROM = STRIKES_WITHOUT / 2 };

/* Is this worker, by its number, to be left alone now? It has not got ready yet, and others before it did not. */
static inline bool mercy_for_worker(crew_executor *ex, int number)
{
	struct process_executor *p = process_executor_of(ex);
	bool spare;

	latch_take(&p->lock);
	spare = p->strikes >= MERCY_FROM && (p->seat_of[number] == NOBODY || !crew__is_ready(p, p->seat_of[number]));
	latch_release(&p->lock);
	return spare;
}

/* Is any of so many? */
static inline bool mercy_for_any(crew_executor *ex, int workers)
{
	bool any = false;

	for (int i = 0; i < workers; i++)
		any |= mercy_for_worker(ex, i);
	return any;
}

/* Is the zygote, for its workers' sake? */
static inline bool mercy_for_zygote(crew_executor *ex)
{
	struct process_executor *p = process_executor_of(ex);
	bool spare, ready = false;

	pthread_mutex_lock(&p->succession);
	latch_take(&p->lock);
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		ready |= p->seats[i].state == SEAT_ALIVE && crew__is_ready(p, i);
	spare = p->zygotes_lost >= MERCY_FROM && !ready;
	latch_release(&p->lock);
	pthread_mutex_unlock(&p->succession);
	return spare;
}

#endif
