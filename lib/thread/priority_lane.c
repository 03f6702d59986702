/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * priority_lane.c: two binary heaps.
 *
 * A hint's key is the time of its submit less its priority times LANE_STEP_NS. Keys never change, and
 * yet waiting raises a hint: whatever comes later starts with a later time. Of two with one key (or one
 * priority, within a tick of the clock) the first submitted goes first.
 *
 * What is taken out is a hint like any other: its task may have been cancelled, or run by who waits for
 * it. The heap owns no reference and nothing in the record, so a record may be recycled while its old
 * hint is still in here.
 */
#include "thread/priority_lane.h"

#include <errno.h>
#include <stdlib.h>

void crew__lane_init(struct priority_lane *lane)
{
	pthread_mutex_init(&lane->mutex, NULL);
}

void crew__lane_fini(struct priority_lane *lane)
{
	pthread_mutex_destroy(&lane->mutex);
	free(lane->heap[LANE_LATE].hints);
	free(lane->heap[LANE_URGENT].hints);
}

static bool before(const struct lane_hint *a, const struct lane_hint *b)
{
	return a->key != b->key ? a->key < b->key : a->order < b->order;
}

static bool reserve(struct lane_heap *heap)
{
	size_t capacity = heap->capacity ? 2 * heap->capacity : 64;
	struct lane_hint *hints;

	if (heap->count < heap->capacity)
		return true;
	hints = realloc(heap->hints, capacity * sizeof *hints);
	if (!hints)
		return false;
	heap->hints = hints;
	heap->capacity = capacity;
	return true;
}

static void push(struct lane_heap *heap, struct lane_hint hint)
{
	size_t i = heap->count++;

	for (; i > 0 && before(&hint, &heap->hints[(i - 1) / 2]); i = (i - 1) / 2)
		heap->hints[i] = heap->hints[(i - 1) / 2];
	heap->hints[i] = hint;
}

static crew_future *pop(struct lane_heap *heap)
{
	crew_future *best = heap->hints[0].f;
	struct lane_hint last = heap->hints[--heap->count];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < heap->count) {
		if (child + 1 < heap->count && before(&heap->hints[child + 1], &heap->hints[child]))
			child++;
		if (!before(&heap->hints[child], &last))
			break;
		heap->hints[i] = heap->hints[child];
		i = child;
	}
	heap->hints[i] = last;
	return best;
}

int crew__lane_put(struct priority_lane *lane, crew_future *f, int priority, uint64_t now, lane_notice_fn *notice)
{
	int which = priority > 0 ? LANE_URGENT : LANE_LATE;
	struct lane_heap *heap = &lane->heap[which];
	struct lane_hint hint = { .f = f };
	int rc = 0;

	if (priority > LANE_MAX_PRIORITY)
		priority = LANE_MAX_PRIORITY;
	if (priority < -LANE_MAX_PRIORITY)
		priority = -LANE_MAX_PRIORITY;
	hint.key = (int64_t)now - priority * LANE_STEP_NS;
	pthread_mutex_lock(&lane->mutex);
	hint.order = lane->order++;
	if (reserve(heap)) {
		push(heap, hint);
		if (heap->count == 1)
			notice(lane, which, true);
	} else {
		rc = -ENOMEM;
	}
	pthread_mutex_unlock(&lane->mutex);
	return rc;
}

crew_future *crew__lane_take(struct priority_lane *lane, int which, lane_notice_fn *notice)
{
	struct lane_heap *heap = &lane->heap[which];
	crew_future *f = NULL;

	pthread_mutex_lock(&lane->mutex);
	if (heap->count) {
		f = pop(heap);
		if (heap->count == 0)
			notice(lane, which, false);
	}
	pthread_mutex_unlock(&lane->mutex);
	return f;
}
