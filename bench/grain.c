/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * grain.c: T5, how small may a task be? For grains from 0.2 µs to 32 µs of work: the share of the CPUs' time
 * that goes into work. The smallest from which on that share is at least 90 % is found by report.py.
 *
 * Each grain is calibrated: the same number of the same spins is timed in one thread without an executor,
 * right before, because a loop of many short spins overlaps their tails and is up to a third faster than the
 * spin's own time says. Both are the best of three, so that what disturbs one of them does not show as
 * efficiency.
 */
#include <stdio.h>

#include "backend.h"
#include "grains.h"

CREW_TASK(uint64_t, work, (uint64_t, x), (long, spins))
{
	return measure_spin(x, spins);
}

struct pool {
	crew_executor *ex;
	crew_future **futures;
};

static uint64_t run_pool(void *arg, long tasks, long spins)
{
	struct pool *pool = arg;
	uint64_t sum = 0, y;

	for (long i = 0; i < tasks; i++)
		pool->futures[i] = crew_submit(pool->ex, work, (uint64_t)i, spins);
	for (long i = 0; i < tasks; i++) {
		int code = crew_take(pool->futures[i], &y, NULL);

		measure_require(code == 0, "task %ld failed with %s", i, crew_errname(code));
		sum += y;
	}
	return sum;
}

int main(int argc, char **argv)
{
	struct measure_options o;
	struct pool pool;

	measure_options(&o, argc, argv);
	pool.futures = calloc((size_t)grains_tasks(&o, 0), sizeof(crew_future *));
	measure_require(pool.futures != NULL, "out of memory");
	CREW_SCOPE (ex, backend_open(&o)) {
		backend_check(ex);
		pool.ex = ex;
		grains_measure(&o, backend_bench(&o, "T5", "T5/processes"), backend_peer(&o), run_pool,
			       &pool);
	}
	free(pool.futures);
	return 0;
}
