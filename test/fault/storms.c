/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * storms.c: workers killed at random while many tasks run. Every future completes once; as many fail as workers died with one; nothing runs twice.
 */
#include <crew/crew.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mercy.h"
#include "runner.h"

/* Counts each run in memory that outlives its worker, then takes a moment that differs from task to task. */
CREW_TASK(long, count_run, (crew_bytes, runs), (int, i))
{
	__atomic_add_fetch((unsigned char *)runs.data + i, 1, __ATOMIC_SEQ_CST);
	for (volatile int k = 0; k < i * 7919 % 300; k++)
		;
	return (long)i * 3 + 1;
}

struct storm {
	crew_executor *ex;
	pthread_t thread;
	int workers;
	long interval_us;
	uint32_t stop;
	unsigned long kills;
};

static void *kill_workers(void *arg)
{
	struct storm *storm = arg;
	const struct timespec pause = { 0, storm->interval_us * 1000 };

	while (!__atomic_load_n(&storm->stop, __ATOMIC_ACQUIRE)) {
		int number = (int)(test_random() % (uint64_t)storm->workers);
		pid_t pid = crew_executor_worker_pid(storm->ex, number);

		nanosleep(&pause, NULL);
		if (pid > 0 && !mercy_for_worker(storm->ex, number) && kill(pid, SIGKILL) == 0)
			storm->kills++;
	}
	return NULL;
}

static void run_storm(size_t n, int workers, long interval_us)
{
	struct storm storm = { .workers = workers, .interval_us = interval_us };
	crew_future **fs = calloc(n, sizeof *fs);
	size_t failed = 0, lost = 0, twice = 0, wrong = 0;
	struct crew_stats stats;

	CREW_SCOPE (ex, crew_processes(workers)) {
		crew_bytes runs = crew_shared_alloc(ex, n);

		storm.ex = ex;
		CHECK_EQ(pthread_create(&storm.thread, NULL, kill_workers, &storm), 0);
		for (size_t i = 0; i < n; i++)
			fs[i] = crew_submit(ex, count_run, runs, (int)i);
		for (size_t i = 0; i < n; i++) {
			unsigned char count;
			long y;
			int rc = crew_result(fs[i], &y);

			count = __atomic_load_n((unsigned char *)runs.data + i, __ATOMIC_SEQ_CST);
			twice += count > 1;
			if (rc == 0) {
				wrong += y != (long)i * 3 + 1 || count != 1;
			} else {
				failed++;
				lost += crew_future_error(fs[i])->code != CREW_EWORKER || crew_future_error(fs[i])->signal != SIGKILL;
			}
			crew_future_free(fs[i]);
		}
		__atomic_store_n(&storm.stop, 1, __ATOMIC_RELEASE);
		pthread_join(storm.thread, NULL);
		CHECK_EQ(crew_executor_stats(ex, &stats, sizeof stats), 0);
		CHECK_EQ(twice, 0u);
		CHECK_EQ(wrong, 0u);
		CHECK_EQ(lost, 0u);
		CHECK_LE(failed, storm.kills);
		CHECK_EQ(stats.lost, failed);
		crew_shared_free(ex, runs);
	}
	printf("%zu tasks, %lu kills, %zu tasks lost with their worker\n", n, storm.kills, failed);
	free(fs);
}

TEST_WITHIN(tasks_survive_a_worker_killed_every_5_ms, 120)
{
	run_storm(test_scaled(200000), 4, 5000);
}

TEST_WITHIN(tasks_survive_a_worker_killed_every_millisecond, 120)
{
	run_storm(test_scaled(20000), 2, 1000);
}

/* Nobody waits in person: callbacks, told by the engine, come once for each. */
static uint32_t told;

static void tell(crew_future *f, void *arg)
{
	(void)f, (void)arg;
	__atomic_add_fetch(&told, 1, __ATOMIC_SEQ_CST);
}

TEST_WITHIN(callbacks_come_once_under_kills, 120)
{
	size_t n = test_scaled(5000);
	struct storm storm = { .workers = 3, .interval_us = 5000 };

	CREW_SCOPE (ex, crew_processes(3)) {
		crew_bytes runs = crew_shared_alloc(ex, n);

		storm.ex = ex;
		CHECK_EQ(pthread_create(&storm.thread, NULL, kill_workers, &storm), 0);
		for (size_t i = 0; i < n; i++)
			CHECK_EQ(crew_future_on_done(crew_submit(ex, count_run, runs, (int)i), tell, NULL), 0);
		crew_executor_wait(ex, CREW_FOREVER);
		__atomic_store_n(&storm.stop, 1, __ATOMIC_RELEASE);
		pthread_join(storm.thread, NULL);
	}
	CHECK_EQ(told, n);
}

/* Tasks that are cancelled, time out, carry megabytes and die, all at once. */
CREW_TASK(crew_bytes, double_up, (crew_bytes, in))
{
	crew_bytes out = crew_result_alloc(2 * in.len);

	if (!out.data)
		return out;
	memcpy(out.data, in.data, in.len);
	memcpy((char *)out.data + in.len, in.data, in.len);
	return out;
}

TEST_WITHIN(large_results_survive_kills, 120)
{
	size_t n = test_scaled(2000), size = 1 << 20;
	struct storm storm = { .workers = 3, .interval_us = 3000 };
	unsigned char *data = malloc(size);

	for (size_t i = 0; i < size; i++)
		data[i] = (unsigned char)(i * 31 >> 3);
	CREW_SCOPE (ex, crew_processes(3)) {
		crew_future *fs[8] = { NULL };

		storm.ex = ex;
		CHECK_EQ(pthread_create(&storm.thread, NULL, kill_workers, &storm), 0);
		for (size_t i = 0; i < n + 8; i++) {
			crew_future **f = &fs[i % 8];
			crew_bytes out;

			if (*f && crew_take(*f, &out, NULL) == 0) {
				CHECK(memcmp(out.data, data, out.len / 2) == 0);
				CHECK(memcmp((char *)out.data + out.len / 2, data, out.len / 2) == 0);
				crew_bytes_free(out);
			}
			*f = i < n ? crew_submit(ex, double_up, crew_bytes_make(data, test_random() % size)) : NULL;
			if (i % 7 == 0 && *f)
				crew_future_cancel(*f, NULL);
		}
		__atomic_store_n(&storm.stop, 1, __ATOMIC_RELEASE);
		pthread_join(storm.thread, NULL);
	}
	free(data);
}
