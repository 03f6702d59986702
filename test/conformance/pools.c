/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pools.c: Python's Pool over processes, threads, and an executor that is somebody else's. Each way in which CPython's hangs has its test here.
 */
#include <crew/crew.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gate.h"
#include "../runner.h"

enum { SEPARATE = 1, BORROWED = 2, WORKERS = 3 };

static const struct sort {
	const char *name;
	unsigned traits;
} sorts[] = { { "processes", SEPARATE }, { "threads", 0 }, { "over_processes", SEPARATE | BORROWED }, { "over_threads", BORROWED } };
static const struct sort *sort;
static crew_executor *lender;

static crew_pool *open_pool(void)
{
	if (sort->traits & BORROWED) {
		lender = sort->traits & SEPARATE ? crew_processes(WORKERS) : crew_threads(WORKERS);
		return crew_pool_over(lender);
	}
	return sort->traits & SEPARATE ? crew_pool(WORKERS, .grace_ms = 100) : crew_threadpool(WORKERS);
}

#define TEST_POOL(name_)                                                                                              \
	static void name_(void);                                                                                      \
	static void name_##_run(const void *which_)                                                                   \
	{                                                                                                             \
		sort = which_;                                                                                        \
		name_();                                                                                              \
		lender = crew_executor_close(lender);                                                                 \
	}                                                                                                             \
	__attribute__((__constructor__)) static void name_##_register(void)                                           \
	{                                                                                                             \
		for (size_t i = 0; i < sizeof sorts / sizeof sorts[0]; i++)                                           \
			test_register(&(struct test){ #name_, sorts[i].name, __FILE__, __LINE__, 30, name_##_run, &sorts[i] }); \
	}                                                                                                             \
	static void name_(void)

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

CREW_TASK(long, product, (int, a), (long, b))
{
	return a == 13 ? crew_raise(EDOM, "%d brings bad luck", a) : a * b;
}

CREW_TASK(const char *, numbered, (int, i))
{
	return crew_result_printf("number %d", i).data;
}

CREW_TASK(void, nothing, (int, i))
{
	if (i < 0)
		crew_raise(ERANGE, "%d is negative", i);
}

CREW_TASK(int, wait_until_stopped)
{
	while (!crew_task_cancelled())
		usleep(1000);
	return 0;
}

CREW_TASK(int, die_by, (int, signal))
{
	raise(signal);
	return 0;
}

CREW_TASK(int, end_with, (int, status))
{
	exit(status);
}

/* ---- one ---- */

TEST_POOL(apply_waits_and_apply_async_does_not)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		crew_future *f = crew_pool_apply_async(pool, square, 7);
		long y;

		CHECK_EQ(crew_pool_error(pool, NULL), 0);
		CHECK_EQ(crew_pool_apply(pool, &y, square, 12), 0);
		CHECK_EQ(y, 144);
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, 49);
		CHECK_EQ(crew_pool_apply(pool, &y, product, 13, 1), CREW_ERAISED);
	}
}

struct seen {
	uint32_t callbacks, errors;
	long sum;
	int code;
	pid_t pid;
};

static void store(crew_future *f, void *arg)
{
	struct seen *seen = arg;
	long y;

	CHECK_EQ(crew_result(f, &y), 0);
	__atomic_add_fetch(&seen->sum, y, __ATOMIC_SEQ_CST);
	__atomic_store_n(&seen->pid, getpid(), __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&seen->callbacks, 1, __ATOMIC_SEQ_CST);
}

static void complain(crew_future *f, void *arg)
{
	struct seen *seen = arg;

	__atomic_store_n(&seen->code, crew_future_error(f)->code, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&seen->errors, 1, __ATOMIC_SEQ_CST);
}

/* Who has the result knows that the callback has run, in this process. */
TEST_POOL(a_callback_runs_before_the_result_is_there)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		struct seen seen = { 0 };
		long y;

		for (long i = 0; i < 50; i++) {
			crew_future *f = crew_pool_apply_async_with(pool, (.callback = store, .error_callback = complain, .arg = &seen), square, i);

			CHECK_EQ(crew_result(f, &y), 0);
			CHECK_EQ(y, i * i);
			CHECK_EQ(seen.callbacks, (uint32_t)i + 1);
		}
		CHECK_EQ(seen.errors, 0u);
		CHECK_EQ(seen.sum, 40425);
		CHECK_EQ(seen.pid, getpid());
	}
}

TEST_POOL(an_error_callback_runs_instead_when_the_task_fails)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		struct seen seen = { 0 };
		crew_future *f = crew_pool_apply_async_with(pool, (.callback = store, .error_callback = complain, .arg = &seen), product, 13, 2);
		long y;

		CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
		CHECK_STR(crew_future_error(f)->message, "13 brings bad luck");
		CHECK_EQ(crew_future_error(f)->code, EDOM);
		CHECK_EQ(seen.callbacks, 0u);
		CHECK_EQ(seen.errors, 1u);
		CHECK_EQ(seen.code, EDOM);
	}
}

static void store_text(crew_future *f, void *arg)
{
	const char *text;

	CHECK_EQ(crew_result(f, &text), 0);
	CHECK_STR(text, "number 5");
	*(int *)arg = 1;
}

TEST_POOL(a_string_goes_through_a_callback)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		int called = 0;
		crew_future *f = crew_pool_apply_async_with(pool, (.callback = store_text, .arg = &called), numbered, 5);
		char *text;

		CHECK_EQ(crew_take(f, &text, NULL), CREW_ETYPE);
		f = crew_pool_apply_async_with(pool, (.callback = store_text, .arg = &called), numbered, 5);
		CHECK_EQ(crew_take(f, (const char **)&text, NULL), 0);
		CHECK_STR(text, "number 5");
		CHECK_EQ(called, 1);
		free(text);
	}
}

/* ---- many ---- */

TEST_POOL(map_keeps_the_order_and_starmap_takes_columns)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		long x[1000], y[1000], b[1000];
		int a[1000];

		for (int i = 0; i < 1000; i++)
			x[i] = i, a[i] = i % 10, b[i] = i;
		CHECK_EQ(crew_pool_map(pool, square, x, y, 1000), 0);
		for (int i = 0; i < 1000; i++)
			CHECK_EQ(y[i], x[i] * x[i]);
		CHECK_EQ(crew_pool_starmap(pool, product, a, b, y, 1000), 0);
		for (int i = 0; i < 1000; i++)
			CHECK_EQ(y[i], a[i] * b[i]);
		CHECK_EQ(crew_pool_map_with(pool, (.chunk = 7), square, x, y, 1000), 0);
		CHECK_EQ(y[999], 998001);
		CHECK_EQ(crew_pool_map(pool, square, x, y, 0), 0);
	}
}

static void count_call(crew_future *f, void *arg)
{
	CHECK_EQ(crew_future_wait(f, 0), 0);
	__atomic_add_fetch((uint32_t *)arg, 1, __ATOMIC_SEQ_CST);
}

/* One callback for the whole. */
TEST_POOL(map_async_fills_the_table_and_calls_back_once)
{
	static const size_t chunks[] = { 0, 1, 7, 5000 };

	CREW_POOL_SCOPE (pool, open_pool()) {
		static long x[1000], y[1000];
		uint32_t calls = 0;

		for (int c = 0; c < 4; c++) {
			for (int i = 0; i < 1000; i++)
				x[i] = i + c, y[i] = -1;
			crew_future *f = crew_pool_map_async_with(pool, (.chunksize = chunks[c], .callback = count_call, .arg = &calls), square,
								  x, y, 1000);

			CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
			CHECK_EQ(calls, (uint32_t)c + 1);
			for (int i = 0; i < 1000; i++)
				CHECK_EQ(y[i], (long)(i + c) * (i + c));
		}
	}
}

TEST_POOL(an_empty_map_async_is_done_at_once)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		long x, y;
		crew_future *f = crew_pool_map_async(pool, square, &x, &y, 0), *g;

		CHECK_EQ(crew_future_wait(f, 0), 0);
		g = crew_pool_map_async_with(pool, (.chunksize = 9), square, &x, &y, 0);
		CHECK_EQ(crew_future_wait(g, 0), 0);
	}
}

/* The first error by index is kept, and all else is worked off. */
TEST_POOL(map_async_fails_with_its_first_error)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		struct seen seen = { 0 };
		long b[100], y[100];
		crew_future *f;
		int a[100];

		for (int i = 0; i < 100; i++)
			a[i] = i == 40 || i == 90 ? 13 : 2, b[i] = i, y[i] = -1;
		f = crew_pool_starmap_async(pool, product, a, b, y, 100);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, EDOM);
		for (int i = 0; i < 100; i++)
			CHECK_EQ(y[i], a[i] == 13 ? -1 : 2l * i);
		f = crew_pool_map_async_with(pool, (.error_callback = complain, .callback = store, .arg = &seen), product, a, b, y, 100);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(seen.errors, 1u);
		CHECK_EQ(seen.code, EDOM);
	}
}

TEST_POOL(map_async_refuses_what_map_refuses)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		long b[3] = { 1, 2, 3 }, y[3];
		int a[3] = { 1, 2, 3 };

		CHECK_EQ(crew_pool_map(pool, product, (int *)NULL, b, y, 3), -EINVAL);
		CHECK_EQ(crew_future_error(crew_pool_map_async(pool, product, (int *)NULL, b, y, 3))->code, -EINVAL);
		CHECK_EQ(crew_future_error(crew_pool_map_async(pool, product, a, (long *)NULL, y, 3))->code, -EINVAL);
		CHECK_EQ(crew_future_error(crew_pool_map_async(pool, product, a, b, (long *)NULL, 3))->code, -EINVAL);
		CHECK_EQ(crew_future_error(crew_pool_map_async(pool, product, (int *)NULL, (long *)NULL, (long *)NULL, 0))->code, 0);
		CHECK_EQ(crew_future_wait(crew_pool_map_async(pool, product, a, b, y, 3), CREW_FOREVER), 0);
		CHECK_EQ(y[2], 9);
	}
}

TEST_POOL(a_void_task_can_be_mapped_without_waiting)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		int x[20] = { 0 };
		crew_future *f = crew_pool_map_async(pool, nothing, x, NULL, 20);

		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
		x[19] = -1;
		f = crew_pool_map_async(pool, nothing, x, NULL, 20);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, ERANGE);
	}
}

static int feed(void *state, CREW_ARGS(square) *args)
{
	long *next = state;

	args->x = *next;
	return (*next)++ < 100;
}

TEST_POOL(imap_keeps_the_order_and_unordered_does_not_have_to)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		long next = 0, y, expected = 0, sum = 0;
		crew_stream *s = crew_pool_imap(pool, square, feed, &next);

		for (; crew_next(s, &y) == 1; expected++)
			CHECK_EQ(y, expected * expected);
		CHECK_EQ(expected, 100);
		crew_stream_close(s);
		next = 0;
		s = crew_pool_imap_unordered(pool, square, feed, &next, .chunk = 3);
		while (crew_next_within(s, &y, 20000) == 1)
			sum += y;
		CHECK_EQ(sum, 328350);
		crew_stream_close(s);
		next = 0;
		s = crew_pool_imap_unordered(pool, square, feed, &next);
		CHECK_EQ(crew_next(s, &y), 1);
		crew_stream_close(s);
	}
}

static int feed_once(void *state, CREW_ARGS(wait_until_stopped) *args)
{
	(void)args;
	return (*(int *)state)++ == 0;
}

/* A next that runs out of time has lost nothing. */
TEST_POOL(next_has_a_time_limit)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		for (int unordered = 0; unordered < 2; unordered++) {
			int count = 0, y;
			crew_stream *s = crew_pool_imap(pool, wait_until_stopped, feed_once, &count, .unordered = unordered);

			CHECK_EQ(crew_next_within(s, &y, 0), -ETIMEDOUT);
			CHECK_EQ(crew_next_within(s, &y, 20), -ETIMEDOUT);
			crew_executor_cancel(crew_pool_executor(pool), "enough");
			CHECK_EQ(crew_next_within(s, &y, 20000) >= 0 || crew_stream_error(s)->code == -ECANCELED, true);
			CHECK_EQ(crew_next_within(s, &y, 0), 0);
			crew_stream_close(s);
		}
	}
}

/* ---- the end ---- */

TEST_POOL(finish_takes_no_more_and_join_waits_for_the_rest)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		struct seen seen = { 0 };
		crew_future *fs[30];
		long y;

		CHECK_EQ(crew_pool_join(pool, 0), -EINVAL);
		for (int i = 0; i < 30; i++)
			fs[i] = crew_pool_apply_async_with(pool, (.callback = store, .arg = &seen), square, i);
		CHECK_EQ(crew_pool_finish(pool), 0);
		CHECK_EQ(crew_pool_finish(pool), 0);
		CHECK_EQ(crew_future_error(crew_pool_apply_async(pool, square, 1))->code, CREW_ESHUTDOWN);
		CHECK_EQ(crew_future_wait(crew_pool_map_async(pool, square, &y, &y, 1), CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_pool_join(pool, CREW_FOREVER), 0);
		CHECK_EQ(seen.callbacks, 30u);
		for (int i = 0; i < 30; i++)
			CHECK_EQ(crew_result_within(fs[i], &y, 0), 0);
	}
}

/* gets that are pending when a pool goes: they hang in CPython. */
TEST_POOL(leaving_the_scope_fails_what_is_pending)
{
	static long x[100], y[100];
	crew_future *running[WORKERS], *waiting, *with_callback, *map;
	struct seen seen = { 0 };
	long got;

	CREW_POOL_SCOPE (pool, open_pool()) {
		for (int i = 0; i < WORKERS; i++)
			running[i] = crew_future_ref(crew_pool_apply_async(pool, wait_until_stopped));
		for (int i = 0; i < WORKERS; i++)
			while (!crew_future_running(running[i])) /* or one that is cancelled before it runs leaves its worker to what waits */
				sched_yield();
		waiting = crew_future_ref(crew_pool_apply_async(pool, square, 3));
		with_callback = crew_future_ref(crew_pool_apply_async_with(pool, (.callback = store, .error_callback = complain, .arg = &seen), square, 3));
		map = crew_future_ref(crew_pool_map_async(pool, square, x, y, 100));
	}
	for (int i = 0; i < WORKERS; i++) {
		CHECK(crew_future_done(running[i]));
		crew_future_unref(running[i]);
	}
	CHECK_EQ(crew_result(waiting, &got), -ECANCELED);
	CHECK_EQ(crew_result(with_callback, &got), -ECANCELED);
	CHECK_EQ(crew_future_wait(map, CREW_FOREVER), -ECANCELED);
	CHECK_EQ(seen.errors, 1u);
	crew_future_unref(waiting), crew_future_unref(with_callback), crew_future_unref(map);
}

TEST_POOL(terminate_may_be_repeated_and_join_follows)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		crew_future *f = crew_pool_apply_async(pool, wait_until_stopped);

		CHECK_EQ(crew_pool_terminate(pool), 0);
		CHECK_EQ(crew_pool_terminate(pool), 0);
		CHECK_EQ(crew_pool_join(pool, CREW_FOREVER), 0);
		CHECK(crew_future_done(f));
		CHECK_EQ(crew_future_error(crew_pool_apply_async(pool, square, 1))->code, CREW_ESHUTDOWN);
	}
}

/* ---- where CPython's hangs ---- */

TEST_POOL(a_worker_that_dies_fails_its_task_alone)
{
	if (!(sort->traits & SEPARATE))
		SKIP("a thread that crashes is a program that crashes");
	CREW_POOL_SCOPE (pool, open_pool()) {
		crew_future *f = crew_pool_apply_async(pool, die_by, SIGKILL);
		long y;
		int x;

		CHECK_EQ(crew_result(f, &x), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
		CHECK_EQ(crew_future_error(f)->signal, SIGKILL);
		for (int i = 0; i < 20; i++)
			CHECK_EQ(crew_pool_apply(pool, &y, square, i), 0);
	}
}

TEST_POOL(a_worker_that_dies_in_a_map_fails_its_chunk_alone)
{
	if (!(sort->traits & SEPARATE))
		SKIP("a thread that crashes is a program that crashes");
	CREW_POOL_SCOPE (pool, open_pool()) {
		int signals[] = { 0, 0, SIGSEGV, 0 }, y[4] = { 9, 9, 9, 9 };
		crew_future *f = crew_pool_map_async_with(pool, (.chunksize = 1), die_by, signals, y, 4);

		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
		CHECK_EQ(y[0] + y[1] + y[3], 0);
		CHECK_EQ(y[2], 9);
	}
}

/* SystemExit in a task. */
TEST_POOL(exit_in_a_task_fails_that_task)
{
	if (!(sort->traits & SEPARATE))
		SKIP("exit would end us all");
	CREW_POOL_SCOPE (pool, open_pool()) {
		crew_future *f = crew_pool_apply_async(pool, end_with, 3);
		long y;
		int x;

		CHECK_EQ(crew_result_within(f, &x, 20000), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
		CHECK_EQ(crew_future_error(f)->exit_status, 3);
		CHECK_EQ(crew_pool_apply(pool, &y, square, 5), 0);
	}
}

static void raise_in_callback(crew_future *f, void *arg)
{
	(void)f, (void)arg;
	crew_raise(EIO, "a callback that fails");
}

TEST_POOL(a_callback_that_raises_harms_nobody)
{
	CREW_POOL_SCOPE (pool, open_pool()) {
		struct seen seen = { 0 };
		long y;

		for (int i = 0; i < 10; i++) {
			crew_future *bad = crew_pool_apply_async_with(pool, (.callback = raise_in_callback), square, i);
			crew_future *good = crew_pool_apply_async_with(pool, (.callback = store, .arg = &seen), square, i);

			CHECK_EQ(crew_result_within(bad, &y, 20000), 0);
			CHECK_EQ(y, (long)i * i);
			CHECK_EQ(crew_result_within(good, &y, 20000), 0);
		}
		CHECK_EQ(seen.callbacks, 10u);
		CHECK(!crew_caught(NULL));
	}
}

static int refuse(void *arg, int worker)
{
	(void)arg, (void)worker;
	return -EIO;
}

/* CPython respawns for ever. */
TEST(an_initializer_that_fails_breaks_the_pool)
{
	for (int threads = 0; threads < 2; threads++)
		CREW_POOL_SCOPE (pool, threads ? crew_threadpool(2, .initializer = refuse) :
						 crew_pool(2, .initializer = refuse, .context = CREW_START_FORK)) {
			crew_future *f = crew_pool_apply_async(pool, square, 2);
			static long x[10], y[10];

			CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
			CHECK_EQ(crew_pool_error(pool, NULL), CREW_EBROKEN);
			f = crew_pool_map_async(pool, square, x, y, 10);
			CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
		}
}

TEST(a_pool_that_cannot_be_opened_says_why)
{
	for (int threads = 0; threads < 2; threads++)
		CREW_POOL_SCOPE (pool, threads ? crew_threadpool(-1) : crew_pool(-1)) {
			crew_error error;
			long y;

			CHECK_EQ(crew_pool_error(pool, &error), -EINVAL);
			CHECK(error.message[0]);
			CHECK_NE(crew_pool_apply(pool, &y, square, 2), 0);
			CHECK(crew_future_error(crew_pool_map_async(pool, square, &y, &y, 1))->code != 0);
			CHECK(crew_future_error(crew_pool_apply_async_with(pool, (.callback = store), square, 1))->code != 0);
		}
}

CREW_TASK(pid_t, my_pid)
{
	return getpid();
}

/* close() while a worker is replaced loses nothing. */
TEST(workers_are_replaced_and_nothing_is_lost)
{
	CREW_POOL_SCOPE (pool, crew_pool(2, .maxtasksperchild = 1)) {
		crew_future *fs[12];
		pid_t pids[12];

		for (int i = 0; i < 12; i++)
			fs[i] = crew_pool_apply_async(pool, my_pid);
		CHECK_EQ(crew_pool_finish(pool), 0);
		CHECK_EQ(crew_pool_join(pool, CREW_FOREVER), 0);
		for (int i = 0; i < 12; i++) {
			CHECK_EQ(crew_result_within(fs[i], &pids[i], 0), 0);
			for (int j = 0; j < i; j++)
				CHECK_NE(pids[i], pids[j]);
		}
	}
}

static void close_from_callback(crew_future *f, void *arg)
{
	crew_pool **pool = arg;

	(void)f;
	CHECK_EQ(crew_pool_terminate(*pool), -EDEADLK);
	CHECK_EQ(crew_pool_join(*pool, 0), -EINVAL);
	CHECK(crew_pool_close(*pool) == *pool);
}

TEST_POOL(a_callback_cannot_close_its_pool)
{
	crew_pool *p = open_pool();
	crew_future *f = crew_pool_apply_async_with(p, (.callback = close_from_callback, .arg = &p), square, 1);
	long y;

	CHECK_EQ(crew_result(f, &y), 0);
	CHECK(crew_pool_close(p) == NULL);
	CHECK(crew_pool_close(NULL) == NULL);
}
