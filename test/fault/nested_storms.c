/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nested_storms.c: tasks that submit tasks and wait for them, a hundred thousand of them, while a worker is killed every ten milliseconds. Each tree has
 * the right number of leaves or the error of a death on its way up; nothing hangs, and in the end the pool is whole.
 */
#include <crew/crew.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mercy.h"
#include "runner.h"

#define HERE crew_task_executor()
enum { WORKERS = 4, DEPTH = 5, NODES = 364, LEAVES = 243 };

/* How many leaves there are below; the error of a child becomes the parent's own. */
CREW_TASK(long, leaves, (int, depth))
{
	crew_future *fs[3];
	crew_error error = { .code = 0 }, one;
	long y, sum = 0;

	if (depth == 0) { /* some microseconds of work */
		for (int i = 0; i < 10000; i++)
			__asm__ volatile("" : : "r"(i));
		return 1;
	}
	for (int i = 0; i < 3; i++)
		fs[i] = crew_submit(HERE, leaves, depth - 1);
	for (int i = 0; i < 3; i++) {
		if (crew_take(fs[i], &y, &one) == 0)
			sum += y;
		else if (!error.code)
			error = one;
	}
	return error.code ? crew_raise(error.code, "%s", error.message) : sum;
}

CREW_TASK(long, fib, (int, n))
{
	crew_future *f;
	long a, b;

	if (n < 2)
		return n;
	f = crew_submit(HERE, fib, n - 1);
	b = fib(n - 2);
	return crew_take(f, &a, NULL) == 0 ? a + b : crew_raise(ECHILD, "fib(%d) is lost", n - 1);
}

struct storm {
	crew_executor *ex;
	uint32_t stop;
	uint32_t right; /* trees, so far */
	unsigned long kills;
};

/* Where a tree takes longer than a few kills leave it, none would ever be right: then it rains a little less. */
enum { KILLS_IN_VAIN = 5 };

static void *kill_workers(void *arg)
{
	struct storm *storm = arg;
	const struct timespec pause = { 0, 10000000 };
	uint32_t right = 0, now;
	int in_vain = 0;

	while (!__atomic_load_n(&storm->stop, __ATOMIC_ACQUIRE)) {
		int number = (int)(test_random() % WORKERS);
		pid_t pid = crew_executor_worker_pid(storm->ex, number);

		nanosleep(&pause, NULL);
		now = __atomic_load_n(&storm->right, __ATOMIC_ACQUIRE);
		in_vain = now == right ? in_vain : 0;
		right = now;
		if (pid > 0 && in_vain < KILLS_IN_VAIN && !mercy_for_worker(storm->ex, number) && kill(pid, SIGKILL) == 0)
			storm->kills++, in_vain++;
	}
	return NULL;
}

TEST_WITHIN(trees_of_tasks_survive_a_worker_killed_every_10_ms, 300)
{
	size_t n = test_scaled(1000), failed = 0;
	uint32_t right = 0;
	crew_future **fs = calloc(n, sizeof *fs);
	struct storm storm = { .stop = 0 };
	pthread_t thread;
	long y;

	CREW_SCOPE (ex, crew_processes(WORKERS)) {
		storm.ex = ex;
		CHECK_EQ(crew_run(ex, &y, leaves, 1), 0);
		CHECK_EQ(pthread_create(&thread, NULL, kill_workers, &storm), 0);
		for (size_t i = 0; i < n; i++)
			fs[i] = crew_submit(ex, leaves, DEPTH);
		for (size_t i = 0; i < n; i++) {
			crew_error error;

			if (crew_take(fs[i], &y, &error) == 0) {
				CHECK_EQ(y, LEAVES);
				__atomic_store_n(&storm.right, ++right, __ATOMIC_RELEASE);
			} else {
				CHECK_EQ(error.code, CREW_EWORKER);
				failed++;
			}
		}
		__atomic_store_n(&storm.stop, 1, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
		for (int i = 0; i < 8; i++)
			CHECK(crew_run(ex, &y, leaves, DEPTH) == 0 && y == LEAVES);
	}
	printf("%zu trees of %d tasks: %u right, %zu failed with one of %lu workers killed\n", n, NODES, right, failed, storm.kills);
	CHECK(right > 0);
	free(fs);
}

static void check_fib(int workers)
{
	long y;

	CREW_SCOPE (ex, crew_processes(workers)) {
		CHECK_EQ(crew_run(ex, &y, fib, 18), 0);
		CHECK_EQ(y, 2584);
	}
}

TEST_WITHIN(a_recursion_of_futures_ends_on_one_process, 60)
{
	check_fib(1);
}

TEST_WITHIN(a_recursion_of_futures_ends_on_four_processes, 60)
{
	check_fib(4);
}
