/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kids.c: single children and pools, in CPython's words (M1, M2). M1: start a process that does nothing, and join it; by fork, and by
 * the server (Python's forkserver). M2: Pool.map over 100,000 small items, the pool opened before.
 */
#include "backend.h"

enum { STARTS = 100, ITEMS = 100000 };

CREW_TASK(void, do_nothing)
{
}

CREW_TASK(long, increment, (long, x))
{
	return x + 1;
}

static double start_and_join(enum crew_start start, size_t n)
{
	double us[STARTS];

	for (size_t i = 0; i < n; i++) {
		int64_t begin = measure_now();
		crew_process *p = crew_start_with((.start = start), do_nothing);

		measure_require(crew_process_join(p, CREW_FOREVER) == 0 && crew_process_error(p)->code == 0, "a child failed: %s",
				crew_process_error(p)->message);
		us[i] = (double)(measure_now() - begin) / 1e3;
		crew_process_close(p);
	}
	return measure_quantile(us, n, 0.5);
}

static double map(crew_pool *pool, long n)
{
	static long x[ITEMS], y[ITEMS];
	int64_t begin;

	for (long i = 0; i < n; i++)
		x[i] = i;
	begin = measure_now();
	measure_require(crew_pool_map(pool, increment, x, y, (size_t)n) == 0, "the map failed");
	for (long i = 0; i < n; i++)
		measure_require(y[i] == i + 1, "item %ld is wrong", i);
	return (double)(measure_now() - begin) / (double)n;
}

int main(int argc, char **argv)
{
	struct measure_options o;

	measure_options(&o, argc, argv);
	if (!backend_is(&o, "processes"))
		return MEASURE_SKIP;
	for (int round = -1; round < o.rounds; round++) {
		size_t starts = (size_t)measure_scaled(&o, STARTS);
		double served = start_and_join(CREW_START_SERVER, starts), forked = start_and_join(CREW_START_FORK, starts);

		CREW_POOL_SCOPE (pool, crew_pool(o.workers)) {
			double mapped = (map(pool, 1000), map(pool, measure_scaled(&o, ITEMS)));

			if (round < 0)
				continue;
			measure_print("M1", backend_peer(&o), 1, "us", forked);
			measure_print("M1/server", backend_peer(&o), 1, "us", served);
			measure_print("M2", backend_peer(&o), o.workers, "ns/item", mapped);
		}
	}
}
