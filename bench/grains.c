/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * grains.c: see grains.h, and grain.c for why each grain is calibrated.
 */
#include "grains.h"

#include <stdio.h>

enum { GRAINS = 12, TRIES = 3 };
#define WORK_NS 30e6 /* of each try, in one thread */

static const double ladder_us[GRAINS] = { 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 8, 16, 32 };

static double ns_per_spin(void)
{
	static uint64_t sink;
	const long n = 4000000;
	double best = 1e9;

	for (int i = 0; i < TRIES; i++) {
		int64_t begin = measure_now();
		double ns;

		sink += measure_spin((uint64_t)begin, n);
		ns = (double)(measure_now() - begin) / (double)n;
		best = ns < best ? ns : best;
	}
	measure_require(sink != 1, "unlikely"); /* the sum is used, so that it is computed */
	return best;
}

long grains_tasks(const struct measure_options *o, int i)
{
	return measure_scaled(o, (long)(WORK_NS / (ladder_us[i] * 1000)));
}

static __attribute__((noinline)) uint64_t one_task(uint64_t x, long spins)
{
	return measure_spin(x, spins);
}

static uint64_t run_alone(void *pool, long tasks, long spins)
{
	uint64_t sum = 0;

	(void)pool;
	for (long i = 0; i < tasks; i++)
		sum += one_task((uint64_t)i, spins);
	return sum;
}

static double best_time(grains_run_fn *run, void *pool, long tasks, long spins, uint64_t *ret_sum)
{
	double best = 1e18;

	for (int i = 0; i < TRIES; i++) {
		int64_t begin = measure_now();
		double time;

		*ret_sum = run(pool, tasks, spins);
		time = (double)(measure_now() - begin);
		best = time < best ? time : best;
	}
	return best;
}

static double efficiency(const struct measure_options *o, int i, double spin_ns, grains_run_fn *run,
			 void *pool)
{
	long tasks = grains_tasks(o, i), spins = (long)(ladder_us[i] * 1000 / spin_ns);
	int lanes = o->workers < measure_cpus() ? o->workers : measure_cpus();
	uint64_t expected, sum;
	double alone = best_time(run_alone, NULL, tasks, spins, &expected);
	double pooled = best_time(run, pool, tasks, spins, &sum);

	measure_require(sum == expected, "%ld tasks of %g us gave a wrong sum", tasks, ladder_us[i]);
	return alone / (lanes * pooled);
}

void grains_measure(const struct measure_options *o, const char *bench, const char *peer, grains_run_fn *run,
		    void *pool)
{
	double spin_ns = ns_per_spin();
	char name[64];

	run(pool, grains_tasks(o, 0), 1);
	for (int round = 0; round < o->rounds; round++) {
		for (int i = 0; i < GRAINS; i++) {
			snprintf(name, sizeof(name), "%s/at %g us", bench, ladder_us[i]);
			measure_print(name, peer, o->workers, "%", 100 * efficiency(o, i, spin_ns, run, pool));
		}
	}
}
