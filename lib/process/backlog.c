/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backlog.c: tasks for which the ring has no room yet. There may be a million of them; they cost private memory only.
 *
 * Nodes live in chunks and are known by index, so that a future can name its node in the 16 bytes it has, and a wrong name is found out. The queue is a
 * list through the nodes. Once any task had a priority, new ones go to a heap instead; what was queued before counts as priority 0, waiting longest.
 *
 * Ageing costs nothing: of two tasks the one with the larger  priority × AGE - number  goes first, where number counts submissions. The order of two keys
 * never changes, and any task is overtaken by at most AGE younger ones for each level that they are above it.
 */
#include <stdlib.h>

#include "process/process_executor.h"

enum { CHUNK_NODES = 256, AGE = 4096 };

static struct waiting *node(struct backlog *b, uint32_t index)
{
	return &b->chunks[index / CHUNK_NODES][index % CHUNK_NODES];
}

static bool grow(struct backlog *b)
{
	struct waiting **chunks, *chunk;

	if (b->chunk_count % 64 == 0) {
		chunks = realloc(b->chunks, (b->chunk_count + 64) * sizeof *chunks);
		if (!chunks)
			return false;
		b->chunks = chunks;
	}
	chunk = aligned_alloc(128, CHUNK_NODES * sizeof *chunk);
	if (!chunk)
		return false;
	b->chunks[b->chunk_count++] = chunk;
	b->total += CHUNK_NODES;
	for (uint32_t i = CHUNK_NODES; i-- > 0;) {
		chunk[i].f = NULL;
		chunk[i].next = b->free;
		b->free = b->total - CHUNK_NODES + i + 1;
	}
	return true;
}

bool crew__backlog_reserve(struct backlog *b)
{
	return b->free || grow(b);
}

struct waiting *crew__backlog_new(struct backlog *b, uint32_t *ret_index)
{
	struct waiting *w;

	if (!crew__backlog_reserve(b))
		return NULL;
	*ret_index = b->free - 1;
	w = node(b, *ret_index);
	b->free = w->next;
	w->next = 0;
	return w;
}

/* When the last one has left, a burst's chunks go too. */
static void shrink(struct backlog *b)
{
	enum { KEPT = 4 };

	if (b->chunk_count <= 4 * KEPT)
		return;
	while (b->chunk_count > KEPT)
		free(b->chunks[--b->chunk_count]);
	b->total = KEPT * CHUNK_NODES;
	b->free = 0;
	for (uint32_t i = b->total; i-- > 0;) {
		node(b, i)->f = NULL;
		node(b, i)->next = b->free;
		b->free = i + 1;
	}
}

static void node_free(struct backlog *b, uint32_t index)
{
	struct waiting *w = node(b, index);

	w->f = NULL;
	w->next = b->free;
	b->free = index + 1;
}

/* ---- the heap ---- */

static bool before(struct backlog *b, uint32_t x, uint32_t y)
{
	return node(b, x)->key > node(b, y)->key;
}

static void sift_up(struct backlog *b, size_t i)
{
	while (i > 0 && before(b, b->heap[i], b->heap[(i - 1) / 2])) {
		uint32_t other = b->heap[(i - 1) / 2];

		b->heap[(i - 1) / 2] = b->heap[i];
		b->heap[i] = other;
		i = (i - 1) / 2;
	}
}

static void sift_down(struct backlog *b)
{
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;
		uint32_t other;

		if (child >= b->heap_count)
			return;
		if (child + 1 < b->heap_count && before(b, b->heap[child + 1], b->heap[child]))
			child++;
		if (!before(b, b->heap[child], b->heap[i]))
			return;
		other = b->heap[child];
		b->heap[child] = b->heap[i];
		b->heap[i] = other;
		i = child;
	}
}

static bool heap_push(struct backlog *b, uint32_t index)
{
	if (b->heap_count == b->heap_capacity) {
		size_t capacity = b->heap_capacity ? 2 * b->heap_capacity : 64;
		uint32_t *heap = realloc(b->heap, capacity * sizeof *heap);

		if (!heap)
			return false;
		b->heap = heap;
		b->heap_capacity = capacity;
	}
	b->heap[b->heap_count++] = index;
	sift_up(b, b->heap_count - 1);
	return true;
}

static void heap_pop(struct backlog *b)
{
	b->heap[0] = b->heap[--b->heap_count];
	sift_down(b);
}

/* ---- order ---- */

int64_t crew__backlog_key(int priority, uint64_t number)
{
	return (int64_t)priority * AGE - (int64_t)number;
}

/* In the order of numbers: last, or near the front when it was in the ring already. */
static void enqueue(struct backlog *b, uint32_t index)
{
	struct waiting *w = node(b, index);
	uint32_t *place = &b->first;

	if (b->last && node(b, b->last - 1)->number < w->number)
		place = &node(b, b->last - 1)->next;
	while (*place && node(b, *place - 1)->number < w->number)
		place = &node(b, *place - 1)->next;
	w->next = *place;
	*place = index + 1;
	if (!w->next)
		b->last = index + 1;
}

void crew__backlog_push(struct backlog *b, uint32_t index, int priority)
{
	struct waiting *w = node(b, index);

	b->count++;
	b->prioritised |= priority != 0;
	w->key = crew__backlog_key(priority, w->number);
	w->f->value.word[0] = mark_waiting(index);
	if (!b->prioritised || !heap_push(b, index)) /* without memory for the heap its priority is lost, not the task */
		enqueue(b, index);
}

/* Drop what was cancelled from both fronts. */
static void skip_cancelled(struct backlog *b)
{
	while (b->first && !node(b, b->first - 1)->f) {
		uint32_t index = b->first - 1;

		b->first = node(b, index)->next;
		if (!b->first)
			b->last = 0;
		node_free(b, index);
	}
	while (b->heap_count && !node(b, b->heap[0])->f) {
		uint32_t index = b->heap[0];

		heap_pop(b);
		node_free(b, index);
	}
	if (!b->first && !b->heap_count)
		shrink(b);
}

static bool queue_is_first(struct backlog *b)
{
	return b->first && (!b->heap_count || node(b, b->first - 1)->key >= node(b, b->heap[0])->key);
}

struct waiting *crew__backlog_first(struct backlog *b)
{
	if (b->count == 0 && (b->first || b->heap_count))
		skip_cancelled(b);
	if (b->count == 0)
		return NULL;
	skip_cancelled(b);
	return queue_is_first(b) ? node(b, b->first - 1) : node(b, b->heap[0]);
}

/* Right after crew__backlog_first(), whose node stays readable until the next call. */
void crew__backlog_pop(struct backlog *b)
{
	uint32_t index;

	b->count--;
	if (queue_is_first(b)) {
		index = b->first - 1;
		b->first = node(b, index)->next;
		if (!b->first)
			b->last = 0;
	} else {
		index = b->heap[0];
		heap_pop(b);
	}
	node_free(b, index);
	if (b->count == 0)
		skip_cancelled(b);
}

struct waiting *crew__backlog_find(struct backlog *b, const crew_future *f)
{
	uint64_t mark = f->value.word[0];
	struct waiting *w;

	if (!(mark & 1) || mark >> 1 >= b->total)
		return NULL;
	w = node(b, (uint32_t)(mark >> 1));
	return w->f == f ? w : NULL;
}

void crew__backlog_drop(struct backlog *b, struct waiting *w)
{
	w->f = NULL; /* the node goes when its turn comes */
	b->count--;
}

void crew__backlog_fini(struct backlog *b)
{
	for (uint32_t i = 0; i < b->chunk_count; i++)
		free(b->chunks[i]);
	free(b->chunks);
	free(b->heap);
}
