/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * result_store.c: leases on results that stay where their worker wrote them.
 *
 *	stock (granted) ─ answer ─> lease ─ record recycled, or crew_bytes_free() ─> the worker's again: its bit in orders is flipped
 *	                                                                          └> no worker has the stock: back to the arena
 *
 * A bit that flips costs no message and no wake: a worker that answers, is freed and answers again goes round in the same pages, which are warm in its
 * cache and in everybody's page tables. All decisions are made on what is kept here; nothing in shared memory is read but the
 * extent of an answer, which the caller has fetched.
 *
 * A stock larger than STOCK_KEPT is for one result: the pages that this does not need go back at once, and the stock with it.
 *
 * Bytes that were taken are the user's, so they must be in a forked child like any other memory of his. Shared memory would be there, but shared, and used
 * again for other results when the parent frees it. So before a fork the addresses of what was taken are mapped privately, every page of
 * it copied: by the kernel, page by page and atomically, so threads that write there meanwhile notice nothing. Mappings that are no leases of
 * the user's are not inherited.
 */
#include "process/result_store.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/table.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

_Static_assert(STOCK_UNIT == ARENA_CHUNK, "what passes with a result is made of whole chunks");

static uint64_t bits(uint32_t first, uint32_t n)
{
	return (n < 64 ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0) << first;
}

static struct result_store *store_of(struct region *r)
{
	return (struct result_store *)r;
}

static unsigned char *address(const struct result_store *store, uint64_t offset)
{
	return store->mapping.base + store->arena.base + offset;
}

/* The mutex is held. */
static void enter(struct result_store *store, uint64_t offset, uint64_t size, struct stock *s)
{
	if ((offset + size) / ARENA_CHUNK > store->reach)
		store->reach = (offset + size) / ARENA_CHUNK;
	for (uint64_t chunk = offset / ARENA_CHUNK; chunk < (offset + size) / ARENA_CHUNK; chunk++)
		store->by_chunk[chunk] = s;
}

static size_t chunks(const struct result_store *store)
{
	return store->region.size / ARENA_CHUNK;
}

/* No executor, no lease, nobody on his way out. The mutex is held. */
static bool is_over(const struct result_store *store)
{
	return !store->orders && store->leases == 0 && store->busy == 0;
}

/* Nothing of it is mapped any more. */
static void destroy(struct result_store *store)
{
	crew__table_free(store->by_chunk, chunks(store), sizeof *store->by_chunk);
	crew__arena_fini(&store->arena);
	crew__mapping_punch(&store->mapping, 0, store->mapping.size);
	crew__fd_close(store->mapping.fd, &store->mapping.mark);
	free(store);
}

/* ---- stocks ---- */

struct stock *crew__stock_new(struct result_store *store, uint32_t worker, uint32_t slot, size_t n)
{
	struct stock *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->worker = worker;
	s->slot = slot;
	s->size = (n + STOCK_UNIT - 1) & ~(STOCK_UNIT - 1);
	s->unit = s->size > STOCK_KEPT ? s->size : STOCK_UNIT;
	if (s->size < n || crew__arena_alloc_run(&store->arena, s->size, &s->offset)) {
		free(s);
		return NULL;
	}
	crew__regions_lock();
	enter(store, s->offset, s->size, s);
	crew__regions_unlock();
	return s;
}

/* Runs of units that no lease has, from `at` on: the first, or false. */
static bool free_units(const struct stock *s, uint32_t *at, uint32_t *ret_n)
{
	uint32_t units = (uint32_t)(s->size / s->unit);

	while (*at < units && (s->held >> *at & 1))
		++*at;
	*ret_n = 0;
	while (*at + *ret_n < units && !(s->held >> (*at + *ret_n) & 1))
		++*ret_n;
	return *ret_n > 0;
}

void crew__stock_drop(struct result_store *store, struct stock *s)
{
	struct leftover left[STOCK_UNITS];
	uint32_t at = 0, n, count = 0;

	if (!s)
		return;
	crew__regions_lock();
	for (; free_units(s, &at, &n); at += n) {
		left[count++] = (struct leftover){ s->offset + at * s->unit, n * s->unit };
		enter(store, left[count - 1].offset, left[count - 1].size, NULL);
	}
	s->orphan = true;
	if (s->held == 0)
		free(s);
	crew__regions_unlock();
	for (uint32_t i = 0; i < count; i++)
		crew__arena_free_run(&store->arena, left[i].offset, left[i].size);
}

/* ---- leases ---- */

/* What a result does not need of a stock that is for it alone: before it and behind it. */
static void trim(struct result_store *store, struct stock *s, const struct extent *extent, struct leftover left[2])
{
	uint64_t begin = extent->offset & ~(STOCK_UNIT - 1), end = (extent->offset + extent->size + STOCK_UNIT - 1) & ~(STOCK_UNIT - 1);

	left[0] = (struct leftover){ s->offset, begin - s->offset };
	left[1] = (struct leftover){ end, s->offset + s->size - end };
	enter(store, left[0].offset, left[0].size, NULL);
	enter(store, left[1].offset, left[1].size, NULL);
	s->offset = begin;
	s->size = s->unit = end - begin;
	s->orphan = true;
}

unsigned char *crew__stock_lease(struct result_store *store, struct stock **place, const struct extent *extent)
{
	struct leftover left[2] = { { 0, 0 }, { 0, 0 } };
	struct stock *s = *place;
	bool alone = s->size > STOCK_KEPT, ok;
	uint64_t at = extent->offset - s->offset, mask = 1;
	uint32_t first = 0, n = 1;

	if (extent->size == 0 || extent->offset < s->offset || at >= s->size || extent->size > s->size - at)
		return NULL;
	if (!alone) {
		first = (uint32_t)(at / STOCK_UNIT);
		n = (uint32_t)((at + extent->size - 1) / STOCK_UNIT) - first + 1;
		mask = bits(first, n);
	}
	crew__regions_lock();
	ok = !(s->held & mask);
	if (ok) {
		s->held |= mask;
		s->span[first] = (uint8_t)n;
		store->leases++;
		if (alone)
			trim(store, s, extent, left);
	}
	crew__regions_unlock();
	if (!ok)
		return NULL;
	if (alone)
		*place = NULL;
	for (int i = 0; i < 2; i++)
		if (left[i].size)
			crew__arena_free_run(&store->arena, left[i].offset, left[i].size);
	return address(store, extent->offset);
}

/* The stock and the first unit of the lease that has this address. The mutex is held. */
static struct stock *look_up(struct region *r, const unsigned char *data, uint32_t *ret_first)
{
	struct result_store *store = store_of(r);
	uint64_t offset = (uint64_t)(data - r->base);
	struct stock *s = store->by_chunk[offset / ARENA_CHUNK];

	*ret_first = s ? (uint32_t)((offset - s->offset) / s->unit) : 0;
	return s;
}

static bool find(struct region *r, const unsigned char *data)
{
	uint32_t first;

	return look_up(r, data, &first) != NULL;
}

static void keep(struct region *r, const unsigned char *data)
{
	uint32_t first;
	struct stock *s = look_up(r, data, &first);

	if (s->span[first] && !(s->kept >> first & 1)) {
		s->kept |= (uint64_t)1 << first;
		store_of(r)->kept++;
	}
}

/* A lease's addresses and their length. */
static unsigned char *range_of(const struct result_store *store, const struct stock *s, uint32_t first, size_t *ret_n)
{
	*ret_n = s->span[first] * s->unit;
	return address(store, s->offset + first * s->unit);
}

/* The addresses of a lease show the store's memory again. False: they cannot, and are not to be used again. */
static bool rejoin(struct result_store *store, const struct stock *s, uint32_t first)
{
	size_t n;
	unsigned char *at = range_of(store, s, first, &n);

	if (!crew__fd_is(store->mapping.fd, &store->mapping.mark) ||
	    mmap(at, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, store->mapping.fd, at - store->mapping.base) == MAP_FAILED)
		return false;
	madvise(at, n, MADV_DONTFORK);
	madvise(at, n, MADV_DONTDUMP);
	return true;
}

/* Its worker may use these units again. Pairs with the load in returned_units (rooms.c). */
static void return_units(struct result_store *store, const struct stock *s, uint64_t mask)
{
	struct stock_order *order = &store->orders[s->worker].stock[s->slot];

	store_release_64(&order->returned, order->returned ^ mask);
}

/* A child's copy of the books: the memory is its own if it was mapped apart, else it is not there. */
static void give_back_copy(struct result_store *store, struct stock *s, uint32_t first)
{
	size_t n;
	unsigned char *at = range_of(store, s, first, &n);

	madvise(at, n, MADV_DONTNEED);
	s->span[first] = 0;
}

static void give_back(struct region *r, const unsigned char *data, struct leftover *ret)
{
	struct result_store *store = store_of(r);
	uint32_t first;
	struct stock *s = look_up(r, data, &first);
	uint64_t bit = (uint64_t)1 << first, mask = bits(first, s->span[first]);

	if (s->span[first] == 0)
		return; /* given back twice */
	if (store->inherited) {
		give_back_copy(store, s, first);
		return;
	}
	store->leases--;
	store->kept -= s->kept >> first & 1;
	s->kept &= ~bit;
	if ((s->apart & bit) && store->orders && !rejoin(store, s, first)) {
		s->span[first] = 0; /* its units are held for ever */
		return;
	}
	s->apart &= ~bit;
	*ret = (struct leftover){ s->offset + first * s->unit, s->span[first] * s->unit };
	s->span[first] = 0;
	s->held &= ~mask;
	if (!s->orphan) {
		return_units(store, s, mask);
		ret->size = 0;
	} else {
		store->busy++; /* until `finish` */
		enter(store, ret->offset, ret->size, NULL);
		if (s->held == 0)
			free(s);
	}
}

/* The mutex is not held, but the store is counted as busy. */
static void finish(struct region *r, const struct leftover *left)
{
	struct result_store *store = store_of(r);
	bool over;

	crew__regions_lock();
	over = !store->orders;
	crew__regions_unlock();
	if (over) {
		crew__mapping_punch(&store->mapping, store->arena.base + left->offset, left->size);
		munmap(address(store, left->offset), left->size);
	} else {
		crew__arena_free_run(&store->arena, left->offset, left->size);
	}
	crew__regions_lock();
	store->busy--;
	over = is_over(store);
	if (over)
		crew__region_remove(r);
	crew__regions_unlock();
	if (over)
		destroy(store);
}

/* ---- forks ---- */

/* Private memory with the same bytes at the same place, as other threads see it at once. */
static void part(struct result_store *store, struct stock *s, uint32_t first)
{
	size_t n;
	unsigned char *at = range_of(store, s, first, &n);

	if (!crew__fd_is(store->mapping.fd, &store->mapping.mark) ||
	    mmap(at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, store->mapping.fd, at - store->mapping.base) == MAP_FAILED)
		return; /* the child will not have it */
	s->apart |= (uint64_t)1 << first;
	if (madvise(at, n, MADV_POPULATE_WRITE) && errno == EINVAL) /* Linux before 5.14 */
		for (size_t i = 0; i < n; i += 4096)
			ck_pr_or_8(at + i, 0); /* a write that changes nothing, whoever writes at the same moment */
}

static void before_fork(struct region *r)
{
	struct result_store *store = store_of(r);

	for (size_t chunk = 0; chunk < store->reach && store->kept && !store->inherited; chunk++) {
		struct stock *s = store->by_chunk[chunk];

		for (uint64_t firsts = s ? s->kept & ~s->apart : 0; firsts; firsts &= firsts - 1)
			part(store, s, (uint32_t)__builtin_ctzll(firsts));
	}
}

/* The units of s that are private memory. */
static uint64_t units_apart(const struct stock *s)
{
	uint64_t units = 0;

	for (uint64_t firsts = s->apart; firsts; firsts &= firsts - 1) {
		uint32_t first = (uint32_t)__builtin_ctzll(firsts);

		units |= bits(first, s->span[first]);
	}
	return units;
}

/* Where nothing was inherited anything may be mapped: those addresses are not ours any more. */
static void in_child(struct region *r)
{
	struct result_store *store = store_of(r);

	store->inherited = true;
	for (size_t chunk = 0; chunk < store->reach; chunk++) {
		struct stock *s = store->by_chunk[chunk];

		if (s && !(units_apart(s) >> ((chunk * ARENA_CHUNK - s->offset) / s->unit) & 1))
			store->by_chunk[chunk] = NULL;
	}
}

/* ---- opening and closing ---- */

int crew__store_open(struct result_store **ret, const struct mapping *mapping, size_t arena_at, size_t arena_size, struct orders *orders)
{
	struct result_store *store = calloc(1, sizeof *store);
	int rc;

	if (!store)
		return -ENOMEM;
	store->mapping = *mapping;
	store->orders = orders;
	rc = crew__arena_init(&store->arena, &store->mapping, arena_at, arena_size);
	store->by_chunk = rc == 0 ? crew__table_new(store->arena.size / ARENA_CHUNK, sizeof *store->by_chunk) : NULL;
	if (!store->by_chunk) {
		crew__arena_fini(&store->arena);
		free(store);
		return -ENOMEM;
	}
	store->region = (struct region){ .base = mapping->base + arena_at, .size = store->arena.size, .find = find, .keep = keep,
					 .give_back = give_back, .finish = finish, .before_fork = before_fork, .in_child = in_child };
	crew__region_add(&store->region);
	*ret = store;
	return 0;
}

/* Only what is on lease stays mapped, and keeps its pages. The mutex is held: nothing is given back meanwhile. */
static void unmap_rest(struct result_store *store)
{
	size_t end = 0; /* of what is dealt with */

	for (size_t chunk = 0; chunk < store->reach; chunk++) {
		size_t at = store->arena.base + chunk * ARENA_CHUNK;

		if (!store->by_chunk[chunk])
			continue;
		crew__mapping_unmap(&store->mapping, end, at - end);
		end = at + ARENA_CHUNK;
	}
	crew__mapping_unmap(&store->mapping, end, store->mapping.size - end);
}

void crew__store_close(struct result_store *store)
{
	bool over;

	if (!store)
		return;
	crew__regions_lock();
	store->orders = NULL;
	over = is_over(store);
	if (over)
		crew__region_remove(&store->region);
	else
		unmap_rest(store);
	crew__regions_unlock();
	if (over) {
		munmap(store->mapping.base, store->mapping.size);
		destroy(store);
	}
}
