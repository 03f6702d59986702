/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * intake.c: from a submit to the ring, by way of the backlog when there is no room.
 *
 *	submit ─ task's number, arguments packed ─┬─ place: cell, ticket, tail, wake
 *	                                          └─ backlog ─ pump (submitters, waiters, engine) ─┘
 *
 * The ring is a window, not a limit: a slot is free when its last ticket is settled, and the ring never reaches further than its size ahead of head.
 * A slot whose task still runs is left out: its ticket is a hole. Submitting never blocks.
 *
 * Once some task had a priority the window is kept narrow: what is in the ring cannot be overtaken any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/copy.h"
#include "base/futex.h"
#include "core/packing.h"
#include "process/process_executor.h"

enum { ROW = 32 };

static int number_at(struct process_executor *p, struct process_port *port, const crew_task *task, uint32_t *ret)
{
	int rc;

	if (likely(port->task == task)) {
		*ret = port->number;
		return 0;
	}
	rc = crew__task_number(p, task, ret);
	if (rc == 0) {
		port->task = task;
		port->number = *ret;
	}
	return rc;
}

/* ---- arguments ---- */

void crew__free_extent(struct process_executor *p, const unsigned char *payload)
{
	struct extent extent;

	memcpy(&extent, payload, sizeof extent);
	crew__arena_free(&p->in, extent.offset, extent.size);
}

/* A task will be published in a moment. While anybody is awake he will see. */
static void expect(void *arg)
{
	struct process_executor *p = arg;

	if (crew__ring_awake(&p->ring) == 0)
		crew__ring_wake_one(&p->ring);
}

/* The packed arguments go to the payload if they fit, else to an extent of their own. */
static int pack_into(struct process_executor *p, struct job *job, const crew_task *task, const void *arguments)
{
	const struct shared_range blocks = { p->ring.blocks, p->ring.geometry.blocks_size };
	struct extent extent;
	size_t size;
	int rc;

	if (!(task->flags & CREW_TASK_DEEP) && task->arguments <= JOB_PAYLOAD) {
		job->size = task->arguments;
		if (task->parameter_count)
			copy_few(job->payload, arguments, task->arguments);
		return 0;
	}
	rc = crew__packed_size(task, arguments, &blocks, &size);
	if (rc)
		return rc;
	job->size = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
	if (size <= JOB_PAYLOAD) {
		crew__pack(task, arguments, &blocks, job->payload);
		return 0;
	}
	rc = crew__arena_alloc(&p->in, size, &extent.offset);
	if (rc)
		return -ENOMEM;
	extent.size = size;
	crew__pack_announced(task, arguments, &blocks, p->ring.in + extent.offset, &(struct herald){ expect, p });
	memcpy(job->payload, &extent, sizeof extent);
	job->flags |= JOB_EXTENT;
	return 0;
}

/* ---- the ring; the lock is held ---- */

/* head is written by workers: it may only have moved forward, and not beyond tail. */
static void look_at_head(struct process_executor *p)
{
	uint64_t head = load_acquire_64(&p->ring.rw->head);

	if (head >= p->head_seen && head <= p->tail)
		p->head_seen = head;
}

static uint64_t window(const struct process_executor *p)
{
	return p->backlog.prioritised ? 2 * p->ring.geometry.active : p->ring.geometry.slots;
}

/* The slot of `ticket` and those behind it, as far as they are answered: one visit for many. */
static void settle_row(struct process_executor *p, uint64_t ticket, struct batch *batch)
{
	for (uint32_t i = 0; i < ROW; i += 4) /* four to a line, each of them in a worker's cache */
		__builtin_prefetch(ring_answer(&p->ring, ticket + i));
	for (uint32_t i = 0; i < ROW; i++) {
		struct entry *e = &p->entries[(ticket + i) & p->ring.mask];

		if (!e->f || !ring_answered(&p->ring, e->ticket))
			return;
		crew__settle_answer(p, e, batch);
	}
}

/* The slot of the next ticket is free, perhaps after a few holes. False: there is no room. */
static bool find_room(struct process_executor *p, struct batch *batch)
{
	for (;;) {
		struct entry *e = &p->entries[p->tail & p->ring.mask];
		uint64_t word;

		if (p->tail - p->head_seen >= window(p)) {
			look_at_head(p);
			if (p->tail - p->head_seen >= window(p))
				return false;
		}
		if (likely(!e->f && !e->waiters))
			return true;
		if (e->f && ring_answered(&p->ring, e->ticket)) {
			if (batch->n + ROW > BATCH_ITEMS)
				return false;
			settle_row(p, p->tail, batch);
			continue;
		}
		word = ck_pr_load_64(ring_claim(&p->ring, e->ticket));
		if (e->f && word_is_open(word, e->ticket))
			return false;
		p->tail++; /* somebody still runs there, or sleeps on its word */
	}
}

/* What a cell is filled from: a submit's arguments, or a node of the backlog. */
struct source {
	crew_future *f;
	uint32_t task, size, flags;
	const void *payload;
	uint8_t epoch;
	uint64_t number;
	uint32_t errand;
};

static size_t payload_of(uint32_t flags, uint32_t size)
{
	return flags & JOB_EXTENT ? sizeof(struct extent) : size;
}

/* Fill the cell of the next ticket, whose slot is free. Who sees the ticket sees all of it. */
static void place(struct process_executor *p, const struct source *from)
{
	uint64_t ticket = p->tail++;
	struct entry *e = &p->entries[ticket & p->ring.mask];
	struct cell *cell = ring_cell(&p->ring, ticket);
	crew_future *f = from->f;
	struct annex *a = annex_of(f);

	cell->job.task = from->task;
	cell->job.size = from->size;
	cell->job.flags = from->flags | (ck_pr_load_32(&f->state) & (STATE_NOTIFY | STATE_WAITER) ? JOB_NOTE : 0);
	cell->job.deadline = a ? a->deadline : NEVER;
	copy_few(cell->job.payload, from->payload, payload_of(from->flags, from->size));
	e->f = f;
	e->ticket = ticket;
	e->number = from->number;
	e->errand = from->errand;
	e->epoch = from->epoch;
	e->suspect = 0;
	f->value.word[0] = mark_ticket(ticket);
	__builtin_prefetch(ring_cell(&p->ring, ticket + 2), 1);
	__builtin_prefetch(&p->entries[(ticket + 8) & p->ring.mask], 1);
	store_release_32(&cell->ticket, (uint32_t)ticket); /* pairs with the load in claim (process_worker.c) */
}

/* All tickets so far can be taken. Whoever then looks for a sleeper has given back the lock before, which is the barrier that he needs, see
   crew__ring_published. */
static uint64_t publish(struct process_executor *p)
{
	store_release_64(&p->ring.pub->tail, p->tail); /* pairs with the load in take (process_worker.c) */
	return p->tail;
}

/* Holes must be published like tickets: as long as workers cannot pass them, they take up the window. */
static bool publish_holes(struct process_executor *p)
{
	if (ck_pr_load_64(&p->ring.pub->tail) == p->tail)
		return false;
	publish(p);
	return true;
}

void crew__tell_hunger(struct process_executor *p)
{
	uint32_t hungry = 0;

	if (p->backlog.count)
		hungry = p->backlog.prioritised ? 2 * p->ring.geometry.active : p->ring.geometry.slots / 2;
	else if (p->drainers)
		hungry = 1;
	if (ck_pr_load_32(&p->ring.pub->hungry) != hungry) {
		ck_pr_store_32(&p->ring.pub->hungry, hungry);
		ck_pr_fence_memory(); /* pairs with the barrier in ring_parked_engine (process_worker.c) */
	}
}

bool crew__pump(struct process_executor *p, struct batch *batch, uint32_t most)
{
	struct waiting *w;
	uint32_t n = 0;

	while (n < most && (w = crew__backlog_first(&p->backlog)) && find_room(p, batch)) {
		place(p, &(struct source){ w->f, w->task, w->size, w->flags, crew__backlog_payload(w), w->epoch, w->number, 0 });
		crew__backlog_pop(&p->backlog);
		n++;
	}
	crew__tell_hunger(p);
	return publish_holes(p) || n > 0;
}

static int priority_of(const crew_future *f)
{
	struct annex *a = annex_of(f);

	return a ? a->priority : 0;
}

bool crew__withdraw(struct process_executor *p, const struct entry *e, uint32_t status)
{
	uint64_t *place = ring_claim(&p->ring, e->ticket), word = ck_pr_load_64(place);

	while (word_is_open(word, e->ticket))
		if (ck_pr_cas_64_value(place, word, word_make(e->ticket, 0, status), &word))
			return true;
	return false;
}

bool crew__offer_again(struct process_executor *p, struct entry *e)
{
	if (!crew__backlog_push(&p->backlog, e->f, &ring_cell(&p->ring, e->ticket)->job, e->epoch, e->number, priority_of(e->f)))
		return false;
	crew__tell_hunger(p);
	e->f = NULL;
	if (e->waiters) /* they look where it is now */
		crew__futex_wake(word_futex(ring_claim(&p->ring, e->ticket)), INT_MAX, true);
	return true;
}

/* ---- submit ---- */

/* What is in the ring, not begun, and comes after a newcomer, leaves it again. */
static void make_way(struct process_executor *p, int64_t key)
{
	for (uint64_t ticket = p->head_seen; ticket < p->tail; ticket++) {
		struct entry *e = &p->entries[ticket & p->ring.mask];

		if (e->f && e->ticket == ticket && !e->errand && crew__backlog_key(priority_of(e->f), e->number) < key &&
		    crew__withdraw(p, e, WORD_MOVED) && !crew__offer_again(p, e))
			ck_pr_store_64(ring_claim(&p->ring, ticket), word_make(ticket, 0, WORD_QUEUED)); /* no memory: it stays; its
				ticket may have been passed over meanwhile, which the sweep finds */
	}
}

static void count_in(struct process_executor *p, uint8_t epoch)
{
	p->backlog.numbered++;
	p->outstanding++;
	p->of_epoch[epoch]++;
	if (unlikely(!p->ticking))
		crew__keep_ticking(p);
}

uint64_t crew__take_in_errand(struct process_executor *p, crew_future *f, const struct job *job, uint32_t errand, struct batch *batch)
{
	uint8_t epoch = p->epoch % EPOCHS;
	uint64_t ticket, deadline = annex_of(f)->deadline;

	if (p->failed || !find_room(p, batch) ||
	    (deadline != NEVER && !crew__timetable_push(p, deadline, appointment_of(f, DUE_DEADLINE))) || !crew__unhold(f)) {
		publish_holes(p);
		return 0;
	}
	ticket = p->tail;
	place(p, &(struct source){ f, job->task, job->size, job->flags, job->payload, epoch, p->backlog.numbered, errand });
	publish(p);
	count_in(p, epoch);
	return ticket;
}

void crew__move_errand(struct process_executor *p, struct entry *e, struct batch *batch)
{
	struct job job;

	if (!find_room(p, batch) || !crew__withdraw(p, e, WORD_MOVED))
		return; /* its worker can still claim it; the sweep comes again */
	job = ring_cell(&p->ring, e->ticket)->job;
	crew__errand_moved(p, e->errand, p->tail);
	place(p, &(struct source){ e->f, job.task, job.size, job.flags, job.payload, e->epoch, e->number, e->errand });
	e->f = NULL;
	if (e->waiters)
		crew__futex_wake(word_futex(ring_claim(&p->ring, e->ticket)), INT_MAX, true);
	publish(p);
	ck_pr_fence_memory(); /* as in crew__ring_published; but the lock is held still */
	crew__ring_wake_one(&p->ring);
}

/* Under the lock. 0, -ENOMEM, CREW_EBROKEN. *ret_tail: published up to there; 0: it went to the backlog. */
static int take_in(struct process_executor *p, crew_future *f, const struct job *job, struct batch *batch, uint64_t *ret_tail)
{
	uint8_t epoch = p->epoch % EPOCHS;
	uint64_t number = p->backlog.numbered;
	struct annex *a = annex_of(f);
	int priority = a ? a->priority : 0;

	if (unlikely(p->failed || (!p->ticking && crew__deprived(p))))
		return CREW_EBROKEN;
	if (unlikely(a && a->deadline != NEVER) && !crew__timetable_push(p, a->deadline, appointment_of(f, DUE_DEADLINE)))
		return -ENOMEM;
	if (unlikely(priority || p->backlog.prioritised)) {
		p->backlog.prioritised = true;
		make_way(p, crew__backlog_key(priority, number));
	}
	if (likely(p->backlog.count == 0) && find_room(p, batch)) {
		place(p, &(struct source){ f, job->task, job->size, job->flags, job->payload, epoch, number, 0 });
		*ret_tail = publish(p);
	} else {
		if (!crew__backlog_push(&p->backlog, f, job, epoch, number, priority))
			return -ENOMEM;
		crew__tell_hunger(p);
		if (p->backlog.prioritised ? crew__pump(p, batch, BATCH_ITEMS) : publish_holes(p))
			*ret_tail = p->tail;
	}
	count_in(p, epoch);
	return 0;
}

int crew__process_submit(crew_executor *ex, struct port *base, crew_future *f, const void *arguments)
{
	struct process_executor *p = process_executor_of(ex);
	struct process_port *port = (struct process_port *)base;
	const crew_task *task = task_of(f);
	struct batch batch;
	struct job job;
	uint64_t tail = 0;
	uint32_t number;
	int rc = number_at(p, port, task, &number);
	bool gone;

	if (unlikely(rc))
		return rc;
	batch.n = 0;
	job.task = number;
	job.flags = 0;
	rc = pack_into(p, &job, task, arguments);
	if (unlikely(rc))
		return rc;
	latch_take(&p->lock);
	gone = ck_pr_load_32(&f->state) & STATE_TAKEN; /* cancelled by who found the record before it came here, see crew__process_cancel */
	if (likely(!gone))
		rc = take_in(p, f, &job, &batch, &tail);
	if (unlikely(!gone && rc == 0 && tail == 0 && ++port->backlogged % 16 == 0) && crew__pump(p, &batch, BATCH_ITEMS))
		tail = p->tail;
	latch_release(&p->lock);
	if (unlikely(rc || gone) && (job.flags & JOB_EXTENT))
		crew__free_extent(p, job.payload);
	if (unlikely(rc == CREW_EBROKEN && ck_pr_load_32(&p->deprived)))
		crew__abandon(p);
	if (tail && unlikely(crew__ring_published(&p->ring, tail)))
		crew__roused(p, tail);
	if (batch.n)
		crew__deliver(p, &batch);
	return rc;
}
