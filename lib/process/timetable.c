/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timetable.c: what the engine has to do at a certain time: fail tasks whose deadline has passed, end those that were to be killed, and
 * workers that do not go when they are told to.
 *
 *	submit with a deadline ─┐
 *	crew_future_kill ───────┼─> heap, by time ─> timerfd ─> engine: due ─> withdraw, doom, SIGKILL
 *	doom ───────────────────┘
 *
 * An appointment is a time and a name, 16 bytes, and nobody ever takes one out: what it was for may be over, even be another task by now. So when its
 * time comes it is compared with what it names, under the lock, where a future that is found is alive. Those that are stale are thrown out when they
 * come to the top, and all of them before the heap would grow. Thus a task without a deadline costs nothing here, one with a deadline costs a push,
 * and its end costs nothing.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "process/process_executor.h"

enum { CAPACITY = 64, UNHURRIED = 1024 /* appointments that are looked at without a pause of the lock */ };

/* ---- the heap ---- */

static void sift_down(struct timetable *t, size_t i)
{
	struct appointment moving = t->heap[i];
	size_t child;

	while ((child = 2 * i + 1) < t->count) {
		if (child + 1 < t->count && t->heap[child + 1].at < t->heap[child].at)
			child++;
		if (t->heap[child].at >= moving.at)
			break;
		t->heap[i] = t->heap[child];
		i = child;
	}
	t->heap[i] = moving;
}

static void sift_up(struct timetable *t, size_t i)
{
	struct appointment moving = t->heap[i];

	for (; i > 0 && moving.at < t->heap[(i - 1) / 2].at; i = (i - 1) / 2)
		t->heap[i] = t->heap[(i - 1) / 2];
	t->heap[i] = moving;
}

static struct appointment pop(struct timetable *t)
{
	struct appointment top = t->heap[0];

	t->heap[0] = t->heap[--t->count];
	if (t->count)
		sift_down(t, 0);
	return top;
}

/* ---- is it still due? ---- */

static bool is_here(struct process_executor *p, const crew_future *f)
{
	return crew__entry_of(p, f) || crew__backlog_find(&p->backlog, f);
}

static bool is_due(struct process_executor *p, const struct appointment *it)
{
	crew_future *f = appointment_future(it->what);
	struct annex *a;

	if (appointment_kind(it->what) == DUE_SEAT)
		return p->seats[appointment_seat(it->what)].kill_at == it->at;
	if (!is_here(p, f))
		return false;
	a = annex_of(f); /* alive as long as f is here */
	if (!a)
		return false;
	if (appointment_kind(it->what) == DUE_KILL)
		return a->kill && a->kill->at == it->at;
	return a->deadline == it->at || a->deadline == it->at - COURTESY_MS * MS_TO_NS;
}

static void throw_out_stale(struct process_executor *p)
{
	struct timetable *t = &p->timetable;
	size_t kept = 0;

	for (size_t i = 0; i < t->count; i++)
		if (is_due(p, &t->heap[i]))
			t->heap[kept++] = t->heap[i];
	t->count = kept;
	for (size_t i = kept / 2; i-- > 0;)
		sift_down(t, i);
}

/* Room for one more. Half of the heap is filled anew before the stale ones are looked for again, so that looking is cheap on average. */
static bool make_room(struct process_executor *p)
{
	struct timetable *t = &p->timetable;
	size_t capacity = t->capacity ? 2 * t->capacity : CAPACITY;
	struct appointment *heap;

	if (t->count < t->capacity)
		return true;
	throw_out_stale(p);
	if (t->count < t->capacity / 2)
		return true;
	heap = realloc(t->heap, capacity * sizeof *heap);
	if (!heap)
		return t->count < t->capacity;
	t->heap = heap;
	t->capacity = capacity;
	return true;
}

/* ---- the timer ---- */

/* Wake the engine for the first one, if it does not wake before anyhow. */
static void arm(struct process_executor *p)
{
	struct timetable *t = &p->timetable;
	struct itimerspec when = { 0 };
	uint64_t at;

	if (t->count == 0 || t->heap[0].at >= t->armed || crew__deprived(p))
		return;
	t->armed = at = t->heap[0].at;
	when.it_value.tv_sec = (time_t)(at / 1000000000);
	when.it_value.tv_nsec = (long)(at % 1000000000);
	timerfd_settime(p->alarm, TFD_TIMER_ABSTIME, &when, NULL);
}

bool crew__timetable_push(struct process_executor *p, uint64_t at, uintptr_t what)
{
	struct timetable *t = &p->timetable;

	if (!make_room(p))
		return false;
	t->heap[t->count++] = (struct appointment){ at, what };
	sift_up(t, t->count - 1);
	arm(p);
	return true;
}

/* ---- keeping them ---- */

static void keep(struct process_executor *p, const struct appointment *it, struct batch *batch)
{
	switch (appointment_kind(it->what)) {
	case DUE_DEADLINE:
		crew__expire(p, appointment_future(it->what), batch);
		break;
	case DUE_KILL:
		crew__carry_out_kill(p, appointment_future(it->what), batch);
		break;
	case DUE_SEAT:
		crew__seat_kill(p, &p->seats[appointment_seat(it->what)], SIGKILL);
		break;
	}
}

/* As far as the batch and the lock's patience go. False: there is more. */
static bool keep_those_due(struct process_executor *p, uint64_t now, struct batch *batch)
{
	struct timetable *t = &p->timetable;

	for (uint32_t i = 0; t->count; i++) {
		bool due = is_due(p, &t->heap[0]);
		struct appointment it;

		if (due && t->heap[0].at > now)
			return true;
		if (i == UNHURRIED || batch->n == BATCH_ITEMS)
			return false;
		it = pop(t);
		if (due)
			keep(p, &it, batch);
	}
	return true;
}

void crew__timetable_run(struct process_executor *p)
{
	struct batch batch;
	uint64_t count, now = crew__now(), tail = 0;
	bool more = true;

	(void)!read(p->alarm, &count, sizeof count);
	batch.n = 0;
	while (more) {
		latch_take(&p->lock);
		p->timetable.armed = NEVER;
		more = !keep_those_due(p, now, &batch);
		if (!more)
			arm(p);
		if (!more && p->backlog.count && crew__pump(p, &batch, BATCH_ITEMS))
			tail = p->tail;
		latch_release(&p->lock);
		crew__deliver(p, &batch);
	}
	if (tail)
		crew__ring_published(&p->ring, tail);
}

void crew__timetable_fini(struct process_executor *p)
{
	free(p->timetable.heap);
}
