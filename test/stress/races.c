/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * races.c: the places where two threads meet, met many times. What must hold afterwards is counted: a task runs once or never, a future is
 * completed once, a callback runs once, nobody sleeps for ever.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <crew/crew.h>

#include "../runner.h"

static crew_executor *shared;
static uint32_t ran, completed, cancelled_count;

static void add(uint32_t *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

CREW_TASK(int, counts, (int, n))
{
	add(&ran);
	return n;
}
CREW_TASK(int, spins, (int, n))
{
	for (int i = 0; i < n; i++)
		__asm__ volatile("" ::: "memory");
	add(&ran);
	return n;
}
static void count_completion(crew_future *f, void *arg)
{
	(void)f, (void)arg;
	add(&completed);
}

static void wait_a_little(void)
{
	for (uint64_t n = test_random() % 200; n > 0; n--)
		__asm__ volatile("" ::: "memory");
}

/* C1: a cancel meets the start. It answers 1 and the task never runs, or it does not and the task runs once; nothing in between. */
TEST_WITHIN(a_cancel_that_meets_the_start_is_decided_once, 120)
{
	size_t n = test_scaled(100000);
	uint32_t stopped = 0;
	int y, rc;

	CREW_SCOPE (ex, crew_threads(2))
		for (size_t i = 0; i < n; i++) {
			crew_future *f = crew_submit(ex, counts, 1);

			wait_a_little();
			rc = crew_future_cancel(f, NULL);
			CHECK(rc == 1 || rc == 0 || rc == -EALREADY);
			stopped += rc == 1;
			CHECK_EQ(crew_take(f, &y, NULL), rc == 1 ? -ECANCELED : 0);
		}
	CHECK_EQ(ran + stopped, n);
}

/* Each of four threads submits, and then cancels, takes, waits or gives back what it has, at random. */
static void *submits_and_changes_its_mind(void *argument)
{
	size_t n = *(size_t *)argument;
	crew_future *fs[8] = { NULL };
	int y;

	for (size_t i = 0; i < n; i++) {
		crew_future **f = &fs[test_random() % 8];

		if (!*f) {
			*f = crew_submit(shared, spins, (int)(test_random() % 300));
			CHECK_EQ(crew_future_on_done(*f, count_completion, NULL), 0);
			continue;
		}
		switch (test_random() % 5) {
		case 0:
			if (crew_future_cancel(*f, "changed my mind") == 1)
				add(&cancelled_count);
			break;
		case 1:
			crew_take(*f, &y, NULL);
			*f = NULL;
			break;
		case 2:
			*f = crew_future_free(*f);
			break;
		case 3:
			crew_result_within(*f, &y, 0) == -ETIMEDOUT ? (void)sched_yield() : (void)0;
			break;
		default:
			crew_wait_any(f, 1, 1);
		}
	}
	return NULL;
}
TEST_WITHIN(submit_cancel_and_free_from_four_threads, 120)
{
	size_t n = test_scaled(100000);
	pthread_t threads[4];
	struct crew_stats s;

	CREW_SCOPE (ex, crew_threads(4)) {
		shared = ex;
		for (int i = 0; i < 4; i++)
			CHECK_EQ(pthread_create(&threads[i], NULL, submits_and_changes_its_mind, &n), 0);
		for (int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		crew_executor_wait(ex, CREW_FOREVER);
		CHECK_EQ(crew_executor_stats(ex, &s, sizeof s), 0);
		CHECK_EQ(s.done, s.submitted);
		CHECK_EQ(ran + s.cancelled, s.submitted);
	}
	CHECK_EQ(completed, s.submitted);
}

/* Meanwhile somebody cancels everything there is, again and again, without a reference to any of it. */
static uint32_t enough;
static void *cancels_all(void *ex)
{
	while (!__atomic_load_n(&enough, __ATOMIC_ACQUIRE))
		CHECK_GE(crew_executor_cancel(ex, "all of them"), 0);
	return NULL;
}
TEST_WITHIN(all_may_be_cancelled_while_each_is_changed, 120)
{
	size_t n = test_scaled(50000);
	pthread_t threads[3], canceller;
	struct crew_stats s;

	CREW_SCOPE (ex, crew_threads(2)) {
		shared = ex;
		CHECK_EQ(pthread_create(&canceller, NULL, cancels_all, ex), 0);
		for (int i = 0; i < 3; i++)
			CHECK_EQ(pthread_create(&threads[i], NULL, submits_and_changes_its_mind, &n), 0);
		for (int i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
		__atomic_store_n(&enough, 1, __ATOMIC_RELEASE);
		pthread_join(canceller, NULL);
		crew_executor_wait(ex, CREW_FOREVER);
		CHECK_EQ(crew_executor_stats(ex, &s, sizeof s), 0);
		CHECK_EQ(ran + s.cancelled, s.submitted);
	}
	CHECK_EQ(completed, s.submitted);
}

/* A wait that runs out of time in the moment of the completion: it says either, and the next one is right. */
TEST_WITHIN(a_wait_that_ends_at_the_completion_is_never_lost, 120)
{
	size_t n = test_scaled(20000);
	int y;

	CREW_SCOPE (ex, crew_threads(2))
		for (size_t i = 0; i < n; i++) {
			crew_future *f = crew_submit(ex, spins, (int)(test_random() % 20000));
			int rc = crew_result_within(f, &y, (int)(test_random() % 2));

			CHECK(rc == 0 || rc == -ETIMEDOUT);
			CHECK_EQ(crew_take(f, &y, NULL), 0);
		}
}

/* Waiters of every form on one future, at once. */
static void *waits_in_some_form(void *argument)
{
	crew_future *f = argument, *fs[2] = { f, f };
	int y, turns = 0;

	switch (test_random() % 4) {
	case 0:
		CHECK_EQ(crew_result(f, &y), 0);
		break;
	case 1:
		CHECK_EQ(crew_wait(fs, 2, CREW_FIRST_COMPLETED, CREW_FOREVER), 2);
		break;
	case 2:
		CREW_AS_COMPLETED (done, fs, 2)
			turns += done == f;
		CHECK_EQ(turns, 1);
		break;
	default:
		CHECK_EQ(crew_future_on_done(f, count_completion, NULL), 0);
		CHECK_EQ(crew_future_error(f)->code, 0);
	}
	return NULL;
}
TEST_WITHIN(waiters_of_every_form_meet_the_completion, 120)
{
	size_t n = test_scaled(2000);
	pthread_t threads[4];

	CREW_SCOPE (ex, crew_threads(2))
		for (size_t i = 0; i < n; i++) {
			crew_future *f = crew_submit(ex, spins, (int)(test_random() % 50000));

			for (int k = 0; k < 4; k++)
				CHECK_EQ(pthread_create(&threads[k], NULL, waits_in_some_form, f), 0);
			for (int k = 0; k < 4; k++)
				pthread_join(threads[k], NULL);
			crew_future_free(f);
		}
}

/* Callbacks are registered while the task completes: each runs once. */
TEST_WITHIN(callbacks_that_meet_the_completion_run_once, 120)
{
	size_t n = test_scaled(50000);

	CREW_SCOPE (ex, crew_threads(2))
		for (size_t i = 0; i < n; i++) {
			crew_future *f = crew_submit(ex, spins, (int)(test_random() % 200));

			for (int k = 0; k < 3; k++)
				CHECK_EQ(crew_future_on_done(f, count_completion, NULL), 0);
			crew_future_free(f);
		}
	CHECK_EQ(completed, 3 * n);
}

/* A shutdown meets submits of other threads: each is taken and run, or refused. */
static void *submits_until_refused(void *argument)
{
	uint32_t *taken = argument;

	while (crew_post(shared, counts, 1) == 0)
		add(taken);
	return NULL;
}
TEST_WITHIN(a_shutdown_that_meets_submits_loses_none, 120)
{
	size_t rounds = test_scaled(200);
	pthread_t threads[3];

	for (size_t i = 0; i < rounds; i++) {
		uint32_t taken = 0;

		ran = 0;
		CREW_SCOPE (ex, crew_threads(2)) {
			shared = ex;
			for (int k = 0; k < 3; k++)
				CHECK_EQ(pthread_create(&threads[k], NULL, submits_until_refused, &taken), 0);
			wait_a_little();
			CHECK_EQ(crew_executor_shutdown(ex, 0, CREW_FOREVER), 0);
			for (int k = 0; k < 3; k++)
				pthread_join(threads[k], NULL);
		}
		CHECK_EQ(ran, taken);
	}
}

/* A group is opened, filled and closed on workers that others keep busy; limits hold, nothing is left. */
static void *opens_groups(void *argument)
{
	size_t n = *(size_t *)argument;
	int y;

	for (size_t i = 0; i < n; i++)
		CREW_SCOPE (g, crew_group(shared, .max_running = 1 + (int)(i % 3), .on_error = CREW_CANCEL_SIBLINGS)) {
			crew_future *f = crew_submit(g, counts, 3);

			for (int k = 0; k < 10; k++)
				crew_submit(g, spins, 50);
			crew_future_cancel(crew_submit(g, counts, 1), NULL);
			CHECK_EQ(crew_result(f, &y), 0);
			if (i % 2)
				crew_executor_cancel(g, "enough");
		}
	return NULL;
}
TEST_WITHIN(groups_come_and_go_on_busy_workers, 120)
{
	size_t n = test_scaled(1000);
	pthread_t threads[3];

	CREW_SCOPE (ex, crew_threads(3)) {
		shared = ex;
		for (int i = 0; i < 3; i++)
			CHECK_EQ(pthread_create(&threads[i], NULL, opens_groups, &n), 0);
		for (int i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
	}
}
