/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * forkjoin.c: T3, what does a call cost when each is a task that is joined inside tasks? fib(30) is 2,692,537
 * of them: by frames (crew_spawn and crew_sync), and with --futures by a submit from within, for a smaller
 * fib.
 *
 * On processes and inline both run in place; the figure then says what a spawn costs where nobody steals.
 */
#include "backend.h"

enum { N = 30, N_FUTURES = 25, RUNS = 9 };

CREW_TASK(long, spawned_fib, (long, n))
{
	if (n < 2)
		return n;
	crew_spawn(spawned_fib, a, n - 1);
	long b = spawned_fib(n - 2);
	return crew_sync(spawned_fib, a) + b;
}

CREW_TASK(long, submitted_fib, (long, n))
{
	crew_future *a;
	long x, y;

	if (n < 2)
		return n;
	a = crew_submit(crew_task_executor(), submitted_fib, n - 1);
	y = submitted_fib(n - 2);
	if (crew_take(a, &x, NULL) != 0)
		return crew_raise(1, "fib(%ld) was lost", n - 1);
	return x + y;
}

static long plain_fib(long n)
{
	long a = 0, b = 1;

	while (n-- > 0) {
		long next = a + b;

		a = b;
		b = next;
	}
	return a;
}

static double run(crew_executor *ex, const struct measure_options *o, long n)
{
	int64_t begin = measure_now(), time;
	long y = 0;
	int code = o->futures ? crew_run(ex, &y, submitted_fib, n) : crew_run(ex, &y, spawned_fib, n);

	time = measure_now() - begin;
	measure_require(code == 0 && y == plain_fib(n), "fib(%ld) came out as %ld, code %d", n, y, code);
	return (double)time / (double)(2 * plain_fib(n + 1) - 1);
}

static double round_of(crew_executor *ex, const struct measure_options *o, long n)
{
	double ns[RUNS];

	for (int i = 0; i < RUNS; i++)
		ns[i] = run(ex, o, n);
	return measure_quantile(ns, RUNS, 0.5);
}

int main(int argc, char **argv)
{
	struct measure_options o;
	const char *bench;
	long n;

	measure_options(&o, argc, argv);
	bench = backend_bench(&o, o.futures ? "T3/futures" : "T3",
			      o.futures ? "T3/futures in a process" : "T3/in a process");
	n = o.futures ? N_FUTURES : N;
	if (o.scale < 1)
		n = 15;
	CREW_SCOPE (ex, backend_open(&o)) {
		backend_check(ex);
		round_of(ex, &o, n);
		for (int round = 0; round < o.rounds; round++)
			measure_print(bench, backend_peer(&o), o.workers, "ns/call", round_of(ex, &o, n));
	}
	return 0;
}
