/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * grants.c: memory for results, on request of the worker that will write them.
 *
 *	worker: want, wanted, asked + 1, bell ──> engine: settle what it has answered; drop what it gives up; allocate ──> orders, granted = asked
 *
 * A worker sleeps until it is answered, so this is rare: a grant is used again when all in it was copied out, and units of a stock come back by
 * themselves. Both grow with what is asked for, within what many workers together may keep.
 *
 * What a worker asks is checked and remembered here, privately: which part of the arena is whose is never read from shared memory.
 */
#include <stdlib.h>

#include "base/futex.h"
#include "process/process_executor.h"

#define ALL_STOCKS ((size_t)64 << 20) /* that idle workers may keep, roughly, all together */

/* ---- grants ---- */

void crew__grant_drop(struct process_executor *p, struct grant *grant)
{
	if (!grant)
		return;
	grant->orphan = true;
	if (grant->readers == 0) {
		crew__arena_free_run(&p->store->arena, grant->extent.offset, grant->extent.size);
		free(grant);
	}
}

void crew__grant_let_go(struct process_executor *p, struct grant *grant)
{
	struct seat *seat = &p->seats[grant->worker];

	latch_take(&p->lock);
	if (grant->incarnation == seat->incarnation) {
		struct orders *orders = &p->ring.orders[grant->worker];

		store_release_32(&orders->released, orders->released + 1); /* pairs with the load in make_room (rooms.c) */
	}
	grant->readers--;
	if (grant->orphan)
		crew__grant_drop(p, grant);
	latch_release(&p->lock);
}

static struct grant *grant_new(struct process_executor *p, uint32_t worker)
{
	struct grant *grant = calloc(1, sizeof *grant);

	if (!grant)
		return NULL;
	grant->worker = worker;
	grant->extent.size = GRANT_SIZE;
	if (crew__arena_alloc_run(&p->store->arena, GRANT_SIZE, &grant->extent.offset)) {
		free(grant);
		return NULL;
	}
	return grant;
}

/* ---- stocks ---- */

/* Room for several results of this size, as long as that does not come to too much. */
static size_t stock_size(const struct process_executor *p, size_t want)
{
	size_t most = ALL_STOCKS / STOCKS / p->ring.geometry.workers, size = STOCK_UNIT;

	if (most > STOCK_KEPT)
		most = STOCK_KEPT;
	while (2 * size <= most && size < 16 * want)
		size *= 2;
	return size >= want ? size : want;
}

static struct stock *stock_new(struct process_executor *p, uint32_t worker, uint32_t slot, uint64_t want)
{
	if (want == 0 || want > p->ring.out_size)
		return NULL;
	return crew__stock_new(p->store, worker, slot, stock_size(p, want));
}

/* ---- requests ---- */

static void order_stock(struct orders *orders, uint32_t slot, const struct stock *stock)
{
	ck_pr_store_64(&orders->stock[slot].offset, stock ? stock->offset : 0);
	ck_pr_store_64(&orders->stock[slot].size, stock ? stock->size : 0);
	ck_pr_store_64(&orders->stock[slot].returned, 0);
}

static void order_grant(struct orders *orders, const struct grant *grant)
{
	ck_pr_store_64(&orders->offset, grant ? grant->extent.offset : 0);
	ck_pr_store_64(&orders->size, grant ? grant->extent.size : 0);
}

void crew__grants_drop(struct process_executor *p, uint32_t worker)
{
	struct seat *seat = &p->seats[worker];

	order_grant(&p->ring.orders[worker], NULL); /* the next one who sits here has none */
	crew__grant_drop(p, seat->grant);
	seat->grant = NULL;
	for (uint32_t i = 0; i < STOCKS; i++) {
		crew__stock_drop(p->store, seat->stock[i]); /* first: who gives units of it back writes into the order until then */
		seat->stock[i] = NULL;
		order_stock(&p->ring.orders[worker], i, NULL);
	}
}

/* The lock is held. */
static void give_up(struct process_executor *p, struct seat *seat, uint32_t wanted)
{
	if (wanted == WANT_GRANT) {
		crew__grant_drop(p, seat->grant);
		seat->grant = NULL;
	} else {
		crew__stock_drop(p->store, seat->stock[wanted]);
		seat->stock[wanted] = NULL;
	}
}

/* Settle all that the worker has answered: then nothing of what it gives up is anybody's but what is being copied, and what has passed. */
static void settle_worker(struct process_executor *p, uint32_t worker, uint32_t wanted)
{
	struct batch batch;
	bool full;

	do {
		batch.n = 0;
		full = false;
		latch_take(&p->lock);
		for (uint32_t i = 0; i < p->ring.geometry.slots && !full; i++) {
			struct entry *e = &p->entries[i];

			full = batch.n == BATCH_ITEMS;
			if (e->f && !full && ring_answered(&p->ring, e->ticket) &&
			    word_worker(ck_pr_load_64(ring_claim(&p->ring, e->ticket))) == worker + 1)
				crew__settle_answer(p, e, &batch);
		}
		if (!full)
			give_up(p, &p->seats[worker], wanted);
		latch_release(&p->lock);
		crew__deliver(p, &batch);
	} while (full);
}

/* What was allocated for a request; at most one of the two. */
struct answered {
	uint32_t wanted, asked;
	struct grant *grant;
	struct stock *stock;
};

/* Tell the worker; it may have died meanwhile. */
static void hand_over(struct process_executor *p, uint32_t worker, uint32_t incarnation, const struct answered *a)
{
	struct orders *orders = &p->ring.orders[worker];
	struct seat *seat = &p->seats[worker];
	bool there;

	latch_take(&p->lock);
	there = seat->incarnation == incarnation && seat->state == SEAT_ALIVE;
	if (there && a->wanted == WANT_GRANT) {
		seat->grant = a->grant;
		if (a->grant)
			a->grant->incarnation = incarnation;
		order_grant(orders, a->grant);
	} else if (there) {
		order_stock(orders, a->wanted, a->stock); /* before it is the seat's: nothing of it can come back yet */
		seat->stock[a->wanted] = a->stock;
	} else {
		crew__grant_drop(p, a->grant);
		crew__stock_drop(p->store, a->stock);
	}
	if (there) {
		store_release_32(&orders->granted, a->asked); /* pairs with the load in ask (rooms.c) */
		crew__futex_wake(&orders->granted, 1, true);
	}
	latch_release(&p->lock);
}

static void answer_request(struct process_executor *p, uint32_t worker)
{
	struct report *report = &p->ring.reports[worker];
	struct answered a = { .asked = load_acquire_32(&report->asked), .wanted = ck_pr_load_32(&report->wanted) };
	uint64_t want = ck_pr_load_64(&report->want);
	uint32_t incarnation;

	if (a.wanted > WANT_GRANT)
		a.wanted = WANT_GRANT;
	latch_take(&p->lock);
	incarnation = p->seats[worker].incarnation;
	latch_release(&p->lock);
	if (a.asked == p->ring.orders[worker].granted)
		return;
	settle_worker(p, worker, a.wanted);
	if (a.wanted == WANT_GRANT)
		a.grant = grant_new(p, worker);
	else
		a.stock = stock_new(p, worker, a.wanted, want);
	hand_over(p, worker, incarnation, &a);
}

bool crew__answer_requests(struct process_executor *p)
{
	bool any = false;

	for (uint32_t i = 0; i < (p->ring.geometry.workers + 63) / 64; i++) {
		uint64_t set = ck_pr_load_64(&p->ring.rw->asking[i]);

		for (; set; set &= set - 1) {
			uint32_t worker = 64 * i + (uint32_t)__builtin_ctzll(set);

			ck_pr_and_64(&p->ring.rw->asking[i], ~(set & -set)); /* before the look at its request */
			ck_pr_fence_memory();
			if (worker < p->ring.geometry.workers)
				answer_request(p, worker), crew__errands_room(p, worker);
			any = true;
		}
	}
	return any;
}

/* ---- idle ---- */

/* While no task is on its way workers need no room, and notice that they have none when the next task wants some. Whoever is to die may still write
   to its own: that stays until then. */
static void recall(struct process_executor *p)
{
	latch_take(&p->lock);
	for (uint32_t i = 0; i < p->ring.geometry.workers && p->outstanding == 0; i++)
		if (p->seats[i].state == SEAT_ALIVE && !p->seats[i].condemned && !p->seats[i].doomed)
			crew__grants_drop(p, i);
	latch_release(&p->lock);
}

/* A second after memory was last taken the arenas give back what they keep for next time, and from then on at once whatever they get. Until then
   somebody must look: the engine's ticks. */
bool crew__memory_settled(struct process_executor *p)
{
	struct arena *arenas[] = { &p->in, &p->store->arena, &p->blocks };
	uint64_t turns = 0;

	for (int i = 0; i < 3; i++)
		turns += crew__arena_turns(arenas[i]);
	if (turns == p->trimmed)
		return true;
	if (turns != p->turns) {
		p->turns = turns;
		p->still_from = crew__now();
		return false;
	}
	if (crew__now() - p->still_from < STILL_MS * MS_TO_NS)
		return false;
	recall(p);
	for (int i = 0; i < 3; i++)
		crew__arena_trim(arenas[i]);
	p->trimmed = turns;
	return true;
}
