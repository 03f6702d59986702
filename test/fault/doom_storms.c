/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doom_storms.c: many tasks that are ended by force among many that must not notice: by deadlines, by kills that meet the end of their task, while workers die
 * and are born.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dooms.h"
#include "mercy.h"

static void note_time(crew_future *f, void *arg)
{
	(void)f;
	__atomic_store_n((int64_t *)arg, test_now_ms(), __ATOMIC_RELEASE);
}

struct sleeper {
	crew_future *f;
	int64_t submitted, done;
};

static int by_number(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void print_times(const struct sleeper *s, size_t n)
{
	int64_t *ms = calloc(n, sizeof *ms);
	size_t late = 0;

	for (size_t i = 0; i < n; i++) {
		ms[i] = s[i].done - s[i].submitted;
		late += ms[i] > 100;
	}
	qsort(ms, n, sizeof *ms, by_number);
	printf("%zu deadlines of 50 ms: failed after %ld ms in the middle, 99%% %ld, at most %ld; %zu after more than 100 ms\n", n,
	       (long)ms[n / 2], (long)ms[n * 99 / 100], (long)ms[n - 1], late);
	free(ms);
}

/* Each hundredth task sleeps for ever. `at_once` of them may be under way; 0: all. */
static void among_honest_ones(size_t n, size_t at_once)
{
	struct sleeper *sleepers = calloc(n, sizeof *sleepers);
	crew_future **fs = calloc(100 * n, sizeof *fs);
	struct crew_stats stats;
	size_t started = 0;
	long y;

	CREW_SCOPE (ex, crew_processes(4)) {
		crew_bytes runs = crew_shared_alloc(ex, 101 * n);

		for (size_t i = 0; i < n; i++) {
			struct sleeper *s = &sleepers[i];

			for (size_t k = 100 * i; k < 100 * i + 100; k++)
				fs[k] = crew_submit(ex, honest, runs, (int)k);
			s->submitted = test_now_ms();
			s->f = crew_submit_with(ex, (.timeout_ms = 50), endless, runs, (int)(100 * n + i), i % 4 == 3 ? SPINS : PATIENT);
			CHECK_EQ(crew_future_on_done(s->f, note_time, &s->done), 0);
			if (at_once && i >= at_once)
				(void)crew_future_wait(sleepers[i - at_once].f, CREW_FOREVER);
		}
		for (size_t i = 0; i < 100 * n; i++) {
			CHECK_EQ(crew_result(fs[i], &y), 0);
			CHECK_EQ(y, (long)i * 3 + 1);
			CHECK_EQ(runs_of(runs, (int)i), 1);
		}
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), CREW_EDEADLINE);
		for (size_t i = 0; i < n; i++) {
			CHECK_EQ(crew_future_error(sleepers[i].f)->code, CREW_EDEADLINE);
			CHECK_LE(runs_of(runs, (int)(100 * n + i)), 1);
			started += (size_t)runs_of(runs, (int)(100 * n + i));
		}
		check_strength(ex, 4);
		CHECK_EQ(crew_executor_stats(ex, &stats, sizeof stats), 0);
		CHECK_EQ(stats.failed, n);
		CHECK_EQ(stats.lost, 0u);
		CHECK_EQ(stats.workers_lost, 0u);
	}
	print_times(sleepers, n);
	printf("%zu of %zu had been started, each of %zu others ran once\n", started, n, 100 * n);
	free(sleepers);
	free(fs);
}

TEST_WITHIN(a_thousand_that_never_end_do_no_harm_to_a_hundred_thousand, 300)
{
	among_honest_ones(test_scaled(1000), 3);
}

TEST_WITHIN(a_thousand_that_never_end_may_come_all_at_once, 120)
{
	among_honest_ones(test_scaled(1000), 0);
}

/* About as long as it takes to have somebody killed. */
CREW_TASK(long, brief, (crew_bytes, runs), (int, i), (int, spin))
{
	count(runs, i);
	for (volatile int k = 0; k < spin; k++)
		;
	return i;
}

/* The kill and the end of the task meet, again and again: one of the two it is, and the task behind it is not hit. */
TEST_WITHIN(a_kill_and_the_end_of_its_task_may_meet, 300)
{
	enum { ROUND = 250 };
	size_t rounds = test_scaled(400), killed = 0, spin = 20000;

	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes runs = crew_shared_alloc(ex, 2 * ROUND);
		crew_future *f[ROUND], *behind[ROUND];
		long y;

		for (size_t r = 0; r < rounds; r++) {
			size_t now = 0;

			memset(runs.data, 0, runs.len);
			for (int i = 0; i < ROUND; i++) {
				f[i] = crew_submit(ex, brief, runs, i, (int)(test_random() % spin));
				behind[i] = crew_submit(ex, brief, runs, ROUND + i, 0);
				while (!runs_of(runs, i) && !crew_future_done(f[i]))
					;
				(void)crew_future_kill(f[i], NULL, 0);
			}
			for (int i = 0; i < ROUND; i++) {
				int rc = crew_result(f[i], &y);

				CHECK(rc == -ECANCELED || (rc == 0 && y == i));
				now += rc != 0;
				CHECK_EQ(runs_of(runs, i), 1);
				CHECK_EQ(crew_result(behind[i], &y), 0);
				CHECK_EQ(y, ROUND + i);
				CHECK_EQ(runs_of(runs, ROUND + i), 1);
				crew_future_free(f[i]);
				crew_future_free(behind[i]);
			}
			killed += now;
			spin = now > 10 ? spin - spin / 8 : spin + spin / 8; /* most of them end just before */
		}
		check_strength(ex, 2);
	}
	printf("%zu of %zu were killed in time\n", killed, rounds * ROUND);
}

/* Deadlines, kills and deaths from outside, all at once, also of workers that are just being born, as long as there is anything to do; among tasks that
   submit tasks, too. */
enum { KILLED = 3 };
struct killing {
	crew_executor *ex;
	uint32_t stop;
};

static void *kill_all(void *arg)
{
	const struct timespec pause = { 0, 15000000 };
	struct killing *k = arg;

	for (int i = 0; !__atomic_load_n(&k->stop, __ATOMIC_ACQUIRE); i++) {
		if (!mercy_for_any(k->ex, KILLED))
			crew_executor_kill(k->ex, i % 3 ? SIGKILL : SIGTERM);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

CREW_TASK(long, sends_honest, (crew_bytes, runs), (int, i), (int, child))
{
	crew_error error;
	long y;

	count(runs, i);
	if (crew_take(crew_submit(crew_task_executor(), honest, runs, child), &y, &error))
		return crew_raise(error.code, "%s", error.message);
	return y;
}

/* The i-th of n; children are counted behind all of them. */
static crew_future *submit_one(crew_executor *ex, crew_bytes runs, int i, int n)
{
	if (i % 20 == 0)
		return crew_submit_with(ex, (.timeout_ms = 5), endless, runs, i, i / 20 % 4);
	return i % 20 == 7 ? crew_submit(ex, sends_honest, runs, i, n + i) : crew_submit(ex, honest, runs, i);
}

TEST_WITHIN(kills_may_meet_recoveries, 120)
{
	size_t n = test_scaled(4000);
	crew_future **fs = calloc(n, sizeof *fs);
	pthread_t killer;

	CREW_SCOPE (ex, crew_processes(.workers = KILLED, .grace_ms = 20)) {
		crew_bytes runs = crew_shared_alloc(ex, 2 * n);
		struct killing killing = { ex, 0 };

		CHECK_EQ(pthread_create(&killer, NULL, kill_all, &killing), 0);
		for (size_t i = 0; i < n; i++) {
			fs[i] = submit_one(ex, runs, (int)i, (int)n);
			if (i % 50 == 0)
				crew_future_kill(fs[i], NULL, (int)(test_random() % 5));
		}
		for (size_t i = 0; i < n; i++) {
			int code;

			CHECK_NE(crew_future_wait(fs[i], 100000), -ETIMEDOUT);
			code = crew_future_error(fs[i])->code;
			CHECK(code == CREW_EWORKER || (code == -ECANCELED && i % 50 == 0) || (i % 20 ? code == 0 : code == CREW_EDEADLINE));
			CHECK_LE(runs_of(runs, (int)i), 1);
			CHECK(code || runs_of(runs, (int)i) == 1);
			CHECK_LE(runs_of(runs, (int)(n + i)), 1);
			CHECK(code || i % 20 != 7 || runs_of(runs, (int)(n + i)) == 1);
		}
		__atomic_store_n(&killing.stop, 1, __ATOMIC_RELEASE);
		pthread_join(killer, NULL);
		check_strength(ex, KILLED);
	}
	free(fs);
}
