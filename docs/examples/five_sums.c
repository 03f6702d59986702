/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * five_sums.c: start and join. Five processes sum a range each, and tell what they found as the result of their
 * task; then the same with five threads. One word is different.
 */
#define _GNU_SOURCE
#include <crew/crew.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { CHILDREN = 5 };

CREW_TASK(uint64_t, sum, (uint64_t, from), (uint64_t, to))
{
	uint64_t s = 0;

	for (uint64_t i = from; i < to; i++)
		s += i * i % 7;
	return s;
}

static long ms_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	bool threads = argc > 1 && strcmp(argv[1], "threads") == 0;
	crew_process *child[CHILDREN];
	long begun = ms_now();
	uint64_t y, total = 0;

	for (uint64_t i = 0; i < CHILDREN; i++)
		child[i] = threads ? crew_thread_start(sum, i * 1000000, (i + 1) * 1000000) :
				     crew_start(sum, i * 1000000, (i + 1) * 1000000);
	for (int i = 0; i < CHILDREN; i++) {
		crew_must(crew_process_join(child[i], CREW_FOREVER));
		crew_must(crew_process_result(child[i], &y));
		total += y;
		crew_process_close(child[i]);
	}
	printf("%d children summed %ju in %ld ms\n", CHILDREN, (uintmax_t)total, ms_now() - begun);
}
