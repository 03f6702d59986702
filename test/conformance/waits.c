/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * waiting.c: crew_wait(), crew_wait_any(), and waits from inside of tasks.
 */
#include <errno.h>
#include <sched.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, twice, (int, n))
{
	return 2 * n;
}
CREW_TASK(int, fails)
{
	return crew_raise(EIO, "it fails");
}

/* ALL_COMPLETED: when it returns all are done. */
TEST_EACH(wait_for_all_waits_for_all, ex)
{
	crew_future *fs[50];

	for (int i = 0; i < 50; i++)
		fs[i] = crew_submit(ex, twice, i);
	CHECK_EQ(crew_wait(fs, 50, CREW_ALL_COMPLETED, CREW_FOREVER), 50);
	for (int i = 0; i < 50; i++)
		CHECK(crew_future_done(fs[i]));
}

/* FIRST_COMPLETED returns while others still run. */
TEST_EACH(wait_for_the_first_returns_with_the_first, ex)
{
	GATE (first, ex);
	GATE (rest, ex);
	crew_future *fs[3];

	NOT_WHERE(IMMEDIATE, "all are done");
	fs[0] = crew_submit(ex, held, first.bytes, 0);
	gate_await(first.at, 1);
	fs[1] = crew_submit(ex, held, rest.bytes, 1);
	fs[2] = crew_submit(ex, held, rest.bytes, 2);
	gate_open(first.at);
	CHECK_EQ(crew_wait(fs, 3, CREW_FIRST_COMPLETED, CREW_FOREVER), 1);
	CHECK(crew_future_done(fs[0]) && !crew_future_done(fs[1]) && !crew_future_done(fs[2]));
}

/* FIRST_EXCEPTION returns with the first failure … */
TEST_EACH(wait_for_a_failure_returns_with_the_first_failure, ex)
{
	GATE (g, ex);
	crew_future *fs[3];
	int done;

	NOT_WHERE(SINGLE, "one worker cannot hold one task and fail another");
	fs[0] = crew_submit(ex, held, g.bytes, 0);
	gate_await(g.at, 1);
	fs[1] = crew_submit(ex, twice, 1);
	fs[2] = crew_submit(ex, fails);
	done = crew_wait(fs, 3, CREW_FIRST_EXCEPTION, CREW_FOREVER);
	CHECK(done == 1 || done == 2);
	CHECK(crew_future_done(fs[2]) && !crew_future_done(fs[0]));
}

/* … and, when nothing fails, with the last; a cancelled task has not failed. */
TEST_EACH(without_a_failure_wait_for_a_failure_waits_for_all, ex)
{
	GATE (g, ex);
	crew_future *fs[4];
	int n = 0;

	fs[n++] = crew_submit(ex, held, g.bytes, 1);
	fs[n++] = crew_submit(ex, twice, 1);
	if (!(kind->traits & IMMEDIATE)) {
		GATE (h, ex);

		gate_open(g.at);
		crew_future_wait(fs[1], CREW_FOREVER);
		gate_occupy(&h);
		fs[n++] = crew_submit(ex, twice, 2);
		fs[n++] = crew_submit(ex, twice, 3);
		CHECK_EQ(crew_future_cancel(fs[2], NULL), 1);
		CHECK_EQ(crew_wait(fs, (size_t)n, CREW_FIRST_EXCEPTION, 20), 3);
	}
	CHECK_EQ(crew_wait(fs, (size_t)n, CREW_FIRST_EXCEPTION, CREW_FOREVER), n);
}

/* What is done already is enough. */
TEST_EACH(wait_for_a_failure_sees_one_that_was_before, ex)
{
	GATE (g, ex);
	crew_future *fs[2] = { crew_submit(ex, fails), NULL };

	crew_future_wait(fs[0], CREW_FOREVER);
	fs[1] = crew_submit(ex, held, g.bytes, 1);
	CHECK_GE(crew_wait(fs, 2, CREW_FIRST_EXCEPTION, CREW_FOREVER), 1);
}

/* Entries may repeat, and NULL ones are skipped. */
TEST_EACH(wait_takes_duplicates_and_skips_null, ex)
{
	GATE (g, ex);
	crew_future *a = crew_submit(ex, held, g.bytes, 1), *b = crew_submit(ex, twice, 2);
	crew_future *fs[] = { a, NULL, a, b, NULL, b, a };

	gate_open(g.at);
	CHECK_EQ(crew_wait(fs, 7, CREW_ALL_COMPLETED, CREW_FOREVER), 5);
}

/* Nothing to wait for: at once. */
TEST(wait_for_nothing_returns_at_once)
{
	crew_future *fs[2] = { NULL, NULL };

	CHECK_EQ(crew_wait(NULL, 0, CREW_ALL_COMPLETED, CREW_FOREVER), 0);
	CHECK_EQ(crew_wait(fs, 2, CREW_ALL_COMPLETED, CREW_FOREVER), 0);
	CHECK_EQ(crew_wait(fs, 2, CREW_FIRST_COMPLETED, CREW_FOREVER), 0);
	CHECK_EQ(crew_wait_any(fs, 2, CREW_FOREVER), -ENOENT);
	CHECK_EQ(crew_wait_any(NULL, 0, CREW_FOREVER), -ENOENT);
}

/* A timeout is no error: the number that is done. 0 polls, 50 ms are 50 ms. */
TEST_EACH(a_wait_that_runs_out_of_time_counts_what_is_done, ex)
{
	GATE (g, ex);
	crew_future *fs[2] = { crew_submit(ex, twice, 1), NULL };
	int64_t start;

	NOT_WHERE(IMMEDIATE, "all are done");
	crew_future_wait(fs[0], CREW_FOREVER);
	fs[1] = crew_submit(ex, held, g.bytes, 0);
	CHECK_EQ(crew_wait(fs, 2, CREW_ALL_COMPLETED, 0), 1);
	start = test_now_ms();
	CHECK_EQ(crew_wait(fs, 2, CREW_ALL_COMPLETED, 50), 1);
	CHECK_GE(test_now_ms() - start, 50);
	CHECK_EQ(crew_wait(fs + 1, 1, CREW_FIRST_COMPLETED, 0), 0);
	CHECK_EQ(crew_wait_any(fs + 1, 1, 0), -ETIMEDOUT);
	CHECK_EQ(crew_wait_any(fs + 1, 1, 20), -ETIMEDOUT);
}

/* A bad condition is -EINVAL. */
TEST_EACH(a_bad_condition_is_einval, ex)
{
	crew_future *f = crew_submit(ex, twice, 1);

	CHECK_EQ(crew_wait(&f, 1, (enum crew_when)77, CREW_FOREVER), -EINVAL);
}

/* wait_any: the lowest index that is done. */
TEST_EACH(wait_any_gives_the_lowest_index_that_is_done, ex)
{
	crew_future *fs[4] = { NULL, NULL, crew_submit(ex, twice, 1), crew_submit(ex, twice, 2) };

	CHECK_EQ(crew_wait(fs, 4, CREW_ALL_COMPLETED, CREW_FOREVER), 2);
	CHECK_EQ(crew_wait_any(fs, 4, CREW_FOREVER), 2);
	fs[2] = NULL;
	CHECK_EQ(crew_wait_any(fs, 4, 0), 3);
}

TEST_EACH(wait_any_wakes_with_the_one_that_ends, ex)
{
	GATE (a, ex);
	GATE (b, ex);
	crew_future *fs[2];

	NOT_WHERE(SINGLE, "one worker cannot hold two tasks");
	fs[0] = crew_submit(ex, held, a.bytes, 0);
	fs[1] = crew_submit(ex, held, b.bytes, 1);
	gate_await(a.at, 1);
	gate_await(b.at, 1);
	gate_open(b.at);
	CHECK_EQ(crew_wait_any(fs, 2, CREW_FOREVER), 1);
}

/* Futures of different executors, and a promise, may be waited for together. */
TEST_EACH(futures_of_several_executors_are_waited_for_together, ex)
{
	int three = 3;

	CREW_SCOPE (other, crew_threads(1)) {
		crew_future *promise = crew_future_new(CREW_TYPE_OF(int));
		crew_future *fs[] = { crew_submit(ex, twice, 1), crew_submit(other, twice, 2), promise };

		CHECK_EQ(crew_future_set_result(promise, &three, CREW_TYPE_OF(int)), 0);
		CHECK_EQ(crew_wait(fs, 3, CREW_ALL_COMPLETED, CREW_FOREVER), 3);
		crew_future_free(promise);
	}
}

/* crew_executor_wait: all that was submitted so far, also what has no future; then the code of the first failure. */
TEST_EACH(executor_wait_waits_for_all_and_tells_the_first_failure, ex)
{
	GATE (g, ex);

	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	for (int i = 0; i < 100; i++)
		crew_post(ex, counted, g.bytes, 0);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	CHECK_EQ(gate_count(g.at, 0), 100u);
	crew_submit(ex, fails);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), -EIO);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
}

TEST_EACH(executor_wait_runs_out_of_time, ex)
{
	GATE (g, ex);

	NOT_WHERE(IMMEDIATE, "all is done");
	crew_submit(ex, held, g.bytes, 0);
	CHECK_EQ(crew_executor_wait(ex, 0), -ETIMEDOUT);
	CHECK_EQ(crew_executor_wait(ex, 30), -ETIMEDOUT);
}

/* A task that submits to its own executor and waits: no deadlock, with one worker neither. */
CREW_TASK(long, fib_by_submit, (int, n))
{
	crew_executor *ex = crew_task_executor();
	crew_future *f;
	long a = 0, b;

	if (n < 2)
		return n;
	f = crew_submit(ex, fib_by_submit, n - 1);
	b = fib_by_submit(n - 2);
	return crew_take(f, &a, NULL) == 0 ? a + b : -1000000;
}
TEST_EACH(a_task_may_wait_for_tasks_it_submitted, ex)
{
	long y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, fib_by_submit, 14), &y), 0);
	CHECK_EQ(y, 377);
}

/* Also by crew_wait and crew_as_completed, and by more tasks than there are workers. */
CREW_TASK(int, waits_for_many, (int, depth))
{
	crew_executor *ex = crew_task_executor();
	crew_future *fs[4];
	int y, total = 1;

	if (depth == 0)
		return 1;
	for (int i = 0; i < 4; i++)
		fs[i] = crew_submit(ex, waits_for_many, depth - 1);
	if (crew_wait(fs, 4, CREW_ALL_COMPLETED, CREW_FOREVER) != 4)
		return -1000000;
	for (int i = 0; i < 4; i++)
		total += crew_take(fs[i], &y, NULL) == 0 ? y : -1000000;
	return total;
}
TEST_EACH(a_task_may_wait_for_many_tasks, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, waits_for_many, 4), &y), 0);
	CHECK_EQ(y, 341);
}

/* Waiting inside its own task for all of the executor could never end: -EDEADLK. */
CREW_TASK(int, waits_for_its_executor)
{
	return crew_executor_wait(crew_task_executor(), CREW_FOREVER);
}
TEST_EACH(a_task_cannot_wait_for_its_whole_executor, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, waits_for_its_executor), &y), 0);
	CHECK_EQ(y, -EDEADLK);
}

/* A task that waits for itself: -EDEADLK, not a hang. */
/* Who waits for any, or asks without waiting, also sees to it that a task whose time is up before it began never does. */
TEST_EACH(a_wait_for_any_notices_a_deadline, ex)
{
	GATE (g, ex);
	crew_future *fs[2];

	NOT_WHERE(IMMEDIATE, "nothing waits for its turn");
	gate_occupy(&g);
	fs[0] = crew_submit(ex, counted, g.bytes, 1);
	fs[1] = crew_submit_with(ex, (.timeout_ms = 20), counted, g.bytes, 2);
	CHECK_EQ(crew_wait(fs, 2, CREW_FIRST_COMPLETED, CREW_FOREVER), 1);
	CHECK_EQ(crew_future_error(fs[1])->code, CREW_EDEADLINE);
	CHECK(!crew_future_done(fs[0]));
	fs[1] = crew_submit_with(ex, (.timeout_ms = 20), counted, g.bytes, 2);
	while (crew_future_wait(fs[1], 0) == -ETIMEDOUT)
		sched_yield();
	CHECK_EQ(crew_future_error(fs[1])->code, CREW_EDEADLINE);
	CHECK_EQ(gate_count(g.at, 2), 0u);
}

static crew_future *own;
CREW_TASK(int, waits_for_itself, (crew_bytes, gate))
{
	gate_pass(gate.data);
	return crew_future_wait(own, CREW_FOREVER);
}
TEST_EACH(a_task_cannot_wait_for_itself, ex)
{
	GATE (g, ex);
	int y = 0;

	NOT_WHERE(IMMEDIATE | SEPARATE, "a task cannot know its own future there");
	own = crew_submit(ex, waits_for_itself, g.bytes);
	gate_open(g.at);
	CHECK_EQ(crew_result(own, &y), 0);
	CHECK_EQ(y, -EDEADLK);
}

/* Two tasks that wait for each other on one thread each: one of them at least learns that it would never end. */
static crew_future *others[2];
CREW_TASK(int, waits_for_the_other, (crew_bytes, gate), (int, i))
{
	gate_pass(gate.data);
	return crew_future_wait(others[1 - i], CREW_FOREVER);
}
TEST_EACH(a_circle_of_waits_is_broken, ex)
{
	GATE (g, ex);
	int y[2] = { 0, 0 };

	NOT_WHERE(IMMEDIATE | SEPARATE, "a task cannot know another's future there");
	NOT_WHERE(SINGLE, "two tasks cannot run at once");
	for (int i = 0; i < 2; i++)
		others[i] = crew_submit(ex, waits_for_the_other, g.bytes, i);
	gate_await(g.at, 2);
	gate_open(g.at);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(crew_result(others[i], &y[i]), 0);
	CHECK(y[0] == -EDEADLK || y[1] == -EDEADLK);
}

/* Whatever way it asks: what waits for itself is told so, and others that are there with it are had as ever. */
CREW_TASK(int, asks_for_itself, (crew_bytes, gate))
{
	crew_future *fs[3] = { NULL }, *with_done[3] = { NULL };
	int turns = 0;

	gate_pass(gate.data);
	fs[0] = fs[2] = with_done[0] = own;
	with_done[2] = crew_submit(crew_task_executor(), twice, 1);
	if (crew_future_error(own)->code != -EDEADLK || crew_wait(fs, 3, CREW_ALL_COMPLETED, CREW_FOREVER) != -EDEADLK ||
	    crew_wait(fs, 3, CREW_FIRST_COMPLETED, CREW_FOREVER) != -EDEADLK || crew_wait_any(fs, 3, CREW_FOREVER) != -EDEADLK)
		return -1;
	CREW_AS_COMPLETED (f, with_done, 3)
		turns += f == with_done[2] ? 1 : 100;
	return turns;
}
TEST_EACH(a_task_among_others_cannot_wait_for_itself, ex)
{
	GATE (g, ex);
	int y = 0;

	NOT_WHERE(IMMEDIATE | SEPARATE, "a task cannot know its own future there");
	own = crew_submit(ex, asks_for_itself, g.bytes);
	gate_open(g.at);
	CHECK_EQ(crew_result(own, &y), 0);
	CHECK_EQ(y, 1);
}

/* Nor take itself: then it gives itself back, and goes on. */
CREW_TASK(void, takes_itself, (crew_bytes, gate))
{
	struct gate *at = gate.data;
	crew_error e = { 0 };
	char nothing;

	gate_pass(at);
	gate_write(at, crew_take(own, &nothing, &e));
	gate_write(at, e.code);
	gate_add(at, 1);
}
TEST_EACH(a_task_cannot_take_itself, ex)
{
	GATE (g, ex);
	crew_error e;
	int y;

	NOT_WHERE(IMMEDIATE | SEPARATE, "a task cannot know its own future there");
	own = crew_submit(ex, takes_itself, g.bytes);
	gate_open(g.at);
	while (!gate_count(g.at, 1))
		sched_yield();
	CHECK(g.at->log[0] == -EDEADLK && g.at->log[1] == -EDEADLK);
	CHECK_EQ(crew_take((crew_future *)NULL, &y, &e), CREW_EHANDLE);
	CHECK_EQ(e.code, CREW_EHANDLE);
}

/* All that there is to wait for has its own time, or none: what is over is told, what is not is waited for. */
TEST_EACH(a_wait_for_several_minds_the_time_of_each, ex)
{
	GATE (g, ex);
	crew_future *fs[8] = { NULL };
	int turns = 0;

	NOT_WHERE(IMMEDIATE, "nothing waits");
	NOT_WHERE(SEPARATE, "a task that runs too long is ended there");
	gate_occupy(&g);
	CREW_SCOPE (other, crew_inline()) {
		fs[1] = crew_submit(other, twice, 2);
		for (int i = 2; i < 5; i++)
			fs[i] = crew_submit_with(ex, (.timeout_ms = i == 3 ? 7200000 : 3600000), twice, i);
		fs[5] = crew_submit(ex, twice, 5);
		fs[6] = crew_submit_with(ex, (.timeout_ms = 10), twice, 6);
		CREW_AS_COMPLETED (f, fs, 8) {
			CHECK_EQ(f, turns == 0 ? fs[1] : fs[6]);
			if (++turns == 2)
				break;
		}
		CHECK_EQ(crew_future_error(fs[6])->code, CREW_EDEADLINE);
	}
	gate_open(g.at);
}

/* Several that are not done in time, one after the other. */
TEST_EACH(a_wait_for_all_ends_when_the_time_is_up, ex)
{
	GATE (g, ex);
	crew_future *fs[3];

	NOT_WHERE(IMMEDIATE, "all are done");
	for (int i = 0; i < 3; i++)
		fs[i] = crew_submit(ex, held, g.bytes, i);
	CHECK_EQ(crew_wait(fs, 3, CREW_ALL_COMPLETED, 0), 0);
	CHECK_EQ(crew_executor_wait(ex, 0), -ETIMEDOUT);
	gate_open(g.at);
	CHECK_EQ(crew_wait(fs, 3, CREW_ALL_COMPLETED, CREW_FOREVER), 3);
}

/* More tasks than lie in one piece of memory. */
TEST_EACH(a_wait_for_thousands_runs_out_of_time, ex)
{
	GATE (g, ex);

	NOT_WHERE(IMMEDIATE, "all are done");
	NOT_WHERE(SEPARATE, "its engine waits in another way");
	gate_occupy(&g);
	for (int i = 0; i < 9000; i++)
		crew_post(ex, twice, i);
	CHECK_EQ(crew_executor_wait(ex, 0), -ETIMEDOUT);
	gate_open(g.at);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
}

/* The whole is not done before its callbacks are. */
static struct gate in_callback;
static void stays(crew_future *f, void *arg)
{
	(void)f, (void)arg;
	gate_pass(&in_callback);
}
TEST_EACH(a_wait_for_callbacks_runs_out_of_time, ex)
{
	GATE (g, ex);

	NOT_WHERE(IMMEDIATE, "a callback runs in the caller");
	crew_future_on_done(crew_submit(ex, held, g.bytes, 0), stays, NULL);
	gate_open(g.at);
	gate_await(&in_callback, 1);
	CHECK_EQ(crew_executor_wait(ex, 10), -ETIMEDOUT);
	gate_open(&in_callback);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
}
