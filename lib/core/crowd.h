/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crowd.h: one job worked on by several workers in shared memory. Each runs the same function over the same struct, which hands out the work; the
 * caller works along when it is a worker itself.
 */
#ifndef CREW_LIB_CROWD_H
#define CREW_LIB_CROWD_H

#include "core/executor_ops.h"

/* Run work(job) on up to `hands` workers of ex, which shares memory, and return when all that began have ended; each of them returns when there is
   nothing left to begin, or no time: workers that are busy elsewhere are not waited for beyond the deadline. 0; what kept it from being submitted,
   when nobody ran it. */
int crew__crowd(crew_executor *ex, void (*work)(void *job), void *job, size_t hands, uint64_t deadline);

/* How many hands a job may have that this thread calls for. */
static inline size_t crew__hands(crew_executor *base)
{
	return (size_t)(base->ops->hands ? base->ops->hands(base) : base->ops->workers(base)); /* whoever is not refused has one */
}

/* How many indexes to take of [begin, end) next: ranges shrink with what is left, and are at least `least`. */
static inline size_t crew__guided(size_t left, size_t hands, size_t least)
{
	size_t n = left / (4 * hands);

	if (n < least)
		n = least;
	return n < left ? n : left;
}

#endif
