/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * promises.c: futures that are completed by hand. They have no executor: nothing here is stamped.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

static crew_future *promise_of_int(void)
{
	return crew_future_new(CREW_TYPE_OF(int));
}
static int keep(crew_future *f, int value)
{
	return crew_future_set_result(f, &value, CREW_TYPE_OF(int));
}

/* PENDING until it is kept, then done with the value. */
TEST(a_promise_is_pending_until_it_is_kept)
{
	crew_future *f = promise_of_int();
	int y = 0;

	CHECK(f != NULL);
	CHECK(!crew_future_done(f) && !crew_future_running(f) && !crew_future_cancelled(f));
	CHECK_EQ(crew_result_within(f, &y, 0), -ETIMEDOUT);
	CHECK_EQ(keep(f, 7), 0);
	CHECK(crew_future_done(f));
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 7);
	CHECK_STR(crew_future_task(f), "");
	CHECK(crew_future_free(f) == NULL);
}

/* Kept once: the first stays. */
TEST(a_promise_is_kept_once)
{
	crew_future *f = promise_of_int();
	int y = 0;

	CHECK_EQ(keep(f, 1), 0);
	CHECK_EQ(keep(f, 2), -EALREADY);
	CHECK_EQ(crew_future_set_error(f, EIO, "late"), -EALREADY);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 1);
	crew_future_free(f);
}

TEST(a_promise_can_be_broken_with_an_error)
{
	crew_future *f = promise_of_int();
	int y = 5;

	CHECK_EQ(crew_future_set_error(f, EIO, "disk %d is gone", 3), 0);
	CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
	CHECK_EQ(y, 5);
	CHECK_EQ(crew_future_error(f)->code, EIO);
	CHECK_STR(crew_future_error(f)->message, "disk 3 is gone");
	CHECK_EQ(keep(f, 2), -EALREADY);
	crew_future_free(f);
}

/* set_running: it can no longer be cancelled, only asked. */
TEST(a_promise_can_be_running)
{
	crew_future *f = promise_of_int();

	CHECK_EQ(crew_future_set_running(f), 0);
	CHECK(crew_future_running(f));
	CHECK_EQ(crew_future_set_running(f), -EALREADY);
	CHECK_EQ(crew_future_cancel(f, NULL), 0);
	CHECK_EQ(keep(f, 3), 0);
	CHECK(!crew_future_running(f) && !crew_future_cancelled(f));
	CHECK_EQ(crew_future_set_running(f), -EALREADY);
	crew_future_free(f);
}

TEST(a_promise_can_be_cancelled)
{
	crew_future *f = promise_of_int();
	int y;

	CHECK_EQ(crew_future_cancel(f, "not needed"), 1);
	CHECK_EQ(crew_future_set_running(f), -ECANCELED);
	CHECK_EQ(keep(f, 1), -EALREADY);
	CHECK_EQ(crew_result(f, &y), -ECANCELED);
	CHECK_STR(crew_future_error(f)->message, "not needed");
	crew_future_free(f);
}

/* Type 0: no value. */
TEST(a_promise_may_have_no_value)
{
	crew_future *f = crew_future_new(0);
	int y = 1;

	CHECK_EQ(crew_future_set_result(f, NULL, 0), 0);
	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
	CHECK_EQ(crew_result(f, &y), CREW_ETYPE);
	crew_future_free(f);
}

/* Bytes, strings and large structs are copied. */
TEST(a_promise_copies_what_it_is_given)
{
	char text[] = "some text", bytes[100];
	const char *t = text, *y = NULL;
	struct {
		long v[20];
	} large = { { 1, 2 } }, z;
	crew_bytes b = crew_bytes_make(memset(bytes, 'b', 100), 100), c;
	crew_future *f = crew_future_new(CREW_TYPE_OF(const char *)), *g = crew_future_new(CREW_TYPE_OF(crew_bytes)),
		    *h = crew_future_new(CREW_TYPE_OF(__typeof__(large)));

	CHECK_EQ(crew_future_set_result(f, &t, CREW_TYPE_OF(const char *)), 0);
	CHECK_EQ(crew_future_set_result(g, &b, CREW_TYPE_OF(crew_bytes)), 0);
	CHECK_EQ(crew_future_set_result(h, &large, CREW_TYPE_OF(__typeof__(large))), 0);
	memset(text, 'x', 9);
	memset(bytes, 'x', 100);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_STR(y, "some text");
	CHECK_EQ(crew_result(g, &c), 0);
	CHECK(c.len == 100 && ((char *)c.data)[99] == 'b');
	CHECK_EQ(crew_result(h, &z), 0);
	CHECK(memcmp(&large, &z, sizeof z) == 0);
	crew_future_free(f);
	crew_future_free(g);
	crew_future_free(h);
}

/* Those who wait are woken, callbacks run in the thread that keeps it. */
static pthread_t callback_thread;
static int callback_count;
static void note_thread(crew_future *f, void *arg)
{
	(void)f, (void)arg;
	callback_thread = pthread_self();
	callback_count++;
}
static void *waits(void *f)
{
	int y = 0;

	CHECK_EQ(crew_result((crew_future *)f, &y), 0);
	CHECK_EQ(y, 9);
	return NULL;
}
TEST(keeping_a_promise_wakes_waiters_and_calls_back)
{
	crew_future *f = promise_of_int();
	pthread_t threads[3];

	CHECK_EQ(crew_future_on_done(f, note_thread, NULL), 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, waits, f), 0);
	CHECK_EQ(keep(f, 9), 0);
	CHECK(callback_count == 1 && pthread_equal(callback_thread, pthread_self()));
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	crew_future_free(f);
}

/* A promise that nobody can keep any more fails its waiters: no hang. */
TEST(a_promise_given_back_unkept_is_broken)
{
	crew_future *f = promise_of_int();

	crew_future_on_done(f, note_thread, NULL);
	crew_future_free(f);
	CHECK_EQ(callback_count, 1);
}

/* Two threads keep one promise: one of them did. */
static void *keeps(void *f)
{
	return (void *)(intptr_t)(keep(f, 1) == 0);
}
TEST(one_of_many_keepers_succeeds)
{
	pthread_t threads[4];
	void *won;
	int winners;

	for (int round = 0; round < 100; round++) {
		crew_future *f = promise_of_int();

		winners = 0;
		for (int i = 0; i < 4; i++)
			CHECK_EQ(pthread_create(&threads[i], NULL, keeps, f), 0);
		for (int i = 0; i < 4; i++) {
			pthread_join(threads[i], &won);
			winners += won != NULL;
		}
		CHECK_EQ(winners, 1);
		crew_future_free(f);
	}
}

/* A promise may be kept from inside of a task. */
CREW_TASK(int, keeps_promise, (crew_future *, f))
{
	return keep(f, 12);
}
TEST(a_task_may_keep_a_promise)
{
	CREW_SCOPE (ex, crew_threads(2)) {
		crew_future *f = promise_of_int();
		int y = 0;

		crew_submit(ex, keeps_promise, f);
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, 12);
		crew_executor_wait(ex, CREW_FOREVER);
		crew_future_free(f);
	}
}

/* Many promises: memory comes back (LeakSanitizer watches). */
TEST(promises_come_and_go)
{
	for (int i = 0; i < 20000; i++) {
		crew_future *f = promise_of_int();

		if (i % 3)
			keep(f, i);
		crew_future_free(f);
	}
}

/* Only promises can be kept by hand. */
CREW_TASK(int, answer)
{
	return 42;
}
TEST_EACH(the_future_of_a_task_cannot_be_kept_by_hand, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, answer);
	int y = 0;

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
	CHECK(keep(f, 1) < 0);
	CHECK(crew_future_set_error(f, EIO, "no") < 0);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 42);
	f = crew_submit(ex, held, g.bytes, 5);
	CHECK(keep(f, 1) < 0);
	gate_open(g.at);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 5);
}

/* An error without a sentence has that of its code. */
TEST(a_promise_broken_without_a_sentence_has_that_of_the_code)
{
	crew_future *f = crew_future_new(CREW_TYPE_OF(int));

	CHECK_EQ(crew_future_set_error(f, CREW_ETYPE, "%s", ""), 0);
	CHECK_EQ(crew_future_error(f)->code, CREW_ETYPE);
	CHECK_STR(crew_future_error(f)->message, crew_strerror(CREW_ETYPE));
	crew_future_free(f);
}

/* Code 0 is no failure: it becomes CREW_ERAISED, of a promise that is shared as well. */
TEST(a_promise_broken_with_code_0_has_failed)
{
	crew_future *f = promise_of_int(), *g = promise_of_int(), *there = crew_promise_future(crew_future_share(g));

	CHECK_EQ(crew_future_set_error(f, 0, "for no reason"), 0);
	CHECK_EQ(crew_future_set_error(g, 0, "for no reason"), 0);
	CHECK_EQ(crew_future_error(f)->code, CREW_ERAISED);
	CHECK_EQ(crew_future_error(g)->code, CREW_ERAISED);
	CHECK_EQ(crew_future_error(there)->code, CREW_ERAISED);
	crew_future_free(f);
	crew_future_free(g);
	crew_future_free(there);
}
