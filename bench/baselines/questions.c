/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * questions.c: T1–T10 put to a peer, as throughput.c, pingpong.c … put them to crew: the same work, the same
 * counts, the same checks. When one of those changes, this changes with it. --bench says which question.
 */
#include "peer.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../grains.h"
#include "../measure.h"

static long increment(long x)
{
	return x + 1;
}

/* ---- T1, T4 ---- */

struct producer {
	struct peer_future **futures;
	long n, first, wrong;
};

static void produce(void *arg)
{
	struct producer *p = arg;

	for (long i = 0; i < p->n; i++)
		p->futures[i] = peer.submit(increment, p->first + i);
	for (long i = 0; i < p->n; i++)
		p->wrong += peer.take(p->futures[i]) != p->first + i + 1;
}

static int64_t submit_time(struct producer *producers, int n)
{
	int64_t begin = measure_now();

	if (n > 1)
		return measure_together(produce, producers, sizeof *producers, n);
	produce(producers);
	return measure_now() - begin;
}

static double submit_once(struct producer *producers, int n)
{
	int64_t time = submit_time(producers, n);
	long wrong = 0, tasks = 0;

	for (int i = 0; i < n; i++) {
		wrong += producers[i].wrong;
		tasks += producers[i].n;
	}
	measure_require(wrong == 0, "%ld of %ld results are wrong", wrong, tasks);
	return (double)time / (double)tasks;
}

static double submit_round(struct producer *producers, int n, double *ns, long repeats)
{
	for (long i = 0; i < repeats; i++)
		ns[i] = submit_once(producers, n);
	return measure_quantile(ns, (size_t)repeats, 0.5);
}

static void ask_submit(const struct measure_options *o)
{
	int count = strcmp(o->bench, "T4") == 0 ? 4 : 1;
	long n = measure_tasks(o, 1000000 / count), repeats = measure_repeats(o);
	double *ns = calloc((size_t)repeats, sizeof(*ns));
	struct producer producers[4];

	measure_require(ns != NULL, "out of memory");
	for (int i = 0; i < count; i++) {
		producers[i] = (struct producer){ .n = n, .first = n * i };
		producers[i].futures = calloc((size_t)n, sizeof(struct peer_future *));
		measure_require(producers[i].futures != NULL, "out of memory");
	}
	submit_once(producers, count);
	for (int round = 0; round < o->rounds; round++)
		measure_print(measure_name(o, o->bench), peer.name, o->workers, "ns/task",
			      submit_round(producers, count, ns, repeats));
	free(ns);
	for (int i = 0; i < count; i++)
		free(producers[i].futures);
}

/* ---- T2, T10 ---- */

enum { PINGS = 20000, PACED_PINGS = 1000, COLD_PINGS = 300, COLD_US = 1000, WAKES = 200 };

static void ping(double *us, long n, long idle_us)
{
	for (long i = 0; i < n; i++) {
		int64_t begin;
		long y;

		if (idle_us)
			measure_pause(idle_us * 1000);
		begin = measure_now();
		y = peer.take(peer.submit(increment, i));
		us[i] = (double)(measure_now() - begin) / 1000;
		measure_require(y == i + 1, "ping %ld came back as %ld", i, y);
	}
}

static long started(long x)
{
	(void)x;
	return measure_now();
}

static void wake(double *us, long n, long idle_us)
{
	for (long i = 0; i < n; i++) {
		int64_t begin, start;

		measure_pause(idle_us * 1000);
		begin = measure_now();
		start = peer.take(peer.submit(started, i));
		measure_require(start >= begin && start <= measure_now(), "a task started out of time");
		us[i] = (double)(start - begin) / 1000;
	}
}

static void ask_latency(const struct measure_options *o)
{
	bool waking = strcmp(o->bench, "T10") == 0;
	long n = measure_scaled(o, waking		   ? WAKES
				   : o->idle_us >= COLD_US ? COLD_PINGS
				   : o->idle_us		   ? PACED_PINGS
							   : PINGS),
	     idle_us = waking ? 5000 : o->idle_us;
	double *us = calloc((size_t)n, sizeof(*us));

	measure_require(us != NULL, "out of memory");
	ping(us, n, 0);
	for (int round = 0; round < o->rounds; round++) {
		(waking ? wake : ping)(us, n, idle_us);
		measure_latencies(o->bench, peer.name, o->workers, us, (size_t)n);
	}
	free(us);
}

/* ---- T3, T6 ---- */

enum { RUNS_OF_FIB = 9, RUNS_OF_MAP = 5, DOUBLES = 10000000 };

static double fib_round(long n, long expected, long calls)
{
	double ns[RUNS_OF_FIB];

	for (int i = 0; i < RUNS_OF_FIB; i++) {
		int64_t begin = measure_now();
		long y = peer.fib(n);

		ns[i] = (double)(measure_now() - begin) / (double)calls;
		measure_require(y == expected, "fib(%ld) came out as %ld", n, y);
	}
	return measure_quantile(ns, RUNS_OF_FIB, 0.5);
}

static void ask_fib(const struct measure_options *o)
{
	bool small = o->scale < 1;
	long n = small ? 15 : 30, expected = small ? 610 : 832040, calls = small ? 1973 : 2692537;

	fib_round(n, expected, calls);
	for (int round = 0; round < o->rounds; round++)
		measure_print(o->bench, peer.name, o->workers, "ns/call", fib_round(n, expected, calls));
}

static double map_round(const double *in, double *out, size_t n)
{
	double ms[RUNS_OF_MAP];

	for (int run = 0; run < RUNS_OF_MAP; run++) {
		int64_t begin = measure_now();

		peer.scale(in, out, n);
		ms[run] = (double)(measure_now() - begin) / 1e6;
		for (size_t i = 0; i < n; i++) {
			measure_require(out[i] == in[i] * 1.5 + 2, "value %zu is wrong", i);
			out[i] = 0;
		}
	}
	return measure_quantile(ms, RUNS_OF_MAP, 0.5);
}

static void ask_map(const struct measure_options *o)
{
	size_t n = (size_t)measure_scaled(o, DOUBLES);
	double *in = malloc(n * sizeof(*in)), *out = malloc(n * sizeof(*out));

	measure_require(in && out, "out of memory");
	for (size_t i = 0; i < n; i++) {
		in[i] = (double)i;
		out[i] = 0;
	}
	map_round(in, out, n);
	for (int round = 0; round < o->rounds; round++)
		measure_print(o->bench, peer.name, o->workers, "ms", map_round(in, out, n));
	free(in);
	free(out);
}

/* ---- T5 ---- */

static long spins_of_all;

static long spin(long x)
{
	return (long)measure_spin((uint64_t)x, spins_of_all);
}

static uint64_t run_grain(void *futures, long tasks, long spins)
{
	struct peer_future **f = futures;
	uint64_t sum = 0;

	if (peer.spin)
		return peer.spin(tasks, spins);
	spins_of_all = spins;
	for (long i = 0; i < tasks; i++)
		f[i] = peer.submit(spin, i);
	for (long i = 0; i < tasks; i++)
		sum += (uint64_t)peer.take(f[i]);
	return sum;
}

static void ask_grain(const struct measure_options *o)
{
	struct peer_future **futures = calloc((size_t)grains_tasks(o, 0), sizeof(*futures));

	measure_require(futures != NULL, "out of memory");
	grains_measure(o, o->bench, peer.name, run_grain, futures);
	free(futures);
}

/* ---- T7, T8, T9 ---- */

enum { PENDING = 1000000, BURST = 1000, LIVES = 50 };

static atomic_int holding;

static long hold(long fd)
{
	char byte;

	atomic_fetch_add(&holding, 1);
	return read((int)fd, &byte, 1);
}

static void ask_footprint(const struct measure_options *o)
{
	long n = measure_scaled(o, PENDING);
	struct peer_future **futures = malloc((size_t)n * sizeof(*futures)), *held[o->workers];
	size_t before, after;
	int gate[2];

	measure_require(futures && pipe2(gate, O_CLOEXEC) == 0, "out of memory");
	memset(futures, 1, (size_t)n * sizeof(*futures));
	for (int i = 0; i < o->workers; i++)
		held[i] = peer.submit(hold, gate[0]);
	while (atomic_load(&holding) < o->workers)
		sched_yield();
	before = measure_resident();
	for (long i = 0; i < n; i++)
		futures[i] = peer.submit(increment, i);
	after = measure_resident();
	close(gate[1]);
	for (int i = 0; i < o->workers; i++)
		measure_require(peer.take(held[i]) == 0, "the gate failed");
	for (long i = 0; i < n; i++)
		measure_require(peer.take(futures[i]) == i + 1, "task %ld is wrong", i);
	measure_print(o->bench, peer.name, o->workers, "B/task", (double)(after - before) / (double)n);
	close(gate[0]);
	free(futures);
}

static void burst(long n)
{
	struct peer_future *futures[BURST];

	for (long i = 0; i < n; i++)
		futures[i] = peer.submit(increment, i);
	for (long i = 0; i < n; i++)
		measure_require(peer.take(futures[i]) == i + 1, "task %ld is wrong", i);
}

static void ask_idle(const struct measure_options *o)
{
	for (int round = 0; round < o->rounds; round++) {
		int64_t before;

		burst(BURST);
		measure_pause(200 * INT64_C(1000000));
		before = measure_cpu_time_of_others();
		measure_pause(measure_scaled(o, 2000 * 1000000l));
		measure_print(o->bench, peer.name, o->workers, "ms",
			      (double)((measure_cpu_time_of_others() - before) / 1000) / 1e3);
	}
}

static double life_round(const struct measure_options *o)
{
	double us[LIVES];
	size_t n = (size_t)measure_scaled(o, LIVES);

	for (size_t i = 0; i < n; i++) {
		int64_t begin = measure_now();

		peer.open(o->workers);
		if (!o->idle_workers)
			burst(4);
		peer.close();
		us[i] = (double)(measure_now() - begin) / 1e3;
	}
	return measure_quantile(us, n, 0.5);
}

static void ask_life(const struct measure_options *o)
{
	life_round(o);
	for (int round = 0; round < o->rounds; round++)
		measure_print(o->bench, peer.name, o->workers, "us", life_round(o));
}

/* ---- which ---- */

static const struct question {
	const char *bench;
	void (*ask)(const struct measure_options *o);
} questions[] = {
	{ "T1", ask_submit },
	{ "T4", ask_submit },
	{ "T2", ask_latency },
	{ "T2/cold", ask_latency },
	{ "T2/paced", ask_latency },
	{ "T2/busy", ask_latency },
	{ "T2/one-cpu", ask_latency },
	{ "T3", ask_fib },
	{ "T5", ask_grain },
	{ "T6", ask_map },
	{ "T7", ask_footprint },
	{ "T8", ask_idle },
	{ "T9", ask_life },
	{ "T9/unused", ask_life },
	{ "T10", ask_latency },
};

static bool offers(const struct question *q)
{
	if (q->ask == ask_fib)
		return peer.fib != NULL;
	if (q->ask == ask_map)
		return peer.scale != NULL;
	if (q->ask == ask_life)
		return peer.submit && peer.reopens;
	return peer.submit || (q->ask == ask_grain && peer.spin);
}

int main(int argc, char **argv)
{
	struct measure_options o;

	measure_options(&o, argc, argv);
	for (size_t i = 0; i < sizeof(questions) / sizeof(questions[0]); i++) {
		const struct question *q = &questions[i];

		if (strcmp(q->bench, o.bench) != 0)
			continue;
		if (!offers(q))
			return MEASURE_SKIP;
		if (q->ask == ask_life) {
			q->ask(&o);
			return 0;
		}
		peer.open(o.workers);
		q->ask(&o);
		peer.close();
		return 0;
	}
	return MEASURE_SKIP;
}
