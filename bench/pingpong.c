/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pingpong.c: how long from a submit to its result, one at a time? T2 on threads, P2 on processes: the median,
 * the 99th percentile and the distribution over the pings of a round.
 *
 *	T2, P2			one after the other: everybody is awake
 *	T2/cold, P2/cold	--idle-us 2000: the worker sleeps when the ping comes
 *	T2/paced, P2/paced	--idle-us 100: it has just gone to sleep, and the last ping was not long ago
 *	T2/busy, P2/busy	--bench, so that it has a name: the same beside others who want the CPUs (beside.py)
 *	T2/one-cpu, P2/one-cpu	--one-cpu: both sides share a CPU, so that each must make way for the other
 */
#include <stdio.h>

#include "backend.h"

enum { PINGS = 20000, PACED_PINGS = 1000, COLD_PINGS = 300, COLD_US = 1000 };

CREW_TASK(long, ping, (long, x))
{
	return x + 1;
}

static void round_of(crew_executor *ex, const struct measure_options *o, double *us, long n)
{
	for (long i = 0; i < n; i++) {
		int64_t begin;
		long y = 0;
		int code;

		if (o->idle_us)
			measure_pause(o->idle_us * 1000);
		begin = measure_now();
		code = crew_take(crew_submit(ex, ping, i), &y, NULL);
		us[i] = (double)(measure_now() - begin) / 1000;
		measure_require(code == 0 && y == i + 1, "ping %ld came back as %ld, code %d", i, y, code);
	}
}

int main(int argc, char **argv)
{
	struct measure_options o;
	char bench[32];
	double *us;
	long n;

	measure_options(&o, argc, argv);
	n = measure_scaled(&o, o.idle_us >= COLD_US ? COLD_PINGS : o.idle_us ? PACED_PINGS : PINGS);
	us = calloc((size_t)n, sizeof(*us));
	measure_require(us != NULL, "out of memory");
	snprintf(bench, sizeof(bench), "%s%s%s", backend_bench(&o, "T2", "P2"),
		 o.idle_us >= COLD_US ? "/cold" : o.idle_us ? "/paced" : "", o.one_cpu ? "/one-cpu" : "");
	CREW_SCOPE (ex, backend_open(&o)) {
		backend_check(ex);
		round_of(ex, &o, us, n);
		for (int round = 0; round < o.rounds; round++) {
			round_of(ex, &o, us, n);
			measure_latencies(*o.bench ? o.bench : bench, backend_peer(&o), o.workers, us, (size_t)n);
		}
	}
	free(us);
	return 0;
}
