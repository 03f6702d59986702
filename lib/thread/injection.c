/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * injection.c: a list of segments of 504 hints each.
 *
 *	producer: slot[i] = f (release) …504 times… next = new segment
 *	consumer: first → segment → head (index) → reads the slots behind it → CAS head forward: those hints are its own
 *	drained:  CAS first forward → push on `freed` → the producer clears it, counts its reuse, fills it again
 *
 * A consumer may be delayed anywhere. So it copies the slots *before* the CAS that makes them its own,
 * and the CAS compares the segment's count of reuses too: had the segment been drained, cleared and
 * filled again meanwhile, it fails and the copies are dropped. The same goes for `first`, whose upper
 * 16 bits count its moves (to be fooled, a consumer would have to sleep through exactly 65536 segments,
 * and then the CAS on the segment's own head would still find it out). Segments are freed with the
 * queue only, so a late reader never reads memory that is gone. User addresses have 48 bits on x86-64
 * and aarch64 unless a program asks for more by hint.
 */
#include "thread/injection.h"

#include <stdlib.h>
#include <string.h>

#define ADDRESS_BITS 48

static struct segment *segment_at(uint64_t first)
{
	return (struct segment *)(uintptr_t)(first & (((uint64_t)1 << ADDRESS_BITS) - 1));
}

static bool cas_64(uint64_t *p, uint64_t old, uint64_t new)
{
	bool won;

	ck_pr_fence_release();
	won = ck_pr_cas_64(p, old, new);
	ck_pr_fence_acquire();
	return won;
}

/* ---- producer ---- */

static struct segment *segment_get(struct injection *q)
{
	struct segment *segment = q->cache;

	if (!segment) {
		segment = ck_pr_fas_ptr(&q->freed, NULL);
		ck_pr_fence_acquire(); /* pairs with the CAS in release_segment */
	}
	if (!segment) {
		segment = aligned_alloc(CREW__CACHELINE, sizeof *segment);
		if (segment)
			memset(segment, 0, sizeof *segment);
		return segment;
	}
	q->cache = segment->freed_next;
	for (int i = 0; i < SEGMENT_SLOTS; i++)
		ck_pr_store_ptr(&segment->slot[i], NULL);
	ck_pr_store_ptr(&segment->next, NULL);
	store_release_64(&segment->head, ((ck_pr_load_64(&segment->head) >> 32) + 1) << 32);
	return segment;
}

bool crew__injection_turn(struct injection *q)
{
	struct segment *segment = segment_get(q);

	if (!segment)
		return false;
	if (q->tail)
		store_release_ptr((void **)&q->tail->next, segment); /* pairs with the acquire in advance */
	else
		store_release_64(&q->first, (uint64_t)(uintptr_t)segment);
	q->tail = segment;
	q->index = 0;
	return true;
}

static void free_list(struct segment *segment)
{
	while (segment) {
		struct segment *next = segment->freed_next;

		free(segment);
		segment = next;
	}
}

void crew__injection_fini(struct injection *q)
{
	struct segment *segment = segment_at(q->first);

	while (segment) {
		struct segment *next = segment->next;

		free(segment);
		segment = next;
	}
	free_list(q->freed);
	free_list(q->cache);
	memset(q, 0, sizeof *q);
}

/* ---- consumers ---- */

bool crew__injection_any(const struct injection *q)
{
	for (;;) {
		uint64_t first = load_acquire_64(&q->first);
		struct segment *segment = segment_at(first), *next;
		uint32_t index;

		if (!segment)
			return false;
		index = (uint32_t)load_acquire_64(&segment->head);
		if (index < SEGMENT_SLOTS)
			return load_acquire_ptr((void *const *)&segment->slot[index]) != NULL;
		next = load_acquire_ptr((void *const *)&segment->next);
		if (load_acquire_64(&q->first) == first)
			return next != NULL;
	}
}

static void release_segment(struct injection *q, struct segment *segment)
{
	struct segment *freed = ck_pr_load_ptr(&q->freed);

	do {
		segment->freed_next = freed;
		ck_pr_fence_release();
	} while (!ck_pr_cas_ptr_value(&q->freed, freed, segment, &freed));
}

/* The segment is drained: make the next one the first. False: there is none. */
static bool advance(struct injection *q, uint64_t first)
{
	struct segment *segment = segment_at(first);
	struct segment *next = load_acquire_ptr((void *const *)&segment->next);
	uint64_t moves = (first >> ADDRESS_BITS) + 1;

	if (!next)
		return load_acquire_64(&q->first) != first;
	if (cas_64(&q->first, first, moves << ADDRESS_BITS | (uint64_t)(uintptr_t)next))
		release_segment(q, segment);
	return true;
}

/* How many hints stand from `index` on, up to `max`; the first BATCH_MAX are copied. */
static int copy_slots(struct segment *segment, uint32_t index, int max, crew_future **copy)
{
	int n = 0;

	while (n < max) {
		crew_future *f = load_acquire_ptr((void *const *)&segment->slot[index + (uint32_t)n]);

		if (!f)
			break;
		if (n < BATCH_MAX)
			copy[n] = f;
		n++;
	}
	return n;
}

int crew__injection_take(struct injection *q, crew_future **batch, int max, int sharers, bool *left)
{
	crew_future *copy[BATCH_MAX];

	for (;;) {
		uint64_t first = load_acquire_64(&q->first), head;
		struct segment *segment = segment_at(first);
		int room, there, n;

		if (!segment)
			return 0;
		head = load_acquire_64(&segment->head);
		room = SEGMENT_SLOTS - (int)(uint32_t)head;
		if (room == 0) {
			if (!advance(q, first))
				return 0;
			continue;
		}
		there = copy_slots(segment, (uint32_t)head, room < max * sharers ? room : max * sharers, copy);
		if (there == 0)
			return 0;
		n = there / sharers;
		n = n < 1 ? 1 : n; /* and no more than max */
		if (!cas_64(&segment->head, head, head + (uint64_t)n))
			continue;
		for (int i = 0; i < n; i++) {
			ck_pr_store_ptr(&batch[i], copy[i]);
			prefetch_to_write(copy[i]);
		}
		*left = there > n || n == room;
		return n;
	}
}
