/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slab_map.c: setting and clearing the bits; see slab_map.h for what they are for.
 */
#include "core/slab_map.h"

#include <errno.h>
#include <stdlib.h>

struct slab_leaf *crew__slab_leaves[LEAF_COUNT];

static struct slab_leaf *leaf_of(uintptr_t index)
{
	struct slab_leaf **place = &crew__slab_leaves[index >> LEAF_BITS];
	struct slab_leaf *leaf = load_acquire_ptr((void *const *)place);

	if (leaf)
		return leaf;
	leaf = calloc(1, sizeof *leaf);
	if (leaf && !ck_pr_cas_ptr(place, NULL, leaf)) { /* full barrier on x86; the leaf is zeroes, which need no order elsewhere */
		free(leaf);
		leaf = load_acquire_ptr((void *const *)place);
	}
	return leaf;
}

int crew__slab_map_set(const struct slab *slab)
{
	uintptr_t index = (uintptr_t)slab >> SLAB_SHIFT, bit = index & ((1u << LEAF_BITS) - 1);
	struct slab_leaf *leaf = index >> LEAF_BITS < LEAF_COUNT ? leaf_of(index) : NULL;

	if (!leaf)
		return -ENOMEM;
	ck_pr_or_64(&leaf->bits[bit / 64], (uint64_t)1 << (bit % 64));
	return 0;
}

void crew__slab_map_clear(const struct slab *slab)
{
	uintptr_t index = (uintptr_t)slab >> SLAB_SHIFT, bit = index & ((1u << LEAF_BITS) - 1);

	ck_pr_and_64(&crew__slab_leaves[index >> LEAF_BITS]->bits[bit / 64], ~((uint64_t)1 << (bit % 64)));
}
