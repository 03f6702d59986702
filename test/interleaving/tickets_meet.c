/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tickets_meet.c: the ring of the executor over processes (rings.h), with workers that are killed at any step.
 *
 * No timeout ever comes: neither the slices of a wait nor the looks of a parked worker hide a wake that was lost.
 */
#include <crew/crew.h>
#include <string.h>

#include "base/futex.h"
#include "interleaving/rings.h"
#include "interleaving/scheduler.h"

enum { TASKS = 2 };

static int task_count, ran[TASKS + 1], lost;
static bool killed;

CREW_TASK(int, square, (int, n))
{
	ran[n]++;
	return n * n;
}

static uint32_t told;

CREW_TASK(int, tell, (int, n))
{
	ran[n]++;
	store_release_32(&told, 1); /* pairs with the load in submit_and_be_told */
	crew__futex_wake(&told, 1, true);
	return n;
}

static void open_ring(void)
{
	ring_open(&square_crew_task);
}

static void open_telling_ring(void)
{
	ring_open(&tell_crew_task);
}

static void begin(void)
{
	memset(ran, 0, sizeof ran);
	lost = 0;
	told = 0;
	killed = false;
	ring_begin();
}

static void begin_one(void)
{
	task_count = 1;
	begin();
}

static void begin_two(void)
{
	task_count = 2;
	begin();
}

/* ---- who takes part ---- */

static void use(void)
{
	crew_future *f[TASKS];

	ring_known(&square_crew_task);
	for (int i = 0; i < task_count; i++)
		f[i] = crew_submit(&processes->base, square, i + 1);
	for (int i = 0; i < task_count; i++) {
		crew_error error;
		int y = 0, rc = crew_take(f[i], &y, &error);

		EXPECT((rc == 0 && y == (i + 1) * (i + 1) && ran[i + 1] == 1) || (rc == CREW_ERAISED && error.code == CREW_EWORKER && ++lost));
	}
	schedule_quiet(true);
	ring_stop();
}

/* Who waits for a future looks for sleepers once more. This one does not wait for it. */
static void submit_and_be_told(void)
{
	crew_future *f;
	int y = 0;

	ring_known(&tell_crew_task);
	f = crew_submit(&processes->base, tell, 1);
	while (!load_acquire_32(&told))
		crew__futex_wait(&told, 0, NEVER, true); /* woken by tell */
	EXPECT(crew_take(f, &y, NULL) == 0 && y == 1);
	schedule_quiet(true);
	ring_stop();
}

static void was_killed(int thread)
{
	killed = true;
	ring_killed(thread);
}

static void end(void)
{
	ring_end();
	EXPECT(lost <= killed);
	for (int i = 1; i <= task_count; i++)
		EXPECT(ran[i] <= 1);
}

#define RING_OF(begin_)                                                                                                        \
	.open = open_ring, .begin = begin_, .end = end, .thread = { use, ring_work, ring_work, ring_be_engine }, .killed = was_killed, \
	.idle = 1 << RING_ENGINE, .timeouts = TIMEOUTS_NEVER, .keeps = true

/* ---- nobody dies ---- */

static const struct scenario tickets = { .name = "tickets", RING_OF(begin_two), .preemptions = 2, .schedules = 10000 };

SEARCH(each_ticket_is_taken_once)
{
	explore(&tickets);
}

SEARCH(finds_a_claim_that_two_make)
{
	find(&tickets, &(struct fault){ "crew__claim_ticket", BLIND_CAS });
}

SEARCH(finds_an_end_that_wakes_nobody)
{
	find(&tickets, &(struct fault){ "finish", NO_WAKE });
}

SEARCH(finds_a_bell_that_parked_workers_do_not_hear)
{
	find(&tickets, &(struct fault){ "crew__ring_bell", NO_WAKE });
}

/* ---- stores are seen late ---- */

static const struct scenario park_and_be_told = {
	.name = "park_and_be_told", .open = open_telling_ring, .begin = begin_one, .end = end, .thread = { submit_and_be_told, ring_work, ring_work },
	.timeouts = TIMEOUTS_NEVER, .keeps = true, .preemptions = 1, .delays = 1, .schedules = 10000
};

SEARCH(a_ticket_wakes_the_worker_that_was_about_to_park)
{
	explore(&park_and_be_told);
}

SEARCH(finds_a_submitter_that_looks_for_sleepers_before_its_ticket_is_seen)
{
	find(&park_and_be_told, &(struct fault){ "crew__process_submit", NO_FENCE });
}

/* ---- one dies ---- */

static const struct scenario kill_with_one_task = {
	.name = "kill_with_one_task", RING_OF(begin_one), .preemptions = 1, .mortal = 1 << RING_FIRST_WORKER | 1 << RING_SECOND_WORKER, .kills = 1,
	.schedules = 10000
};

SEARCH(a_worker_that_is_killed_at_any_step_loses_no_more_than_its_task)
{
	explore(&kill_with_one_task);
}

SEARCH(finds_a_ticket_that_is_taken_without_a_journal)
{
	find(&kill_with_one_task, &(struct fault){ "take", NO_STORE });
}

SEARCH(finds_an_answer_that_is_not_published)
{
	find(&kill_with_one_task, &(struct fault){ "finish", NO_STORE });
}

static const struct scenario kill_with_two_tasks = {
	.name = "kill_with_two_tasks", RING_OF(begin_two), .preemptions = 1, .mortal = 1 << RING_FIRST_WORKER, .kills = 1, .schedules = 10000
};

SEARCH(a_killed_worker_leaves_the_other_task_to_the_other_worker)
{
	explore(&kill_with_two_tasks);
}
