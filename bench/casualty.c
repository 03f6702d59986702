/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * casualty.c: P5, what does a crash cost? A hundred tasks of 20 ms on two process workers; after 190 ms one
 * worker is killed -9 in the middle of its task. Exactly one future may fail, with the signal and the pid; 99
 * results have to be right. The time is compared with the ideal: a worker that is replaced at once does its
 * share of the other 80 tasks within the 1,000 ms that all take without a crash.
 *
 * The task ends 20 ms after its start: it sleeps for most of them and spins for the last half of one. Were it to
 * sleep to the end, what 50 sleeps in a row are late by (on a virtual machine a tenth of a millisecond each) would
 * be all that one sees: the worker that lives does 50 tasks, and the other loses but the 10 ms that its successor has.
 */
#include <signal.h>

#include "backend.h"

enum { TASKS = 100, KILL_MS = 190 };
static const int64_t task_ns = 20 * 1000000;

CREW_TASK(long, last_20_ms, (long, x))
{
	measure_last(task_ns);
	return x + 1;
}

static void check(crew_future **futures, long n, pid_t killed)
{
	long failed = 0, y;
	crew_error error;

	for (long i = 0; i < n; i++) {
		int code = crew_take(futures[i], &y, &error);

		if (code == 0) {
			measure_require(y == i + 1, "task %ld is wrong", i);
			continue;
		}
		failed++;
		measure_require(error.code == CREW_EWORKER && error.signal == SIGKILL &&
					error.worker == killed,
				"task %ld failed as %s, signal %d, pid %d", i, crew_errname(error.code),
				error.signal, (int)error.worker);
	}
	measure_require(failed == 1, "%ld tasks failed instead of one", failed);
}

static double round_of(crew_executor *ex, long n)
{
	crew_future *futures[TASKS];
	pid_t victim = crew_executor_worker_pid(ex, 0);
	int64_t begin = measure_now(), end;

	for (long i = 0; i < n; i++)
		futures[i] = crew_submit(ex, last_20_ms, i);
	measure_pause(begin + KILL_MS * INT64_C(1000000) - measure_now());
	measure_require(victim > 0 && kill(victim, SIGKILL) == 0, "no worker to kill");
	crew_wait(futures, (size_t)n, CREW_ALL_COMPLETED, CREW_FOREVER);
	end = measure_now();
	check(futures, n, victim);
	return (double)(end - begin - n * task_ns / 2) / 1e6;
}

int main(int argc, char **argv)
{
	struct measure_options o;
	long n;

	measure_options(&o, argc, argv);
	if (!backend_is(&o, "processes"))
		return MEASURE_SKIP;
	measure_require(o.workers == 2, "this one is for two workers");
	n = o.scale < 1 ? 30 : TASKS;
	CREW_SCOPE (ex, backend_open(&o)) {
		long y;

		backend_check(ex);
		for (int i = 0; i < 4; i++)
			measure_require(crew_run(ex, &y, last_20_ms, i) == 0, "the pool does not work");
		for (int round = 0; round < o.rounds; round++)
			measure_print("P5", backend_peer(&o), o.workers, "ms over the ideal",
				      round_of(ex, n));
	}
	return 0;
}
