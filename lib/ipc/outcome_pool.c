/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outcome_pool.c: where outcomes come from, and where a process finds them by number.
 *
 *	slabs of 64, 128, 256, … outcomes, made at need, never given back    number → slab by its highest bit
 *	free ones: a stack through `next`; its head carries a tag against ABA
 *
 * Who dies between taking one and making it ALIVE loses it; nobody else notices. What the dead still hold is swept when the stack is empty
 * and so many were taken since the last sweep as were alive then: so sweeping costs each that is taken a constant.
 *
 * Bells: a process that watches outcomes sleeps on one word of its own, found by its pid. Two that fall on the same word wake each other once too often.
 */
#include <errno.h>
#include <limits.h>

#include "base/futex.h"
#include "ipc/family.h"
#include "ipc/outcome.h"

enum { SLABS = 20, SLAB_FIRST = 64, BELLS = 512 };

struct pool {
	/* fixed before anybody else sees it */
	uint32_t nonce;
	/* anybody, by CAS */
	uint64_t free CREW__ALIGNED; /* tag:32 | number + 1 */
	uint32_t used;		      /* numbers below were handed out once; only grows */
	uint32_t taken, sweep_at;     /* how often one was taken; when that has come so far there may be a sweep */
	uint64_t slab[SLABS];	      /* from 0, once */
	/* anybody, by faa; futex */
	uint32_t bell[BELLS] CREW__ALIGNED;
};

static struct pool *pool_here(void)
{
	static struct pool *pool;
	struct pool *p = load_acquire_ptr((void *const *)&pool);
	uint64_t offset;

	if (p)
		return p;
	if (crew__family_root(FAMILY_ROOT_OUTCOMES, sizeof *p, &offset))
		return NULL;
	p = crew__family_at(offset);
	if (ck_pr_load_32(&p->nonce) == 0)
		(void)ck_pr_cas_32(&p->nonce, 0, (uint32_t)crew__now() | 1);
	store_release_ptr((void **)&pool, p);
	return p;
}

int crew__outcome_pool(void)
{
	return pool_here() ? 0 : -ENOMEM;
}

uint32_t crew__outcome_nonce(void)
{
	uint32_t nonce = ck_pr_load_32(&pool_here()->nonce);

	return (nonce >> 16 ^ nonce) & 0xffff;
}

/* ---- by number ---- */

static uint32_t slab_of_index(uint32_t index)
{
	return 31 - (uint32_t)__builtin_clz(index / SLAB_FIRST + 1);
}

static uint32_t slab_start(uint32_t slab)
{
	return SLAB_FIRST * ((1u << slab) - 1);
}

struct outcome *crew__outcome_at(uint32_t index)
{
	struct pool *p = pool_here();
	uint32_t slab = slab_of_index(index);
	uint64_t offset = slab < SLABS ? load_acquire_64(&p->slab[slab]) : 0;

	if (!offset || index >= load_acquire_32(&p->used))
		return NULL;
	return (struct outcome *)crew__family_at(offset) + (index - slab_start(slab));
}

/* Make sure that the slab of this number is there. */
static bool slab_ready(struct pool *p, uint32_t index)
{
	uint32_t slab = slab_of_index(index);
	uint64_t offset;

	if (slab >= SLABS)
		return false;
	if (load_acquire_64(&p->slab[slab]))
		return true;
	if (crew__family_alloc((size_t)(SLAB_FIRST << slab) * sizeof(struct outcome), &offset))
		return false;
	ck_pr_fence_release();
	if (!ck_pr_cas_64(&p->slab[slab], 0, offset))
		crew__family_free(offset);
	return true;
}

/* ---- free ones ---- */

static bool pop(struct pool *p, uint32_t *ret_index)
{
	uint64_t head = load_acquire_64(&p->free);

	while ((uint32_t)head) {
		uint32_t index = (uint32_t)head - 1, next = ck_pr_load_32(&crew__outcome_at(index)->next);

		if (ck_pr_cas_64_value(&p->free, head, ((head >> 32) + 1) << 32 | next, &head)) {
			ck_pr_fence_acquire(); /* pairs with the release in crew__outcome_put */
			*ret_index = index;
			return true;
		}
	}
	return false;
}

static uint32_t number_of(struct pool *p, const struct outcome *o)
{
	for (uint32_t slab = 0; slab < SLABS; slab++) {
		const struct outcome *first = crew__family_at(ck_pr_load_64(&p->slab[slab]));

		if (first && o >= first && o < first + (SLAB_FIRST << slab))
			return slab_start(slab) + (uint32_t)(o - first);
	}
	return UINT32_MAX;
}

void crew__outcome_put(struct outcome *o)
{
	struct pool *p = pool_here();
	uint32_t index = number_of(p, o);
	uint64_t head = ck_pr_load_64(&p->free);

	do {
		ck_pr_store_32(&o->next, (uint32_t)head);
		ck_pr_fence_release();
	} while (!ck_pr_cas_64_value(&p->free, head, ((head >> 32) + 1) << 32 | (index + 1), &head));
}

static void sweep(struct pool *p, uint32_t used)
{
	uint32_t alive = 0;

	for (uint32_t i = 0; i < used; i++) {
		struct outcome *o = crew__outcome_at(i);

		if (!o)
			continue;
		crew__outcome_sweep(o);
		alive += (ck_pr_load_64(&o->life) & LIFE_STATE) != LIFE_FREE;
	}
	ck_pr_store_32(&p->sweep_at, ck_pr_load_32(&p->taken) + alive);
}

/* A number that nobody had before. */
static bool fresh(struct pool *p, uint32_t *ret_index)
{
	uint32_t used = ck_pr_load_32(&p->used);

	while (slab_ready(p, used))
		if (ck_pr_cas_32_value(&p->used, used, used + 1, &used)) {
			*ret_index = used;
			return true;
		}
	return false;
}

struct outcome *crew__outcome_take(uint32_t *ret_index)
{
	struct pool *p = pool_here();
	uint32_t taken = ck_pr_faa_32(&p->taken, 1);

	if (pop(p, ret_index))
		return crew__outcome_at(*ret_index);
	if ((int32_t)(taken - ck_pr_load_32(&p->sweep_at)) > SLAB_FIRST) {
		sweep(p, ck_pr_load_32(&p->used));
		if (pop(p, ret_index))
			return crew__outcome_at(*ret_index);
	}
	return fresh(p, ret_index) ? crew__outcome_at(*ret_index) : NULL;
}

/* ---- bells ---- */

uint32_t *crew__bell_of(uint64_t member)
{
	return &pool_here()->bell[(uint32_t)member_pid(member) % BELLS];
}

void crew__bell_ring(uint64_t member)
{
	uint32_t *bell = crew__bell_of(member);

	ck_pr_faa_32(bell, 1);
	crew__futex_wake(bell, INT_MAX, true);
}
