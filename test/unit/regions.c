/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * regions.c: whose memory is it? (lib/core/region.c), with regions that are made up: numbers of addresses that nobody looks behind. And where records may
 * not lie (lib/core/slab_map.c).
 */
#include <errno.h>
#include <stdlib.h>

#include "../runner.h"
#include "core/context.h"
#include "core/region.h"
#include "core/slab_map.h"

static struct {
	const unsigned char *block; /* the one that the region has */
	int kept, given_back, finished;
} seen;

static bool find(struct region *r, const unsigned char *data)
{
	(void)r;
	return data == seen.block;
}

static void keep(struct region *r, const unsigned char *data)
{
	(void)r;
	seen.kept += data == seen.block;
}

static void give_back(struct region *r, const unsigned char *data, struct leftover *ret)
{
	(void)r;
	seen.given_back += data == seen.block;
	ret->size = seen.given_back == 2 ? 1 : 0; /* the second time something is left to be done */
}

static void finish(struct region *r, const struct leftover *leftover)
{
	(void)r;
	seen.finished += leftover->size == 1;
}

static struct region region_at(uintptr_t base, size_t size)
{
	return (struct region){ .base = (unsigned char *)base, .size = size, .find = find, .keep = keep, .give_back = give_back, .finish = finish };
}

static unsigned char *heap_block(void)
{
	struct block *block = crew__block_new(100);

	CHECK(block != NULL);
	return (unsigned char *)block->data;
}

/* Between two regions, in the bounds of all and in none: the heap's. */
TEST(a_block_between_two_regions_is_the_heaps)
{
	struct region low = region_at(4096, 4096), high = region_at(UINTPTR_MAX / 2 - 8191, 4096);
	unsigned char *data = heap_block();

	crew__region_add(&low);
	crew__region_add(&high);
	CHECK(!crew__memory_is_lent(data));
	crew__memory_keep(data);
	crew__memory_free(data);
	CHECK(seen.kept == 0 && seen.given_back == 0);
}

/* An address in a region that has no block there may be anybody's: regions outlive their mappings. */
TEST(an_address_in_a_region_is_its_own_only_where_it_has_a_block)
{
	struct region all = region_at(4096, UINTPTR_MAX / 2), other = region_at(4096, 4096);
	unsigned char *data = heap_block();

	crew__region_add(&all);
	crew__region_add(&other); /* asked first, has nothing there */
	CHECK(!crew__memory_is_lent(data));
	crew__memory_keep(data);
	CHECK_EQ(seen.kept, 0);
	crew__memory_free(data);
	seen.block = (unsigned char *)12345678;
	CHECK(crew__memory_is_lent((void *)(uintptr_t)seen.block));
	crew__memory_keep((void *)(uintptr_t)seen.block);
	CHECK_EQ(seen.kept, 1);
	crew__memory_free((void *)(uintptr_t)seen.block);
	CHECK(seen.given_back == 1 && seen.finished == 0);
	crew__memory_free((void *)(uintptr_t)seen.block);
	CHECK(seen.given_back == 2 && seen.finished == 1);
	crew__regions_lock();
	crew__region_remove(&all);
	crew__region_remove(&all); /* no more there, as when it was never added */
	crew__regions_unlock();
	CHECK(!crew__memory_is_lent((void *)(uintptr_t)seen.block));
}

/* Beyond what a program's addresses can be the map has no place: no record, and none can be put there. */
TEST(no_record_lies_beyond_the_addresses_of_programs)
{
	const struct slab *slab = (const struct slab *)~(uintptr_t)(SLAB_SIZE - 1);

	CHECK(!crew__slab_mapped(slab));
	CHECK_EQ(crew__slab_map_set(slab), -ENOMEM);
	CHECK(!crew__slab_mapped(slab));
}
