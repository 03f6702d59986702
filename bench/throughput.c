/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * throughput.c: what does a task cost from submit to result? T1 (one producer, threads), T4 (four), P1
 * (processes), and with 16 workers on a small machine P7. With --tasks the same for another number of them, as
 * often as it takes to time it: does a task's cost grow with the work?
 *
 * Each producer, a thread outside the pool, submits its share of tasks that do next to nothing, a future
 * each, then takes every result in the order of submission. The time is that of all producers together, from
 * a common start to the last result. Each result is compared.
 */
#include "backend.h"

CREW_TASK(long, increment, (long, x))
{
	return x + 1;
}

struct producer {
	crew_executor *ex;
	crew_future **futures;
	long n, first, wrong;
};

static void produce(void *arg)
{
	struct producer *p = arg;
	long y;

	for (long i = 0; i < p->n; i++)
		p->futures[i] = crew_submit(p->ex, increment, p->first + i);
	for (long i = 0; i < p->n; i++)
		p->wrong += crew_take(p->futures[i], &y, NULL) != 0 || y != p->first + i + 1;
}

/* One producer is the calling thread: it need not be started. */
static int64_t time_of(struct producer *producers, int n)
{
	int64_t begin = measure_now();

	if (n > 1)
		return measure_together(produce, producers, sizeof *producers, n);
	produce(producers);
	return measure_now() - begin;
}

static double once(struct producer *producers, int n)
{
	int64_t time = time_of(producers, n);
	long wrong = 0, tasks = 0;

	for (int i = 0; i < n; i++) {
		wrong += producers[i].wrong;
		tasks += producers[i].n;
	}
	measure_require(wrong == 0, "%ld of %ld results are wrong", wrong, tasks);
	return (double)time / (double)tasks;
}

/* The median of so many. */
static double round_of(struct producer *producers, int n, double *ns, long repeats)
{
	for (long i = 0; i < repeats; i++)
		ns[i] = once(producers, n);
	return measure_quantile(ns, (size_t)repeats, 0.5);
}

int main(int argc, char **argv)
{
	struct measure_options o;
	struct producer *producers;
	const char *bench;
	long repeats;
	double *ns;

	measure_options(&o, argc, argv);
	bench = measure_name(&o, backend_bench(&o, o.producers == 1 ? "T1" : "T4", o.producers == 1 ? "P1" : "P1/producers"));
	repeats = measure_repeats(&o);
	ns = calloc((size_t)repeats, sizeof(*ns));
	producers = calloc((size_t)o.producers, sizeof(*producers));
	measure_require(ns && producers, "out of memory");
	CREW_SCOPE (ex, backend_open(&o)) {
		long n = measure_tasks(&o, (backend_is(&o, "processes") ? 200000 : 1000000) / o.producers);

		backend_check(ex);
		for (int i = 0; i < o.producers; i++) {
			producers[i] = (struct producer){ .ex = ex, .n = n, .first = n * i };
			producers[i].futures = calloc((size_t)n, sizeof(crew_future *));
			measure_require(producers[i].futures != NULL, "out of memory");
		}
		once(producers, o.producers);
		for (int round = 0; round < o.rounds; round++)
			measure_print(bench, backend_peer(&o), o.workers, "ns/task",
				      round_of(producers, o.producers, ns, repeats));
		for (int i = 0; i < o.producers; i++)
			free(producers[i].futures);
	}
	free(producers);
	free(ns);
	return 0;
}
