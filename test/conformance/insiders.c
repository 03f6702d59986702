/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * insiders.c: what a task may do with the executor that runs it, and what it may not: whatever would have to wait for the task itself is refused.
 */
#include <errno.h>

#include "gate.h"
#include "kinds.h"

#define HERE crew_task_executor()

CREW_TASK(int, waits_for_all)
{
	return crew_executor_wait(HERE, CREW_FOREVER);
}
TEST_EACH(a_task_cannot_wait_for_all_of_its_executor, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, waits_for_all), &y), 0);
	CHECK_EQ(y, -EDEADLK);
}

CREW_TASK(int, shuts_here_down)
{
	return crew_executor_shutdown(HERE, 0, CREW_FOREVER);
}
CREW_TASK(int, closes_here)
{
	return crew_executor_close(HERE) == HERE;
}
TEST_EACH(a_task_cannot_end_the_executor_it_sees, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, shuts_here_down), &y), 0);
	CHECK_EQ(y, -EDEADLK);
	CHECK_EQ(crew_result(crew_submit(ex, closes_here), &y), 0);
	CHECK_EQ(y, 1);
	CHECK_EQ(crew_result(crew_submit(ex, waits_for_all), &y), 0);
	CHECK_EQ(y, -EDEADLK);
}

/* In a worker process it stands for the pool as this task sees it: to shut it down without waiting ends the submits of this task and no other's. */
CREW_TASK(int, submits_after_shutdown)
{
	int y = crew_executor_shutdown(HERE, 0, 0);
	crew_future *f = crew_submit(HERE, waits_for_all);

	if (y < 0 || crew_future_wait(f, CREW_FOREVER) != CREW_ERAISED)
		return -1;
	return crew_future_error(f)->code;
}
CREW_TASK(int, submits)
{
	int y = 0;

	return crew_run(HERE, &y, waits_for_all) ? -1 : y;
}
TEST_EACH(a_shutdown_in_a_worker_ends_with_its_task, ex)
{
	int y = 0;

	NOT_WHERE(IMMEDIATE, "it would be the program's own");
	if (!(kind->traits & SEPARATE))
		SKIP("it would be the program's own");
	CHECK_EQ(crew_result(crew_submit(ex, submits_after_shutdown), &y), 0);
	CHECK_EQ(y, CREW_ESHUTDOWN);
	for (int i = 0; i < 10; i++) {
		CHECK_EQ(crew_result(crew_submit(ex, submits), &y), 0);
		CHECK_EQ(y, -EDEADLK);
	}
}

/* Blocks are the program's to give. */
CREW_TASK(int, asks_for_a_block)
{
	crew_bytes block = crew_shared_alloc(HERE, 100);
	int code = block.data ? 0 : errno;

	crew_shared_free(HERE, block);
	return code;
}
TEST_EACH(a_worker_process_has_no_blocks_to_give, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, asks_for_a_block), &y), 0);
	CHECK_EQ(y, kind->traits & SEPARATE ? ENOTSUP : 0);
}

/* A worker whose time is up stays until what its task sent out, and nobody waited for, has come back. */
CREW_TASK(int, sends_off_and_ends, (crew_bytes, gate))
{
	crew_post(HERE, held, gate, 7);
	gate_await(gate.data, 1); /* another worker has it */
	return 1;
}
TEST_KIND(a_retiring_worker_waits_for_what_it_sent_out)
{
	crew_executor *ex;

	NOT_WHERE(IMMEDIATE | SINGLE, "there is no other worker");
	NOT_WHERE(GROUPED, "a group has no workers of its own");
	ex = kind_open(.workers = 2, .max_tasks_per_child = 1);
	for (int i = 0; i < 3; i++) {
		GATE (g, ex);
		crew_future *f = crew_submit(ex, sends_off_and_ends, g.bytes);
		int y = 0;

		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, 1);
		gate_open(g.at);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	}
	crew_executor_close(ex);
}

/* A task may find its own future among what is unfinished, and not wait for it. */
CREW_TASK(int, waits_for_what_it_finds)
{
	struct crew_unfinished found = { .future = NULL };

	if (crew_executor_unfinished(HERE, &found, 1) != 1 || !found.future)
		return 0;
	return crew_future_wait(found.future, CREW_FOREVER);
}
TEST_EACH(a_task_cannot_wait_for_what_it_is, ex)
{
	int y = 0;

	if (kind->traits & SEPARATE)
		SKIP("what is unfinished is seen where it was submitted");
	CHECK_EQ(crew_result(crew_submit(ex, waits_for_what_it_finds), &y), 0);
	CHECK_EQ(y, -EDEADLK);
}

/* What was posted has no future, and is unfinished all the same. */
TEST_EACH(what_was_posted_is_listed_without_a_future, ex)
{
	struct crew_unfinished found = { .future = NULL };
	GATE (g, ex);

	NOT_WHERE(IMMEDIATE, "nothing is unfinished");
	CHECK_EQ(crew_post(ex, held, g.bytes, 1), 0);
	gate_await(g.at, 1);
	CHECK_EQ(crew_executor_unfinished(ex, &found, 1), 1);
	CHECK_EQ(found.future, NULL);
	CHECK_STR(found.task, "held");
	gate_open(g.at);
}

/* A promise that nobody keeps in time. */
static crew_future *promised;
CREW_TASK(int, waits_for_a_promise)
{
	return crew_future_wait(promised, 10);
}
TEST_EACH(a_task_may_wait_for_a_promise, ex)
{
	int y = 0;

	if (kind->traits & SEPARATE)
		SKIP("a promise goes there by a handle");
	promised = crew_future_new(0);
	CHECK_EQ(crew_result(crew_submit(ex, waits_for_a_promise), &y), 0);
	CHECK_EQ(y, -ETIMEDOUT);
	CHECK_EQ(crew_future_set_result(promised, NULL, 0), 0);
	CHECK_EQ(crew_result(crew_submit(ex, waits_for_a_promise), &y), 0);
	CHECK_EQ(y, 0);
	crew_future_free(promised);
}

/* So may one that is a child of its own, without any executor. */
TEST(a_child_may_wait_for_a_promise)
{
	crew_process *p;
	int y = 0;

	promised = crew_future_new(0);
	p = crew_thread_start(waits_for_a_promise);
	CHECK_EQ(crew_process_result(p, &y), 0);
	CHECK_EQ(y, -ETIMEDOUT);
	CHECK_EQ(crew_process_close(p), NULL);
	crew_future_free(promised);
}
