/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool_of_16.c: 32 tasks that wait for a random while, on a pool of 16 processes, in the words of Python's
 * multiprocessing: apply_async, close, join. Each result comes with the pid of the worker that made it.
 */
#define _GNU_SOURCE
#include <crew/crew.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { TASKS = 32, WORKERS = 16 };

CREW_TASK(pid_t, wait_a_little, (int, ms))
{
	nanosleep(&(struct timespec){ 0, ms * 1000000L }, NULL);
	return getpid();
}

int main(void)
{
	crew_future *fs[TASKS];
	pid_t pids[TASKS];
	int workers = 0;

	srand((unsigned)time(NULL));
	CREW_POOL_SCOPE (pool, crew_pool(WORKERS)) {
		for (int i = 0; i < TASKS; i++)
			fs[i] = crew_pool_apply_async(pool, wait_a_little, rand() % 50);
		crew_pool_finish(pool);
		crew_must(crew_pool_join(pool, CREW_FOREVER));
		for (int i = 0; i < TASKS; i++) {
			bool seen = false;

			crew_must(crew_result(fs[i], &pids[i]));
			for (int j = 0; j < i; j++)
				seen = seen || pids[j] == pids[i];
			workers += !seen;
		}
	}
	printf("%d tasks done, %s\n", TASKS, workers <= WORKERS ? "no more than 16 at a time" : "by too many");
}
