/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region.c: whose memory is this? By address: in the bounds of all regions → the one that has a block there → else the heap's.
 *
 * The bounds are two words that are read without the mutex: most programs never have a large result of a worker process, and a heap block is then
 * told by two comparisons. Ranges may overlap: a region whose executor is closed keeps only the addresses of blocks that are still
 * held, and the rest may be mapped anew by anybody. So a region is asked whether it has a block there, not only whether the address is in it.
 */
#include "core/region.h"

#include <pthread.h>
#include <stdint.h>

#include "core/context.h"

static struct {
	pthread_mutex_t mutex;
	struct region *first; /* guarded by mutex */
	unsigned char *low, *high; /* of all there ever were; written under the mutex, before a block of theirs is handed out */
} regions = { .mutex = PTHREAD_MUTEX_INITIALIZER, .low = (unsigned char *)UINTPTR_MAX };

void crew__regions_lock(void)
{
	pthread_mutex_lock(&regions.mutex);
}

void crew__regions_unlock(void)
{
	pthread_mutex_unlock(&regions.mutex);
}

void crew__region_add(struct region *r)
{
	unsigned char *low = r->base, *high = low + r->size;

	crew__regions_lock();
	r->next = regions.first;
	regions.first = r;
	if (low < regions.low)
		ck_pr_store_ptr(&regions.low, low);
	if (high > regions.high)
		ck_pr_store_ptr(&regions.high, high);
	crew__regions_unlock();
}

void crew__region_remove(struct region *r)
{
	struct region **place = &regions.first;

	while (*place && *place != r)
		place = &(*place)->next;
	if (*place)
		*place = r->next;
}

/* NULL: the heap's. The mutex is held. */
static struct region *region_of(const unsigned char *data)
{
	struct region *r = regions.first;

	while (r && !((uintptr_t)data - (uintptr_t)r->base < r->size && r->find(r, data)))
		r = r->next;
	return r;
}

static bool in_bounds(const void *data)
{
	return (uintptr_t)data >= (uintptr_t)ck_pr_load_ptr(&regions.low) &&
	       (uintptr_t)data < (uintptr_t)ck_pr_load_ptr(&regions.high);
}

void crew__memory_free(void *data)
{
	struct leftover leftover = { 0, 0 };
	struct region *r = NULL;

	if (!data)
		return;
	if (unlikely(in_bounds(data))) {
		crew__regions_lock();
		r = region_of(data);
		if (r)
			r->give_back(r, data, &leftover);
		crew__regions_unlock();
	}
	if (!r)
		crew__block_free(block_of(data));
	else if (leftover.size)
		r->finish(r, &leftover);
}

bool crew__memory_is_lent(void *data)
{
	bool found;

	if (likely(!in_bounds(data)))
		return false;
	crew__regions_lock();
	found = region_of(data) != NULL;
	crew__regions_unlock();
	return found;
}

void crew__memory_keep(void *data)
{
	struct region *r;

	if (likely(!in_bounds(data)))
		return;
	crew__regions_lock();
	r = region_of(data);
	if (r)
		r->keep(r, data);
	crew__regions_unlock();
}

void crew__regions_before_fork(void)
{
	crew__regions_lock();
	for (struct region *r = regions.first; r; r = r->next)
		r->before_fork(r);
}

void crew__regions_after_fork(bool child)
{
	for (struct region *r = child ? regions.first : NULL; r; r = r->next)
		r->in_child(r);
	crew__regions_unlock();
}
