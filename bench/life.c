/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * life.c: what does it cost to open and close a pool of four? With four tasks through it (T9 on threads, P4
 * on processes), and with --idle-workers without any. On processes also: how long until a killed idle worker
 * has a successor (P4/spare).
 */
#include <sched.h>
#include <signal.h>

#include "backend.h"

enum { TASKS = 4, RUNS = 50, KILLS = 20 };

CREW_TASK(long, greet, (long, x))
{
	return x + 1;
}

static int64_t live(const struct measure_options *o)
{
	int64_t begin = measure_now();
	crew_future *futures[TASKS];
	long y;

	CREW_SCOPE (ex, backend_open(o)) {
		if (o->idle_workers)
			break;
		for (long i = 0; i < TASKS; i++)
			futures[i] = crew_submit(ex, greet, i);
		for (long i = 0; i < TASKS; i++)
			measure_require(crew_take(futures[i], &y, NULL) == 0 && y == i + 1,
					"task %ld is wrong", i);
	}
	return measure_now() - begin;
}

static double round_of(const struct measure_options *o)
{
	double ns[RUNS];
	size_t n = (size_t)measure_scaled(o, RUNS);

	for (size_t i = 0; i < n; i++)
		ns[i] = (double)live(o);
	return measure_quantile(ns, n, 0.5);
}

/* From kill(2) to the successor's pid; it then has to work. */
static double replace(crew_executor *ex)
{
	pid_t old = crew_executor_worker_pid(ex, 0), now;
	int64_t begin, time;
	long y;

	measure_require(old > 0, "worker 0 is not there");
	begin = measure_now();
	kill(old, SIGKILL);
	while ((now = crew_executor_worker_pid(ex, 0)) == old || now == 0)
		sched_yield();
	time = measure_now() - begin;
	for (long i = 0; i < 8; i++)
		measure_require(crew_run(ex, &y, greet, i) == 0 && y == i + 1, "no work after a kill");
	return (double)time / 1e6;
}

static void spare(const struct measure_options *o)
{
	double ms[KILLS];
	size_t n = (size_t)measure_scaled(o, KILLS);

	CREW_SCOPE (ex, backend_open(o)) {
		long y;

		measure_require(crew_run(ex, &y, greet, 1) == 0 && y == 2, "the pool does not work");
		for (size_t i = 0; i < n; i++)
			ms[i] = replace(ex);
	}
	measure_print("P4/spare", backend_peer(o), o->workers, "ms", measure_quantile(ms, n, 0.5));
}

int main(int argc, char **argv)
{
	struct measure_options o;
	bool processes;

	measure_options(&o, argc, argv);
	processes = backend_is(&o, "processes");
	live(&o);
	for (int round = 0; round < o.rounds; round++) {
		double ns = round_of(&o);

		if (processes)
			measure_print(o.idle_workers ? "P4/unused" : "P4", backend_peer(&o), o.workers, "ms",
				      ns / 1e6);
		else
			measure_print(o.idle_workers ? "T9/unused" : "T9", backend_peer(&o), o.workers, "us",
				      ns / 1e3);
		if (processes && !o.idle_workers)
			spare(&o);
	}
	return 0;
}
