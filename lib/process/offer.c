/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * offer.c: the errands of one worker, on its side: cells that are filled, taken back, and read when the parent has replied.
 *
 *	crew__offer → request, word OFFERED ─┬─ withdraw: word FREE → the caller runs it                      (nobody had time)
 *	                                     └─ the engine: TAKEN ─┬─ withdraw: its ticket claimed → the caller runs it
 *	                                                           └─ reply DONE → ending → word FREE
 *
 * Words and requests lie in memory that peers could scribble over; nothing is read back from there but the word itself, by compare-and-swap.
 * What the parent says lies in pub and is true. A cell that is TAKEN stays in use until its reply is DONE, also when the task ran here under
 * its ticket: then the parent learns of the end from the ring, without haste.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/packing.h"
#include "process/worker_executor.h"

#define SLICE (100 * MS_TO_NS)

static uint32_t *word_of(const struct worker_executor *x, uint32_t cell)
{
	return &errand_words(x->w->ring, x->w->index)[cell];
}

static const struct errand_reply *reply_of(const struct worker_executor *x, uint32_t cell)
{
	return &errand_replies(x->w->ring, x->w->index)[cell];
}

/* REPLY_… to the errand that is in the cell now. Pairs with the releases in errand.c. */
static uint32_t reply_state(const struct worker_executor *x, uint32_t cell)
{
	uint32_t word = load_acquire_32(&reply_of(x, cell)->word);

	return word >> 4 == x->offers[cell].number ? word & 15 : REPLY_NONE;
}

static int cell_of(const struct worker_executor *x, const crew_future *f)
{
	for (uint64_t cells = x->busy; cells; cells &= cells - 1)
		if (x->offers[__builtin_ctzll(cells)].f == f)
			return __builtin_ctzll(cells);
	return -1;
}

static void set_busy(struct worker_executor *x, uint64_t busy)
{
	ck_pr_store_64(&x->busy, busy); /* read without the mutex by has_errands */
}

/* ---- names of tasks ---- */

static struct known *known_slot(struct worker_executor *x, const crew_task *task)
{
	return &x->known[((uintptr_t)task >> 4) * 0x9e3779b97f4a7c15ull >> 58];
}

static int name_task(struct worker_executor *x, const crew_task *task, struct errand_request *request)
{
	struct known *known = known_slot(x, task);
	int rc;

	if (known->task != task) {
		known->task = NULL;
		rc = crew__identify(task, &known->identity, NULL);
		if (rc)
			return rc;
		known->task = task;
		known->number = TASKS_MAX;
	}
	request->task = known->number;
	request->identity = known->identity;
	return 0;
}

/* ---- room for large arguments ---- */

/* Ask the engine to give this cell room for n bytes; 0: to take it back. False: there is none. */
static bool ask_for_room(struct worker_executor *x, uint32_t cell, size_t n)
{
	struct worker *w = x->w;
	uint32_t number = w->report->room_asked + 1, granted;

	ck_pr_store_32(&w->report->room_cell, cell);
	ck_pr_store_64(&w->report->room_want, n);
	ck_pr_fence_store();
	ck_pr_store_32(&w->report->room_asked, number);
	ck_pr_fence_store_atomic();
	set_bit(w->ring->rw->asking, w);
	ring_engine(w);
	while ((granted = load_acquire_32(&w->orders->room_granted)) != number) {
		if (ck_pr_load_32(&w->ring->pub->stop))
			return false;
		crew__futex_wait(&w->orders->room_granted, granted, crew__now() + SLICE, true); /* woken by crew__errands_room (errand.c) */
	}
	return reply_of(x, cell)->room.size >= n;
}

/* A free cell, if it can be had one with so much room; -1: none is free. */
static int free_cell(const struct worker_executor *x, size_t room)
{
	int first = -1;

	for (uint64_t cells = ~x->busy; cells; cells &= cells - 1) {
		int cell = __builtin_ctzll(cells);

		if (room == 0 || reply_of(x, (uint32_t)cell)->room.size >= room)
			return cell;
		if (first < 0)
			first = cell;
	}
	return first;
}

static const void *arguments_of(const crew_future *f)
{
	const struct annex *a = annex_of(f);

	return a && a->argument_size ? (const void *)a->arguments : f->value.bytes;
}

/* The packed arguments go to the request or to the cell's room. */
static bool pack_into(struct worker_executor *x, uint32_t cell, struct errand_request *request, const crew_future *f)
{
	const crew_task *task = task_of(f);
	const void *arguments = arguments_of(f);
	size_t size;

	request->large = 0;
	if (!(task->flags & CREW_TASK_DEEP) && task->arguments <= JOB_PAYLOAD) {
		request->size = task->arguments;
		memcpy(request->payload, arguments, task->arguments);
		return true;
	}
	if (crew__packed_size(task, arguments, &crew__shared_here, &size) || size > UINT32_MAX)
		return false;
	request->size = (uint32_t)size;
	if (size <= JOB_PAYLOAD) {
		crew__pack(task, arguments, &crew__shared_here, request->payload);
		return true;
	}
	request->large = 1;
	if (reply_of(x, cell)->room.size < size && !ask_for_room(x, cell, size))
		return false;
	crew__pack(task, arguments, &crew__shared_here, x->w->ring->out + reply_of(x, cell)->room.offset);
	return true;
}

/* ---- offering ---- */

/* Who is idle should hear of it. Pairs with the barrier in park (process_worker.c): either we see its bit, or it sees ours. */
static void announce(struct worker *w)
{
	struct rw *rw = w->ring->rw;

	if (!(ck_pr_load_64(&rw->offering[w->index / 64]) >> (w->index % 64) & 1))
		set_bit(rw->offering, w);
	ck_pr_fence_memory(); /* pairs with the barrier after engine_parked = 1, too */
	if (crew__ring_any(rw->parked, w->ring) && ck_pr_load_32(&w->ring->pub->engine_parked))
		ring_engine(w);
}

static size_t room_wanted(const crew_future *f)
{
	const struct annex *a = annex_of(f);

	return a && a->argument_size > JOB_PAYLOAD ? a->argument_size : 0; /* about what packing will need */
}

bool crew__offer(struct worker_executor *x, crew_future *f)
{
	const struct annex *a = annex_of(f);
	struct errand_request *request;
	bool offered = false;
	int cell;

	pthread_mutex_lock(&x->mutex);
	cell = free_cell(x, room_wanted(f));
	if (cell >= 0) {
		request = &errand_requests(x->w->ring, x->w->index)[cell];
		request->deadline = a ? a->deadline : NEVER;
		request->retries = a ? a->retries : 0;
		offered = name_task(x, task_of(f), request) == 0 && pack_into(x, (uint32_t)cell, request, f);
	}
	if (offered) {
		x->offers[cell] = (struct offer){ f, ++x->number & 0xfffffff };
		set_busy(x, x->busy | (uint64_t)1 << cell);
		store_release_32(word_of(x, (uint32_t)cell), errand_word(x->offers[cell].number, ERRAND_OFFERED)); /* pairs with take (errand.c) */
	}
	pthread_mutex_unlock(&x->mutex);
	if (offered)
		announce(x->w);
	return offered;
}

/* ---- taking back ---- */

static void release_cell(struct worker_executor *x, uint32_t cell)
{
	const struct errand_reply *reply = reply_of(x, cell);
	bool large = reply_state(x, cell) == REPLY_DONE && reply->bytes.size > ROOM_KEPT;

	x->offers[cell] = (struct offer){ NULL, 0 };
	store_release_32(word_of(x, cell), ERRAND_FREE); /* what the reply names may be freed now; pairs with crew__errands_room (errand.c) */
	if (reply->room.size > ROOM_KEPT) {
		ask_for_room(x, cell, 0);
	} else if (large) {
		set_bit(x->w->ring->rw->asking, x->w);
		ring_engine(x->w);
	}
	set_busy(x, x->busy & ~((uint64_t)1 << cell));
}

/* The word is ours again, if the engine does not have it. */
static bool close_offer(struct worker_executor *x, uint32_t cell)
{
	uint32_t *place = word_of(x, cell), number = x->offers[cell].number;

	if (!ck_pr_cas_32(place, errand_word(number, ERRAND_OFFERED), ERRAND_FREE) &&
	    !ck_pr_cas_32(place, errand_word(number, ERRAND_REFUSED), ERRAND_FREE))
		return false;
	ck_pr_fence_acquire();
	release_cell(x, cell);
	return true;
}

/* The engine is taking it this very moment: until it says where it put it, or gives it back. */
static void await_reply(const struct worker_executor *x, uint32_t cell)
{
	const struct worker *w = x->w;
	uint32_t taken = errand_word(x->offers[cell].number, ERRAND_TAKEN), replied = load_acquire_32(&w->orders->replied);

	for (int i = 0; i < 200; i++, ck_pr_stall())
		if (ck_pr_load_32(word_of(x, cell)) != taken || reply_state(x, cell) != REPLY_NONE)
			return;
	ck_pr_inc_32(&w->report->waits);
	ck_pr_fence_memory(); /* pairs with the barrier in tell (errand.c) */
	while (ck_pr_load_32(word_of(x, cell)) == taken && reply_state(x, cell) == REPLY_NONE && !ck_pr_load_32(&w->ring->pub->stop)) {
		crew__futex_wait(&w->orders->replied, replied, crew__now() + SLICE, true);
		replied = load_acquire_32(&w->orders->replied);
	}
	ck_pr_dec_32(&w->report->waits);
}

/* The cell's task is ours: from the cell, or from the ring. */
static bool withdraw(struct worker_executor *x, uint32_t cell, uint64_t *ret_ticket)
{
	*ret_ticket = 0;
	while (reply_state(x, cell) == REPLY_NONE) {
		if (close_offer(x, cell))
			return true;
		if (ck_pr_load_32(&x->w->ring->pub->stop))
			return false;
		await_reply(x, cell);
	}
	if (reply_state(x, cell) != REPLY_PLACED)
		return false;
	*ret_ticket = ck_pr_load_64(&reply_of(x, cell)->ticket);
	if (!in_own_thread(x) || !crew__claim_ticket(x->w, *ret_ticket))
		return false;
	x->offers[cell].f = NULL;
	return true;
}

bool crew__offer_withdraw(struct worker_executor *x, crew_future *f, uint64_t *ret_ticket)
{
	bool ours = false;
	int cell;

	pthread_mutex_lock(&x->mutex);
	cell = cell_of(x, f);
	if (cell >= 0)
		ours = withdraw(x, (uint32_t)cell, ret_ticket);
	if (ours)
		crew__take(f); /* while it had a cell only we could */
	pthread_mutex_unlock(&x->mutex);
	return ours;
}

crew_future *crew__offer_withdraw_any(struct worker_executor *x, uint64_t *ret_ticket, bool *ret_pending)
{
	crew_future *f = NULL;

	*ret_pending = false;
	pthread_mutex_lock(&x->mutex); /* as long as it is held no cell's future completes, so none is recycled */
	for (uint64_t cells = x->busy; cells && !f; cells &= cells - 1) {
		uint32_t cell = (uint32_t)__builtin_ctzll(cells);
		crew_future *here = x->offers[cell].f;

		*ret_pending |= here != NULL;
		if (here && withdraw(x, cell, ret_ticket))
			f = here;
	}
	if (f)
		crew__take(f);
	pthread_mutex_unlock(&x->mutex);
	return f;
}

crew_future *crew__offer_oldest(struct worker_executor *x)
{
	crew_future *f;
	int oldest;

	pthread_mutex_lock(&x->mutex);
	do {
		f = NULL;
		oldest = -1;
		for (uint64_t cells = x->busy; cells; cells &= cells - 1) {
			int cell = __builtin_ctzll(cells);
			uint32_t state = ck_pr_load_32(word_of(x, (uint32_t)cell)) & 15;

			if ((state == ERRAND_OFFERED || state == ERRAND_REFUSED) &&
			    (oldest < 0 || (int32_t)((x->offers[cell].number - x->offers[oldest].number) << 4) < 0))
				oldest = cell;
		}
		if (oldest >= 0)
			f = x->offers[oldest].f;
	} while (oldest >= 0 && !close_offer(x, (uint32_t)oldest)); /* else the engine was faster */
	if (f)
		crew__take(f);
	pthread_mutex_unlock(&x->mutex);
	return f;
}

void crew__offers_settle(struct worker_executor *x)
{
	pthread_mutex_lock(&x->mutex);
	for (uint64_t cells = x->busy; cells; cells &= cells - 1) {
		uint32_t cell = (uint32_t)__builtin_ctzll(cells);

		while (reply_state(x, cell) == REPLY_NONE && ck_pr_load_32(word_of(x, cell)) == errand_word(x->offers[cell].number, ERRAND_TAKEN) &&
		       !ck_pr_load_32(&x->w->ring->pub->stop))
			await_reply(x, cell);
	}
	pthread_mutex_unlock(&x->mutex);
	ck_pr_and_64(&x->w->ring->rw->offering[x->w->index / 64], ~((uint64_t)1 << (x->w->index % 64)));
}

/* ---- looking ---- */

enum whereabouts crew__offer_where(struct worker_executor *x, const crew_future *f, uint64_t *ret_ticket)
{
	enum whereabouts where = NOT_OURS;
	int cell;

	pthread_mutex_lock(&x->mutex);
	cell = cell_of(x, f);
	*ret_ticket = 0;
	if (cell >= 0) {
		uint32_t state = reply_state(x, (uint32_t)cell);

		if (state == REPLY_PLACED) {
			*ret_ticket = ck_pr_load_64(&reply_of(x, (uint32_t)cell)->ticket);
			where = word_is_open(ck_pr_load_64(ring_claim(x->w->ring, *ret_ticket)), *ret_ticket) ? QUEUED : ELSEWHERE;
		} else {
			where = state == REPLY_DONE ? BACK : OPEN;
		}
	}
	pthread_mutex_unlock(&x->mutex);
	return where;
}

void crew__offer_stop(struct worker_executor *x, const crew_future *f)
{
	uint64_t ticket, *place, word;

	if (crew__offer_where(x, f, &ticket) != ELSEWHERE)
		return;
	place = ring_claim(x->w->ring, ticket);
	word = ck_pr_load_64(place);
	while (word_is_of(word, ticket) && word_status(word) == WORD_RUNNING && !(word & WORD_STOP))
		if (ck_pr_cas_64_value(place, word, word | WORD_STOP, &word))
			return;
}

/* ---- endings ---- */

/* n bytes from pub become f's value. The flags for its state; -ENOMEM. */
static int keep_value(crew_future *f, const void *bytes, size_t n)
{
	enum crew_class class = CREW_TYPE_CLASS(task_of(f)->result);
	bool run = class == CREW_BYTES || class == CREW_STRING;
	struct block *block;

	f->value.word[0] = f->value.word[1] = 0;
	if (!run && n <= sizeof f->value) {
		memcpy(f->value.bytes, bytes, n);
		return 0;
	}
	block = crew__block_new(n);
	if (!block)
		return -ENOMEM;
	if (n)
		memcpy(block->data, bytes, n);
	if (run)
		f->value.run = (crew_bytes){ block->data, n - (class == CREW_STRING && n > 0) };
	else
		f->value.large = block->data;
	return STATE_HEAP;
}

static crew_error *keep_error(const struct worker_executor *x, const struct errand_reply *reply)
{
	crew_error *error = reply->bytes.size == sizeof *error ? malloc(sizeof *error) : NULL;

	if (!error)
		return crew__error_no_memory();
	memcpy(error, x->w->ring->in + reply->bytes.offset, sizeof *error);
	return error;
}

/* What the reply says about f, which is claimed. */
static void read_reply(const struct worker_executor *x, const struct errand_reply *reply, crew_future *f, struct ending *ret)
{
	int flags = 0;

	switch (reply->about & 0xff) {
	case ANSWER_WIDE:
		flags = keep_value(f, reply->value, reply->about >> 8);
		break;
	case ANSWER_LARGE:
		flags = keep_value(f, x->w->ring->in + reply->bytes.offset, reply->bytes.size);
		break;
	case ANSWER_NULL:
		f->value.run = (crew_bytes){ NULL, 0 };
		break;
	case ANSWER_ERROR:
		ret->error = keep_error(x, reply);
		ret->cancelled = reply->code != 0;
		return;
	default:
		ret->error = crew__error_make(task_of(f), reply->code, "%s", crew_strerror(reply->code));
		return;
	}
	if (flags < 0)
		ret->error = crew__error_no_memory();
	else
		ret->add = COMPLETE_FINISHED + (uint32_t)flags;
}

/* The reply is DONE: take what it says and free the cell. The mutex is held. */
static void pick_up(struct worker_executor *x, uint32_t cell, struct ending *ret)
{
	const struct errand_reply *reply = reply_of(x, cell);
	crew_future *f = x->offers[cell].f;

	*ret = (struct ending){ 0 };
	if (f) {
		struct known *known = known_slot(x, task_of(f));

		if (known->task == task_of(f))
			known->number = reply->task;
		if (crew__take(f)) {
			ret->f = f;
			read_reply(x, reply, f, ret);
		}
	}
	release_cell(x, cell);
}

bool crew__offer_back(struct worker_executor *x, const crew_future *f, struct ending *ret)
{
	bool back;
	int cell;

	pthread_mutex_lock(&x->mutex);
	cell = cell_of(x, f);
	back = cell >= 0 && reply_state(x, (uint32_t)cell) == REPLY_DONE;
	if (back)
		pick_up(x, (uint32_t)cell, ret);
	pthread_mutex_unlock(&x->mutex);
	return back;
}

bool crew__offer_any_back(struct worker_executor *x, struct ending *ret)
{
	bool back = false;

	pthread_mutex_lock(&x->mutex);
	for (uint64_t cells = x->busy; cells && !back; cells &= cells - 1) {
		uint32_t cell = (uint32_t)__builtin_ctzll(cells);

		back = reply_state(x, cell) == REPLY_DONE;
		if (back)
			pick_up(x, cell, ret);
	}
	pthread_mutex_unlock(&x->mutex);
	return back;
}
