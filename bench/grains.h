/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * grains.h: the ladder of grains that grain.c and the baselines of T5 climb.
 */
#ifndef CREW_BENCH_GRAINS_H
#define CREW_BENCH_GRAINS_H

#include "measure.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Run so many tasks of measure_spin(i, spins), i = 0 …; returns the sum of what they return. */
typedef uint64_t grains_run_fn(void *pool, long tasks, long spins);

/* Tasks of the i-th grain, smallest first; the 0th has the most. */
long grains_tasks(const struct measure_options *o, int i);

/* Prints, per round, the efficiency of each grain. The smallest with 90 % is found in the report, from all rounds. */
void grains_measure(const struct measure_options *o, const char *bench, const char *peer, grains_run_fn *run,
		    void *pool);

#ifdef __cplusplus
}
#endif
#endif
