/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * idle.c: T8, what does a pool cost that has nothing to do? CPU time of two seconds after a burst of work, of
 * the threads of this process and, on processes, of all workers together; the end of the measurer's own sleep,
 * 0.06 ms, is not the pool's. The burst is given a fifth of a second to settle: the kernel books a thread's
 * last time slice late.
 */
#include "backend.h"

enum { BURST = 1000, SETTLE_MS = 200, IDLE_MS = 2000 };

CREW_TASK(long, touch, (long, x))
{
	return x + 1;
}

static void burst(crew_executor *ex)
{
	crew_future *futures[BURST];
	long y;

	for (long i = 0; i < BURST; i++)
		futures[i] = crew_submit(ex, touch, i);
	for (long i = 0; i < BURST; i++)
		measure_require(crew_take(futures[i], &y, NULL) == 0 && y == i + 1, "task %ld is wrong", i);
}

static int64_t cpu_time(crew_executor *ex, const struct measure_options *o)
{
	int64_t sum = measure_cpu_time_of_others();

	if (backend_is(o, "processes"))
		for (int i = 0; i < o->workers; i++)
			sum += measure_cpu_time(crew_executor_worker_pid(ex, i));
	return sum;
}

int main(int argc, char **argv)
{
	struct measure_options o;

	measure_options(&o, argc, argv);
	CREW_SCOPE (ex, backend_open(&o)) {
		backend_check(ex);
		for (int round = 0; round < o.rounds; round++) {
			int64_t before;

			burst(ex);
			measure_pause(SETTLE_MS * INT64_C(1000000));
			before = cpu_time(ex, &o);
			measure_pause(measure_scaled(&o, IDLE_MS * INT64_C(1000000)));
			measure_print(backend_bench(&o, "T8", "T8/processes"), backend_peer(&o), o.workers,
				      "ms", (double)((cpu_time(ex, &o) - before) / 1000) / 1e3);
		}
	}
	return 0;
}
