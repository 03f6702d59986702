/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * killing.c: a kill is a cancel that, where it can, does not take no for an answer. Threads can only be asked.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, answer)
{
	return 42;
}

TEST_EACH(a_kill_of_a_pending_task_is_a_cancel, ex)
{
	GATE (g, ex);
	crew_future *f;

	NOT_WHERE(IMMEDIATE, "the task has run before anybody could kill it");
	gate_occupy(&g);
	f = crew_submit(ex, counted, g.bytes, 0);
	CHECK_EQ(crew_future_kill(f, "no need any more", 1000), 1);
	CHECK(crew_future_cancelled(f));
	CHECK_STR(crew_future_error(f)->message, "no need any more");
	CHECK_EQ(crew_future_kill(f, "again", 0), 1);
	gate_open(g.at);
	crew_executor_wait(ex, CREW_FOREVER);
	CHECK_EQ(gate_count(g.at, 0), 0u);
}

TEST_EACH(a_kill_of_what_is_done_comes_too_late, ex)
{
	crew_future *f = crew_submit(ex, answer);
	int y = 0;

	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(crew_future_kill(f, NULL, 0), -EALREADY);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 42);
}

/* Who stops when asked has the time to. */
TEST_EACH(a_killed_task_is_asked_first, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, stoppable, g.bytes);
	int y = 0;

	NOT_WHERE(IMMEDIATE, "the task is done when its submit returns");
	gate_await(g.at, 1);
	CHECK_EQ(crew_future_kill(f, NULL, 600000), 0); /* though it may have obeyed before the kill is through */
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 1);
}

/* Who does not is ended where there is a process to end; on a thread it goes on. */
TEST_EACH(a_killed_task_is_ended_where_it_can_be, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 9);
	int y = 0;

	NOT_WHERE(IMMEDIATE, "the task is done when its submit returns");
	gate_await(g.at, 1);
	CHECK_EQ(crew_future_kill(f, "enough", 1), 0);
	if (kind->traits & SEPARATE) {
		CHECK_EQ(crew_result(f, &y), -ECANCELED);
		CHECK(crew_future_cancelled(f));
		CHECK_STR(crew_future_error(f)->message, "enough");
	} else {
		CHECK_EQ(crew_future_wait(f, 30), -ETIMEDOUT);
		gate_open(g.at);
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, 9);
	}
	CHECK_EQ(crew_run(ex, &y, answer), 0);
	CHECK_EQ(y, 42);
}

TEST_EACH(a_kill_with_all_the_time_there_is_is_a_cancel, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 9);
	int y = 0;

	NOT_WHERE(IMMEDIATE, "the task is done when its submit returns");
	gate_await(g.at, 1);
	CHECK_EQ(crew_future_kill(f, NULL, CREW_FOREVER), 0);
	CHECK_EQ(crew_future_kill(f, NULL, -7), -EINVAL);
	CHECK_EQ(crew_future_wait(f, 30), -ETIMEDOUT);
	gate_open(g.at);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 9);
}

TEST_KIND(a_kill_of_no_future_is_refused)
{
	CHECK_EQ(crew_future_kill(NULL, NULL, 0), CREW_EHANDLE);
	CHECK_EQ(crew_executor_kill(NULL, SIGKILL), CREW_EHANDLE);
}

/* Worker processes get the signal, and are replaced; where there are none nobody does. */
TEST_EACH(a_signal_goes_to_the_executors_own_processes, ex)
{
	GATE (g, ex);
	bool own = (kind->traits & SEPARATE) && !(kind->traits & GROUPED);
	crew_future *f;
	int y = 0;

	CHECK_EQ(crew_executor_kill(ex, -1), -EINVAL);
	CHECK_EQ(crew_executor_kill(ex, NSIG), -EINVAL);
	f = crew_submit(ex, held, g.bytes, 9);
	if (!(kind->traits & IMMEDIATE))
		gate_await(g.at, 1);
	if (own) {
		CHECK_GE(crew_executor_kill(ex, SIGKILL), 1);
		CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
		CHECK_EQ(crew_future_error(f)->signal, SIGKILL);
	} else {
		CHECK_EQ(crew_executor_kill(ex, SIGKILL), 0);
		gate_open(g.at);
		CHECK_EQ(crew_result(f, &y), 0);
	}
	CHECK_EQ(crew_run(ex, &y, answer), 0);
	CHECK_EQ(y, 42);
}

/* A deadline fails what has not begun, wherever it waits, and ends what runs where it can be ended. */
TEST_EACH(a_deadline_ends_what_runs_where_it_can, ex)
{
	GATE (g, ex);
	crew_future *f;
	int y = 0;

	NOT_WHERE(IMMEDIATE, "the task would never open its own gate");
	f = crew_submit_with(ex, (.timeout_ms = 100), held, g.bytes, 9);
	if (kind->traits & SEPARATE) {
		CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EDEADLINE);
	} else {
		while (gate_arrivals(g.at) == 0) {
			if (crew_future_done(f)) { /* its time was up before it began: another may be luckier */
				CHECK_EQ(crew_future_error(f)->code, CREW_EDEADLINE);
				f = crew_submit_with(ex, (.timeout_ms = 100), held, g.bytes, 9);
			}
			sched_yield();
		}
		CHECK_EQ(crew_future_wait(f, 150), -ETIMEDOUT);
		gate_open(g.at);
		CHECK_EQ(crew_result(f, &y), 0);
	}
	CHECK_EQ(crew_run(ex, &y, answer), 0);
}
