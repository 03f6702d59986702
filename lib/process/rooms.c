/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rooms.c: where a worker's results lie: memory of rw that the parent granted to it.
 *
 *	crew_result_alloc ─┬─ up to RESULT_COPIED  the grant, filled from the front; empty again when all in it was copied out
 *	                   ├─ larger               units of a stock, or a stock of its own
 *	                   └─ neither to be had    the heap: copied into one of them at the end
 *
 * What the task returns is then answered by its place, without a copy; what it does not return is free again when it ends. Which units are in use is
 * remembered here, privately; the parent has books of its own and believes neither these nor what stands in the memory itself.
 *
 * Asking for more means to give up a grant or a stock: never one in which the task that runs has something. So a task that fills both its
 * stocks gets heap memory from then on, until it ends.
 */
#include <errno.h>

#include "base/copy.h"
#include "base/futex.h"
#include "process/process_worker.h"

/* ---- asking the parent ---- */

static void post(struct worker *w, uint32_t wanted, uint64_t n, uint32_t number)
{
	ck_pr_store_64(&w->report->want, n);
	ck_pr_store_32(&w->report->wanted, wanted);
	ck_pr_fence_store();
	ck_pr_store_32(&w->report->asked, number);
	ck_pr_fence_store_atomic();
	set_bit(w->ring->rw->asking, w);
	ring_engine(w);
}

/* Wait for the answer. Should a peer have written over the request, it is made again. */
static void ask(struct worker *w, uint32_t wanted, uint64_t n)
{
	uint32_t number = ++w->rooms.asked, granted;

	post(w, wanted, n, number);
	while ((granted = load_acquire_32(&w->orders->granted)) != number) {
		crew__futex_wait(&w->orders->granted, granted, crew__now() + 100 * MS_TO_NS, true); /* woken by hand_over (grants.c) */
		if (load_acquire_32(&w->orders->granted) == granted || ck_pr_load_32(&w->report->asked) != number)
			post(w, wanted, n, number);
	}
}

/* ---- the grant ---- */

static unsigned char *room_in_grant(struct worker *w, size_t n)
{
	struct rooms *r = &w->rooms;
	uint64_t size = n ? (n + 63) & ~(uint64_t)63 : 64;

	if (!r->in_grant && load_acquire_32(&w->orders->released) == r->put) /* pairs with the release after the copy, in crew__grant_let_go */
		r->used = 0;
	if (w->orders->size < r->used + size) {
		if (r->in_grant)
			return NULL;
		ask(w, WANT_GRANT, size);
		r->used = 0;
		if (w->orders->size < size)
			return NULL;
	}
	if (!r->in_grant)
		r->begin = r->used;
	r->in_grant = true;
	r->last = r->used;
	r->used += size;
	return w->ring->out + w->orders->offset + r->last;
}

/* Where p lies in the grant; false: it does not. */
static bool place_in_grant(const struct worker *w, const void *p, uint64_t *ret)
{
	*ret = (uint64_t)((uintptr_t)p - (uintptr_t)w->ring->out) - w->orders->offset;
	return w->rooms.in_grant && *ret >= w->rooms.begin && *ret < w->rooms.used;
}

/* ---- stocks ---- */

static uint64_t unit_of(const struct held_stock *s)
{
	return s->size > STOCK_KEPT ? s->size : STOCK_UNIT;
}

static uint32_t units_for(const struct held_stock *s, size_t n)
{
	return (uint32_t)((n + unit_of(s) - 1) / unit_of(s));
}

static uint64_t bits(uint32_t first, uint32_t n)
{
	return (n < 64 ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0) << first;
}

/* Units whose results were given back are ours again, unless the whole was called back between two tasks (recall in grants.c). Pairs with the release in
   return_units (result_store.c). */
static void look_for_returned(struct worker *w, uint32_t slot)
{
	const struct stock_order *order = &w->orders->stock[slot];
	struct held_stock *s = &w->rooms.stock[slot];
	uint64_t returned = load_acquire_64(&order->returned);

	if (ck_pr_load_64(&order->size) == 0)
		*s = (struct held_stock){ 0 };
	s->taken &= ~(returned ^ s->seen);
	s->seen = returned;
}

/* The lowest n free units in a row; STOCK_UNITS: there are none. */
static uint32_t find_units(const struct held_stock *s, uint32_t n)
{
	uint32_t count = (uint32_t)(s->size / unit_of(s));
	uint64_t fits = ~s->taken & bits(0, count);

	for (uint32_t have = 1, step; have < n && fits; have += step) {
		step = have < n - have ? have : n - have;
		fits &= fits >> step;
	}
	return fits && n <= count ? (uint32_t)__builtin_ctzll(fits) : STOCK_UNITS;
}

static unsigned char *take_units(struct worker *w, struct held_stock *s, uint32_t first, uint32_t n)
{
	s->taken |= bits(first, n);
	s->mine |= bits(first, n);
	s->span[first] = (uint8_t)n;
	return w->ring->out + s->offset + first * unit_of(s);
}

/* Another stock in the place of one in which this task has nothing. False: it has something in each, or there is no memory: -ENOMEM. */
static int renew_stock(struct worker *w, uint32_t *ret_slot, size_t n)
{
	const struct stock_order *order;
	uint32_t slot = w->rooms.next;

	if (w->rooms.stock[slot].mine)
		slot = (slot + 1) % STOCKS;
	if (w->rooms.stock[slot].mine)
		return -EBUSY;
	ask(w, slot, n);
	order = &w->orders->stock[slot];
	w->rooms.stock[slot] = (struct held_stock){ .offset = order->offset, .size = order->size };
	w->rooms.next = (slot + 1) % STOCKS;
	*ret_slot = slot;
	return order->size >= n ? 0 : -ENOMEM;
}

static int room_in_stock(struct worker *w, size_t n, unsigned char **ret)
{
	struct held_stock *s;
	uint32_t slot, first;
	int rc;

	for (slot = 0; slot < STOCKS; slot++) {
		s = &w->rooms.stock[slot];
		look_for_returned(w, slot);
		if (s->size < n)
			continue;
		first = find_units(s, units_for(s, n));
		if (first < STOCK_UNITS) {
			*ret = take_units(w, s, first, units_for(s, n));
			return 0;
		}
	}
	rc = renew_stock(w, &slot, n);
	if (rc == 0)
		*ret = take_units(w, &w->rooms.stock[slot], 0, units_for(&w->rooms.stock[slot], n));
	return rc;
}

/* The stock that p lies in, and in which of its units; NULL: in none that this task has. */
static struct held_stock *place_in_stock(struct worker *w, const void *p, uint32_t *ret_unit)
{
	uint64_t offset = (uint64_t)((uintptr_t)p - (uintptr_t)w->ring->out);

	for (uint32_t i = 0; i < STOCKS; i++) {
		struct held_stock *s = &w->rooms.stock[i];

		if (offset - s->offset >= s->size)
			continue;
		*ret_unit = (uint32_t)((offset - s->offset) / unit_of(s));
		return s->mine >> *ret_unit & 1 ? s : NULL;
	}
	return NULL;
}

/* Grow or shrink what begins at this unit. */
static bool resize_units(struct held_stock *s, uint32_t first, size_t n)
{
	uint32_t have = s->span[first], want = n ? units_for(s, n) : 1;
	uint64_t more;

	if (first + want > s->size / unit_of(s) || n > s->size)
		return false;
	more = want > have ? bits(first + have, want - have) : 0;
	if (s->taken & more)
		return false;
	if (want < have) {
		s->taken &= ~bits(first + want, have - want);
		s->mine &= ~bits(first + want, have - want);
	}
	s->taken |= more;
	s->mine |= more;
	s->span[first] = (uint8_t)want;
	return true;
}

/* ---- crew_result_alloc() and its kin ---- */

static int alloc_room(struct context *c, size_t n, void **ret)
{
	struct worker *w = c->backend;
	unsigned char *p = NULL;
	int rc = 0;

	if (n <= RESULT_COPIED)
		p = room_in_grant(w, n);
	else
		rc = room_in_stock(w, n, &p);
	*ret = p;
	return rc == -ENOMEM ? rc : 0;
}

static bool resize_room(struct context *c, void *data, size_t n)
{
	struct worker *w = c->backend;
	struct held_stock *s;
	uint64_t at;
	uint32_t unit;

	if (place_in_grant(w, data, &at)) {
		if (at != w->rooms.last || n > w->orders->size - at)
			return false;
		w->rooms.used = at + ((n + 63) & ~(uint64_t)63);
		return true;
	}
	s = place_in_stock(w, data, &unit);
	return s && data == w->ring->out + s->offset + unit * unit_of(s) && s->span[unit] && resize_units(s, unit, n);
}

static void drop_room(struct context *c, void *data)
{
	struct worker *w = c->backend;
	uint32_t unit;
	struct held_stock *s = place_in_stock(w, data, &unit);

	if (!s || data != w->ring->out + s->offset + unit * unit_of(s))
		return;
	s->taken &= ~bits(unit, s->span[unit]);
	s->mine &= ~bits(unit, s->span[unit]);
}

/* Who sleeps until the answer is there had better wake now. It looks again, and finds it, or sleeps on. */
static void announce(void *context)
{
	struct worker *w = ((struct context *)context)->backend;
	uint64_t *claim = ring_claim(w->ring, w->ticket);

	if (ck_pr_load_64(claim) & WORD_WAIT)
		crew__futex_wake(word_futex(claim), INT_MAX, true);
}

const struct result_memory crew__rooms = { .alloc = alloc_room, .resize = resize_room, .drop = drop_room, .announce = announce };

/* ---- the end of a task ---- */

/* All that the task has is free again, but the units in `answered` of one stock, and what the grant holds below `used`. */
static void end_rooms(struct worker *w, struct held_stock *stock, uint64_t answered, uint64_t used)
{
	for (uint32_t i = 0; i < STOCKS; i++) {
		struct held_stock *s = &w->rooms.stock[i];

		s->taken &= ~(s == stock ? s->mine & ~answered : s->mine);
		s->mine = 0;
	}
	if (w->rooms.in_grant)
		w->rooms.used = used;
	w->rooms.in_grant = false;
}

/* A stock that was for one result alone has gone with it. */
static void answer_units(struct worker *w, struct held_stock *s, uint32_t first, const struct extent *extent)
{
	uint32_t last = (uint32_t)((extent->offset + extent->size - 1 - s->offset) / unit_of(s));

	end_rooms(w, s, bits(first, last - first + 1), w->rooms.begin);
	if (s->size > STOCK_KEPT)
		*s = (struct held_stock){ 0 };
}

uint32_t crew__room_answer(struct worker *w, const void *data, size_t n, struct extent *ret)
{
	struct held_stock *s;
	uint32_t unit;
	uint64_t at;

	*ret = (struct extent){ (uint64_t)((uintptr_t)data - (uintptr_t)w->ring->out), n };
	if (place_in_grant(w, data, &at) && n <= w->rooms.used - at) {
		end_rooms(w, NULL, 0, (at + n + 63) & ~(uint64_t)63);
		w->rooms.put++;
		return ANSWER_LARGE;
	}
	s = n > RESULT_COPIED ? place_in_stock(w, data, &unit) : NULL;
	if (s && n <= s->size - (ret->offset - s->offset)) {
		answer_units(w, s, unit, ret);
		return ANSWER_BLOCK;
	}
	end_rooms(w, NULL, 0, w->rooms.begin);
	return 0;
}

uint32_t crew__room_copy(struct worker *w, const void *data, size_t n, struct extent *ret)
{
	unsigned char *to = NULL;

	if (n <= RESULT_COPIED)
		to = room_in_grant(w, n);
	else
		(void)room_in_stock(w, n, &to);
	if (!to)
		return 0;
	crew__copy_announced(to, data, n, &(struct herald){ announce, &w->context });
	return crew__room_answer(w, to, n, ret);
}

void crew__rooms_clean(struct worker *w)
{
	for (uint32_t i = 0; i < STOCKS; i++) {
		struct held_stock *s = &w->rooms.stock[i];

		if (s->size <= STOCK_KEPT || s->taken)
			continue;
		*s = (struct held_stock){ 0 };
		post(w, i, 0, ++w->rooms.asked); /* nobody waits for the answer */
	}
}
