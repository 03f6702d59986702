/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared.c: memory that every worker sees. Passed as a crew_bytes argument, whole or in part, it is not
 * copied, also not to another process: here four workers sort a quarter each, in place, and the parent
 * merges what they wrote.
 */
#include <crew/crew.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 400000, PARTS = 4, PART = N / PARTS };

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

CREW_TASK(void, sort, (crew_bytes, part))
{
	qsort(part.data, part.len / sizeof(uint32_t), sizeof(uint32_t), ascending);
}

/* Goes through all parts in order; counts what is not. */
static int merge(const uint32_t *parts)
{
	size_t at[PARTS] = { 0 };
	uint32_t last = 0;
	int wrong = 0;

	for (int n = 0; n < N; n++) {
		int least = -1;
		for (int i = 0; i < PARTS; i++)
			if (at[i] < PART &&
			    (least < 0 || parts[i * PART + at[i]] < parts[least * PART + at[least]]))
				least = i;
		uint32_t value = parts[least * PART + at[least]++];
		wrong += value < last;
		last = value;
	}
	return wrong;
}

int main(void)
{
	CREW_SCOPE (ex, crew_processes(PARTS)) {
		crew_bytes all = crew_shared_alloc(ex, N * sizeof(uint32_t));
		uint32_t *numbers = all.data, x = 1;

		crew_must(numbers ? 0 : -1);
		for (int i = 0; i < N; i++)
			numbers[i] = x = x * 1664525 + 1013904223;
		for (int i = 0; i < PARTS; i++)
			crew_submit(ex, sort, crew_bytes_make(numbers + i * PART, PART * sizeof(uint32_t)));
		/* For all that was submitted; it returns the first failure, if there was one. */
		crew_must(crew_executor_wait(ex, CREW_FOREVER));
		printf("%d numbers, %d out of order\n", N, merge(numbers));
		crew_shared_free(ex, all);
	}
}
