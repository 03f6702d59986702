/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * settle.c: the only way in which a future of this executor ends.
 *
 *	under the lock:  entry → answer fetched once, checked → future taken out → batch
 *	without it:      large results copied, errors made → state word → sleepers, callbacks
 *
 * What a worker wrote is foreign: each word of an answer is read once, into a local, and checked before it is used. An answer that cannot be true fails its
 * task with CREW_EPROTO and costs the worker its life.
 *
 * Results of up to 48 bytes are taken over at once. Larger ones lie in memory granted to the worker; the grant counts who still copies from it,
 * so it outlives its worker if it must.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/context.h"
#include "core/region.h"
#include "core/shared_block.h"
#include "process/process_executor.h"

struct entry *crew__entry_of(struct process_executor *p, const crew_future *f)
{
	uint64_t mark;
	struct entry *e;

	if (!has_mark(f))
		return NULL;
	mark = ck_pr_load_64(&f->value.word[0]); /* it may be recycled at this moment: what it says is checked below */
	e = &p->entries[(mark >> 1) & p->ring.mask];
	return !(mark & 1) && e->f == f && e->ticket == mark >> 1 ? e : NULL;
}

/* ---- taking out ---- */

void crew__settle_gone(struct process_executor *p, uint8_t epoch)
{
	p->outstanding--;
	if (--p->of_epoch[epoch] == 0 && p->drainers) {
		ck_pr_inc_32(&p->settled_signal);
		crew__futex_wake(&p->settled_signal, INT_MAX, false); /* pairs with the waits in process_wait.c */
	}
}

/* The entry is free; who sleeps on its claim word must look again. */
static void vacate(struct process_executor *p, struct entry *e)
{
	const struct job *job = &ring_cell(&p->ring, e->ticket)->job;

	e->f = NULL;
	if (job->flags & JOB_EXTENT)
		crew__free_extent(p, job->payload);
#ifndef CREW_FAULT_LOST_WAKE
	if (e->waiters)
		crew__futex_wake(word_futex(ring_claim(&p->ring, e->ticket)), INT_MAX, true);
#endif
}

/* The future is the batch's from here on. */
static struct settled *take_out(struct process_executor *p, struct entry *e, struct batch *batch)
{
	struct settled *s = &batch->item[batch->n++];

	s->f = e->f;
	s->epoch = e->epoch;
	vacate(p, e);
	crew__take(s->f); /* who looks for it under the lock reads its value no more */
	return s;
}

void crew__settle_failed(struct process_executor *p, struct entry *e, crew_error *error, struct batch *batch)
{
	struct settled *s = take_out(p, e, batch);

	s->kind = s->add = 0;
	s->error = error;
}

void crew__settle_doomed(struct process_executor *p, struct entry *e, crew_error *error, struct batch *batch)
{
	struct settled *s = &batch->item[batch->n++];

	*s = (struct settled){ .f = e->f, .epoch = e->epoch, .error = error };
	e->f = NULL;
	crew__take(s->f);
	if (error->code == -ECANCELED) {
		s->f->value.error = error;
		s->add = COMPLETE_CANCELLED;
		ck_pr_faa_64(&p->base.cancelled, 1);
	}
	crew__futex_wake(word_futex(ring_claim(&p->ring, e->ticket)), INT_MAX, true);
}

void crew__settle_waiting(struct process_executor *p, struct waiting *w, crew_error *error, struct batch *batch)
{
	struct settled *s = &batch->item[batch->n++];

	if (w->flags & JOB_EXTENT)
		crew__free_extent(p, w->payload);
	crew__take(w->f);
	*s = (struct settled){ .f = w->f, .epoch = w->epoch, .error = error };
	crew__backlog_drop(&p->backlog, w);
}

/* ---- answers ---- */

/* A copy of what a worker says of itself: the pid of whoever owns the claim. */
static pid_t pid_of(struct process_executor *p, uint64_t word)
{
	uint32_t worker = word_worker(word);

	return worker > 0 && worker <= p->ring.geometry.workers ? p->seats[worker - 1].pid : 0;
}

static void settle_code(struct process_executor *p, struct entry *e, int code, struct batch *batch)
{
	const crew_task *task = task_of(e->f);
	uint64_t word = ck_pr_load_64(ring_claim(&p->ring, e->ticket));
	pid_t pid = pid_of(p, word);
	crew_error *error;

	switch (code) {
	case CREW_ENOTASK:
		error = crew__error_make(task, code, "worker %d does not know the task '%s': its module was loaded after the executor was opened",
					 (int)pid, task->name);
		break;
	case CREW_EDEADLINE:
		error = crew__error_make(task, code, "its time was up before it started");
		break;
	case -ENOMEM:
		error = crew__error_make(task, code, "worker %d has no memory for arguments or result of '%s'", (int)pid, task->name);
		break;
	default:
		error = crew__error_make(task, CREW_EPROTO, "worker %d wrote an answer to '%s' that cannot be", (int)pid, task->name);
	}
	if (error != crew__error_no_memory()) {
		error->worker = code == CREW_EDEADLINE ? 0 : pid;
		error->attempts = code == -ENOMEM ? 1 : 0;
	}
	crew__settle_failed(p, e, error, batch);
}

static void settle_nonsense(struct process_executor *p, struct entry *e, struct batch *batch)
{
	uint32_t worker = word_worker(ck_pr_load_64(ring_claim(&p->ring, e->ticket)));

	if (worker > 0 && worker <= p->ring.geometry.workers)
		crew__condemn(p, worker - 1, CREW_EPROTO);
	settle_code(p, e, CREW_EPROTO, batch);
}

/* Bytes that may become the value of f: what its type says. */
static bool size_is_right(const crew_task *task, size_t n, const unsigned char *bytes)
{
	switch (CREW_TYPE_CLASS(task->result)) {
	case CREW_BYTES:
		return true;
	case CREW_STRING:
		return n > 0 && bytes[n - 1] == '\0';
	default:
		return n == CREW_TYPE_SIZE(task->result);
	}
}

/* Put n bytes where f's value is. Flags for its state; -1: no memory. */
static int store_value(crew_future *f, const unsigned char *bytes, size_t n)
{
	const crew_task *task = task_of(f);
	enum crew_class class = CREW_TYPE_CLASS(task->result);
	struct block *block;

	if (class != CREW_BYTES && class != CREW_STRING && n <= sizeof f->value) {
		f->value.word[0] = f->value.word[1] = 0;
		memcpy(f->value.bytes, bytes, n);
		return 0;
	}
	block = crew__block_new(n);
	if (!block)
		return -1;
	if (n)
		memcpy(block->data, bytes, n);
	if (class == CREW_BYTES)
		f->value.run = (crew_bytes){ block->data, n };
	else if (class == CREW_STRING) {
		block->data[n - 1] = '\0'; /* whatever the worker has written there since it was checked */
		f->value.run = (crew_bytes){ block->data, n - 1 };
	} else
		f->value.large = block->data;
	return STATE_HEAP;
}

/* Most futures: a number for a result, and nobody who asked to be told or sleeps on the word. One step, and no batch. Whoever comes to set a flag
   meanwhile makes the step fail; the value is in place then, and the batch will say that it is done. */
static void settle_number(struct process_executor *p, struct entry *e, uint64_t value, struct batch *batch)
{
	crew_future *f = e->f;
	uint32_t s = ck_pr_load_32(&f->state);
	uint32_t add = PHASE_FINISHED - phase_of(s);

	f->value.word[0] = value;
	f->value.word[1] = 0;
	ck_pr_fence_release();
	if (!(s & (STATE_NOTIFY | STATE_WAITER | STATE_DETACHED)) && ck_pr_cas_32(&f->state, s, s + add)) {
		vacate(p, e);
		crew__settle_gone(p, e->epoch);
	} else {
		take_out(p, e, batch)->add = COMPLETE_FINISHED;
	}
}

/* The bytes of a small answer, copied: from here on nobody can change them. */
static void settle_small(struct process_executor *p, struct entry *e, const unsigned char *bytes, size_t n, struct batch *batch)
{
	crew_error *error;
	struct settled *s;
	int flags;

	if (!size_is_right(task_of(e->f), n, bytes)) {
		settle_nonsense(p, e, batch);
		return;
	}
	s = take_out(p, e, batch);
	flags = store_value(s->f, bytes, n);
	s->add = flags < 0 ? 0 : COMPLETE_FINISHED + (uint32_t)flags;
	if (flags < 0) {
		error = crew__error_no_memory();
		s->kind = 0;
		s->error = error;
	}
}

/* An extent in the grant of the worker that owns the claim; NULL: it does not lie there. */
static struct grant *grant_of(struct process_executor *p, uint64_t word, const struct extent *extent)
{
	uint32_t worker = word_worker(word);
	struct grant *grant = worker > 0 && worker <= p->ring.geometry.workers ? p->seats[worker - 1].grant : NULL;
	uint64_t offset;

	if (!grant || extent->offset < grant->extent.offset)
		return NULL;
	offset = extent->offset - grant->extent.offset;
	return offset <= grant->extent.size && extent->size <= grant->extent.size - offset ? grant : NULL;
}

static void settle_large(struct process_executor *p, struct entry *e, uint32_t kind, struct batch *batch)
{
	uint64_t word = ck_pr_load_64(ring_claim(&p->ring, e->ticket));
	const crew_task *task = task_of(e->f);
	struct extent extent;
	struct grant *grant;
	struct settled *s;

	memcpy(&extent, p->ring.wide[e->ticket & p->ring.mask], sizeof extent);
	ck_pr_barrier(); /* once */
	grant = word_is_of(word, e->ticket) ? grant_of(p, word, &extent) : NULL;
	if (!grant || (kind == ANSWER_ERROR ? extent.size != sizeof(crew_error)
					    : !size_is_right(task, extent.size, p->ring.out + extent.offset))) {
		settle_nonsense(p, e, batch);
		return;
	}
	s = take_out(p, e, batch);
	s->kind = kind;
	s->add = 0;
	s->grant = grant;
	s->bytes = p->ring.out + extent.offset;
	s->n = extent.size;
	grant->readers++;
}

/* The stock of the worker that owns the claim in which an extent lies; NULL: in none. */
static struct stock **stock_of(struct process_executor *p, uint64_t word, const struct extent *extent)
{
	uint32_t worker = word_worker(word);

	if (worker == 0 || worker > p->ring.geometry.workers)
		return NULL;
	for (int i = 0; i < STOCKS; i++) {
		struct stock **place = &p->seats[worker - 1].stock[i];

		if (*place && extent->offset >= (*place)->offset && extent->offset - (*place)->offset < (*place)->size)
			return place;
	}
	return NULL;
}

/* A large result stays where it is. But text must end: it is copied, outside the lock. */
static void settle_block(struct process_executor *p, struct entry *e, struct batch *batch)
{
	uint64_t word = ck_pr_load_64(ring_claim(&p->ring, e->ticket));
	const crew_task *task = task_of(e->f);
	enum crew_class class = CREW_TYPE_CLASS(task->result);
	unsigned char *bytes = NULL;
	struct stock **stock;
	struct extent extent;
	struct settled *s;

	memcpy(&extent, p->ring.wide[e->ticket & p->ring.mask], sizeof extent);
	ck_pr_barrier(); /* once */
	stock = word_is_of(word, e->ticket) ? stock_of(p, word, &extent) : NULL;
	if (stock && (class == CREW_BYTES || class == CREW_STRING || extent.size == CREW_TYPE_SIZE(task->result)))
		bytes = crew__stock_lease(p->store, stock, &extent);
	if (!bytes) {
		settle_nonsense(p, e, batch);
		return;
	}
	s = take_out(p, e, batch);
	s->kind = class == CREW_STRING ? ANSWER_BLOCK : 0;
	s->add = class == CREW_STRING ? 0 : COMPLETE_FINISHED + STATE_HEAP;
	s->bytes = bytes;
	s->n = extent.size;
	if (class == CREW_BYTES)
		s->f->value.run = (crew_bytes){ bytes, extent.size };
	else
		s->f->value.large = bytes;
}

/* A result in a shared block that an argument lies in, too, stays there: the future has pinned that. Workers copy any other. */
static void settle_shared(struct process_executor *p, struct entry *e, struct batch *batch)
{
	struct annex *a = annex_of(e->f);
	struct extent extent;
	struct settled *s;
	crew_bytes run = { NULL, 0 };

	memcpy(&extent, p->ring.wide[e->ticket & p->ring.mask], sizeof extent);
	ck_pr_barrier(); /* once */
	if (extent.offset < p->ring.geometry.blocks_size)
		run = (crew_bytes){ p->ring.blocks + extent.offset, extent.size };
	if (CREW_TYPE_CLASS(task_of(e->f)->result) != CREW_BYTES || !run.data || !a || !a->pins || !crew__shared_pinned(a->pins, run)) {
		settle_nonsense(p, e, batch);
		return;
	}
	s = take_out(p, e, batch);
	s->f->value.run = run;
	s->add = COMPLETE_FINISHED;
}

/* An errand that its own worker ran, which has the result: there is none here. */
static bool settle_home(struct process_executor *p, struct entry *e, struct batch *batch)
{
	uint64_t word = ck_pr_load_64(ring_claim(&p->ring, e->ticket));
	struct settled *s;

	if (!word_is_of(word, e->ticket) || !crew__errand_is_of(e->errand, word_worker(word) - 1))
		return false;
	s = take_out(p, e, batch);
	annex_of(s->f)->home = true;
	s->f->value.word[0] = s->f->value.word[1] = 0;
	s->add = COMPLETE_FINISHED;
	return true;
}

void crew__settle_answer(struct process_executor *p, struct entry *e, struct batch *batch)
{
	struct answer *a = ring_answer(&p->ring, e->ticket);
	uint32_t about = ck_pr_load_32(&a->about), kind = about & 0xff, n = about >> 8;
	unsigned char bytes[WIDE_SIZE];
	enum crew_class class;
	struct settled *s;
	uint64_t value;

	switch (kind) {
	case ANSWER_INLINE:
		value = ck_pr_load_64(&a->value);
		class = CREW_TYPE_CLASS(task_of(e->f)->result);
		if (n > sizeof value)
			break;
		if (likely(class != CREW_STRING && class != CREW_BYTES && n == CREW_TYPE_SIZE(task_of(e->f)->result))) {
			settle_number(p, e, value, batch);
			return;
		}
		memcpy(bytes, &value, sizeof value);
		settle_small(p, e, bytes, n, batch);
		return;
	case ANSWER_WIDE:
		if (n > sizeof bytes)
			break;
		memcpy(bytes, p->ring.wide[e->ticket & p->ring.mask], n);
		settle_small(p, e, bytes, n, batch);
		return;
	case ANSWER_LARGE:
	case ANSWER_ERROR:
		settle_large(p, e, kind, batch);
		return;
	case ANSWER_BLOCK:
		settle_block(p, e, batch);
		return;
	case ANSWER_SHARED:
		settle_shared(p, e, batch);
		return;
	case ANSWER_NULL:
		class = CREW_TYPE_CLASS(task_of(e->f)->result);
		if (class != CREW_BYTES && class != CREW_STRING)
			break;
		s = take_out(p, e, batch);
		s->f->value.run = (crew_bytes){ NULL, 0 };
		s->add = COMPLETE_FINISHED;
		return;
	case ANSWER_CODE:
		settle_code(p, e, (int)(int64_t)ck_pr_load_64(&a->value), batch);
		return;
	case ANSWER_HOME:
		if (!settle_home(p, e, batch))
			break;
		return;
	}
	settle_nonsense(p, e, batch);
}

bool crew__settle_all(struct process_executor *p, struct batch *batch)
{
	uint64_t first = p->tail > p->ring.geometry.slots ? p->tail - p->ring.geometry.slots : 0;

	for (uint64_t t = first; t < p->tail && p->outstanding; t++) {
		struct entry *e = &p->entries[t & p->ring.mask];

		if (!e->f || !ring_answered(&p->ring, e->ticket))
			continue;
		if (batch->n == BATCH_ITEMS)
			return true;
		crew__settle_answer(p, e, batch);
	}
	return false;
}

/* ---- delivering ---- */

/* An error as its worker wrote it: text must end somewhere, and it must be an error. */
static crew_error *copy_error(crew_future *f, const unsigned char *bytes)
{
	crew_error *error = malloc(sizeof *error);
	struct annex *a = annex_of(f);

	if (!error)
		return crew__error_no_memory();
	memcpy(error, bytes, sizeof *error);
	error->where[sizeof error->where - 1] = '\0';
	error->task[sizeof error->task - 1] = '\0';
	error->message[sizeof error->message - 1] = '\0';
	if (error->code == 0)
		error->code = CREW_EPROTO;
	if (a && a->attempts > 0)
		error->attempts = (int)a->attempts + 1;
	return error;
}

/* What is left to be done for the value, outside the lock. */
static void finish_value(struct process_executor *p, struct settled *s)
{
	int flags;

	if (s->kind == ANSWER_ERROR) {
		s->error = copy_error(s->f, s->bytes);
	} else if (s->kind) {
		flags = store_value(s->f, s->bytes, s->n);
		if (flags < 0)
			s->error = crew__error_make(task_of(s->f), -ENOMEM, "no memory for a result of %zu bytes", s->n);
		else
			s->add = COMPLETE_FINISHED + (uint32_t)flags;
	}
	if (s->kind == ANSWER_BLOCK)
		crew__memory_free(s->bytes);
	else if (s->kind)
		crew__grant_let_go(p, s->grant);
}

/* The end of f: all that completion does but the callbacks, which go to a thread of their own. The engine must not run them, it has workers to bury;
   nor may a thread that waits for f, which was to be woken before them. */
static void complete(struct process_executor *p, crew_future *f, uint32_t add)
{
	uint32_t state;

	ck_pr_fence_release();
	state = ck_pr_faa_32(&f->state, add) + add;
	if (!(state & STATE_NOTIFY)) {
		if (state & (STATE_WAITER | STATE_DETACHED))
			crew__completed(f, state);
		return;
	}
	if (crew__completed_briefly(f, state))
		return;
	if (state & STATE_WAITER)
		crew__futex_wake(&f->state, INT_MAX, false);
	crew__callbacks_push(&p->callbacks, f, state); /* the setter's reference keeps f */
}

static void fail(struct process_executor *p, crew_future *f, crew_error *error)
{
	struct annex *a = annex_of(f);

	f->value.error = error;
	ck_pr_faa_64(&p->base.failed, 1);
	if (ck_pr_load_int(&p->base.first_failure) == 0 && !(a && a->foreign))
		(void)ck_pr_cas_int(&p->base.first_failure, 0, error->code);
	complete(p, f, COMPLETE_FINISHED + STATE_FAILED);
}

void crew__deliver(struct process_executor *p, struct batch *batch)
{
	if (batch->n == 0)
		return;
	for (uint32_t i = 0; i < batch->n; i++) {
		struct settled *s = &batch->item[i];

		if (s->add == 0)
			finish_value(p, s);
		if (s->add)
			complete(p, s->f, s->add);
		else
			fail(p, s->f, s->error);
	}
	latch_take(&p->lock);
	for (uint32_t i = 0; i < batch->n; i++) /* not before they are done: drainers trust it */
		crew__settle_gone(p, batch->item[i].epoch);
	latch_release(&p->lock);
	batch->n = 0;
}
