/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * openmp_tasks.c: OpenMP as gcc (libgomp) or clang (libomp) has it, whichever compiles this. Its tasks belong to a parallel region whose threads all
 * take part, so there is no producer outside and no future: it is asked what it is made for, fork/join (T3),
 * small tasks (T5) and loops (T6).
 */
#include "peer.h"

#include <omp.h>

#include "../measure.h"

static int threads;

static void open_pool(int workers)
{
	threads = workers;
	omp_set_dynamic(0);
}

static void close_pool(void)
{
}

static long fib_task(long n)
{
	long a, b;

	if (n < 2)
		return n;
#pragma omp task shared(a)
	a = fib_task(n - 1);
	b = fib_task(n - 2);
#pragma omp taskwait
	return a + b;
}

static long fib(long n)
{
	long y = 0;

#pragma omp parallel num_threads(threads)
#pragma omp single
	y = fib_task(n);
	return y;
}

static void scale(const double *in, double *out, size_t n)
{
#pragma omp parallel for num_threads(threads) schedule(static)
	for (size_t i = 0; i < n; i++)
		out[i] = in[i] * 1.5 + 2;
}

static uint64_t spin(long tasks, long spins)
{
	uint64_t sum = 0;

#pragma omp parallel num_threads(threads)
#pragma omp single
	for (long i = 0; i < tasks; i++)
#pragma omp task shared(sum)
	{
		uint64_t y = measure_spin((uint64_t)i, spins);
#pragma omp atomic
		sum += y;
	}
	return sum;
}

#ifdef __clang__
#define COMPILER "clang"
#else
#define COMPILER "gcc"
#endif

const struct peer peer = { .name = "OpenMP (" COMPILER ")",
			   .open = open_pool,
			   .close = close_pool,
			   .fib = fib,
			   .scale = scale,
			   .spin = spin };
