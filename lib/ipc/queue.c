/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue.c: put, get, and their waits.
 *
 *	put: enter `put` ─ room? ─ prepare the record ─ count it, wake who is hungry ─ leave
 *	get: enter `get` ─ record? ─ copy it out ─────── count it, wake who is stuck ── leave
 *
 * Without sleepers that is all: one mutex, one copy, one store that counts; the two ends touch each other's lines only to read the other's count.
 * Who finds no room or no record takes the turn of its side, spins a little, then sleeps by the rule of robust.h: the waker's mutex is that of the
 * other end. The turn goes on when its owner has what it came for.
 *
 * How long to spin is learnt: twice as long after a spin that was worth it, half after one that was not; now and then a long one is tried.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/futex.h"
#include "core/context.h"
#include "ipc/queue_memory.h"

enum { PATIENCE_MOST = 20000, PATIENCE_LEAST = 300 };
#define MESSAGE_MOST (SIZE_MAX / 4) /* more than there are addresses for, little enough to count with */
enum { NAP_LEAST_MS = 1, NAP_MOST_MS = 64 }; /* of a sleeper who found the waker's mutex taken */

/* ---- the mutexes ---- */

/* What a dead owner left: half a segment, and perhaps sleepers whom it was about to wake. */
static void mend_put(struct queue *q)
{
	crew__strand_repair_put(&q->strand);
	ck_pr_store_32(&q->hungry, 1);
}

static void mend_get(struct queue *q)
{
	crew__strand_settle_get(&q->strand);
	ck_pr_store_32(&q->stuck, 1);
}

int crew__queue_enter_put(struct queue *q, uint64_t deadline)
{
	int rc = crew__robust_enter(&q->put, deadline);

	if (likely(rc <= 0))
		return rc;
	mend_put(q);
	return 0;
}

int crew__queue_enter_get(struct queue *q, uint64_t deadline)
{
	int rc = crew__robust_enter(&q->get, deadline);

	if (likely(rc <= 0))
		return rc;
	mend_get(q);
	return 0;
}

static int enter_turn(struct robust *turn, uint64_t deadline)
{
	int rc = crew__robust_enter(turn, deadline);

	return rc > 0 ? 0 : rc;
}

/* ---- waiting ---- */

bool crew__queue_has_room(const struct queue *q, size_t n)
{
	uint32_t got = load_acquire_32(&q->strand.got); /* pairs with the change that finishes a get */
	uint64_t bytes;

	if (q->strand.put - got >= q->capacity)
		return false;
	if (!q->bytes)
		return true;
	bytes = strand_bytes(&q->strand);
	return bytes == 0 || (bytes <= q->bytes && n <= q->bytes - bytes);
}

static bool item_or_end(const struct queue *q, const struct vigil *v)
{
	(void)v;
	return load_acquire_32(&q->finished) || !strand_empty(&q->strand);
}

/* Whether the room is enough for a certain message only a put can tell. */
static bool room_or_end(const struct queue *q, const struct vigil *v)
{
	return load_acquire_32(&q->finished) || load_acquire_32(&q->strand.got) != v->got;
}

static bool spin(struct queue *q, const struct vigil *v, uint64_t deadline)
{
	uint32_t patience = ck_pr_load_32(v->patience);
	uint64_t start = crew__now(), now = start;
	bool probe = (start & 0xf00) == 0; /* one in 16: has the other side become quick? */

	if (!crew__cpu_to_spare())
		return false;
	if (probe)
		patience = PATIENCE_MOST;
	while (now - start < patience && now < deadline) {
		for (int i = 0; i < 16; i++) {
			if (v->over(q, v)) {
				ck_pr_store_32(v->patience, patience * 2 < PATIENCE_MOST ? patience * 2 : PATIENCE_MOST);
				return true;
			}
			ck_pr_stall();
		}
		now = crew__now();
	}
	ck_pr_store_32(v->patience, patience / 2 > PATIENCE_LEAST ? patience / 2 : PATIENCE_LEAST);
	return false;
}

/* Set the bell. True: inside the mutex, so the next waker sees it. False: the mutex is taken, and its owner may have looked at the bell before. */
static bool set_bell(struct queue *q, const struct vigil *v, uint32_t *ret_news)
{
	int rc = crew__robust_try(v->mutex);

	if (unlikely(rc > 0 && v->mend))
		v->mend(q);
	ck_pr_store_32(v->bell, 1);
	ck_pr_fence_memory();
	*ret_news = load_acquire_32(v->news);
	if (rc >= 0)
		crew__robust_leave(v->mutex);
	return rc >= 0;
}

/* Until v is over: 0; -ETIMEDOUT; CREW_EHANDLE. */
int crew__queue_keep(struct queue *q, crew_handle handle, const struct vigil *v, uint64_t deadline)
{
	uint64_t nap = NAP_LEAST_MS;

	if (v->patience && spin(q, v, deadline))
		return 0;
	for (;;) {
		uint32_t news;
		uint64_t end = deadline, now;

		if (!set_bell(q, v, &news)) {
			end = crew__deadline((int)nap);
			end = end < deadline ? end : deadline;
			nap = nap < NAP_MOST_MS ? nap * 2 : nap;
		}
		if (!handle_alive(q, handle))
			return CREW_EHANDLE;
		if (v->over(q, v) || (v->stop && load_acquire_32(v->stop)))
			return 0;
		now = deadline == NEVER ? 0 : crew__now();
		if (now >= deadline)
			return -ETIMEDOUT;
		crew__futex_wait(v->news, news, end, true); /* pairs with the wake in change_and_wake() */
	}
}

static struct vigil for_item(struct queue *q)
{
	return (struct vigil){ &q->hungry, &q->news, &q->put, &q->get_patience, item_or_end, mend_put, 0, NULL };
}

static struct vigil for_room(struct queue *q)
{
	return (struct vigil){ &q->stuck, &q->news, &q->get, &q->put_patience, room_or_end, mend_get, 0, NULL };
}

int crew__queue_await_item(struct queue *q, crew_handle handle, uint64_t deadline, const uint32_t *stop)
{
	struct vigil v = for_item(q);
	int rc;

	v.patience = NULL;
	v.stop = stop;
	crew__queue_come(q);
	rc = crew__queue_keep(q, handle, &v, deadline);
	crew__queue_go(q, handle);
	return rc;
}

/* ---- put ---- */

/* 0; -EAGAIN: no room; CREW_ECLOSED; CREW_EHANDLE; -ENOMEM, -ENOSPC; -ETIMEDOUT: could not even ask. In the mutex, as a drop comes by there after it took the
   stamp away: what lives when we look lives until we leave. */
static int try_put(struct queue *q, crew_handle handle, const void *data, size_t n, uint64_t deadline)
{
	int rc = crew__queue_enter_put(q, deadline);

	if (unlikely(rc))
		return rc;
	if (unlikely(!handle_alive(q, handle)))
		rc = CREW_EHANDLE;
	else if (unlikely(q->finished))
		rc = CREW_ECLOSED;
	else if (!crew__queue_has_room(q, n))
		rc = -EAGAIN;
	else
		rc = crew__strand_prepare(&q->strand, data, n);
	if (likely(rc == 0)) {
		ring_and_add(&q->hungry, &q->news, &q->strand.put);
		strand_settle_put(&q->strand);
	}
	crew__robust_leave(&q->put);
	return rc;
}

static int put_slowly(struct queue *q, crew_handle handle, const void *data, size_t n, uint64_t deadline)
{
	struct vigil v = for_room(q);
	int rc;

	crew__queue_come(q);
	rc = enter_turn(&q->put_turn, deadline);
	if (rc == 0) {
		for (;;) {
			v.got = load_acquire_32(&q->strand.got); /* before the look at the room */
			rc = handle_alive(q, handle) ? try_put(q, handle, data, n, deadline) : CREW_EHANDLE;
			if (rc != -EAGAIN)
				break;
			rc = crew__queue_keep(q, handle, &v, deadline);
			if (rc)
				break;
		}
		crew__robust_leave(&q->put_turn);
	}
	crew__queue_go(q, handle);
	return rc;
}

static int put(crew_queue h, const void *data, size_t n, bool framed, int ms)
{
	struct queue *q = queue_at(h);
	int rc;

	if (unlikely(!q))
		return crew__handle_reason(h.handle);
	if (unlikely(framed ? q->item && q->item != n : q->item == 0 || q->item != n))
		return CREW_ETYPE;
	if (unlikely((!data && n) || n > MESSAGE_MOST))
		return n > MESSAGE_MOST ? -ENOMEM : -EINVAL;
	rc = try_put(q, h.handle, data, n, ms < 0 ? NEVER : MOMENT);
	if (likely(rc != -EAGAIN && rc != -ETIMEDOUT))
		return rc;
	if (ms == 0)
		return -EAGAIN;
	return put_slowly(q, h.handle, data, n, crew__deadline(ms));
}

int crew_queue_put(crew_queue q, const void *data, size_t n, int ms)
{
	return put(q, data, n, false, ms);
}

int crew_queue_put_bytes(crew_queue q, crew_bytes bytes, int ms)
{
	return put(q, bytes.data, bytes.len, true, ms);
}

/* ---- get ---- */

/* Where a get puts what it gets: room for an item, or bytes to be made. */
struct plate {
	void *item;
	crew_bytes *bytes;
};

static int serve(const struct plate *plate, const void *record, size_t n)
{
	struct block *block;

	if (plate->item) {
		memcpy(plate->item, record, n);
		return 0;
	}
	block = crew__block_new(n);
	if (!block)
		return -ENOMEM;
	if (n)
		memcpy(block->data, record, n);
	*plate->bytes = (crew_bytes){ block->data, n };
	return 0;
}

/* A segment was left behind: its memory is the putters'. If none is at it now, give it back; else the next does. */
static void tidy(struct queue *q)
{
	int rc = crew__robust_try(&q->put);

	if (rc < 0)
		return;
	if (rc > 0)
		crew__strand_repair_put(&q->strand);
	crew__strand_trim(&q->strand);
	crew__robust_leave(&q->put);
}

/* Nothing comes any more: of a queue that was finished, or dropped, which takes the stamp away before it finishes. */
static int ended(const struct queue *q, crew_handle handle)
{
	return handle_alive(q, handle) ? CREW_ECLOSED : CREW_EHANDLE;
}

/* 0; -EAGAIN: nothing there; CREW_ECLOSED; CREW_EHANDLE; -ENOMEM; -ETIMEDOUT. */
static int try_get(struct queue *q, crew_handle handle, const struct plate *plate, uint64_t deadline)
{
	const void *record;
	bool finished, left = false;
	size_t n;
	int rc;

	finished = load_acquire_32(&q->finished); /* before the look: nothing is put after it */
	if (strand_empty(&q->strand))
		return finished ? ended(q, handle) : -EAGAIN;
	rc = crew__queue_enter_get(q, deadline);
	if (unlikely(rc))
		return rc;
	finished = load_acquire_32(&q->finished); /* as above */
	record = handle_alive(q, handle) ? crew__strand_peek(&q->strand, &n) : NULL; /* as in try_put */
	rc = record ? serve(plate, record, n) : finished ? ended(q, handle) : -EAGAIN;
	if (likely(rc == 0)) {
		ring_and_add(&q->stuck, &q->news, &q->strand.got);
		left = crew__strand_settle_get(&q->strand);
	}
	crew__robust_leave(&q->get);
	if (unlikely(left))
		tidy(q);
	return rc;
}

static int get_slowly(struct queue *q, crew_handle handle, const struct plate *plate, uint64_t deadline)
{
	struct vigil v = for_item(q);
	int rc;

	crew__queue_come(q);
	rc = enter_turn(&q->get_turn, deadline);
	if (rc == 0) {
		do {
			rc = handle_alive(q, handle) ? crew__queue_keep(q, handle, &v, deadline) : CREW_EHANDLE;
			if (rc == 0)
				rc = try_get(q, handle, plate, deadline);
		} while (rc == -EAGAIN);
		crew__robust_leave(&q->get_turn);
	}
	crew__queue_go(q, handle);
	return rc;
}

static int get(crew_queue h, const struct plate *plate, size_t n, int ms)
{
	struct queue *q = queue_at(h);
	int rc;

	if (unlikely(!q))
		return crew__handle_reason(h.handle);
	if (unlikely(plate->item ? q->item == 0 || q->item != n : !plate->bytes))
		return plate->item ? CREW_ETYPE : -EINVAL;
	rc = try_get(q, h.handle, plate, ms < 0 ? NEVER : MOMENT);
	if (likely(rc != -EAGAIN && rc != -ETIMEDOUT))
		return rc;
	if (ms == 0) {
		if (ck_pr_load_32(&crew__queue_watches))
			crew__queue_watch_empty(h.handle);
		return -EAGAIN;
	}
	return get_slowly(q, h.handle, plate, crew__deadline(ms));
}

int crew_queue_get(crew_queue q, void *data, size_t n, int ms)
{
	return get(q, &(struct plate){ data, NULL }, n, ms);
}

int crew_queue_get_bytes(crew_queue q, crew_bytes *ret, int ms)
{
	return get(q, &(struct plate){ NULL, ret }, 0, ms);
}
