/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool_calls.c: what may be asked of a pool beside the ordinary (pools.c): half of the callbacks, no task, too many items, an end that does not come in time.
 */
#include <crew/crew.h>
#include <errno.h>
#include <string.h>

#include "../runner.h"
#include "gate.h"

CREW_TASK(long, square, (long, x))
{
	return x * x;
}
CREW_TASK(int, fails, (int, code))
{
	return crew_raise(code, "code %d", code);
}

static struct gate gate; /* where callbacks and tasks of threads stand until the test lets them go */

CREW_TASK(int, stands, (int, y))
{
	gate_pass(&gate);
	return y;
}
CREW_TASK(int, stands_and_fails, (int, code))
{
	gate_pass(&gate);
	return crew_raise(code, "after all");
}

static void count(crew_future *f, void *arg)
{
	(void)f;
	__atomic_add_fetch((uint32_t *)arg, 1, __ATOMIC_SEQ_CST);
}
static void stays(crew_future *f, void *arg)
{
	count(f, arg);
	gate_pass(&gate);
}

/* One callback, the other or none. */
TEST(a_pool_calls_back_only_where_it_was_asked)
{
	CREW_POOL_SCOPE (pool, crew_threadpool(2)) {
		uint32_t calls = 0;
		long y = 0;

		CHECK_EQ(crew_result(crew_pool_apply_async_with(pool, (.error_callback = count, .arg = &calls), square, 3), &y), 0);
		CHECK_EQ(y, 9);
		CHECK_EQ(crew_future_error(crew_pool_apply_async_with(pool, (.callback = count, .arg = &calls), fails, EDOM))->code, EDOM);
		CHECK_EQ(calls, 0u);
		CHECK_EQ(crew_future_error(crew_pool_apply_async_with(pool, (.error_callback = count, .arg = &calls), fails, EDOM))->code, EDOM);
		CHECK_EQ(calls, 1u);
		CHECK_EQ(crew_result(crew_pool_apply_async_with(pool, (.chunksize = 1), square, 4), &y), 0);
		CHECK_EQ(y, 16);
	}
}

TEST(a_pool_is_asked_for_what_there_is)
{
	struct {
		struct crew_pool_call known;
		long unknown;
	} later = { .known = { .chunksize = 1 }, .unknown = 1 };
	struct {
		struct crew_pool_options known;
		long unknown;
	} options = { .unknown = 1 };
	long x = 3, y;
	const void *columns[] = { &x };
	uint32_t calls = 0;

	for (int threads = 0; threads < 2; threads++) {
		crew_pool *pool = threads ? crew_pool_open_threads(&options.known, sizeof options) : crew_pool_open(&options.known, sizeof options);

		CHECK_EQ(crew_pool_error(pool, NULL), -EINVAL);
		CHECK_EQ(crew_pool_close(pool), NULL);
	}
	CREW_POOL_SCOPE (pool, crew_threadpool(1)) {
		const struct crew_pool_call one = { .chunksize = 1, .callback = count, .arg = &calls };

		CHECK_EQ(crew_future_error(crew_pool_submit(pool, NULL, NULL, &one, sizeof one))->code, CREW_ENOTASK);
		CHECK_EQ(crew_future_error(crew_pool_submit(pool, CREW_TASK_OF(square), &x, &later.known, sizeof later))->code, -EINVAL);
		CHECK_EQ(crew_future_error(crew_pool_start_map(pool, CREW_TASK_OF(square), columns, &y, 1, &later.known, sizeof later))->code, -EINVAL);
		/* more chunks than are counted: nobody looks at the items */
		CHECK_EQ(crew_future_error(crew_pool_start_map(pool, CREW_TASK_OF(square), columns, &y, (size_t)UINT32_MAX + 9, &one, sizeof one))->code, -ENOMEM);
		CHECK_EQ(calls, 0u);
	}
}

/* Whoever cancels gives up on the result, and the task goes on, with its callback. */
TEST(a_result_that_was_given_up_does_not_come_back)
{
	CREW_POOL_SCOPE (pool, crew_threadpool(1)) {
		uint32_t calls = 0;
		crew_future *f = crew_pool_apply_async_with(pool, (.callback = count, .arg = &calls), stands, 5);
		int y = 0;

		gate_await(&gate, 1);
		CHECK_EQ(crew_future_cancel(f, "no more"), 1);
		gate_open(&gate);
		CHECK_EQ(crew_pool_finish(pool), 0);
		CHECK_EQ(crew_pool_join(pool, CREW_FOREVER), 0);
		CHECK_EQ(calls, 1u);
		CHECK_EQ(crew_result(f, &y), -ECANCELED);
	}
}

/* The future of a call is a future: it may be shared, and fails then as it does here. */
TEST(the_error_of_a_call_is_told_to_those_it_is_shared_with)
{
	CREW_POOL_SCOPE (pool, crew_threadpool(1)) {
		uint32_t calls = 0;
		crew_future *f = crew_pool_apply_async_with(pool, (.error_callback = count, .arg = &calls), stands_and_fails, EDOM), *elsewhere;

		gate_await(&gate, 1);
		elsewhere = crew_promise_future(crew_future_share(f));
		gate_open(&gate);
		CHECK_EQ(crew_future_error(f)->code, EDOM);
		CHECK_EQ(crew_future_error(elsewhere)->code, EDOM);
		CHECK_STR(crew_future_error(elsewhere)->message, "after all");
		CHECK_EQ(calls, 1u);
		crew_future_free(elsewhere);
	}
}

/* Not before its callback is registered, or that would be called here. */
static struct gate registered;
CREW_TASK(long, square_later, (long, x))
{
	gate_wait(&registered);
	return x * x;
}
/* What is not done in time: a task, a callback. */
TEST(a_join_runs_out_of_time)
{
	for (int callback = 0; callback < 2; callback++)
		CREW_POOL_SCOPE (pool, crew_threadpool(1)) {
			uint32_t calls = 0;

			gate = registered = (struct gate){ 0 };
			if (callback)
				crew_pool_apply_async_with(pool, (.callback = stays, .arg = &calls), square_later, 2);
			else
				crew_pool_apply_async(pool, stands, 2);
			gate_open(&registered);
			gate_await(&gate, 1);
			CHECK_EQ(crew_pool_finish(pool), 0);
			CHECK_EQ(crew_pool_join(pool, 0), -ETIMEDOUT);
			CHECK_EQ(crew_pool_join(pool, 10), -ETIMEDOUT);
			gate_open(&gate);
			CHECK_EQ(crew_pool_join(pool, CREW_FOREVER), 0);
			CHECK_EQ(calls, (uint32_t)callback);
		}
}

/* A task of a pool waits for it no more than a callback does. */
CREW_TASK(int, joins, (crew_pool *, pool))
{
	return crew_pool_finish(pool) ? -1 : crew_pool_join(pool, CREW_FOREVER);
}
TEST(a_task_cannot_join_its_pool)
{
	CREW_POOL_SCOPE (pool, crew_threadpool(1)) {
		int y = 0;

		CHECK_EQ(crew_pool_apply(pool, &y, joins, pool), 0);
		CHECK_EQ(y, -EDEADLK);
	}
}

/* Nor is a pool closed below a group that stands on it. */
TEST(a_pool_stays_as_long_as_a_group_over_it)
{
	crew_pool *pool = crew_threadpool(1);
	crew_executor *group = crew_group(crew_pool_executor(pool));

	CHECK_EQ(crew_executor_error(group, NULL), 0);
	CHECK_EQ(crew_pool_close(pool), pool);
	CHECK_EQ(crew_executor_close(group), NULL);
	CHECK_EQ(crew_pool_close(pool), NULL);
}
