/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * index_ranges.c: one loop over many workers. crew_for() hands out ranges of indexes, large ones first;
 * crew_reduce() also combines what they give, in order, so that a sum of doubles is the same every time.
 */
#include <crew/crew.h>
#include <stdio.h>

enum { N = 1000000 };

/* The first two parameters are the range, the others are given by name. Each worker writes its part of the
   table, which all of them see. */
CREW_TASK(void, fill, (size_t, begin), (size_t, end), (crew_bytes, table), (double, scale))
{
	double *y = table.data;

	for (size_t i = begin; i < end; i++)
		y[i] = scale / (double)((i + 1) * (i + 1));
}

CREW_TASK(double, sum, (size_t, begin), (size_t, end), (crew_bytes, table))
{
	const double *y = table.data;
	double total = 0;

	for (size_t i = end; i-- > begin;)
		total += y[i];
	return total;
}

static double add(double a, double b)
{
	return a + b;
}

int main(void)
{
	double total = 0;

	CREW_SCOPE (ex, crew_processes()) {
		crew_bytes table = crew_shared_alloc(ex, N * sizeof(double));
		crew_must(crew_for(ex, N, fill, .table = table, .scale = 6));
		crew_must(crew_reduce(ex, N, &total, add, sum, .table = table));
		crew_shared_free(ex, table);
	}
	printf("%.5f, about the square of pi\n", total);
}
