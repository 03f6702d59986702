/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lanes.c: the order of tasks with a priority (lib/thread/priority_lane.c), on a clock of our own.
 */
#include "../runner.h"
#include "thread/priority_lane.h"

static unsigned used;

static void notice(struct priority_lane *lane, int which, bool is_used)
{
	(void)lane;
	used = is_used ? used | 1u << which : used & ~(1u << which);
}

/* Nobody looks into a hint, so a number will do. */
static crew_future *hint(uintptr_t n)
{
	return (crew_future *)n;
}

static void put(struct priority_lane *lane, uintptr_t n, int priority, uint64_t now)
{
	CHECK_EQ(crew__lane_put(lane, hint(n), priority, now, notice), 0);
}

static uintptr_t take(struct priority_lane *lane, int which)
{
	return (uintptr_t)crew__lane_take(lane, which, notice);
}

TEST(the_highest_priority_comes_first_and_equals_in_order)
{
	struct priority_lane lane = { 0 };

	crew__lane_init(&lane);
	put(&lane, 1, 1, 1000);
	put(&lane, 2, 5, 1001);
	put(&lane, 3, 1, 1002);
	put(&lane, 4, 5, 1003);
	put(&lane, 5, 3, 1004);
	CHECK_EQ(take(&lane, LANE_URGENT), 2u);
	CHECK_EQ(take(&lane, LANE_URGENT), 4u);
	CHECK_EQ(take(&lane, LANE_URGENT), 5u);
	CHECK_EQ(take(&lane, LANE_URGENT), 1u);
	CHECK_EQ(take(&lane, LANE_URGENT), 3u);
	CHECK_EQ(take(&lane, LANE_URGENT), 0u);
	crew__lane_fini(&lane);
}

/* One step of waiting is worth one priority, so that a flood of urgent tasks starves nobody. */
TEST(waiting_raises_a_task)
{
	struct priority_lane lane = { 0 };

	crew__lane_init(&lane);
	put(&lane, 1, 1, 0);
	put(&lane, 2, 3, LANE_STEP_NS);		/* two higher, one step later: before it */
	put(&lane, 3, 3, 3 * LANE_STEP_NS);	/* two higher, three steps later: behind it */
	put(&lane, 4, 1000000, 1000 * LANE_STEP_NS); /* beyond the highest all are equal */
	CHECK_EQ(take(&lane, LANE_URGENT), 2u);
	CHECK_EQ(take(&lane, LANE_URGENT), 1u);
	CHECK_EQ(take(&lane, LANE_URGENT), 3u);
	CHECK_EQ(take(&lane, LANE_URGENT), 4u);
	crew__lane_fini(&lane);
}

/* The word that workers look at says exactly which heaps hold something. */
TEST(an_empty_lane_gives_no_notice)
{
	struct priority_lane lane = { 0 };

	crew__lane_init(&lane);
	put(&lane, 1, -1, 0);
	CHECK_EQ(used, 1u << LANE_LATE);
	put(&lane, 2, 1, 0);
	put(&lane, 3, 1, 0);
	CHECK_EQ(used, 1u << LANE_LATE | 1u << LANE_URGENT);
	take(&lane, LANE_LATE);
	take(&lane, LANE_URGENT);
	CHECK_EQ(used, 1u << LANE_URGENT);
	take(&lane, LANE_URGENT);
	CHECK_EQ(used, 0u);
	crew__lane_fini(&lane);
}

TEST(ten_thousand_hints_come_out_sorted)
{
	struct priority_lane lane = { 0 };
	unsigned char priority[10001];
	int last = 256;

	crew__lane_init(&lane);
	for (uintptr_t i = 1; i <= 10000; i++) {
		priority[i] = (unsigned char)(1 + test_random() % 100);
		put(&lane, i, priority[i], i);
	}
	for (int i = 0; i < 10000; i++) {
		uintptr_t n = take(&lane, LANE_URGENT);

		CHECK(n);
		CHECK_LE(priority[n], last);
		last = priority[n];
	}
	crew__lane_fini(&lane);
}

/* Below the lowest all are equal. */
TEST(what_is_lower_than_the_lowest_is_as_low)
{
	struct priority_lane lane = { 0 };

	crew__lane_init(&lane);
	put(&lane, 1, -1000000, 1000);
	put(&lane, 2, -LANE_MAX_PRIORITY, 1001);
	put(&lane, 3, -1000001, 1002);
	CHECK_EQ(take(&lane, LANE_LATE), 1u);
	CHECK_EQ(take(&lane, LANE_LATE), 2u);
	CHECK_EQ(take(&lane, LANE_LATE), 3u);
	crew__lane_fini(&lane);
}
