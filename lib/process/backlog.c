/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backlog.c: tasks for which the ring has no room yet. There may be a million of them; they cost private memory only.
 *
 * Nodes of 64 bytes live in chunks and are known by index, so that a future can name its node in the 16 bytes it has, and a wrong name is found out. The queue is a
 * list through the nodes. Once any task had a priority, new ones go to a heap instead; what was queued before counts as priority 0, waiting longest.
 *
 * Ageing costs nothing: of two tasks the one with the larger  priority × AGE - number  goes first, where number counts submissions. The order of two keys
 * never changes, and any task is overtaken by at most AGE younger ones for each level that they are above it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/copy.h"
#include "process/process_executor.h"

enum { CHUNK_NODES = 4096, KEPT = 4, AGE = 4096 };
#define CHUNK_SIZE (CHUNK_NODES * sizeof(struct waiting))

static struct waiting *node(struct backlog *b, uint32_t index)
{
	return &b->chunks[index / CHUNK_NODES][index % CHUNK_NODES];
}

static void chain_chunk(struct backlog *b, uint32_t chunk)
{
	for (uint32_t i = CHUNK_NODES; i-- > 0;) {
		struct waiting *w = &b->chunks[chunk][i];

		w->f = NULL;
		w->next = b->free;
		b->free = chunk * CHUNK_NODES + i + 1;
	}
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
	/* all its pages at once: they are about to be used, and one by one cost three times as much */
	chunk = mmap(NULL, CHUNK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (chunk == MAP_FAILED)
		return false;
	b->chunks[b->chunk_count++] = chunk;
	b->total += CHUNK_NODES;
	chain_chunk(b, b->chunk_count - 1);
	return true;
}

/* When the last one has left, a burst's chunks go too. */
static void shrink(struct backlog *b)
{
	if (b->chunk_count <= 16 * KEPT)
		return;
	while (b->chunk_count > KEPT)
		munmap(b->chunks[--b->chunk_count], CHUNK_SIZE);
	b->total = KEPT * CHUNK_NODES;
	b->free = 0;
	for (uint32_t chunk = KEPT; chunk-- > 0;)
		chain_chunk(b, chunk);
}

static void node_free(struct backlog *b, uint32_t index)
{
	struct waiting *w = node(b, index);

	if (w->apart)
		free(w->heap);
	w->f = NULL;
	w->next = b->free;
	b->free = index + 1;
}

/* ---- the heap ---- */

static void sift_up(struct backlog *b, size_t i)
{
	struct ranked moving = b->heap[i];

	for (; i > 0 && moving.key > b->heap[(i - 1) / 2].key; i = (i - 1) / 2)
		b->heap[i] = b->heap[(i - 1) / 2];
	b->heap[i] = moving;
}

static void sift_down(struct backlog *b)
{
	struct ranked moving = b->heap[0];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < b->heap_count) {
		if (child + 1 < b->heap_count && b->heap[child + 1].key > b->heap[child].key)
			child++;
		if (b->heap[child].key <= moving.key)
			break;
		b->heap[i] = b->heap[child];
		i = child;
	}
	b->heap[i] = moving;
}

static bool heap_push(struct backlog *b, uint32_t index, int64_t key)
{
	if (b->heap_count == b->heap_capacity) {
		size_t capacity = b->heap_capacity ? 2 * b->heap_capacity : 64;
		struct ranked *heap = realloc(b->heap, capacity * sizeof *heap);

		if (!heap)
			return false;
		b->heap = heap;
		b->heap_capacity = capacity;
	}
	b->heap[b->heap_count++] = (struct ranked){ key, index };
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

/* f's job, in 64 bytes if it fits. */
static bool fill(struct waiting *w, const struct job *job)
{
	size_t n = job->flags & JOB_EXTENT ? sizeof(struct extent) : job->size;
	unsigned char *to = w->payload;

	w->task = job->task;
	w->size = job->size;
	w->flags = (uint8_t)job->flags;
	w->apart = n > WAITING_PAYLOAD;
	if (w->apart)
		to = w->heap = malloc(n);
	if (!to)
		return false;
	copy_few(to, job->payload, n);
	return true;
}

const unsigned char *crew__backlog_payload(const struct waiting *w)
{
	return w->apart ? w->heap : w->payload;
}

bool crew__backlog_push(struct backlog *b, crew_future *f, const struct job *job, uint8_t epoch, uint64_t number, int priority)
{
	struct waiting *w;
	uint32_t index;

	if (!b->free && !grow(b))
		return false;
	index = b->free - 1;
	w = node(b, index);
	if (!fill(w, job))
		return false;
	b->free = w->next;
	b->count++;
	w->f = f;
	w->epoch = epoch;
	w->number = number;
	w->next = 0;
	f->value.word[0] = mark_waiting(index);
	b->prioritised |= priority != 0;
	if (!b->prioritised || !heap_push(b, index, crew__backlog_key(priority, number)))
		enqueue(b, index); /* without memory for the heap its priority is lost, not the task */
	return true;
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
	while (b->heap_count && !node(b, b->heap[0].index)->f) {
		uint32_t index = b->heap[0].index;

		heap_pop(b);
		node_free(b, index);
	}
	if (!b->first && !b->heap_count)
		shrink(b);
}

static bool queue_is_first(struct backlog *b)
{
	return b->first && (!b->heap_count || crew__backlog_key(0, node(b, b->first - 1)->number) >= b->heap[0].key);
}

struct waiting *crew__backlog_first(struct backlog *b)
{
	if (b->count == 0 && (b->first || b->heap_count))
		skip_cancelled(b);
	if (b->count == 0)
		return NULL;
	skip_cancelled(b);
	return queue_is_first(b) ? node(b, b->first - 1) : node(b, b->heap[0].index);
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
		index = b->heap[0].index;
		heap_pop(b);
	}
	node_free(b, index);
	if (b->count == 0)
		skip_cancelled(b);
}

struct waiting *crew__backlog_find(struct backlog *b, const crew_future *f)
{
	uint64_t mark;
	struct waiting *w;

	if (!has_mark(f))
		return NULL;
	mark = ck_pr_load_64(&f->value.word[0]); /* it may be recycled at this moment: what it says is checked below */
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
		munmap(b->chunks[i], CHUNK_SIZE);
	free(b->chunks);
	free(b->heap);
}
