/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * footprint.c: how much memory? T7: of a task that waits, with its future and its place in the queue, when a
 * million of them do. P6 (processes): of a worker that is idle, in pages that no other process shares.
 *
 * For T7 all workers are held in a task that reads from a pipe. The resident memory of this process is read
 * before and after a million submits; the array of future pointers is ours and was touched before. Then the
 * pipe is closed and every result compared. There is one sample to a process: a second one would find the
 * first one's pages.
 */
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "backend.h"

enum { TASKS = 1000000 };

CREW_TASK(long, hold, (int, fd))
{
	char byte;

	return read(fd, &byte, 1);
}

CREW_TASK(long, increment_later, (long, x))
{
	return x + 1;
}

static double pending_bytes(crew_executor *ex, const struct measure_options *o, crew_future **futures, long n)
{
	crew_future *held[o->workers];
	size_t before, after;
	int gate[2];
	long y;

	measure_require(pipe2(gate, O_CLOEXEC) == 0, "no pipe");
	for (int i = 0; i < o->workers; i++)
		held[i] = crew_submit(ex, hold, gate[0]);
	for (int i = 0; i < o->workers; i++)
		while (!crew_future_running(held[i]))
			sched_yield();
	before = measure_resident();
	for (long i = 0; i < n; i++)
		futures[i] = crew_submit(ex, increment_later, i);
	after = measure_resident();
	close(gate[1]);
	for (int i = 0; i < o->workers; i++)
		measure_require(crew_take(held[i], &y, NULL) == 0 && y == 0, "the gate failed");
	for (long i = 0; i < n; i++)
		measure_require(crew_take(futures[i], &y, NULL) == 0 && y == i + 1, "task %ld is wrong", i);
	close(gate[0]);
	return (double)(after - before) / (double)n;
}

/* The median over the workers, each of which has run something. */
static double worker_kib(crew_executor *ex, const struct measure_options *o)
{
	double kib[o->workers];
	long y;

	for (int i = 0; i < 100 * o->workers; i++)
		measure_require(crew_run(ex, &y, increment_later, i) == 0 && y == i + 1, "a task failed");
	for (int i = 0; i < o->workers; i++)
		kib[i] = measure_private_kib(crew_executor_worker_pid(ex, i));
	return measure_quantile(kib, (size_t)o->workers, 0.5);
}

int main(int argc, char **argv)
{
	struct measure_options o;
	crew_future **futures;
	long n;

	measure_options(&o, argc, argv);
	if (backend_is(&o, "inline"))
		return MEASURE_SKIP;
	n = measure_scaled(&o, TASKS);
	futures = malloc((size_t)n * sizeof(*futures));
	measure_require(futures != NULL, "out of memory");
	memset(futures, 1, (size_t)n * sizeof(*futures)); /* by zeroes it would be calloc(), which touches nothing */
	if (backend_is(&o, "processes"))
		CREW_SCOPE (ex, backend_open(&o)) {
			backend_check(ex);
			measure_print("P6", backend_peer(&o), o.workers, "KiB/worker", worker_kib(ex, &o));
		}
	else
		CREW_SCOPE (ex, backend_open(&o)) {
			backend_check(ex);
			measure_print("T7", backend_peer(&o), o.workers, "B/task",
				      pending_bytes(ex, &o, futures, n));
		}
	free(futures);
	return 0;
}
