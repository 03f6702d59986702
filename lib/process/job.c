/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * job.c: what a worker does with a ticket that it has claimed: find the task, unpack the arguments, run it, write the answer.
 *
 *	cell (read-only) → arguments in private memory → task → answer: in the slot (8 bytes), its wide part (48), or a grant of memory
 *
 * The common job, a few small arguments and a small result, touches no memory but the cell, the stack and the answer. Everything else goes the
 * long way: strings and bytes, errors, results that need memory, which the parent grants on request.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/packing.h"
#include "process/process_worker.h"

/* ---- room for large answers ---- */

/* Ask the engine for room and wait for its answer. False: there is no memory. */
static bool ask(struct worker *w, size_t n)
{
	uint32_t number = w->report->asked + 1, granted;

	ck_pr_store_64(&w->report->want, n);
	ck_pr_fence_store();
	ck_pr_store_32(&w->report->asked, number);
	ck_pr_fence_store_atomic();
	set_bit(w->ring->rw->asking, w);
	ring_engine(w);
	while ((granted = load_acquire_32(&w->orders->granted)) != number)
		crew__futex_wait(&w->orders->granted, granted, crew__now() + 100 * MS_TO_NS, true); /* woken by grant (engine.c) */
	w->used = 0;
	w->grant = number;
	return w->orders->size >= n;
}

/* n bytes of the grant. A grant is filled from the front; when the parent has copied out all that was put there, it is empty again. */
static unsigned char *room(struct worker *w, size_t n, struct extent *ret)
{
	if (load_acquire_32(&w->orders->released) == w->put) /* pairs with the release after the copy, in let_go (settle.c) */
		w->used = 0;
	if (w->grant == 0 || w->orders->size < n || w->orders->size - w->used < n)
		if (!ask(w, n))
			return NULL;
	*ret = (struct extent){ w->orders->offset + w->used, n };
	w->used += (n + 63) & ~(uint64_t)63;
	if (w->used > w->orders->size)
		w->used = w->orders->size;
	w->put++;
	return w->ring->out + ret->offset;
}

/* A grant this large is for one answer: the parent takes it back by itself. */
static void drop_grant(struct worker *w)
{
	if (w->orders->size > GRANT_KEPT)
		w->grant = 0;
}

/* ---- answering ---- */

static void answer_code(struct worker *w, int code)
{
	struct answer *a = ring_answer(w->ring, w->ticket);

	a->about = ANSWER_CODE;
	a->value = (uint64_t)(int64_t)code;
}

static void answer_large(struct worker *w, uint32_t kind, const void *data, size_t n)
{
	struct answer *a = ring_answer(w->ring, w->ticket);
	struct extent extent;
	unsigned char *to = room(w, n, &extent);

	if (!to) {
		answer_code(w, -ENOMEM);
		return;
	}
	memcpy(to, data, n);
	memcpy(w->ring->wide[w->ticket & w->ring->mask], &extent, sizeof extent);
	a->about = kind;
	drop_grant(w);
}

static void answer_value(struct worker *w, const void *data, size_t n)
{
	struct answer *a = ring_answer(w->ring, w->ticket);

	if (n <= sizeof a->value) {
		a->value = 0;
		memcpy(&a->value, data, n);
		a->about = ANSWER_INLINE | (uint32_t)n << 8;
	} else if (n <= WIDE_SIZE) {
		memcpy(w->ring->wide[w->ticket & w->ring->mask], data, n);
		a->about = ANSWER_WIDE | (uint32_t)n << 8;
	} else {
		answer_large(w, ANSWER_LARGE, data, n);
	}
}

static void answer_run(struct worker *w, const void *data, size_t n)
{
	if (data)
		answer_value(w, n ? data : "", n);
	else
		ring_answer(w->ring, w->ticket)->about = ANSWER_NULL;
}

static void answer_result(struct worker *w, const crew_task *task, const void *result)
{
	switch (CREW_TYPE_CLASS(task->result)) {
	case CREW_BYTES:
		answer_run(w, ((const crew_bytes *)result)->data, ((const crew_bytes *)result)->len);
		break;
	case CREW_STRING: {
		const char *text = *(const char *const *)result;

		answer_run(w, text, text ? strlen(text) + 1 : 0);
		break;
	}
	default:
		answer_value(w, result, CREW_TYPE_SIZE(task->result));
	}
}

/* ---- running ---- */

bool crew__job_stopping(struct context *c)
{
	struct worker *w = c->backend;
	uint64_t word = ck_pr_load_64(ring_claim(w->ring, w->ticket));

	return word_is_of(word, w->ticket) && (word & WORD_STOP);
}

static const crew_task *task_at(struct worker *w, uint32_t number)
{
	if (number >= TASKS_MAX)
		return NULL;
	if (!w->tasks[number])
		w->tasks[number] = crew__identified(&w->ring->tasks[number]);
	return w->tasks[number];
}

/* Room for a struct of arguments and, behind it, a result. NULL: no memory. */
static unsigned char *scratch(struct worker *w, size_t n)
{
	if (n > w->scratch_size) {
		unsigned char *bigger = aligned_alloc(64, (n + 63) & ~(size_t)63);

		if (!bigger)
			return NULL;
		free(w->scratch);
		w->scratch = bigger;
		w->scratch_size = n;
	}
	return w->scratch;
}

/* The task forked, and this is its child that came back from it: there is one worker of this number already. */
static void check_fork(const struct worker *w)
{
	if (unlikely(crew__fork_generation != w->generation))
		_exit(0);
}

static void clean(struct worker *w)
{
	crew__blocks_free(&w->context);
	w->context.dirty = 0;
}

/* Arguments or results of any size and kind; errors; memory that the task allocated. */
static void run_any(struct worker *w, const crew_task *task, const struct job *job)
{
	size_t arguments_size = (task->arguments + 63) & ~(size_t)63;
	unsigned char *arguments = scratch(w, arguments_size + CREW_TYPE_SIZE(task->result) + 64);
	const struct shared_range blocks = { w->ring->blocks, w->ring->geometry.blocks_size };
	const unsigned char *packed = job->payload;
	struct extent extent = { 0, job->size };
	struct block *block;
	crew_error *error;

	if (job->flags & JOB_EXTENT) {
		memcpy(&extent, job->payload, sizeof extent);
		packed = w->ring->in + extent.offset;
	}
	if (!arguments || extent.size < task->arguments) {
		answer_code(w, arguments ? CREW_EPROTO : -ENOMEM);
		return;
	}
	memcpy(arguments, packed, task->arguments);
	if (crew__unpack(task, arguments, packed, extent.size, &blocks)) {
		answer_code(w, CREW_EPROTO);
		return;
	}
	error = crew__call(&w->context, task, arguments, arguments + arguments_size, &block);
	check_fork(w);
	if (error) {
		answer_large(w, ANSWER_ERROR, error, sizeof *error);
		crew__error_free(error);
	} else {
		answer_result(w, task, arguments + arguments_size);
	}
	clean(w);
}

/* It raised: say so. False: it did not. */
static bool answer_raised(struct worker *w, const crew_task *task)
{
	crew_error *error = w->context.raised;

	if (!error)
		return false;
	w->context.raised = NULL;
	if (error != crew__error_no_memory()) {
		error->worker = getpid();
		error->attempts = 1;
		if (!error->task[0])
			snprintf(error->task, sizeof error->task, "%s", task->name);
		if (!error->where[0])
			crew__error_where(error, task->where);
	}
	answer_large(w, ANSWER_ERROR, error, sizeof *error);
	crew__error_free(error);
	return true;
}

/* What most tasks are: few small arguments, a small result, nothing allocated. */
static bool is_plain(const crew_task *task, const struct job *job)
{
	return !(task->flags & (CREW_TASK_DEEP | CREW_TASK_RAW_BYTES)) && !(job->flags & JOB_EXTENT) &&
	       CREW_TYPE_SIZE(task->result) <= 16 && CREW_TYPE_CLASS(task->result) != CREW_STRING &&
	       CREW_TYPE_CLASS(task->result) != CREW_BYTES && job->size >= task->arguments;
}

static void run_plain(struct worker *w, const crew_task *task, const struct job *job)
{
	unsigned char arguments[JOB_PAYLOAD] __attribute__((__aligned__(16)));
	uint64_t result[2] __attribute__((__aligned__(16))) = { 0, 0 };

	memcpy(arguments, job->payload, job->size <= 16 ? 16 : JOB_PAYLOAD);
	task->run(arguments, result);
	check_fork(w);
	if (likely(!w->context.dirty) || !answer_raised(w, task))
		answer_value(w, result, CREW_TYPE_SIZE(task->result));
	if (unlikely(w->context.dirty))
		clean(w);
}

void crew__job_run(struct worker *w, const struct job *job)
{
	const crew_task *task = task_at(w, job->task);

	if (unlikely(!task)) {
		answer_code(w, CREW_ENOTASK);
		return;
	}
	if (unlikely(job->deadline != NEVER) && crew__now() >= job->deadline) {
		answer_code(w, CREW_EDEADLINE);
		return;
	}
	w->context.deadline = job->deadline;
	if (likely(is_plain(task, job)))
		run_plain(w, task, job);
	else
		run_any(w, task, job);
	w->context.deadline = NEVER;
}
