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
#include <pthread.h>

#include "backend.h"

CREW_TASK(long, increment, (long, x))
{
	return x + 1;
}

struct producer {
	crew_executor *ex;
	pthread_barrier_t *start;
	crew_future **futures;
	long n, first, wrong;
	pthread_t thread;
};

static void produce(struct producer *p)
{
	long y;

	for (long i = 0; i < p->n; i++)
		p->futures[i] = crew_submit(p->ex, increment, p->first + i);
	for (long i = 0; i < p->n; i++)
		p->wrong += crew_take(p->futures[i], &y, NULL) != 0 || y != p->first + i + 1;
}

static void *producer_thread(void *arg)
{
	struct producer *p = arg;

	pthread_barrier_wait(p->start);
	produce(p);
	return NULL;
}

static int64_t run_threads(struct producer *producers, int n, pthread_barrier_t *start)
{
	int64_t begin;

	for (int i = 0; i < n; i++)
		measure_require(pthread_create(&producers[i].thread, NULL, producer_thread, &producers[i]) ==
					0,
				"no thread");
	pthread_barrier_wait(start);
	begin = measure_now();
	for (int i = 0; i < n; i++)
		pthread_join(producers[i].thread, NULL);
	return measure_now() - begin;
}

/* One producer is the calling thread: it need not be started. */
static double once(struct producer *producers, int n, pthread_barrier_t *start)
{
	int64_t begin = measure_now(), time;
	long wrong = 0, tasks = 0;

	if (n == 1) {
		produce(producers);
		time = measure_now() - begin;
	} else {
		time = run_threads(producers, n, start);
	}
	for (int i = 0; i < n; i++) {
		wrong += producers[i].wrong;
		tasks += producers[i].n;
	}
	measure_require(wrong == 0, "%ld of %ld results are wrong", wrong, tasks);
	return (double)time / (double)tasks;
}

/* The median of so many. */
static double round_of(struct producer *producers, int n, pthread_barrier_t *start, double *ns, long repeats)
{
	for (long i = 0; i < repeats; i++)
		ns[i] = once(producers, n, start);
	return measure_quantile(ns, (size_t)repeats, 0.5);
}

int main(int argc, char **argv)
{
	struct measure_options o;
	pthread_barrier_t start;
	struct producer *producers;
	const char *bench;
	long repeats;
	double *ns;

	measure_options(&o, argc, argv);
	bench = measure_name(&o, backend_bench(&o, o.producers == 1 ? "T1" : "T4", o.producers == 1 ? "P1" : "P1/producers"));
	repeats = measure_repeats(&o);
	ns = calloc((size_t)repeats, sizeof(*ns));
	producers = calloc((size_t)o.producers, sizeof(*producers));
	measure_require(ns && producers && pthread_barrier_init(&start, NULL, (unsigned)o.producers + 1) == 0,
			"out of memory");
	CREW_SCOPE (ex, backend_open(&o)) {
		long n = measure_tasks(&o, (backend_is(&o, "processes") ? 200000 : 1000000) / o.producers);

		backend_check(ex);
		for (int i = 0; i < o.producers; i++) {
			producers[i] = (struct producer){ .ex = ex, .start = &start, .n = n, .first = n * i };
			producers[i].futures = calloc((size_t)n, sizeof(crew_future *));
			measure_require(producers[i].futures != NULL, "out of memory");
		}
		once(producers, o.producers, &start);
		for (int round = 0; round < o.rounds; round++)
			measure_print(bench, backend_peer(&o), o.workers, "ns/task",
				      round_of(producers, o.producers, &start, ns, repeats));
		for (int i = 0; i < o.producers; i++)
			free(producers[i].futures);
	}
	pthread_barrier_destroy(&start);
	free(producers);
	free(ns);
	return 0;
}
