/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * joins.c: the array of frames behind crew_spawn and crew_sync (lib/thread/frames.c): syncs in any
 * order, every way out, and what a worker's words look like when all is joined.
 */
#include <crew/crew.h>
#include <errno.h>
#include <sched.h>

#include "../runner.h"
#include "thread/thread_pool.h"

static struct thread_worker *me(void)
{
	CHECK(crew__self());
	return crew__self();
}

/* Nothing is left in the array, shared or not. */
static bool array_is_empty(void)
{
	struct thread_worker *w = me();
	uint64_t shared = ck_pr_load_64(&w->shared);

	return crew_frames.head == w->frames && crew_frames.split == w->frames && shared == 0;
}

/* Until another worker has taken `frames` of this worker's: then joining them means waiting for it. */
static void await_thieves(uint32_t frames)
{
	while (ck_pr_load_64(&me()->shared) >> 32 < frames)
		sched_yield();
}

static uint32_t calls, opened;

CREW_TASK(int, held, (int, n))
{
	while (!ck_pr_load_32(&opened))
		sched_yield();
	ck_pr_inc_32(&calls);
	return n;
}
CREW_TASK(int, counted, (int, n))
{
	ck_pr_inc_32(&calls);
	return n;
}

/* The oldest is taken by a thief; the newer ones are synced after it, and before it. */
CREW_TASK(int, oldest_first)
{
	crew_spawn(held, a, 1);
	await_thieves(1);
	crew_spawn(counted, b, 2);
	crew_spawn(counted, c, 3);
	ck_pr_store_32(&opened, 1);
	int sum = crew_sync(held, a);

	sum = 10 * sum + crew_sync(counted, b);
	sum = 10 * sum + crew_sync(counted, c);
	return array_is_empty() ? sum : -1;
}
TEST(syncs_may_come_in_the_order_of_the_spawns)
{
	CREW_SCOPE (ex, crew_threads(3)) {
		int y;

		CHECK_EQ(crew_run(ex, &y, oldest_first), 0);
		CHECK_EQ(y, 123);
		CHECK_EQ(calls, 3u);
	}
}

/* Two are with thieves at once. Joining the lower one first leaves a mark for the higher one. */
CREW_TASK(int, both_taken)
{
	crew_spawn(held, a, 1);
	crew_spawn(held, b, 2);
	await_thieves(2);
	ck_pr_store_32(&opened, 1);
	int sum = 10 * crew_sync(held, a);

	sum += crew_sync(held, b);
	return array_is_empty() ? sum : -1;
}
TEST(frames_with_two_thieves_are_joined_in_any_order)
{
	CREW_SCOPE (ex, crew_threads(4)) {
		int y;

		CHECK_EQ(crew_run(ex, &y, both_taken), 0);
		CHECK_EQ(y, 12);
	}
}

/* An older sync takes newer frames out of the array; a spawn then stands where they stood. */
CREW_TASK(int, reused_slots)
{
	crew_spawn(counted, a, 1);
	crew_spawn(counted, b, 2);
	int sum = crew_sync(counted, a);

	crew_spawn(counted, c, 3);
	crew_spawn(counted, d, 4);
	sum = 10 * sum + crew_sync(counted, b);
	sum = 10 * sum + crew_sync(counted, d);
	sum = 10 * sum + crew_sync(counted, c);
	return array_is_empty() ? sum : -1;
}
TEST(a_slot_used_again_belongs_to_its_new_frame)
{
	for (int workers = 1; workers <= 3; workers++)
		CREW_SCOPE (ex, crew_threads(workers)) {
			int y;

			for (int i = 0; i < 300; i++) {
				CHECK_EQ(crew_run(ex, &y, reused_slots), 0);
				CHECK_EQ(y, 1243);
			}
		}
	CHECK_EQ(calls, 3u * 300 * 4);
}

/* return, break, continue and goto out of the block of a spawn join it first. */
CREW_TASK(int, leaves_early, (int, how))
{
	uint32_t before = ck_pr_load_32(&calls);

	for (int i = 0; i < 2; i++) {
		crew_spawn(counted, a, 1);
		if (how == 0)
			return 1;
		if (how == 1)
			break;
		if (how == 2)
			continue;
		goto out;
	}
out:
	return (int)(ck_pr_load_32(&calls) - before);
}
TEST(every_way_out_of_a_block_joins_its_spawns)
{
	CREW_SCOPE (ex, crew_threads(1)) {
		int y;

		for (int how = 0; how < 4; how++) {
			uint32_t before = ck_pr_load_32(&calls);

			CHECK_EQ(crew_run(ex, &y, leaves_early, how), 0);
			CHECK_EQ(y, how == 2 ? 2 : 1);
			CHECK_EQ(ck_pr_load_32(&calls) - before, how == 2 ? 2u : 1u);
		}
	}
}

CREW_TASK(int, syncs_twice)
{
	crew_spawn(counted, a, 21);
	return crew_sync(counted, a) + crew_sync(counted, a);
}
TEST(a_second_sync_gives_the_same_value)
{
	CREW_SCOPE (ex, crew_threads(2)) {
		int y;

		CHECK_EQ(crew_run(ex, &y, syncs_twice), 0);
		CHECK_EQ(y, 42);
		CHECK_EQ(calls, 1u);
	}
}

/* Deeper than the array: the rest are plain calls. */
CREW_TASK(int, line, (int, n))
{
	if (n == 0)
		return 0;
	crew_spawn(counted, a, 1);
	int y = line(n - 1);

	return y + crew_sync(counted, a);
}
TEST(spawns_beyond_the_array_are_plain_calls)
{
	if (TEST_TSAN)
		SKIP("ThreadSanitizer's own stack of calls ends at 65536");
	CREW_SCOPE (ex, crew_threads(.workers = 2, .stack_size = (size_t)1 << 28)) {
		int y;

		CHECK_EQ(crew_run(ex, &y, line, 70000), 0);
		CHECK_EQ(y, 70000);
	}
}

/* A stolen call asks about the task it belongs to. */
CREW_TASK(int, asks_until_cancelled)
{
	while (!crew_task_cancelled())
		sched_yield();
	return 1;
}
CREW_TASK(int, spawns_one_that_asks)
{
	crew_spawn(asks_until_cancelled, a);
	await_thieves(1);
	return crew_sync(asks_until_cancelled, a);
}
TEST(a_stolen_call_hears_that_its_task_is_cancelled)
{
	CREW_SCOPE (ex, crew_threads(2)) {
		crew_future *f = crew_submit(ex, spawns_one_that_asks);
		int y;

		while (!crew_future_running(f))
			sched_yield();
		CHECK_EQ(crew_future_cancel(f, NULL), 0);
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, 1);
	}
}

/* What a stolen call left behind is its task's: memory, of which the task may return some, and a raise, unless it had one before. */
CREW_TASK(crew_bytes, held_text, (int, n))
{
	held(n);
	crew_result_alloc(10);
	return crew_result_copy("taken", 6);
}
CREW_TASK(crew_bytes, returns_what_was_stolen)
{
	crew_spawn(held_text, a, 1);
	await_thieves(1);
	ck_pr_store_32(&opened, 1);
	return crew_sync(held_text, a);
}
CREW_TASK(int, raises_held, (int, n))
{
	return crew_raise(ERANGE, "the thief, %d", held(n));
}
CREW_TASK(int, raises_before)
{
	crew_spawn(raises_held, a, 1);
	await_thieves(1);
	crew_raise(EDOM, "the owner");
	ck_pr_store_32(&opened, 1);
	return crew_sync(raises_held, a);
}
TEST(a_task_has_what_its_stolen_calls_left_behind)
{
	CREW_SCOPE (ex, crew_threads(2)) {
		crew_bytes y;

		CHECK_EQ(crew_run(ex, &y, returns_what_was_stolen), 0);
		CHECK_STR(y.data, "taken");
		crew_bytes_free(y);
		ck_pr_store_32(&opened, 0);
		CHECK_EQ(crew_future_error(crew_submit(ex, raises_before))->code, EDOM);
	}
}
