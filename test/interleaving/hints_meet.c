/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hints_meet.c: lib/thread/injection.c, one producer and consumers: each hint comes out once, across segments and their reuse too.
 * Segments are short here (SEGMENT_SLOTS in CMakeLists.txt).
 */
#include <stdint.h>
#include <string.h>

#include "interleaving/scheduler.h"
#include "thread/injection.h"

enum { HINTS = SEGMENT_SLOTS * 3 };

static struct injection queue;
static char hints[HINTS]; /* their addresses are hints */
static int put_count, filled, gone; /* at the beginning: put, and taken */
static unsigned char came[HINTS];

static crew_future *hint(int i)
{
	return (crew_future *)(void *)&hints[i];
}

static void put(int n)
{
	for (int i = 0; i < n; i++)
		EXPECT(crew__injection_put(&queue, hint(put_count++)));
}

static int take(int most, int sharers)
{
	crew_future *batch[BATCH_MAX];
	bool left;
	int n = crew__injection_take(&queue, batch, most, sharers, &left);

	for (int i = 0; i < n; i++) {
		char *which = (char *)(void *)batch[i];

		EXPECT(which >= hints && which < hints + put_count);
		EXPECT(came[which - hints]++ == 0);
	}
	return n;
}

/* The last hint that was put stands in slot `last` of all, `there` are left. */
static void fill(int last, int there)
{
	memset(came, 0, sizeof came);
	put_count = 0;
	put(last + 1);
	for (gone = 0; gone < last + 1 - there;)
		gone += take(last + 1 - there - gone, 1);
	filled = put_count;
}

static void end(void)
{
	for (int n = 0; take(BATCH_MAX, 1); n++)
		EXPECT(n < put_count);
	EXPECT(!crew__injection_any(&queue));
	for (int i = 0; i < put_count; i++)
		EXPECT(came[i] == 1);
	crew__injection_fini(&queue);
}

static void take_one(void)
{
	take(1, 1);
}

static void take_share(void)
{
	take(BATCH_MAX, 2);
	take(BATCH_MAX, 2);
}

static void take_two(void)
{
	take(1, 1);
	take(1, 1);
}

static void put_two(void)
{
	put(2);
}

/* What was put before anybody began can only go by being taken: any() may not deny it. */
static void look(void)
{
	bool any = crew__injection_any(&queue);
	bool taken = false;

	for (int i = gone; i < filled; i++)
		taken |= came[i];
	EXPECT(any || taken || gone == filled);
}

/* ---- the first hints of all ---- */

static void begin_empty(void)
{
	fill(-1, 0);
}

static const struct scenario first_hints = {
	.name = "first_hints", .begin = begin_empty, .end = end, .thread = { put_two, take_share, take_two }, .preemptions = 2, .delays = 1
};

SEARCH(the_first_hints_come_out_once)
{
	explore(&first_hints);
}

SEARCH(finds_a_head_that_two_consumers_move)
{
	find(&first_hints, &(struct fault){ "cas_64", BLIND_CAS });
}

/* ---- over the end of a segment ---- */

static void begin_at_the_edge(void)
{
	fill(SEGMENT_SLOTS - 2, 1);
}

static const struct scenario over_the_edge = {
	.name = "over_the_edge", .begin = begin_at_the_edge, .end = end, .thread = { put_two, take_share, take_two, look }, .preemptions = 2
};

SEARCH(hints_come_out_once_over_the_end_of_a_segment)
{
	explore(&over_the_edge);
}

/* ---- a segment comes round ---- */

/* One hint is left in the first segment, the second is full but for one: the producer's next turn takes the first anew, once it was drained. */
static void begin_to_reuse(void)
{
	fill(2 * SEGMENT_SLOTS - 2, SEGMENT_SLOTS);
}

static const struct scenario segment_reused = {
	.name = "segment_reused", .begin = begin_to_reuse, .end = end, .thread = { put_two, take_one, take_two, look }, .preemptions = 2
};

SEARCH(a_consumer_may_sleep_through_the_reuse_of_its_segment)
{
	explore(&segment_reused);
}

SEARCH(finds_a_segment_that_is_not_cleared_for_its_reuse)
{
	find(&segment_reused, &(struct fault){ "segment_get", NO_STORE });
}

SEARCH(finds_a_segment_that_is_released_twice)
{
	find(&segment_reused, &(struct fault){ "cas_64", BLIND_CAS });
}
