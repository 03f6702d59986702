/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segments.c: the queue of hints between one submitting thread and all workers (lib/thread/injection.c).
 *
 * Hints here are made-up records that nobody looks into: &record[i] stands for the number i.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "../runner.h"
#include "thread/injection.h"

#define RECORDS 100000

struct crew_future {
	char byte;
};
static crew_future record[RECORDS];

static int number(const crew_future *f)
{
	return (int)(f - record);
}

static void put(struct injection *q, int from, int to)
{
	for (int i = from; i < to; i++)
		CHECK(crew__injection_put(q, &record[i]));
}

TEST(a_queue_never_used_is_empty)
{
	struct injection q = { 0 };
	crew_future *batch[BATCH_MAX];
	bool left;

	CHECK(!crew__injection_any(&q));
	CHECK_EQ(crew__injection_take(&q, batch, BATCH_MAX, 1, &left), 0);
	crew__injection_fini(&q);
}

/* One taker gets everything in the order of the submits, over many segments. */
TEST(hints_come_out_in_the_order_they_went_in)
{
	struct injection q = { 0 };
	crew_future *batch[BATCH_MAX];
	int next = 0, n;
	bool left;

	put(&q, 0, RECORDS);
	while ((n = crew__injection_take(&q, batch, BATCH_MAX, 1, &left)))
		for (int i = 0; i < n; i++)
			CHECK_EQ(number(batch[i]), next++);
	CHECK_EQ(next, RECORDS);
	CHECK(!crew__injection_any(&q));
	crew__injection_fini(&q);
}

/* Of 40 hints one of four sharers takes 10, and is told that something is left. */
TEST(a_taker_leaves_the_others_their_share)
{
	struct injection q = { 0 };
	crew_future *batch[BATCH_MAX];
	bool left = false;

	put(&q, 0, 40);
	CHECK_EQ(crew__injection_take(&q, batch, BATCH_MAX, 4, &left), 10);
	CHECK(left);
	CHECK_EQ(crew__injection_take(&q, batch, 1, 1, &left), 1);
	CHECK_EQ(number(batch[0]), 10);
	crew__injection_fini(&q);
}

/* A server that submits for ever holds as many segments as it ever had hints waiting, not more. */
TEST(drained_segments_are_filled_again)
{
	struct injection q = { 0 };
	crew_future *batch[BATCH_MAX];
	struct segment *seen[4] = { NULL };
	int distinct = 0;
	bool left;

	for (int i = 0; i < 100 * SEGMENT_SLOTS; i++) {
		int known = 0;

		put(&q, 0, 1);
		CHECK_EQ(crew__injection_take(&q, batch, BATCH_MAX, 1, &left), 1);
		while (known < distinct && seen[known] != q.tail)
			known++;
		if (known == distinct) {
			CHECK(distinct < 4);
			seen[distinct++] = q.tail;
		}
	}
	CHECK_LE(distinct, 3);
	crew__injection_fini(&q);
}

/* A consumer that slept between its copy and its CAS while the segment was drained, cleared and filled again must lose. */
TEST(a_stale_consumer_takes_nothing)
{
	struct injection q = { 0 };
	crew_future *batch[BATCH_MAX];
	struct segment *first;
	uint64_t head, moved;
	bool left;

	put(&q, 0, 1);
	first = q.tail;
	head = ck_pr_load_64(&first->head); /* the sleeper has read this … */
	moved = ck_pr_load_64(&q.first);
	do {
		put(&q, 1, 2);
		CHECK_GE(crew__injection_take(&q, batch, BATCH_MAX, 1, &left), 1);
	} while (q.tail == first || ck_pr_load_64(&q.first) == moved);
	while (q.tail != first) {
		put(&q, 1, 2);
		CHECK_GE(crew__injection_take(&q, batch, BATCH_MAX, 1, &left), 1);
	}
	CHECK_EQ((uint32_t)ck_pr_load_64(&first->head), (uint32_t)head + 1); /* … the same index, the same segment … */
	CHECK(!ck_pr_cas_64(&first->head, head, head + 1));		      /* … and yet not the same */
	CHECK(!ck_pr_cas_64(&q.first, moved, moved));
	crew__injection_fini(&q);
}

/* ---- many takers ---- */

struct race {
	struct injection q;
	uint32_t taken[RECORDS];
	uint32_t count, total;
};

static void *takes_all(void *p)
{
	struct race *race = p;
	crew_future *batch[BATCH_MAX];
	bool left;

	while (ck_pr_load_32(&race->count) < race->total) {
		int n = crew__injection_take(&race->q, batch, BATCH_MAX, 3, &left);

		for (int i = 0; i < n; i++)
			ck_pr_inc_32(&race->taken[number(batch[i])]);
		ck_pr_add_32(&race->count, (uint32_t)n);
		if (n == 0)
			sched_yield();
	}
	return NULL;
}

TEST(each_hint_is_taken_once_by_many_takers)
{
	struct race *race = aligned_alloc(CREW__CACHELINE, (sizeof *race + 63) / 64 * 64);
	pthread_t taker[3];

	CHECK(race);
	*race = (struct race){ .total = (uint32_t)test_scaled(RECORDS) };
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&taker[i], NULL, takes_all, race), 0);
	put(&race->q, 0, (int)race->total);
	for (int i = 0; i < 3; i++)
		pthread_join(taker[i], NULL);
	for (uint32_t i = 0; i < race->total; i++)
		CHECK_EQ(race->taken[i], 1u);
	crew__injection_fini(&race->q);
	free(race);
}
