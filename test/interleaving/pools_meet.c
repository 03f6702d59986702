/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pools_meet.c: the whole executor over threads, from its opening to its close, as its users and its workers meet: who submits while a
 * worker parks, who takes what another has in its batch, who shuts down while another submits.
 *
 * Workers are threads of the schedule like all others: they begin where lib/ starts them. No timeout ever comes, so a wake that is
 * lost is a task that never runs.
 */
#include <crew/crew.h>
#include <errno.h>
#include <string.h>

#include "interleaving/scheduler.h"

static crew_executor *ex;
static uint32_t runs;

CREW_TASK(int, square, (int, n))
{
	ck_pr_inc_32(&runs);
	return n * n;
}

/* Waits for a task of its own, in whatever worker it runs. */
CREW_TASK(int, nested, (int, n))
{
	crew_future *f = crew_submit(crew_task_executor(), square, n);
	int y = 0;

	ck_pr_inc_32(&runs);
	EXPECT(crew_take(f, &y, NULL) == 0);
	return y;
}

static void open_pool(int workers)
{
	ex = crew_threads(.workers = workers);
	EXPECT(crew_executor_error(ex, NULL) == 0);
	runs = 0;
}

static void submit_and_take(int n)
{
	crew_future *f = crew_submit(ex, square, n);
	int y = 0;

	EXPECT(crew_take(f, &y, NULL) == 0);
	EXPECT(y == n * n);
}

static void close_pool(void)
{
	EXPECT(crew_executor_close(ex) == NULL);
}

/* ---- the whole of it ---- */

static void begin_two(void)
{
	open_pool(2);
}

static void live(void)
{
	submit_and_take(3);
	submit_and_take(4);
	close_pool();
}

static void end_of_two(void)
{
	EXPECT(runs == 2);
}

static const struct scenario whole_life = {
	.name = "whole_life", .begin = begin_two, .end = end_of_two, .thread = { live }, .preemptions = 2, .schedules = 5000,
	.timeouts = TIMEOUTS_NEVER
};

SEARCH(a_pool_runs_its_tasks_and_closes)
{
	explore(&whole_life);
}

SEARCH(finds_a_worker_that_leaves_without_a_word)
{
	find(&whole_life, &(struct fault){ "crew__leave", NO_WAKE });
}

static void live_nested(void)
{
	crew_future *f = crew_submit(ex, nested, 5);
	int y = 0;

	EXPECT(crew_take(f, &y, NULL) == 0);
	EXPECT(y == 25);
	close_pool();
}

static const struct scenario nested_life = {
	.name = "nested_life", .begin = begin_two, .end = end_of_two, .thread = { live_nested }, .preemptions = 1, .timeouts = TIMEOUTS_NEVER,
	.schedules = 5000
};

SEARCH(a_task_that_waits_for_another_ends)
{
	explore(&nested_life);
}

/* ---- one shuts down, another submits ---- */

/* It is refused, or it is run: before the shutdown returns, or by the close at the latest. */
static void submit_late(void)
{
	crew_future *f = crew_submit(ex, square, 6);
	int y = 0, rc = crew_take(f, &y, NULL);

	EXPECT((rc == 0 && y == 36) || rc == CREW_ERAISED);
	schedule_rouse(0);
}

static void shut_down(void)
{
	schedule_quiet(true);
	submit_and_take(2);
	schedule_quiet(false);
	EXPECT(crew_executor_shutdown(ex, 0, -1) == 0);
	schedule_sleep(); /* until the other has left the executor alone */
	schedule_quiet(true);
	close_pool();
}

static void begin_alone(void)
{
	open_pool(1);
}

static void end_of_shutdown(void)
{
	EXPECT(runs == 1 || runs == 2);
}

static const struct scenario shutdown_and_submit = {
	.name = "shutdown_and_submit", .begin = begin_alone, .end = end_of_shutdown, .thread = { shut_down, submit_late }, .preemptions = 1,
	.delays = 1, .timeouts = TIMEOUTS_NEVER, .schedules = 6000
};

SEARCH(a_submit_during_a_shutdown_is_refused_or_run)
{
	explore(&shutdown_and_submit);
}

SEARCH(finds_a_shutdown_that_wakes_nobody)
{
	find(&shutdown_and_submit, &(struct fault){ "crew__wake_all", NO_WAKE });
}
