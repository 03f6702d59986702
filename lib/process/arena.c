/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arena.c: an allocator whose books are kept elsewhere.
 *
 *	chunks of 64 KiB      free runs, by place, first fit: low addresses are used again first, and have their pages still
 *	└ spans of 4 chunks   cut into blocks of one class, 256 B … 32 KiB, a bit for each
 *
 * Chunks get their pages (posix_fallocate) before they are handed out the first time, and keep them when they come back, up to 256 MiB of them: a
 * program that sends the same megabytes again and again pays for their pages once. What comes back beyond that is punched out, and all of it when nothing
 * was taken for a while (crew__arena_trim).
 *
 * System calls that make or clear pages are done outside the mutex, by the thread that has the run.
 */
#include "process/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/table.h"

enum { CLASSES = 8, SPAN_CHUNKS = 4, SPAN_WORDS = 16 };
#define CHUNK ARENA_CHUNK
#define SPAN_SIZE (SPAN_CHUNKS * CHUNK)
#define BLOCK_MIN ((size_t)256)
#define IDLE_MAX ((size_t)256 << 20)

/* Places and lengths in chunks. */
struct run {
	size_t at, n;
};

struct span {
	struct span *next, **place; /* in its class's list, or that of the full ones */
	size_t at;		    /* its first chunk */
	uint32_t class, live;
	uint64_t free[SPAN_WORDS];
};

/* Words of the bitmap of chunks. */
static size_t populated_words(const struct arena *a)
{
	return a->size / CHUNK / 64 + 1;
}

static void free_books(struct arena *a)
{
	free(a->runs);
	crew__table_free(a->spans, a->size / CHUNK, sizeof *a->spans);
	crew__table_free(a->populated, populated_words(a), sizeof *a->populated);
}

/* Bytes that may be kept for next time: a sixteenth of the machine's. */
static size_t most_idle(void)
{
	size_t share = (size_t)sysconf(_SC_PHYS_PAGES) / 16 * (size_t)sysconf(_SC_PAGESIZE);

	return share < IDLE_MAX ? share : IDLE_MAX;
}

int crew__arena_init(struct arena *a, const struct mapping *mapping, size_t base, size_t size)
{
	memset(a, 0, sizeof *a);
	a->mapping = mapping;
	a->base = base;
	a->size = size / CHUNK * CHUNK;
	a->run_capacity = 16;
	a->runs = malloc(a->run_capacity * sizeof *a->runs);
	a->spans = crew__table_new(a->size / CHUNK, sizeof *a->spans);
	a->populated = crew__table_new(populated_words(a), sizeof *a->populated);
	if (!a->runs || !a->spans || !a->populated) {
		free_books(a);
		memset(a, 0, sizeof *a);
		return -ENOMEM;
	}
	a->runs[0] = (struct run){ 0, a->size / CHUNK };
	a->run_count = 1;
	a->most = most_idle() / CHUNK;
	pthread_mutex_init(&a->mutex, NULL);
	return 0;
}

static void free_spans(struct span *s)
{
	while (s) {
		struct span *next = s->next;

		free(s);
		s = next;
	}
}

void crew__arena_fini(struct arena *a)
{
	if (!a->runs)
		return;
	for (uint32_t class = 0; class < CLASSES; class ++)
		free_spans(a->partial[class]);
	free_spans(a->full);
	free_books(a);
	pthread_mutex_destroy(&a->mutex);
	memset(a, 0, sizeof *a);
}

/* ---- runs of chunks; the mutex is held ---- */

static bool take_run(struct arena *a, size_t n, size_t *ret_at)
{
	for (size_t i = 0; i < a->run_count; i++) {
		struct run *run = &a->runs[i];

		if (run->n < n)
			continue;
		*ret_at = run->at;
		run->at += n;
		run->n -= n;
		if (run->n == 0) {
			a->run_count--;
			memmove(run, run + 1, (a->run_count - i) * sizeof *run);
		}
		return true;
	}
	return false;
}

/* Room for one more run is made when a run is taken, so that giving it back cannot fail; only one that comes back in parts may need more. */
static bool reserve_run(struct arena *a)
{
	struct run *runs;

	if (a->run_count + 1 < a->run_capacity)
		return true;
	runs = realloc(a->runs, 2 * a->run_capacity * sizeof *runs);
	if (!runs)
		return false;
	a->runs = runs;
	a->run_capacity *= 2;
	return true;
}

static void give_run(struct arena *a, size_t at, size_t n)
{
	size_t low = 0, high = a->run_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (a->runs[middle].at < at)
			low = middle + 1;
		else
			high = middle;
	}
	if (low > 0 && a->runs[low - 1].at + a->runs[low - 1].n == at) {
		a->runs[low - 1].n += n;
		if (low < a->run_count && at + n == a->runs[low].at) {
			a->runs[low - 1].n += a->runs[low].n;
			a->run_count--;
			memmove(&a->runs[low], &a->runs[low + 1], (a->run_count - low) * sizeof a->runs[0]);
		}
	} else if (low < a->run_count && at + n == a->runs[low].at) {
		a->runs[low].at = at;
		a->runs[low].n += n;
	} else if (reserve_run(a) || a->run_count < a->run_capacity) {
		memmove(&a->runs[low + 1], &a->runs[low], (a->run_count - low) * sizeof a->runs[0]);
		a->runs[low] = (struct run){ at, n };
		a->run_count++;
	} /* else: no memory for the books; the run is lost until the executor closes */
}

/* ---- pages ---- */

static bool has_pages(const struct arena *a, size_t chunk)
{
	return a->populated[chunk / 64] >> (chunk % 64) & 1;
}

/* Pages for a run that the caller has. The bits of others in the same words may change meanwhile: they are looked at and set under the mutex. */
static int populate(struct arena *a, size_t at, size_t n)
{
	size_t missing = 0, first = at;
	int rc;

	pthread_mutex_lock(&a->mutex);
	for (size_t i = at; i < at + n; i++) {
		if (has_pages(a, i)) {
			a->idle--;
		} else if (missing++ == 0) {
			first = i;
		}
	}
	pthread_mutex_unlock(&a->mutex);
	if (missing == 0)
		return 0;
	rc = crew__mapping_populate(a->mapping, a->base + first * CHUNK, (at + n - first) * CHUNK); /* what is there stays */
	if (rc)
		crew__mapping_punch(a->mapping, a->base + at * CHUNK, n * CHUNK); /* what there was, and what has come */
	pthread_mutex_lock(&a->mutex);
	for (size_t i = at; i < at + n; i++) {
		if (rc == 0)
			a->populated[i / 64] |= (uint64_t)1 << (i % 64);
		else
			a->populated[i / 64] &= ~((uint64_t)1 << (i % 64));
	}
	pthread_mutex_unlock(&a->mutex);
	return rc;
}

/* The run goes back, with its pages if there are not too many idle ones already. */
static void release(struct arena *a, size_t at, size_t n)
{
	bool punch;

	pthread_mutex_lock(&a->mutex);
	punch = !a->keeping || a->idle + n > a->most;
	for (size_t i = at; i < at + n; i++) {
		if (punch)
			a->populated[i / 64] &= ~((uint64_t)1 << (i % 64));
		else
			a->idle += has_pages(a, i);
	}
	pthread_mutex_unlock(&a->mutex);
	if (punch)
		crew__mapping_punch(a->mapping, a->base + at * CHUNK, n * CHUNK);
	pthread_mutex_lock(&a->mutex);
	give_run(a, at, n);
	pthread_mutex_unlock(&a->mutex);
}

static int acquire(struct arena *a, size_t n, size_t *ret_at)
{
	bool ok;
	int rc;

	pthread_mutex_lock(&a->mutex);
	ok = reserve_run(a) && take_run(a, n, ret_at);
	a->turns++;
	a->keeping = true;
	pthread_mutex_unlock(&a->mutex);
	if (!ok)
		return -ENOMEM;
	rc = populate(a, *ret_at, n);
	if (rc) {
		pthread_mutex_lock(&a->mutex);
		give_run(a, *ret_at, n);
		pthread_mutex_unlock(&a->mutex);
	}
	return rc;
}

/* ---- blocks ---- */

static uint32_t class_of(size_t n)
{
	uint32_t class = 0;

	while (class < CLASSES && BLOCK_MIN << class < n)
		class ++;
	return class; /* CLASSES: chunks */
}

static bool is_full(const struct span *s)
{
	return s->live == SPAN_SIZE / (BLOCK_MIN << s->class);
}

static void list_span(struct arena *a, struct span *s)
{
	s->place = is_full(s) ? &a->full : &a->partial[s->class];
	s->next = *s->place;
	if (s->next)
		s->next->place = &s->next;
	*s->place = s;
}

static void unlist_span(struct span *s)
{
	*s->place = s->next;
	if (s->next)
		s->next->place = s->place;
}

static struct span *span_new(struct arena *a, uint32_t class)
{
	struct span *s = calloc(1, sizeof *s);
	uint32_t blocks = SPAN_SIZE / (BLOCK_MIN << class);

	if (!s || acquire(a, SPAN_CHUNKS, &s->at)) {
		free(s);
		return NULL;
	}
	s->class = class;
	for (uint32_t i = 0; i < blocks; i++)
		s->free[i / 64] |= (uint64_t)1 << (i % 64);
	return s;
}

static size_t chunks_for(size_t n)
{
	return (n + CHUNK - 1) / CHUNK;
}

/* A span is found by any of its chunks. */
static void enter_span(struct arena *a, size_t at, struct span *s)
{
	for (size_t i = 0; i < SPAN_CHUNKS; i++)
		a->spans[at + i] = s;
}

static uint64_t take_block(struct arena *a, struct span *s)
{
	uint32_t word = 0, bit;

	while (!s->free[word])
		word++;
	bit = (uint32_t)__builtin_ctzll(s->free[word]);
	s->free[word] &= s->free[word] - 1;
	s->live++;
	if (is_full(s)) {
		unlist_span(s);
		list_span(a, s);
	}
	return s->at * CHUNK + (64 * word + bit) * (BLOCK_MIN << s->class);
}

static int alloc_block(struct arena *a, uint32_t class, uint64_t *ret_offset)
{
	struct span *s;

	pthread_mutex_lock(&a->mutex);
	if (!a->partial[class]) {
		pthread_mutex_unlock(&a->mutex);
		s = span_new(a, class);
		if (!s)
			return -ENOMEM;
		pthread_mutex_lock(&a->mutex);
		enter_span(a, s->at, s);
		list_span(a, s);
	}
	*ret_offset = take_block(a, a->partial[class]);
	pthread_mutex_unlock(&a->mutex);
	return 0;
}

static void free_block(struct arena *a, uint64_t offset)
{
	struct span *s;
	uint64_t block;
	bool full, empty;

	pthread_mutex_lock(&a->mutex);
	s = a->spans[offset / CHUNK];
	block = (offset - s->at * CHUNK) / (BLOCK_MIN << s->class);
	s->free[block / 64] |= (uint64_t)1 << (block % 64);
	full = is_full(s);
	s->live--;
	if (full) {
		unlist_span(s);
		list_span(a, s);
	}
	empty = s->live == 0 && s->next; /* the last one of a class stays */
	if (empty) {
		unlist_span(s);
		enter_span(a, s->at, NULL);
	}
	pthread_mutex_unlock(&a->mutex);
	if (empty) {
		release(a, s->at, SPAN_CHUNKS);
		free(s);
	}
}

int crew__arena_alloc(struct arena *a, size_t n, uint64_t *ret_offset)
{
	uint32_t class = class_of(n);
	size_t at;
	int rc;

	if (class < CLASSES)
		return alloc_block(a, class, ret_offset);
	if (n > a->size)
		return -ENOMEM;
	rc = acquire(a, chunks_for(n), &at);
	if (rc == 0)
		*ret_offset = at * CHUNK;
	return rc;
}

void crew__arena_free(struct arena *a, uint64_t offset, size_t n)
{
	if (class_of(n) < CLASSES)
		free_block(a, offset);
	else
		release(a, offset / CHUNK, chunks_for(n));
}

int crew__arena_alloc_run(struct arena *a, size_t n, uint64_t *ret_offset)
{
	size_t at;
	int rc = n > a->size ? -ENOMEM : acquire(a, chunks_for(n), &at);

	if (rc == 0)
		*ret_offset = at * CHUNK;
	return rc;
}

void crew__arena_free_run(struct arena *a, uint64_t offset, size_t n)
{
	release(a, offset / CHUNK, n / CHUNK);
}

uint64_t crew__arena_turns(struct arena *a)
{
	uint64_t turns;

	pthread_mutex_lock(&a->mutex);
	turns = a->turns;
	pthread_mutex_unlock(&a->mutex);
	return turns;
}

/* The first chunk from `at` on that has pages; `end`: there is none. */
static size_t next_populated(const struct arena *a, size_t at, size_t end)
{
	while (at < end && !has_pages(a, at))
		at = a->populated[at / 64] >> (at % 64) ? at + 1 : (at / 64 + 1) * 64;
	return at < end ? at : end;
}

/* Chunks with pages out of the first free run that has any. The rest of the run stays free: others may need it meanwhile. False: there is none. */
static bool take_idle(struct arena *a, struct run *ret)
{
	if (a->idle == 0 || !reserve_run(a))
		return false;
	for (size_t i = 0; i < a->run_count; i++) {
		struct run whole = a->runs[i];
		size_t end = whole.at + whole.n, from = next_populated(a, whole.at, end), to = from;

		while (to < end && has_pages(a, to))
			to++;
		if (from == to)
			continue;
		*ret = (struct run){ from, to - from };
		a->run_count--;
		memmove(&a->runs[i], &a->runs[i + 1], (a->run_count - i) * sizeof whole);
		if (from > whole.at)
			give_run(a, whole.at, from - whole.at);
		if (to < end)
			give_run(a, to, end - to);
		return true;
	}
	return false;
}

void crew__arena_trim(struct arena *a)
{
	struct run run = { 0, 0 };
	bool any;

	do {
		pthread_mutex_lock(&a->mutex);
		a->keeping = false;
		any = take_idle(a, &run);
		for (size_t i = run.at; any && i < run.at + run.n; i++) {
			a->populated[i / 64] &= ~((uint64_t)1 << (i % 64));
			a->idle--;
		}
		pthread_mutex_unlock(&a->mutex);
		if (!any)
			return;
		crew__mapping_punch(a->mapping, a->base + run.at * CHUNK, run.n * CHUNK);
		pthread_mutex_lock(&a->mutex);
		give_run(a, run.at, run.n);
		pthread_mutex_unlock(&a->mutex);
	} while (any);
}
