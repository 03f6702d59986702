/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * errand.c: what tasks in workers submit, on the parent's side. errand.h has the picture.
 *
 *	offers of a worker ─ somebody is idle? ─ TAKEN ─ request fetched, checked ─ a future of ours ─ placed ─ reply PLACED
 *	                                                                                 └ its callback ─ result to pub ─ reply DONE
 *
 * The engine alone takes. It takes no more than there are idle workers for, from each worker in turn, the oldest offer first. What it takes becomes a future
 * of this executor like any other, so that death, deadlines, retries and the end of all find nothing new; but it never waits in the backlog, where
 * its worker could not claim it back: it goes to the ring, or it is not taken. Its failure is its submitter's business, not the executor's.
 *
 * A request is foreign memory: fetched once, each field checked, its arguments copied. What it says decides only which known task runs with which
 * bytes, and those the worker that unpacks them checks again.
 */
#include "process/errand.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/context.h"
#include "core/shared_block.h"
#include "core/waiting.h"
#include "process/process_executor.h"

/* One that was taken. */
struct errand {
	struct callback cb; /* of f */
	struct process_executor *p;
	uint32_t worker, cell, number;
	/* guarded by the lock */
	bool over; /* its future is done, its worker was told */
	bool dead; /* its worker has died: nobody is to be told */
	crew_future *f;
	struct errand *next; /* of the dead */
};

/* What the parent knows of a cell. Guarded by the lock. */
struct errand_cell {
	struct errand *errand;	     /* the last that was taken from it; its memory is used again */
	struct extent room, result; /* in rw's arena, in pub's: its own, whatever a worker says; size 0: none */
};

static struct errand_cell *cell_of(struct process_executor *p, uint32_t worker, uint32_t cell)
{
	return &p->errand_cells[(size_t)worker * ERRANDS + cell];
}

static struct errand_reply *reply_of(struct process_executor *p, uint32_t worker, uint32_t cell)
{
	return &errand_replies(&p->ring, worker)[cell];
}

/* ---- telling ---- */

/* Something of a worker's errands has changed. */
static void tell(struct process_executor *p, uint32_t worker)
{
	struct orders *orders = &p->ring.orders[worker];

	ck_pr_inc_32(&orders->replied);
	ck_pr_fence_memory(); /* pairs with the barriers in sleep_here (worker_executor.c) and park (process_worker.c) */
#ifndef CREW_FAULT_UNTOLD
	if (ck_pr_load_32(&p->ring.reports[worker].waits))
		crew__futex_wake(&orders->replied, INT_MAX, true);
#endif
	if (ck_pr_load_64(&p->ring.rw->parked[worker / 64]) >> (worker % 64) & 1)
		crew__ring_bell(&p->ring, worker);
}

/* The extent is nobody's any more. */
static void free_extent(struct arena *arena, struct extent *extent)
{
	if (extent->size)
		crew__arena_free(arena, extent->offset, extent->size);
	*extent = (struct extent){ 0, 0 };
}

/* ---- how it ended ---- */

/* Where a worker can read n bytes. False: there is no memory. */
static bool put_bytes(struct process_executor *p, struct extent *extent, const void *bytes, size_t n)
{
	if (crew__arena_alloc(&p->in, n, &extent->offset))
		return false;
	extent->size = n;
	memcpy(p->ring.in + extent->offset, bytes, n);
	return true;
}

static void put_code(struct errand_reply *reply, int code)
{
	reply->about = ANSWER_CODE;
	reply->code = code;
}

static void put_error(struct process_executor *p, struct errand_reply *reply, const crew_error *error, bool cancelled)
{
	reply->about = ANSWER_ERROR;
	reply->code = cancelled;
	if (!put_bytes(p, &reply->bytes, error, sizeof *error))
		put_code(reply, error->code);
}

static void put_value(struct process_executor *p, struct errand_reply *reply, const void *value, size_t n)
{
	if (n <= WIDE_SIZE) {
		memcpy(reply->value, value, n);
		reply->about = ANSWER_WIDE | (uint32_t)n << 8;
	} else if (put_bytes(p, &reply->bytes, value, n)) {
		reply->about = ANSWER_LARGE;
	} else {
		put_code(reply, -ENOMEM);
	}
}

/* What the reply will say of a future that is done. */
static void put_outcome(struct process_executor *p, struct errand_reply *reply, const crew_future *f)
{
	uint32_t s = load_acquire_32(&f->state);
	const crew_task *task = task_of(f);
	size_t size = CREW_TYPE_SIZE(task->result);

	if ((s & STATE_FAILED) || phase_of(s) == PHASE_CANCELLED)
		put_error(p, reply, f->value.error, phase_of(s) == PHASE_CANCELLED);
	else if (annex_of(f)->home)
		reply->about = ANSWER_HOME;
	else if (CREW_TYPE_CLASS(task->result) != CREW_STRING && CREW_TYPE_CLASS(task->result) != CREW_BYTES)
		put_value(p, reply, size > sizeof f->value.bytes ? f->value.large : (const void *)f->value.bytes, size);
	else if (f->value.run.data)
		put_value(p, reply, f->value.run.data, f->value.run.len + (CREW_TYPE_CLASS(task->result) == CREW_STRING));
	else
		reply->about = ANSWER_NULL;
}

/* The end of f, in whichever thread completes it. */
static void came_back(crew_future *f, void *arg)
{
	struct errand *e = arg;
	struct process_executor *p = e->p;
	struct errand_reply *reply = reply_of(p, e->worker, e->cell), said = { 0 };
	struct errand_cell *cell = cell_of(p, e->worker, e->cell);

	put_outcome(p, &said, f);
	latch_take(&p->lock);
	e->over = true;
	e->f = NULL;
	if (e->dead) {
		free_extent(&p->in, &said.bytes);
	} else {
		free_extent(&p->in, &cell->result);
		cell->result = said.bytes;
		reply->about = said.about;
		reply->code = said.code;
		reply->bytes = said.bytes;
		memcpy(reply->value, said.value, sizeof reply->value);
		store_release_32(&reply->word, errand_word(e->number, REPLY_DONE)); /* pairs with reply_state (offer.c) */
		tell(p, e->worker);
	}
	latch_release(&p->lock);
}

/* ---- taking ---- */

/* The task it names; NULL: there is none, or we cannot know. */
static const crew_task *named_by(struct process_executor *p, const struct errand_request *request)
{
	const crew_task *task = NULL;

	if (request->task == TASKS_MAX)
		return crew__identified(&request->identity);
	latch_take(&p->lock);
	if (request->task < p->tasks.count)
		task = p->tasks.by_number[request->task];
	latch_release(&p->lock);
	return task;
}

/* Blocks that the arguments lie in must last. `packed` is our copy of them. */
static int pin_blocks(struct process_executor *p, crew_future *f, const unsigned char *packed, size_t size)
{
	const struct shared_range blocks = { p->ring.blocks, p->ring.geometry.blocks_size };
	const crew_task *task = task_of(f);
	void *arguments;
	int rc;

	if (!ck_pr_load_32(&p->base.has_blocks) || !(task->flags & CREW_TASK_DEEP))
		return 0;
	arguments = malloc(task->arguments);
	if (!arguments)
		return -ENOMEM;
	memcpy(arguments, packed, task->arguments);
	rc = crew__unpack(task, arguments, packed, size, &blocks);
	if (rc == 0)
		rc = crew__shared_pin(&p->base, f, arguments);
	free(arguments);
	return rc;
}

/* The arguments as a job has them, copied from where the worker may still write. */
static int fill_job(struct process_executor *p, const struct errand *e, const crew_task *task, const struct errand_request *request,
		    struct job *job)
{
	struct errand_cell *cell = cell_of(p, e->worker, e->cell);
	struct extent extent;

	job->size = request->size;
	job->flags = JOB_NOTE;
	job->deadline = request->deadline;
	if (request->size < task->arguments || request->size > (request->large ? cell->room.size : JOB_PAYLOAD))
		return CREW_EPROTO;
	if (!request->large) {
		memcpy(job->payload, request->payload, request->size);
		return 0;
	}
	if (crew__arena_alloc(&p->in, request->size, &extent.offset))
		return -ENOMEM;
	extent.size = request->size;
	memcpy(p->ring.in + extent.offset, p->ring.out + cell->room.offset, request->size);
	memcpy(job->payload, &extent, sizeof extent);
	job->flags |= JOB_EXTENT;
	return 0;
}

/* A future of ours for it, held back, with a reference for the caller and one for its completer. NULL: no memory. */
static crew_future *future_new(struct process_executor *p, struct errand *e, const crew_task *task, const struct errand_request *request)
{
	struct port *port = crew__port(&p->base);
	crew_future *f = port ? crew__record_new(port) : NULL;
	struct annex *a;

	if (!f)
		return NULL;
	crew__record_init(f, task, PHASE_PENDING | STATE_HELD);
	a = crew__annex(f);
	if (a) {
		a->deadline = request->deadline;
		a->retries = request->retries;
		a->foreign = true;
	}
	e->cb = (struct callback){ .fn = came_back, .arg = e, .embedded = true };
	latch_take(&p->lock);
	e->over = e->dead = false;
	e->f = f;
	latch_release(&p->lock);
	if (a && crew__subscribe(f, &e->cb) == 0) {
		ck_pr_store_64(&port->submitted, port->submitted + 1);
		return f;
	}
	ck_pr_store_32(&f->state, PHASE_FINISHED); /* nobody has seen it */
	crew__recycle(f);
	return NULL; /* take() says that it is over */
}

/* It did not get into the ring: as if it had never been. False: somebody was faster and has cancelled it, which the worker is told. */
static bool undo(struct process_executor *p, struct errand *e, crew_future *f)
{
	bool ours = crew__claim_as(f, STATE_HELD);

	if (ours) {
		latch_take(&p->lock);
		e->dead = true; /* nobody is told */
		latch_release(&p->lock);
		crew__cancelled(f, NULL);
	}
	crew__release(f);
	return ours;
}

/* Into the ring, and say where. False: there is no room, or it was cancelled meanwhile. */
static bool place(struct process_executor *p, struct errand *e, crew_future *f, const struct job *job)
{
	struct errand_reply *reply = reply_of(p, e->worker, e->cell);
	struct batch batch;
	uint64_t ticket;

	batch.n = 0;
	latch_take(&p->lock);
	ticket = crew__take_in_errand(p, f, job, e->worker * ERRANDS + e->cell + 1, &batch);
	if (ticket) {
		ck_pr_store_64(&reply->ticket, ticket);
		reply->task = job->task;
		store_release_32(&reply->word, errand_word(e->number, REPLY_PLACED)); /* pairs with reply_state (offer.c) */
		tell(p, e->worker);
	}
	latch_release(&p->lock);
	crew__deliver(p, &batch);
	return ticket != 0;
}

/* From the worker's request to the ring. 0; -EAGAIN: no room; else it cannot be, and CREW_EPROTO is a lie. */
static int take_over(struct process_executor *p, struct errand *e)
{
	struct errand_request request;
	const crew_task *task;
	crew_future *f = NULL;
	struct job job;
	int rc;

	job.flags = 0;
	memcpy(&request, &errand_requests(&p->ring, e->worker)[e->cell], sizeof request);
	ck_pr_barrier(); /* once */
	task = named_by(p, &request);
	if (!task)
		return request.task == TASKS_MAX ? CREW_ENOTASK : CREW_EPROTO;
	rc = fill_job(p, e, task, &request, &job);
	if (rc == 0)
		rc = crew__task_number(p, task, &job.task);
	if (rc == 0) {
		f = future_new(p, e, task, &request);
		rc = f ? pin_blocks(p, f, job.flags & JOB_EXTENT ? p->ring.in + ((struct extent *)(void *)job.payload)->offset : job.payload, job.size)
		       : -ENOMEM;
	}
	if (rc == 0 && place(p, e, f, &job)) {
		crew__release(f);
		return 0;
	}
	if (job.flags & JOB_EXTENT)
		crew__free_extent(p, job.payload);
	if (f && !undo(p, e, f))
		return 0;
	return rc ? rc : -EAGAIN;
}

/* The dead whose completers are done with them. The lock is held. */
static void free_dead(struct process_executor *p)
{
	struct errand **place = &p->dead_errands;

	while (*place) {
		struct errand *e = *place;

		if (e->over && load_acquire_32(&e->cb.phase) == CALLBACK_DONE) {
			*place = e->next;
			free(e);
		} else {
			place = &e->next;
		}
	}
}

/* Memory for one more of this cell; what was there is over. */
static struct errand *errand_for(struct process_executor *p, uint32_t worker, uint32_t cell, uint32_t number)
{
	struct errand_cell *c = cell_of(p, worker, cell);

	latch_take(&p->lock);
	if (c->errand && load_acquire_32(&c->errand->cb.phase) != CALLBACK_DONE) { /* its completer has told, and is not quite done with it */
		free_dead(p);
		c->errand->next = p->dead_errands;
		p->dead_errands = c->errand;
		c->errand = NULL;
	}
	if (!c->errand && (c->errand = calloc(1, sizeof *c->errand))) {
		c->errand->over = true; /* until it has a future */
		c->errand->cb.phase = CALLBACK_DONE;
	}
	latch_release(&p->lock);
	if (c->errand) {
		c->errand->p = p;
		c->errand->worker = worker;
		c->errand->cell = cell;
		c->errand->number = number;
	}
	return c->errand;
}

/* False: it could not be taken for now. */
static bool take(struct process_executor *p, uint32_t worker, uint32_t cell, uint32_t number)
{
	uint32_t *place = &errand_words(&p->ring, worker)[cell], taken = errand_word(number, ERRAND_TAKEN);
	struct errand *e = errand_for(p, worker, cell, number);
	int rc;

	if (!e || !ck_pr_cas_32(place, errand_word(number, ERRAND_OFFERED), taken))
		return false;
	ck_pr_fence_acquire(); /* pairs with the release in crew__offer (offer.c) */
	rc = take_over(p, e);
	if (rc == 0) {
		crew__ring_wake_one(&p->ring);
		return true;
	}
	latch_take(&p->lock);
	e->over = true; /* it never had a future, or has none any more */
	ck_pr_store_32(&e->cb.phase, CALLBACK_DONE);
	if (rc == CREW_EPROTO)
		crew__condemn(p, worker, CREW_EPROTO);
	(void)ck_pr_cas_32(place, taken, errand_word(number, rc == -EAGAIN ? ERRAND_OFFERED : ERRAND_REFUSED));
	tell(p, worker);
	latch_release(&p->lock);
	return false;
}

/* How many workers sleep for whom there is no ticket. */
static uint64_t idle(const struct process_executor *p)
{
	const struct rw *rw = p->ring.rw;
	uint64_t there = ck_pr_load_64(&p->ring.pub->tail) - ck_pr_load_64(&rw->head), parked = 0;

	for (uint32_t i = 0; i < (p->ring.geometry.workers + 63) / 64; i++)
		parked += (uint64_t)__builtin_popcountll(ck_pr_load_64(&rw->parked[i]));
	return there < parked ? parked - there : 0;
}

/* The oldest offer of a worker; ERRANDS: it has none. */
static uint32_t oldest_of(const struct process_executor *p, uint32_t worker, uint32_t *ret_number)
{
	const uint32_t *words = errand_words(&p->ring, worker);
	uint32_t oldest = ERRANDS;

	for (uint32_t i = 0; i < ERRANDS; i++) {
		uint32_t word = ck_pr_load_32(&words[i]);

		if ((word & 15) == ERRAND_OFFERED && (oldest == ERRANDS || (int32_t)(((word >> 4) - *ret_number) << 4) < 0)) {
			oldest = i;
			*ret_number = word >> 4;
		}
	}
	return oldest;
}

static bool offers(const struct process_executor *p, uint32_t worker)
{
	return ck_pr_load_64(&p->ring.rw->offering[worker / 64]) >> (worker % 64) & 1;
}

bool crew__errands_take(struct process_executor *p)
{
	uint32_t workers = p->ring.geometry.workers, cell, number = 0;
	bool any = false, found = true;

	if (likely(!crew__ring_any(p->ring.rw->offering, &p->ring)))
		return false;
	for (uint32_t round = 0; found && round < ERRANDS && idle(p); round++) { /* one that offers without end must not hold us up */
		found = false;
		for (uint32_t i = 0; i < workers && idle(p); i++) {
			p->errand_turn = (p->errand_turn + 1) % workers;
			if (!offers(p, p->errand_turn))
				continue;
			cell = oldest_of(p, p->errand_turn, &number);
			if (cell < ERRANDS && take(p, p->errand_turn, cell, number))
				any = found = true;
		}
	}
	return any;
}

/* ---- room ---- */

/* Results that were read, and room that is not needed, are free again. The lock is held. */
static void reclaim(struct process_executor *p, uint32_t worker)
{
	const uint32_t *words = errand_words(&p->ring, worker);

	for (uint32_t i = 0; i < ERRANDS; i++) {
		struct errand_cell *c = cell_of(p, worker, i);

		if (c->result.size && (load_acquire_32(&words[i]) & 15) != ERRAND_TAKEN) { /* pairs with release_cell (offer.c) */
			reply_of(p, worker, i)->bytes.size = 0;
			free_extent(&p->in, &c->result);
		}
	}
}

static size_t room_size(uint64_t want)
{
	size_t size = 4096;

	while (size < want && size < ROOM_KEPT)
		size *= 2;
	return size >= want ? size : ((size_t)want + 4095) & ~(size_t)4095;
}

void crew__errands_room(struct process_executor *p, uint32_t worker)
{
	struct report *report = &p->ring.reports[worker];
	struct orders *orders = &p->ring.orders[worker];
	uint32_t asked = load_acquire_32(&report->room_asked), cell = ck_pr_load_32(&report->room_cell);
	uint64_t want = ck_pr_load_64(&report->room_want);
	struct errand_reply *reply;
	struct errand_cell *c;

	latch_take(&p->lock);
	reclaim(p, worker);
	if (asked != orders->room_granted && cell < ERRANDS) {
		c = cell_of(p, worker, cell);
		reply = reply_of(p, worker, cell);
		free_extent(&p->store->arena, &c->room);
		if (want && want <= p->ring.out_size && crew__arena_alloc(&p->store->arena, room_size(want), &c->room.offset) == 0)
			c->room.size = room_size(want);
		reply->room = c->room;
		store_release_32(&orders->room_granted, asked); /* pairs with the load in ask_for_room (offer.c) */
		crew__futex_wake(&orders->room_granted, INT_MAX, true);
	}
	latch_release(&p->lock);
}

/* ---- in the ring ---- */

void crew__errand_moved(struct process_executor *p, uint32_t id, uint64_t ticket)
{
	uint32_t worker = (id - 1) / ERRANDS;

	ck_pr_store_64(&reply_of(p, worker, (id - 1) % ERRANDS)->ticket, ticket);
	tell(p, worker);
}

bool crew__errand_is_of(uint32_t id, uint32_t worker)
{
	return id && (id - 1) / ERRANDS == worker;
}

/* ---- the end of its worker ---- */

/* Nothing of it is left in the cells. Its futures that are not done, each with a reference; how many. The lock is held. */
static uint32_t clear_cells(struct process_executor *p, uint32_t worker, crew_future *fs[ERRANDS])
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ERRANDS; i++) {
		struct errand_cell *c = cell_of(p, worker, i);
		struct errand *e = c->errand;

		ck_pr_store_32(&errand_words(&p->ring, worker)[i], ERRAND_FREE);
		ck_pr_store_32(&reply_of(p, worker, i)->word, 0);
		reply_of(p, worker, i)->room = reply_of(p, worker, i)->bytes = (struct extent){ 0, 0 };
		free_extent(&p->store->arena, &c->room);
		free_extent(&p->in, &c->result);
		if (!e || e->over)
			continue;
		e->dead = true;
		e->next = p->dead_errands;
		p->dead_errands = e;
		c->errand = NULL;
		crew__retain(e->f);
		fs[n++] = e->f;
	}
	return n;
}

void crew__errands_bury(struct process_executor *p, uint32_t worker, bool in_order)
{
	crew_future *fs[ERRANDS];
	uint32_t n;

	latch_take(&p->lock);
	free_dead(p);
#ifndef CREW_FAULT_NO_ERRAND_BURIAL
	n = clear_cells(p, worker, fs);
#else
	n = 0;
#endif
	latch_release(&p->lock);
	for (uint32_t i = 0; i < n; i++) {
		if (!in_order)
			crew__cancel(fs[i], "the worker of the task that submitted it died");
		crew__release(fs[i]);
	}
}

int crew__errands_init(struct process_executor *p)
{
	p->errand_cells = calloc((size_t)p->ring.geometry.workers * ERRANDS, sizeof *p->errand_cells);
	return p->errand_cells ? 0 : -ENOMEM;
}

/* Every future is done. The arenas are still there, if they ever were. */
void crew__errands_fini(struct process_executor *p)
{
	for (size_t i = 0; p->errand_cells && i < (size_t)p->ring.geometry.workers * ERRANDS; i++) {
		struct errand_cell *c = &p->errand_cells[i];

		free_extent(&p->store->arena, &c->room);
		free_extent(&p->in, &c->result);
		free(c->errand);
	}
	while (p->dead_errands) {
		struct errand *e = p->dead_errands;

		p->dead_errands = e->next;
		free(e);
	}
	free(p->errand_cells);
}
