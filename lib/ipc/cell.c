/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cell.c: a chunk of cells.
 *
 *	struct cells: a bit for each cell, set while it is somebody's; for each the size that was asked for, 0 while it is no block
 *	…, cells
 *
 * Taken by setting the bit, there when its size is; gone when the size is 0, free when the bit is clear again. Who dies in between loses one cell. The
 * bits of a chunk that has been divided stay; it never becomes anything else, so a stale handle to a cell looks at memory that is there.
 *
 * A search begins at the chunk where a cell was found or given back last.
 */
#include "ipc/cell.h"

#include <errno.h>
#include <string.h>

#include "ipc/extent.h"

enum { BIT_WORDS = 16 };

struct cells {
	/* everybody, atomically */
	uint64_t bits[BIT_WORDS];
	uint32_t sizes[]; /* written by who has the bit; to 0 by one of all who free it */
};

static struct cells *cells_of(const struct family *m, uint32_t chunk)
{
	return (struct cells *)(void *)chunk_at(m, chunk);
}

static uint32_t cell_count(unsigned shift)
{
	return (uint32_t)((CHUNK_SIZE - sizeof(struct cells) - CREW__CACHELINE) / (((size_t)1 << shift) + sizeof(uint32_t)));
}

/* Where the cells begin in their chunk. */
static size_t cells_start(unsigned shift)
{
	size_t end = sizeof(struct cells) + cell_count(shift) * sizeof(uint32_t);

	return (end + CREW__CACHELINE - 1) & ~(size_t)(CREW__CACHELINE - 1);
}

static unsigned shift_for(size_t n)
{
	unsigned shift = CELL_SHIFT_MIN;

	while ((size_t)1 << shift < n)
		shift++;
	return shift;
}

/* A cell of this chunk; -1: all are taken. */
static int take(struct cells *cells)
{
	for (int i = 0; i < BIT_WORDS; i++) {
		uint64_t seen = ck_pr_load_64(&cells->bits[i]);

		while (~seen) {
			int bit = __builtin_ctzll(~seen);

			if (ck_pr_cas_64_value(&cells->bits[i], seen, seen | (uint64_t)1 << bit, &seen)) {
				ck_pr_fence_acquire(); /* pairs with the release in crew__cell_free() */
				return i * 64 + bit;
			}
		}
	}
	return -1;
}

/* A chunk of cells more: its index, or -errno. */
static int64_t divide(struct family *m, unsigned shift)
{
	uint32_t chunk = crew__extent_claim(m, 1), count = cell_count(shift);
	int rc;

	if (chunk == 0)
		return -ENOMEM;
	rc = crew__family_populate(m, chunk_at(m, chunk), CHUNK_SIZE);
	if (rc) {
		crew__family_give_back(chunk_at(m, chunk), CHUNK_SIZE);
		crew__extent_release(m, chunk, 1);
		return rc;
	}
	for (uint32_t i = count; i < BIT_WORDS * 64; i++) /* those that are not there are taken */
		cells_of(m, chunk)->bits[i / 64] |= (uint64_t)1 << (i % 64);
	store_release_64(word_of(m, chunk), CHUNK_WORD(CHUNK_CELLS, shift)); /* pairs with the acquire in search() and chunk_word() */
	return chunk;
}

/* A cell in a chunk of [from, end). */
static bool search(struct family *m, unsigned shift, uint32_t from, uint32_t end, uint32_t *ret_chunk, int *ret_cell)
{
	for (uint32_t i = from; i < end; i++) {
		if (load_acquire_64(word_of(m, i)) != CHUNK_WORD(CHUNK_CELLS, shift)) /* pairs with the release in divide() */
			continue;
		*ret_cell = take(cells_of(m, i));
		*ret_chunk = i;
		if (*ret_cell >= 0)
			return true;
	}
	return false;
}

int crew__cell_alloc(struct family *m, size_t n, uint64_t *ret_offset)
{
	unsigned shift = shift_for(n);
	uint32_t *hint = &head_of(m)->cell_hint[shift - CELL_SHIFT_MIN], start = ck_pr_load_32(hint), chunk;
	uint64_t offset;
	int cell;

	while (!search(m, shift, start, ck_pr_load_32(&head_of(m)->ready), &chunk, &cell) &&
	       !search(m, shift, head_of(m)->first_chunk, start, &chunk, &cell)) {
		int64_t fresh = divide(m, shift);

		if (fresh < 0)
			return (int)fresh;
		start = (uint32_t)fresh;
	}
	ck_pr_store_32(hint, chunk);
	offset = ((uint64_t)chunk << CHUNK_SHIFT) + cells_start(shift) + ((uint64_t)cell << shift);
#ifndef CREW_FAULT_DIRTY_CELL
	memset(m->base + offset, 0, (size_t)1 << shift);
#endif
	store_release_32(&cells_of(m, chunk)->sizes[cell], (uint32_t)n); /* pairs with the acquire in crew__cell_size() */
	*ret_offset = offset;
	return 0;
}

/* The cell that begins at offset; -1: none does. */
static int cell_at(uint64_t offset, unsigned shift)
{
	uint64_t inside = offset % CHUNK_SIZE, start = cells_start(shift);

	if (inside < start || (inside - start) & (((uint64_t)1 << shift) - 1) || (inside - start) >> shift >= cell_count(shift))
		return -1;
	return (int)((inside - start) >> shift);
}

void crew__cell_free(struct family *m, uint64_t offset, uint64_t word)
{
	uint32_t chunk = (uint32_t)(offset >> CHUNK_SHIFT), *size, seen;
	struct cells *cells = cells_of(m, chunk);
	unsigned shift = (unsigned)(word >> 8);
	int cell = cell_at(offset, shift);

	if (cell < 0)
		return;
	size = &cells->sizes[cell];
	seen = ck_pr_load_32(size);
	if (seen == 0 || !ck_pr_cas_32(size, seen, 0))
		return; /* another was faster */
	ck_pr_fence_release(); /* pairs with the acquire in take(): nothing of ours is written there any more */
	ck_pr_and_64(&cells->bits[cell / 64], ~((uint64_t)1 << (cell % 64)));
#ifdef CREW_FAULT_DIRTY_CELL
	memset(m->base + offset, 0, (size_t)1 << shift);
#endif
	ck_pr_store_32(&head_of(m)->cell_hint[shift - CELL_SHIFT_MIN], chunk);
}

size_t crew__cell_size(const struct family *m, uint64_t offset, uint64_t word)
{
	int cell = cell_at(offset, (unsigned)(word >> 8));

	return cell < 0 ? 0 : load_acquire_32(&cells_of(m, (uint32_t)(offset >> CHUNK_SHIFT))->sizes[cell]); /* pairs with crew__cell_alloc() */
}

size_t crew__cells_used(const struct family *m, uint32_t chunk, uint64_t word)
{
	unsigned shift = (unsigned)(word >> 8);
	size_t taken = 0;

	for (int i = 0; i < BIT_WORDS; i++)
		taken += (size_t)__builtin_popcountll(ck_pr_load_64(&cells_of(m, chunk)->bits[i]));
	return (taken - (BIT_WORDS * 64 - cell_count(shift))) << shift;
}
