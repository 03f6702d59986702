/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crowd.h: one job worked on by several workers in shared memory. Each runs the same function over the same struct, which hands out the work; the
 * caller works along when it is a worker itself, or helps.
 */
#ifndef CREW_LIB_CROWD_H
#define CREW_LIB_CROWD_H

#include "core/executor_ops.h"

/* Run work(job) by up to `hands` threads of ex, which shares memory, and return when all that began have ended; each of them returns when there is
   nothing left to begin, or no time: workers that are busy elsewhere are not waited for beyond the deadline. 0; what kept it from being submitted,
   when nobody ran it. */
int crew__crowd(crew_executor *ex, void (*work)(void *job), void *job, size_t hands, uint64_t deadline);

/* How many hands a job on ex may have that this thread calls for: one for each worker, and its own where it helps. Not in a group, whose limit is for workers. */
size_t crew__hands(crew_executor *ex);

/* How many indexes to take of [begin, end) next: ranges shrink with what is left, and are at least `least`. */
static inline size_t crew__guided(size_t left, size_t hands, size_t least)
{
	size_t n = left / (4 * hands);

	if (n < least)
		n = least;
	return n < left ? n : left;
}

#endif
