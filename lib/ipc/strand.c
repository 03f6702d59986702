/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * strand.c: segments, and records in them; see strand.h for who may do what.
 *
 *	segment: next | size | record, record, … | END or the end
 *	record:  item bytes, rounded up to 8; or its length, and so many bytes
 *
 * A segment's `next` is read only by who knows of a record beyond, hence after it was written; so a segment that is used again need not be cleaned.
 * A record larger than a segment gets one for itself.
 */
#include "ipc/strand.h"

#include <errno.h>
#include <string.h>

#include "ipc/family.h"

enum { SEGMENT_LEAST = 1024, SEGMENT_MOST = 64 << 10 };
#define END UINT64_MAX /* instead of a length: go on in the next segment */

struct segment {
	uint64_t next, size; /* offset; bytes of data */
	unsigned char data[];
};

static struct segment *segment_at(uint64_t offset)
{
	return crew__family_at(offset);
}

static uint64_t rounded(uint64_t n)
{
	return (n + 7) & ~7ull;
}

static uint64_t room_for(const struct strand *s, size_t n)
{
	return s->item ? rounded(n) : rounded(n) + sizeof(uint64_t);
}

static int segment_new(uint64_t size, uint64_t *ret)
{
	int rc = crew__family_alloc(sizeof(struct segment) + size, ret);

	if (rc == 0)
		segment_at(*ret)->size = size;
	return rc;
}

/* ---- the putter ---- */

/* Take the first segment out of the list. Its death before the last line: repair frees it. */
static void detach_oldest(struct strand *s)
{
	ck_pr_store_64(&s->draft, s->oldest);
	ck_pr_fence_store();
	ck_pr_store_64(&s->oldest, segment_at(s->oldest)->next);
	ck_pr_fence_store();
}

/* Free draft. The word is cleared first: who dies in between loses the segment, which is better than freeing what is somebody's again. */
static void free_draft(struct strand *s)
{
	uint64_t draft = s->draft;

	ck_pr_store_64(&s->draft, 0);
	ck_pr_fence_store();
	crew__family_free(draft);
}

static bool drained(const struct strand *s)
{
	return s->oldest != load_acquire_64(&s->reached); /* pairs with the release in crew__strand_settle_get(): the getter reads it no more */
}

/* A segment with room for `size`, in draft: one that was left, if it fits, or a new one. */
static int find_segment(struct strand *s, uint64_t size)
{
	uint64_t fresh;
	int rc;

	while (drained(s)) {
		detach_oldest(s);
		if (size <= s->size && segment_at(s->draft)->size == s->size)
			return 0;
		free_draft(s);
	}
	rc = segment_new(size > s->size ? size : s->size, &fresh);
	if (rc == 0)
		ck_pr_store_64(&s->draft, fresh);
	return rc;
}

static int go_on(struct strand *s, struct strand_place *place, uint64_t size)
{
	struct segment *last = segment_at(place->segment);
	int rc = find_segment(s, size);

	if (rc)
		return rc;
	if (s->item == 0 && place->at + sizeof(uint64_t) <= last->size)
		memcpy(last->data + place->at, &(uint64_t){ END }, sizeof(uint64_t));
	last->next = s->draft;
	place->segment = s->draft;
	place->at = 0;
	return 0;
}

int crew__strand_prepare(struct strand *s, const void *data, size_t n)
{
	struct strand_place place = s->putting[s->put & 1];
	uint64_t room = room_for(s, n), length = n;
	struct segment *segment = segment_at(place.segment);
	unsigned char *at;

	if (unlikely(place.at + room > segment->size)) {
		int rc = go_on(s, &place, room);

		if (rc)
			return rc;
		segment = segment_at(place.segment);
	}
	at = segment->data + place.at;
	if (s->item == 0) {
		memcpy(at, &length, sizeof length);
		at += sizeof length;
	}
	if (n)
		memcpy(at, data, n);
	place.at += room;
	place.bytes += n;
	s->putting[(s->put + 1) & 1] = place;
	return 0;
}

/* The draft is in the list if the putter's place says so, or if it was not taken out after all. */
void crew__strand_repair_put(struct strand *s)
{
	if (s->draft == 0)
		return;
	if (s->draft == s->putting[s->put & 1].segment || s->draft == s->oldest)
		ck_pr_store_64(&s->draft, 0);
	else
		free_draft(s);
}

/* One drained segment may stay for the next put. */
void crew__strand_trim(struct strand *s)
{
	while (drained(s) && segment_at(s->oldest)->next != load_acquire_64(&s->reached)) {
		detach_oldest(s);
		free_draft(s);
	}
	if (drained(s) && segment_at(s->oldest)->size != s->size) {
		detach_oldest(s);
		free_draft(s);
	}
}

/* ---- the getter ---- */

const void *crew__strand_peek(struct strand *s, size_t *ret_n)
{
	struct strand_place place = s->getting[s->got & 1];
	struct segment *segment;
	uint64_t n = s->item;
	unsigned char *at;

	if (load_acquire_32(&s->put) == s->got) /* pairs with the change that finishes a put */
		return NULL;
	segment = segment_at(place.segment);
	if (s->item == 0)
		n = place.at + sizeof n <= segment->size ? *(uint64_t *)(void *)(segment->data + place.at) : END;
	if (unlikely(n == END || place.at + room_for(s, n) > segment->size)) {
		place.segment = segment->next;
		place.at = 0;
		segment = segment_at(place.segment);
		n = s->item ? n : *(uint64_t *)(void *)segment->data;
	}
	at = segment->data + place.at + (s->item ? 0 : sizeof n);
	place.at += room_for(s, n);
	place.bytes += n;
	*ret_n = n;
	s->getting[(s->got + 1) & 1] = place;
	ck_pr_store_64(&s->got_bytes, place.bytes);
	return at;
}

bool crew__strand_settle_get(struct strand *s)
{
	uint64_t segment = s->getting[s->got & 1].segment;

	if (likely(segment == s->reached))
		return false;
	store_release_64(&s->reached, segment); /* pairs with the acquire in drained() */
	return true;
}

/* ---- both ---- */

uint32_t crew__strand_len(const struct strand *s)
{
	uint32_t got, put;

	do {
		got = load_acquire_32(&s->got);
		put = load_acquire_32(&s->put);
	} while (got != load_acquire_32(&s->got));
	return put - got;
}

/* Memory for twice the capacity, so that in the long run two segments take turns. */
static uint64_t usual_size(size_t item, size_t capacity, size_t bytes)
{
	uint64_t most = SEGMENT_MOST - sizeof(struct segment), size = most, each = item ? rounded(item) : 64;

	if (capacity && capacity <= most / each)
		size = capacity * each;
	if (!item && bytes && bytes < size)
		size = rounded(bytes);
	if (size < SEGMENT_LEAST - sizeof(struct segment))
		size = SEGMENT_LEAST - sizeof(struct segment);
	return item && size < rounded(item) ? rounded(item) : size;
}

int crew__strand_open(struct strand *s, size_t item, size_t capacity, size_t bytes)
{
	uint64_t first;
	int rc;

	s->item = item;
	s->size = usual_size(item, capacity, bytes);
	rc = segment_new(s->size, &first);
	if (rc)
		return rc;
	s->oldest = s->reached = first;
	s->putting[0].segment = s->getting[0].segment = first;
	return 0;
}

void crew__strand_close(struct strand *s)
{
	uint64_t last = s->putting[s->put & 1].segment, segment = s->oldest;

	crew__strand_repair_put(s);
	while (segment) {
		uint64_t next = segment == last ? 0 : segment_at(segment)->next;

		crew__family_free(segment);
		segment = next;
	}
}
