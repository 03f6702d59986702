/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * naps_meet.c: lib/thread/parking.c at its points: a submit meets a worker that parks; a submit relies on who is searching already.
 *
 * The workers are threads of the scenario that stand in the places of a real pool, awake, and do what work() does without its spinning: look, else
 * park. So a schedule is short enough for all pairs of preemptions, with a delayed store between. No timeout ever comes.
 */
#include <crew/crew.h>
#include <limits.h>

#include "base/futex.h"
#include "interleaving/scheduler.h"
#include "thread/thread_pool.h"

enum { WORKERS = 1 << 1 | 1 << 2 }; /* may sleep in the end: then tasks that have not run are the finding */

static crew_executor *ex;
static uint32_t runs, goal;
static int sleeper; /* who waits for `frees`; -1: nobody */
static int helper;  /* who is told that it waits; -1: nobody */
static bool freed;

CREW_TASK(int, counted)
{
	ck_pr_inc_32(&runs);
	return 1;
}

/* Ends only when the other has run, elsewhere. */
CREW_TASK(int, is_freed)
{
	sleeper = schedule_thread();
	if (helper >= 0)
		schedule_rouse(helper);
	if (!freed)
		schedule_sleep();
	ck_pr_inc_32(&runs);
	return 1;
}
CREW_TASK(int, frees)
{
	freed = true;
	if (sleeper >= 0)
		schedule_rouse(sleeper);
	ck_pr_inc_32(&runs);
	return 1;
}

/* `count` workers in their places: `awake` of them as if their threads had begun long ago. */
static void begin(int count, uint32_t tasks)
{
	struct thread_pool *pool;

	ex = crew_threads(.workers = count);
	EXPECT(crew_executor_error(ex, NULL) == 0);
	pool = pool_of(ex);
	pool->parked = 0;
	pool->parked_bits[0] = 0;
	pool->alive = pool->high = (uint32_t)count;
	pool->alive_bits[0] = ((uint64_t)1 << count) - 1;
	runs = 0;
	goal = tasks;
	sleeper = helper = -1;
	freed = false;
}

static void end(void)
{
	struct thread_pool *pool = pool_of(ex);

	EXPECT(runs == goal);
	EXPECT(pool->parked <= (uint32_t)pool->count);
	pool->alive = pool->high = 0;
	pool->alive_bits[0] = 0;
	EXPECT(crew_executor_close(ex) == NULL);
}

static void work_as(int index)
{
	struct thread_worker *w = &pool_of(ex)->workers[index];

	crew__frames_attach(w);
	w->quota = INT_MAX;
	crew__context_init(&w->context, ex, index);
	w->context.backend = w;
	if (pool_of(ex)->parked_bits[0] >> index & 1) { /* it begins as if it had parked long ago */
		while (!load_acquire_32(&w->bell))
			crew__futex_wait(&w->bell, 0, NEVER, false);
		ck_pr_store_32(&w->bell, 0);
		crew__woken(w);
	}
	while (ck_pr_load_32(&runs) < goal)
		if (!crew__look(w))
			crew__park(w);
	crew__context_fini(&w->context);
	crew__frames_detach(w);
	crew__stop_search(w);
}

static void first_worker(void)
{
	work_as(0);
}

static void second_worker(void)
{
	work_as(1);
}

/* ---- a worker parks, a thread submits ---- */

static void begin_one_worker(void)
{
	begin(1, 1);
}

static void submit_one(void)
{
	crew_future_free(crew_submit(ex, counted));
}

static const struct scenario park_and_submit = {
	.name = "park_and_submit", .begin = begin_one_worker, .end = end, .thread = { submit_one, first_worker }, .preemptions = 2, .delays = 1,
	.idle = WORKERS, .keeps = true, .timeouts = TIMEOUTS_NEVER, .schedules = 25000
};

SEARCH(a_submit_wakes_the_worker_that_was_about_to_park)
{
	explore(&park_and_submit);
}

SEARCH(finds_a_worker_that_parks_without_its_fence)
{
	find(&park_and_submit, &(struct fault){ "fence_everywhere", NO_FENCE });
}

SEARCH(finds_a_worker_that_parks_without_looking_again)
{
	find(&park_and_submit, &(struct fault){ "crew__injection_any", BLIND_WIDE_LOAD });
}

SEARCH(finds_a_bell_that_wakes_nobody)
{
	find(&park_and_submit, &(struct fault){ "ring", NO_WAKE });
}

SEARCH(finds_a_worker_that_parks_uncounted)
{
	find(&park_and_submit, &(struct fault){ "place_free", NO_UPDATE });
}

SEARCH(finds_a_bell_that_rings_silently)
{
	find(&park_and_submit, &(struct fault){ "ring", NO_STORE });
}

/* ---- two submit to two workers ---- */

/* Until both sleep, and only then it matters who comes when. */
static void await_sleepers(void)
{
	schedule_quiet(true);
	while (ck_pr_load_32(&pool_of(ex)->parked) < 2)
		sched_yield();
	schedule_quiet(false);
}

static void submit_one_to_sleepers(void)
{
	await_sleepers();
	submit_one();
}

static void begin_two_workers(void)
{
	begin(2, 2);
}

static const struct scenario two_submit_to_two = {
	.name = "two_submit_to_two", .begin = begin_two_workers, .end = end, .thread = { submit_one_to_sleepers, first_worker, second_worker, submit_one },
	.preemptions = 1, .delays = 1, .idle = WORKERS, .keeps = true, .timeouts = TIMEOUTS_NEVER, .schedules = 6000
};

SEARCH(two_submits_to_two_workers_are_both_run)
{
	explore(&two_submit_to_two);
}

/* ---- who relies on a searcher ---- */

static void submit_two_that_meet(void)
{
	await_sleepers();
	schedule_quiet(true);
	crew_future_free(crew_submit(ex, is_freed)); /* wakes a searcher … */
	schedule_quiet(false);
	crew_future_free(crew_submit(ex, frees)); /* … on whom this one relies, or not */
}

static const struct scenario relying_on_a_searcher = {
	.name = "relying_on_a_searcher", .begin = begin_two_workers, .end = end,
	.thread = { submit_two_that_meet, first_worker, second_worker }, .preemptions = 1, .delays = 1, .idle = WORKERS, .keeps = true,
	.timeouts = TIMEOUTS_NEVER, .schedules = 10000
};

SEARCH(a_task_does_not_wait_behind_one_that_waits_for_it)
{
	explore(&relying_on_a_searcher);
}

SEARCH(finds_a_submit_that_trusts_the_searcher_without_a_fence)
{
	find(&relying_on_a_searcher, &(struct fault){ "crew__wake_for_submit", NO_FENCE });
}

SEARCH(finds_a_finder_that_keeps_the_token)
{
	find(&relying_on_a_searcher, &(struct fault){ "crew__stop_search", NO_STORE });
}

/* ---- who relies on a searcher that goes to sleep ---- */

/* In two places, so that who takes the one has not seen the other. */
static void submit_two_apart(void)
{
	crew_future_free(crew_submit(ex, is_freed));
	crew_future_free(crew_submit_with(ex, (.priority = -1), frees));
}

/* The first holds the token and has not looked yet, the second sleeps. */
static void begin_with_a_searcher(void)
{
	struct thread_pool *pool;

	begin(2, 2);
	pool = pool_of(ex);
	pool->search = 1;
	pool->workers[0].searching = true;
	pool->parked = 1;
	pool->parked_bits[0] = 1 << 1;
}

static const struct scenario relying_on_who_parks = {
	.name = "relying_on_who_parks", .begin = begin_with_a_searcher, .end = end,
	.thread = { submit_two_apart, first_worker, second_worker }, .preemptions = 2, .idle = WORKERS, .keeps = true,
	.timeouts = TIMEOUTS_NEVER, .schedules = 20000
};

SEARCH(who_gives_up_its_search_and_finds_one_task_looks_for_the_other)
{
	explore(&relying_on_who_parks);
}

SEARCH(finds_a_searcher_that_goes_to_sleep_with_the_token)
{
	find(&relying_on_who_parks, &(struct fault){ "crew__stop_search", NO_STORE });
}

/* ---- who relies on a waker that finds nobody ---- */

static void submit_the_waiting(void)
{
	crew_future_free(crew_submit(ex, is_freed));
}

static void submit_the_freeing(void)
{
	schedule_sleep(); /* until the other has begun */
	crew_future_free(crew_submit(ex, frees));
}

static void begin_with_a_helper(void)
{
	begin_two_workers();
	helper = 3;
}

static const struct scenario relying_on_a_waker = {
	.name = "relying_on_a_waker", .begin = begin_with_a_helper, .end = end,
	.thread = { submit_the_waiting, first_worker, second_worker, submit_the_freeing }, .preemptions = 2, .idle = WORKERS, .keeps = true,
	.timeouts = TIMEOUTS_NEVER, .schedules = 20000
};

SEARCH(who_finds_nobody_to_wake_looks_for_who_relied_on_it)
{
	explore(&relying_on_a_waker);
}

SEARCH(finds_a_waker_that_keeps_what_nobody_takes)
{
	find(&relying_on_a_waker, &(struct fault){ "crew__wake_one", NO_STORE });
}
