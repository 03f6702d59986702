/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * extent.c: chunks are claimed one by one, each by a compare-and-swap of its word from FREE to TAKEN.
 *
 * Who meets a chunk in the middle of his run that another has taken puts back what he has, and goes on behind it: nobody waits for anybody.
 * A block is there when its first word says EXTENT; it is gone when that word says TAKEN again, which one of all who free it achieves. Who dies between these
 * steps leaves chunks TAKEN for ever: some addresses, and at worst the pages of one block.
 *
 * The words themselves lie in pages that have to be there: a page of the table holds those of 512 chunks, and `ready` says how far they go.
 */
#include "ipc/extent.h"

#include <errno.h>
#include <string.h>

/* Another page of the table. False: there is none, or no memory for it. */
static bool extend(struct family *m, uint32_t ready)
{
	struct family_head *head = head_of(m);

	if (ready >= head->chunk_count || crew__family_populate(m, word_of(m, ready), TABLE_STEP * sizeof(uint64_t)))
		return false;
	ck_pr_cas_32(&head->ready, ready, ready + TABLE_STEP < head->chunk_count ? ready + TABLE_STEP : head->chunk_count);
	return true;
}

static void lower(uint32_t *hint, uint32_t chunk)
{
	uint32_t seen = ck_pr_load_32(hint);

	while (chunk < seen && !ck_pr_cas_32_value(hint, seen, chunk, &seen))
		;
}

void crew__extent_release(struct family *m, uint32_t first, uint32_t n)
{
	for (uint32_t i = n; i-- > 0;)
		store_release_64(word_of(m, first + i), CHUNK_FREE); /* pairs with the acquire in claim(): what was written there is over */
	lower(&head_of(m)->hint, first);
}

/* How many of the n chunks from first on could be taken, before one could not. */
static uint32_t claim(struct family *m, uint32_t first, uint32_t n)
{
	uint32_t got = 0;

	while (got < n && ck_pr_load_64(word_of(m, first + got)) == CHUNK_FREE && ck_pr_cas_64(word_of(m, first + got), CHUNK_FREE, CHUNK_TAKEN))
		got++;
	ck_pr_fence_acquire();
	return got;
}

/* The first of n free chunks in [from, end); 0: none. */
static uint32_t search(struct family *m, uint32_t from, uint32_t end, uint32_t n)
{
	while (from < end && n <= end - from) {
		uint32_t got;

		if (ck_pr_load_64(word_of(m, from)) != CHUNK_FREE) {
			from++;
			continue;
		}
		got = claim(m, from, n);
		if (got == n)
			return from;
		if (got)
			crew__extent_release(m, from, got);
		from += got + 1;
	}
	return 0;
}

uint32_t crew__extent_claim(struct family *m, uint32_t n)
{
	struct family_head *head = head_of(m);

	for (;;) {
		uint32_t ready = ck_pr_load_32(&head->ready), hint = ck_pr_load_32(&head->hint);
		uint32_t first = search(m, hint, ready, n);

		if (first == 0 && hint > head->first_chunk)
			first = search(m, head->first_chunk, ready, n);
		if (first) {
			if (n == 1)
				ck_pr_cas_32(&head->hint, hint, first + 1);
			return first;
		}
		if (!extend(m, ready))
			return 0;
	}
}

int crew__extent_alloc(struct family *m, size_t n, uint64_t *ret_offset)
{
	uint32_t count, first;
	int rc;

	if (n > m->size)
		return -ENOMEM;
	count = (uint32_t)((n + CHUNK_SIZE - 1) >> CHUNK_SHIFT);
	first = crew__extent_claim(m, count);
	if (first == 0)
		return -ENOMEM;
	rc = crew__family_populate(m, chunk_at(m, first), n);
	if (rc) {
		crew__family_give_back(chunk_at(m, first), n);
		crew__extent_release(m, first, count);
		return rc;
	}
	store_release_64(word_of(m, first), CHUNK_WORD(CHUNK_EXTENT, n)); /* pairs with the acquire in family.c's chunk_word() */
	*ret_offset = (uint64_t)first << CHUNK_SHIFT;
	return 0;
}

void crew__extent_free(struct family *m, uint64_t offset, uint64_t word)
{
	uint32_t first = (uint32_t)(offset >> CHUNK_SHIFT);
	size_t n = (size_t)(word >> 8);

	if (!ck_pr_cas_64(word_of(m, first), word, CHUNK_TAKEN))
		return; /* another was faster */
	ck_pr_fence_acquire();
#ifdef CREW_FAULT_DIRTY_EXTENT
	crew__extent_release(m, first, (uint32_t)((n + CHUNK_SIZE - 1) >> CHUNK_SHIFT));
#endif
	if (!crew__family_give_back(chunk_at(m, first), n))
		memset(chunk_at(m, first), 0, n);
	crew__extent_release(m, first, (uint32_t)((n + CHUNK_SIZE - 1) >> CHUNK_SHIFT));
}
