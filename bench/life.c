/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * life.c: what does it cost to open and close a pool of four? With four tasks through it (T9 on threads, P4
 * on processes: by fork, P4/server and P4/spawn by the other start methods), and with --idle-workers without
 * any. On processes also: how long until a killed idle worker has a successor (P4/spare).
 */
#include <sched.h>
#include <signal.h>

#include "backend.h"

enum { TASKS = 4, RUNS = 50, KILLS = 20 };

CREW_TASK(long, greet, (long, x))
{
	return x + 1;
}

static crew_executor *open_by(const struct measure_options *o, enum crew_start start)
{
	if (!backend_is(o, "processes"))
		return backend_open(o);
	return crew_processes(.workers = o->workers, .start = start);
}

static int64_t live(const struct measure_options *o, enum crew_start start)
{
	int64_t begin = measure_now();
	crew_future *futures[TASKS];
	long y;

	CREW_SCOPE (ex, open_by(o, start)) {
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

static double round_of(const struct measure_options *o, enum crew_start start)
{
	double ns[RUNS];
	size_t n = (size_t)measure_scaled(o, RUNS);

	for (size_t i = 0; i < n; i++)
		ns[i] = (double)live(o, start);
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

static void by_processes(const struct measure_options *o)
{
	static const struct way {
		enum crew_start start;
		const char *used, *unused;
	} ways[] = { { CREW_START_FORK, "P4", "P4/unused" },
		     { CREW_START_SERVER, "P4/server", "P4/server/unused" },
		     { CREW_START_SPAWN, "P4/spawn", "P4/spawn/unused" } };

	for (size_t i = 0; i < 3; i++)
		live(o, ways[i].start);
	for (int round = 0; round < o->rounds; round++) {
		for (size_t i = 0; i < 3; i++)
			measure_print(o->idle_workers ? ways[i].unused : ways[i].used, backend_peer(o), o->workers, "ms",
				      round_of(o, ways[i].start) / 1e6);
		if (!o->idle_workers)
			spare(o);
	}
}

int main(int argc, char **argv)
{
	struct measure_options o;

	crew_must(crew_init(argc, argv));
	measure_options(&o, argc, argv);
	if (backend_is(&o, "processes")) {
		by_processes(&o);
		return 0;
	}
	live(&o, CREW_START_DEFAULT);
	for (int round = 0; round < o.rounds; round++)
		measure_print(o.idle_workers ? "T9/unused" : "T9", backend_peer(&o), o.workers, "us",
			      round_of(&o, CREW_START_DEFAULT) / 1e3);
	return 0;
}
