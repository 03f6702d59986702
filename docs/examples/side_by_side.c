/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * side_by_side.c: work that waits and work that computes, on one thread, on as many threads as there are tasks, and on
 * processes. Waiting overlaps anywhere but on one; computing is as fast as there are CPUs, on threads and processes alike: C has
 * no lock around its interpreter. What processes add is that none can harm another.
 */
#define _GNU_SOURCE
#include <crew/crew.h>
#include <stdio.h>
#include <time.h>

enum { TASKS = 8 };

CREW_TASK(uint64_t, wait_for_io, (uint64_t, x))
{
	nanosleep(&(struct timespec){ 0, 20000000 }, NULL); /* as a disk or a server would have us wait */
	return x;
}

CREW_TASK(uint64_t, compute, (uint64_t, x))
{
	for (int i = 0; i < 5000000; i++)
		x = x * 6364136223846793005u + 1442695040888963407u;
	return x;
}

static long ms_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void measure(const char *where, crew_executor *ex)
{
	crew_future *fs[TASKS];
	long begun = ms_now(), waited, computed;

	for (int i = 0; i < TASKS; i++)
		fs[i] = crew_submit(ex, wait_for_io, (uint64_t)i);
	crew_wait(fs, TASKS, CREW_ALL_COMPLETED, CREW_FOREVER);
	waited = ms_now() - begun;
	begun = ms_now();
	for (int i = 0; i < TASKS; i++)
		fs[i] = crew_submit(ex, compute, (uint64_t)i);
	crew_wait(fs, TASKS, CREW_ALL_COMPLETED, CREW_FOREVER);
	computed = ms_now() - begun;
	printf("%-11s waited %4ld ms, computed %4ld ms\n", where, waited, computed);
}

int main(void)
{
	CREW_SCOPE (ex, crew_processes(TASKS)) /* first: it is forked while there is one thread */
		measure("8 processes", ex);
	CREW_SCOPE (ex, crew_threads(1))
		measure("1 thread", ex);
	CREW_SCOPE (ex, crew_threads(TASKS))
		measure("8 threads", ex);
}
