/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab_map.h: which addresses are slabs of records, so that a wild pointer is told from a future without touching what it points to.
 *
 * Two levels over the 47 bits of a user address: a static table of leaves, and leaves of one bit for each slab-sized piece. Leaves are made
 * at first need and never freed. Lookups take no lock: a set bit was set before the first future in that slab was handed out.
 */
#ifndef CREW_LIB_SLAB_MAP_H
#define CREW_LIB_SLAB_MAP_H

#include "core/record.h"

#define SLAB_SHIFT 18
#define LEAF_BITS 15 /* slabs to a leaf: 8 GiB of addresses in 4 KiB */
#define LEAF_COUNT (1u << (47 - SLAB_SHIFT - LEAF_BITS))

_Static_assert(SLAB_SIZE == (size_t)1 << SLAB_SHIFT, "the map is made for this size of slab");

struct slab_leaf {
	uint64_t bits[(1u << LEAF_BITS) / 64];
};
extern struct slab_leaf *crew__slab_leaves[LEAF_COUNT];

int crew__slab_map_set(const struct slab *slab); /* -ENOMEM */
void crew__slab_map_clear(const struct slab *slab);

static inline bool crew__slab_mapped(const void *p)
{
	uintptr_t index = (uintptr_t)p >> SLAB_SHIFT;
	struct slab_leaf *leaf;

	if (index >> LEAF_BITS >= LEAF_COUNT)
		return false;
	leaf = load_acquire_ptr((void *const *)&crew__slab_leaves[index >> LEAF_BITS]);
	index &= (1u << LEAF_BITS) - 1;
	return leaf && (ck_pr_load_64(&leaf->bits[index / 64]) >> (index % 64) & 1);
}

/* Is f where a record may be, or the head of a slab? */
static inline bool crew__in_slab(const crew_future *f)
{
	return ((uintptr_t)f & (sizeof *f - 1)) == 0 && crew__slab_mapped(f);
}

#endif
