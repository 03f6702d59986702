/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * family_memory.h: how the family's memory is laid out, for the three files that know: family.c maps it, extent.c hands out runs of chunks, cell.c
 * divides a chunk into blocks of one size.
 *
 *	0	struct family_head
 *	4096	uint64_t word[chunk_count]: what each chunk is
 *	…	chunks of 64 KiB, from first_chunk on
 *
 * A chunk's word has its kind in the low byte:
 *
 *	FREE	0; its pages are zeroes or holes
 *	TAKEN	somebody's: in the middle of an extent, or on its way from or to FREE. If that somebody died, for ever
 *	EXTENT	the first of a large block; the rest of the word is the size that was asked for
 *	CELLS	divided into cells; the rest of the word is their shift
 */
#ifndef CREW_LIB_FAMILY_MEMORY_H
#define CREW_LIB_FAMILY_MEMORY_H

#include "base/atomic.h"
#include "base/descriptor.h"
#include "ipc/family.h"

enum { CHUNK_SHIFT = 16, CELL_SHIFT_MIN = 6, CELL_SHIFT_MAX = 13, CELL_CLASSES = CELL_SHIFT_MAX - CELL_SHIFT_MIN + 1 };
enum { SEGMENTS_MAX = 128 };
#define CHUNK_SIZE ((size_t)1 << CHUNK_SHIFT)
#define TABLE_OFFSET ((size_t)4096)
#define TABLE_STEP 512u /* chunks whose words fill one page */

enum chunk_kind { CHUNK_FREE, CHUNK_TAKEN, CHUNK_EXTENT, CHUNK_CELLS };
#define CHUNK_KIND(word_) ((enum chunk_kind)((word_) & 0xff))
#define CHUNK_WORD(kind_, rest_) ((uint64_t)(rest_) << 8 | (uint64_t)(kind_))

struct family_head {
	/* fixed before anybody else sees it */
	uint32_t chunk_count, first_chunk;

	/* everybody, atomically; each change leaves it right, so that a death changes nothing */
	uint32_t ready CREW__ALIGNED; /* chunks below have pages behind their words; only grows */
	uint32_t hint;		      /* where the search for a free chunk begins. A guess: a wrong one costs time */
	uint32_t cell_hint[CELL_CLASSES]; /* likewise for cells */
	uint64_t next_stamp CREW__ALIGNED; /* of handles; begins at random, so that those of two families differ */
	uint64_t root[FAMILY_ROOTS];	    /* places of what there is one of in a family; from 0, once */

	/* mortal.c: atomically */
	uint32_t segment_count CREW__ALIGNED; /* only grows */
	uint32_t seats; /* indices of seats that were ever taken are below; only grows */
	uint64_t segments[SEGMENTS_MAX]; /* offsets of tables of seats; each is set once */
};

/* The family as this process has it. Made once, never changed, never freed. */
struct family {
	unsigned char *base;
	size_t size;
	int fd;
	struct fd_mark mark; /* what fd is, for the day when the program closes it and the number becomes something else's */
};
extern struct family *crew__family;

static inline struct family *family_here(void)
{
	return load_acquire_ptr((void *const *)&crew__family);
}

static inline struct family_head *head_of(const struct family *m)
{
	return (struct family_head *)(void *)m->base;
}

static inline uint64_t *word_of(const struct family *m, uint32_t chunk)
{
	return (uint64_t *)(void *)(m->base + TABLE_OFFSET) + chunk;
}

static inline unsigned char *chunk_at(const struct family *m, uint32_t chunk)
{
	return m->base + ((size_t)chunk << CHUNK_SHIFT);
}

/* Pages behind [p, p + n), rounded to whole ones; -ENOMEM, -ENOSPC. */
int crew__family_populate(const struct family *m, void *p, size_t n);

/* Give the pages behind [p, p + n) back, p at a page: zeroes are read there then. False: that is not possible, they are as they were. */
bool crew__family_give_back(void *p, size_t n);

#endif
