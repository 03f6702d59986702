/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ownership.c: who owns a future, for how long, and that an endless loop holds flat memory.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, twice, (int, n))
{
	return 2 * n;
}
CREW_TASK(int, fails, (int, n))
{
	return crew_raise(n, "it fails");
}
CREW_TASK(crew_bytes, kilobyte, (crew_bytes, in))
{
	crew_bytes out = crew_result_alloc(1000);

	memset(out.data, (int)in.len, 1000);
	return out;
}

static long resident_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long pages = 0;

	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Memory may grow by this much in the second half of a long loop. Under AddressSanitizer what was freed is kept for a while. */
enum { SLACK_KIB = TEST_ASAN ? 300 << 10 : TEST_TSAN ? 16 << 10 : 1 << 10 };

#define FLAT(rounds_, ...)                                              \
	do {                                                            \
		long before_ = 0;                                       \
		size_t n_ = test_scaled(rounds_);                       \
		for (size_t i_ = 0; i_ < n_; i_++) {                    \
			if (i_ == n_ / 2)                               \
				before_ = resident_kib();               \
			__VA_ARGS__                                     \
		}                                                       \
		CHECK_LE(resident_kib() - before_, (long)SLACK_KIB);    \
	} while (0)

/* Who waits for an answer sleeps, and on a busy machine each sleep takes milliseconds: so there are several at a time. */
enum { AT_A_TIME = 20 };

/* take gives the future back, whatever the answer. */
TEST_EACH_WITHIN(a_loop_of_submit_and_take_holds_flat_memory, 60, ex)
{
	crew_future *fs[AT_A_TIME];
	int y;

	FLAT((kind->traits & SEPARATE ? 20000 : 100000) / AT_A_TIME,
		for (int i = 0; i < AT_A_TIME; i++)
			fs[i] = crew_submit(ex, twice, i);
		for (int i = 0; i < AT_A_TIME; i++)
			CHECK_EQ(crew_take(fs[i], &y, NULL), 0););
}

/* So does one with errors, bytes and long arguments. */
TEST_EACH_WITHIN(a_loop_with_errors_and_bytes_holds_flat_memory, 60, ex)
{
	static char input[300];
	crew_future *bad[AT_A_TIME], *good[AT_A_TIME];
	crew_error e;
	crew_bytes b;
	int y;

	FLAT((kind->traits & SEPARATE ? 10000 : 50000) / AT_A_TIME,
		for (int i = 0; i < AT_A_TIME; i++) {
			bad[i] = crew_submit(ex, fails, 5);
			good[i] = crew_submit(ex, kilobyte, crew_bytes_make(input, 300));
		}
		for (int i = 0; i < AT_A_TIME; i++) {
			CHECK_EQ(crew_take(bad[i], &y, &e), CREW_ERAISED);
			CHECK_EQ(crew_take(good[i], &b, NULL), 0);
			crew_bytes_free(b);
		});
}

/* Futures submitted with an on_done give themselves back. */
static uint32_t delivered;
static void deliver(crew_future *f, void *arg)
{
	(void)f, (void)arg;
	delivered++;
}
TEST_EACH_WITHIN(a_loop_of_submit_to_and_drain_holds_flat_memory, 60, ex)
{
	uint32_t sent = 0;

	FLAT(kind->traits & SEPARATE ? 20000 : 100000,
		crew_submit_to(ex, deliver, NULL, twice, 1);
		if (++sent % 500 == 0)
			while (delivered < sent)
				if (crew_drain(ex) == 0)
					sched_yield(););
}

/* Posted tasks leave nothing. */
TEST_EACH_WITHIN(a_loop_of_posts_holds_flat_memory, 60, ex)
{
	int n = 0;

	FLAT(kind->traits & SEPARATE ? 20000 : 100000,
		CHECK_EQ(crew_post(ex, twice, 1), 0);
		if (++n % 100 == 0)
			crew_executor_wait(ex, CREW_FOREVER););
}

/* A future given back before its task ends: the task goes on, detached. */
TEST_EACH(a_future_can_be_given_back_in_any_state, ex)
{
	GATE (g, ex);

	for (int i = 0; i < 20; i++)
		CHECK(crew_future_free(crew_submit(ex, counted, g.bytes, 0)) == NULL);
	CHECK(crew_future_free(crew_submit(ex, held, g.bytes, 0)) == NULL);
	CHECK(crew_future_free(crew_submit(ex, fails, 1)) == NULL);
	gate_open(g.at);
	crew_executor_wait(ex, CREW_FOREVER);
	CHECK_EQ(gate_count(g.at, 0), 20u);
}

TEST(giving_back_null_is_nothing)
{
	CHECK(crew_future_free(NULL) == NULL);
	CHECK(crew_executor_close(NULL) == NULL);
	crew_bytes_free(crew_bytes_make(NULL, 0));
}

/* A reference keeps the future beyond crew_future_free … */
TEST_EACH(a_reference_keeps_a_future_that_is_given_back, ex)
{
	crew_future *f = crew_submit(ex, twice, 4), *others[AT_A_TIME];
	int y = 0;

	CHECK_EQ(crew_future_ref(f), f);
	crew_future_free(f);
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < AT_A_TIME; i++)
			others[i] = crew_submit(ex, twice, i); /* would reuse its memory */
		for (int i = 0; i < AT_A_TIME; i++)
			crew_take(others[i], &y, NULL);
	}
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 8);
	CHECK(crew_future_unref(f) == NULL);
}

/* … and beyond the executor's close, with its result and error. */
TEST_KIND(a_reference_keeps_a_future_beyond_close)
{
	crew_future *good = NULL, *bad = NULL, *bytes = NULL;
	crew_bytes b;
	int y = 0;

	CREW_SCOPE (ex, kind_open()) {
		good = crew_future_ref(crew_submit(ex, twice, 4));
		bad = crew_future_ref(crew_submit(ex, fails, 5));
		bytes = crew_future_ref(crew_submit(ex, kilobyte, crew_bytes_make("abc", 3)));
	}
	CHECK_EQ(crew_result(good, &y), 0);
	CHECK_EQ(y, 8);
	CHECK_EQ(crew_future_error(bad)->code, 5);
	CHECK_EQ(crew_result(bytes, &b), 0);
	CHECK(b.len == 1000 && ((char *)b.data)[999] == 3);
	crew_future_unref(good);
	crew_future_unref(bad);
	crew_future_unref(bytes);
}

/* Several references: the last one counts. */
TEST_EACH(references_are_counted, ex)
{
	crew_future *f = crew_submit(ex, twice, 4);
	int y = 0;

	for (int i = 0; i < 10; i++)
		crew_future_ref(f);
	crew_future_free(f);
	for (int i = 0; i < 9; i++)
		crew_future_unref(f);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 8);
	crew_future_unref(f);
}

/* One pointer of the user's own travels with each future. */
TEST_EACH(data_is_null_until_set_and_then_what_was_set, ex)
{
	crew_future *f = crew_submit(ex, twice, 4);
	int mark;

	CHECK(crew_future_data(f) == NULL);
	CHECK_EQ(crew_future_set_data(f, &mark), 0);
	CHECK_EQ(crew_future_data(f), (void *)&mark);
	CHECK_EQ(crew_future_set_data(f, NULL), 0);
	CHECK(crew_future_data(f) == NULL);
}

/* The name of the task. */
TEST_EACH(a_future_knows_its_tasks_name, ex)
{
	CHECK_STR(crew_future_task(crew_submit(ex, twice, 4)), "twice");
	CHECK_STR(crew_future_task(crew_submit(ex, fails, 4)), "fails");
}

/* Memory of a future that was given back is used again, not lost: many at a time, all given back, again and again. */
TEST_EACH(futures_given_back_are_used_again, ex)
{
	enum { N = 3000 };
	static crew_future *fs[N];
	long before = 0;
	int y;

	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < N; i++)
			fs[i] = crew_submit(ex, twice, i);
		for (int i = 0; i < N; i++)
			CHECK_EQ(crew_take(fs[i], &y, NULL), 0);
		if (round == 4)
			before = resident_kib();
	}
	CHECK_LE(resident_kib() - before, (long)SLACK_KIB);
}

/* Another thread may give back what this one submitted. */
static void *takes_all(void *argument)
{
	crew_future **fs = argument;
	int y;

	for (int i = 0; i < 1000; i++)
		CHECK_EQ(crew_take(fs[i], &y, NULL), 0);
	return NULL;
}
TEST_EACH(another_thread_may_give_a_future_back, ex)
{
	static crew_future *fs[1000];
	pthread_t thread;

	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 1000; i++)
			fs[i] = crew_submit(ex, twice, i);
		CHECK_EQ(pthread_create(&thread, NULL, takes_all, fs), 0);
		pthread_join(thread, NULL);
	}
}
