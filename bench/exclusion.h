/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exclusion.h: L1–L3, the questions about locks that processes share, put to anything that can be taken and given back.
 *
 *	L1	take and give back, nobody else wants it; another thread is there, so that no libc leaves the atomics out
 *	L2	two processes hand a turn to each other under the lock: how long until the other has it
 *	L3	two processes count as fast as they can, under the lock: time for each count
 */
#ifndef CREW_BENCH_EXCLUSION_H
#define CREW_BENCH_EXCLUSION_H

#include "measure.h"

struct exclusion {
	const char *peer;
	void (*take)(void *lock);
	void (*give)(void *lock);
	void *lock; /* in memory that children share, or something that means the same in them */
};

/* The question that --bench names; every round is printed. */
void exclusion_ask(const struct measure_options *o, const struct exclusion *e);

#endif
