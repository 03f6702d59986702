/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue_life.c: how a queue begins, is finished and given back, and what is counted of it: everything but put and get.
 *
 * A finish is ordered with the puts, by their mutex: what was put before it will be got, and who then finds the queue empty and finished knows
 * that nothing comes any more.
 *
 * Given back means: the stamp is taken away, so that nobody finds the queue; then all who sleep are woken and leave; then the memory goes. The cell that
 * the queue itself lies in is mapped for ever, so a late look at it does no harm; if somebody died in his sleep, so that the crowd does
 * not empty, the cell is never used again.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/futex.h"
#include "core/executor_ops.h"
#include "ipc/queue_memory.h"

enum { DROP_MS = 200 };
#define ITEM_MOST ((size_t)1 << 30)
#define ITEMS_MOST ((size_t)INT32_MAX) /* counts are modulo 2^32 */

/* ---- the beginning ---- */

static int init(struct queue *q, const struct crew_queue_options *o)
{
	struct robust *all[] = { &q->put, &q->get, &q->put_turn, &q->get_turn, &q->done };

	q->item = o->item;
	q->capacity = o->capacity && o->capacity < ITEMS_MOST ? o->capacity : ITEMS_MOST;
	q->bytes = o->bytes;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		int rc = crew__robust_init(all[i]);

		if (rc)
			return rc;
	}
	return crew__strand_open(&q->strand, o->item, o->capacity, o->bytes);
}

crew_queue crew_queue_open(const struct crew_queue_options *options, size_t size)
{
	struct crew_queue_options o;
	struct queue *q;
	crew_queue made;
	int rc = crew__options(&o, sizeof o, options, size);

	if (rc == 0 && o.item > ITEM_MOST)
		rc = -EINVAL;
	if (rc)
		return (crew_queue){ crew__handle_failed(rc) };
	made.handle = crew__handle_make(HANDLE_QUEUE, sizeof *q, (void **)&q);
	if (!q)
		return made;
	rc = init(q, &o);
	if (rc == 0)
		return made;
	crew__handle_end(made.handle, HANDLE_QUEUE);
	crew__family_free(made.handle.place);
	return (crew_queue){ crew__handle_failed(rc) };
}

/* ---- the end ---- */

/* Nothing is put any more, or nothing at all. Inside both ends, and one change for all who sleep there: none is left if we are killed. */
static int set_finished(struct queue *q, uint32_t how)
{
	int rc = crew__queue_enter_put(q, NEVER);

	if (rc)
		return rc;
	rc = crew__queue_enter_get(q, NEVER);
	if (rc == 0) {
		ck_pr_store_32(&q->stuck, 0);
		crew__ring_and_set(&q->hungry, &q->news, &q->finished, how > q->finished ? how : q->finished);
		crew__robust_leave(&q->get);
	}
	crew__robust_leave(&q->put);
	return rc;
}

void crew__queue_stir(struct queue *q)
{
	ck_pr_faa_32(&q->news, 1);
	crew__futex_wake(&q->news, INT_MAX, true); /* pairs with the wait in crew__queue_keep() */
}

int crew_queue_finish(crew_queue h)
{
	struct queue *q = queue_at(h);

	return q ? set_finished(q, FINISHED) : crew__handle_reason(h.handle);
}

/* Who sleeps in it leaves. False: somebody did not, for he is dead, or stopped. */
static bool clear_out(struct queue *q)
{
	uint64_t end = crew__deadline(DROP_MS);
	uint32_t crowd;

	set_finished(q, DROPPED);
	ck_pr_faa_32(&q->done_news, 1);
	crew__futex_wake(&q->done_news, INT_MAX, true); /* pairs with the wait in crew__queue_keep() */
	while ((crowd = load_acquire_32(&q->crowd)) && crew__now() < end)
		crew__futex_wait(&q->crowd, crowd, end, true); /* pairs with the wake in crew__queue_go() */
	return crowd == 0;
}

void crew_queue_drop(crew_queue h)
{
	struct queue *q;
	bool empty;

	crew_queue_unfd(h);
	q = crew__handle_end(h.handle, HANDLE_QUEUE);
	if (!q)
		return;
	empty = clear_out(q);
	crew__strand_close(&q->strand);
	if (empty)
		crew__family_free(h.handle.place);
}

/* ---- sleeping in it ---- */

void crew__queue_come(struct queue *q)
{
	ck_pr_faa_32(&q->crowd, 1);
}

void crew__queue_go(struct queue *q, crew_handle handle)
{
	if (ck_pr_faa_32(&q->crowd, (uint32_t)-1) == 1 && !handle_alive(q, handle))
		crew__futex_wake(&q->crowd, INT_MAX, true); /* pairs with the wait in clear_out() */
}

/* ---- counts ---- */

/* A death in there: perhaps of who was about to wake. */
static void mend_done(struct queue *q)
{
	ck_pr_store_32(&q->joining, 1);
}

int crew_queue_task_done(crew_queue h)
{
	struct queue *q = queue_at(h);
	uint32_t left;
	int rc;

	if (!q)
		return crew__handle_reason(h.handle);
	rc = crew__robust_enter(&q->done, NEVER);
	if (rc < 0)
		return rc;
	if (rc > 0)
		mend_done(q);
	left = load_acquire_32(&q->strand.put) - q->done_count; /* pairs with the change that finishes a put */
	rc = left ? 0 : -EINVAL;
	if (left == 1)
		ring_and_add(&q->joining, &q->done_news, &q->done_count);
	else if (left)
		store_release_32(&q->done_count, q->done_count + 1);
	crew__robust_leave(&q->done);
	return rc;
}

static bool all_done(const struct queue *q, const struct vigil *v)
{
	(void)v;
	return load_acquire_32(&q->done_count) == load_acquire_32(&q->strand.put); /* pairs with task_done and the change that finishes a put */
}

int crew_queue_join(crew_queue h, int ms)
{
	struct queue *q = queue_at(h);
	struct vigil v;
	int rc;

	if (!q)
		return crew__handle_reason(h.handle);
	if (all_done(q, NULL))
		return 0;
	if (ms == 0)
		return -EAGAIN;
	v = (struct vigil){ &q->joining, &q->done_news, &q->done, NULL, all_done, mend_done, 0, NULL };
	crew__queue_come(q);
	rc = crew__queue_keep(q, h.handle, &v, crew__deadline(ms));
	crew__queue_go(q, h.handle);
	return rc;
}

ssize_t crew_queue_len(crew_queue h)
{
	struct queue *q = queue_at(h);

	return q ? (ssize_t)crew__strand_len(&q->strand) : crew__handle_reason(h.handle);
}

int crew__queue_state(crew_queue h)
{
	const struct queue *q = queue_at(h);

	return !q || load_acquire_32(&q->finished) || !strand_empty(&q->strand);
}

int crew_queue_full(crew_queue h)
{
	struct queue *q = queue_at(h);
	bool full;
	int rc;

	if (!q)
		return crew__handle_reason(h.handle);
	rc = crew__queue_enter_put(q, NEVER);
	if (rc)
		return rc;
	full = !crew__queue_has_room(q, q->item ? q->item : 1);
	crew__robust_leave(&q->put);
	return full;
}
