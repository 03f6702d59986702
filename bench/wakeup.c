/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wakeup.c: T10, after 5 ms of quiet, how long from a submit until the task starts? The task returns the time
 * of its start on a clock that caller and worker share; the caller blocks for it.
 */
#include "backend.h"

enum { WAKES = 200, QUIET_US = 5000 };

CREW_TASK(int64_t, started, (int, number))
{
	(void)number;
	return measure_now();
}

static void round_of(crew_executor *ex, double *us, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int64_t begin, start = 0;
		int code;

		measure_pause(QUIET_US * INT64_C(1000));
		begin = measure_now();
		code = crew_take(crew_submit(ex, started, (int)i), &start, NULL);
		measure_require(code == 0 && start >= begin && start <= measure_now(),
				"a task started out of time");
		us[i] = (double)(start - begin) / 1e3;
	}
}

int main(int argc, char **argv)
{
	struct measure_options o;
	double us[WAKES];
	size_t n;

	measure_options(&o, argc, argv);
	n = (size_t)measure_scaled(&o, WAKES);
	CREW_SCOPE (ex, backend_open(&o)) {
		backend_check(ex);
		round_of(ex, us, 1);
		for (int round = 0; round < o.rounds; round++) {
			round_of(ex, us, n);
			measure_latencies(backend_bench(&o, "T10", "T10/processes"), backend_peer(&o), o.workers, us, n);
		}
	}
	return 0;
}
