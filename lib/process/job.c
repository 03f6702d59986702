/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * job.c: what a worker does with a ticket that it has claimed: find the task, unpack the arguments, run it, write the answer.
 *
 *	cell (read-only) → arguments in private memory → task → answer: in the slot (8 bytes), its wide part (48), or in a room of its own
 *
 * The common job, a few small arguments and a small result, touches no memory but the cell, the stack and the answer. Everything else goes the
 * long way: strings and bytes, errors, results that need memory (rooms.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/packing.h"
#include "process/process_worker.h"

/* ---- answering ---- */

static void answer_code(struct worker *w, int code)
{
	struct answer *a = ring_answer(w->ring, w->ticket);

	a->about = ANSWER_CODE;
	a->value = (uint64_t)(int64_t)code;
}

static void answer_extent(struct worker *w, uint32_t kind, const struct extent *extent)
{
	memcpy(w->ring->wide[w->ticket & w->ring->mask], extent, sizeof *extent);
	ring_answer(w->ring, w->ticket)->about = kind;
}

/* The parent copies it, so it lies in the grant, whatever its size. */
static void answer_error(struct worker *w, const crew_error *error)
{
	struct extent extent;

	crew__room_answer(w, NULL, 0, &extent);
	if (crew__room_copy(w, error, sizeof *error, &extent))
		answer_extent(w, ANSWER_ERROR, &extent);
	else
		answer_code(w, -ENOMEM);
}

/* Where it is, if it lies in a room; else a copy. */
static void answer_large(struct worker *w, const void *data, size_t n)
{
	struct extent extent;
	uint32_t kind = crew__room_answer(w, data, n, &extent);

	if (kind == 0)
		kind = crew__room_copy(w, data, n, &extent);
	if (kind)
		answer_extent(w, kind, &extent);
	else
		answer_code(w, -ENOMEM);
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
		answer_large(w, data, n);
	}
}

static void answer_run(struct worker *w, const void *data, size_t n)
{
	if (data)
		answer_value(w, n ? data : "", n);
	else
		ring_answer(w->ring, w->ticket)->about = ANSWER_NULL;
}

/* Bytes that lie in an argument which lies in a shared block stay there: the future has pinned that. */
static bool is_shared(const struct worker *w, const crew_task *task, const void *arguments, crew_bytes bytes)
{
	uintptr_t base = (uintptr_t)w->ring->blocks, at = (uintptr_t)bytes.data;

	if (bytes.len <= WIDE_SIZE || at - base >= w->ring->geometry.blocks_size)
		return false;
	for (uint32_t i = 0; i < task->parameter_count; i++) {
		const struct crew_parameter *p = &task->parameters[i];
		const crew_bytes *argument = (const crew_bytes *)((const unsigned char *)arguments + p->offset);

		if (CREW_TYPE_CLASS(p->type) == CREW_BYTES && at - (uintptr_t)argument->data < argument->len &&
		    bytes.len <= argument->len - (at - (uintptr_t)argument->data))
			return true;
	}
	return false;
}

static void answer_bytes(struct worker *w, const crew_task *task, const void *arguments, crew_bytes bytes)
{
	struct extent extent;

	if (is_shared(w, task, arguments, bytes)) {
		extent = (struct extent){ (uint64_t)((unsigned char *)bytes.data - w->ring->blocks), bytes.len };
		answer_extent(w, ANSWER_SHARED, &extent);
	} else {
		answer_run(w, bytes.data, bytes.len);
	}
}

static void answer_result(struct worker *w, const crew_task *task, const void *arguments, const void *result)
{
	switch (CREW_TYPE_CLASS(task->result)) {
	case CREW_BYTES:
		answer_bytes(w, task, arguments, *(const crew_bytes *)result);
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

/* NULL: it cannot be had here, *ret_why says why not. */
static const crew_task *look_up(const struct worker *w, uint32_t number, const char **ret_why)
{
	const struct numbered_task *entry = &w->ring->tasks[number];
	const crew_task *task = crew__identified(&entry->id);

	if (task)
		return task;
	*ret_why = crew__identity_load(&entry->id, entry->path.size ? (const char *)w->ring->in + entry->path.offset : "");
	return *ret_why ? NULL : crew__identified(&entry->id);
}

static const crew_task *task_at(struct worker *w, uint32_t number, const char **ret_why)
{
	*ret_why = "what is there has another name";
	if (number < TASKS_MAX && !w->tasks[number])
		w->tasks[number] = look_up(w, number, ret_why);
	return number < TASKS_MAX ? w->tasks[number] : NULL;
}

static void answer_missing(struct worker *w, const char *why)
{
	crew_error *error = crew__error_make(NULL, CREW_ENOTASK, "no such task in the worker: %s", why);

	if (error == crew__error_no_memory()) {
		answer_code(w, CREW_ENOTASK);
		return;
	}
	error->worker = getpid();
	answer_error(w, error);
	crew__error_free(error);
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
void crew__check_fork(const struct worker *w)
{
	if (unlikely(crew__fork_generation != w->generation))
		_exit(0);
}

static void clean(struct worker *w)
{
	struct extent none;

	crew__room_answer(w, NULL, 0, &none);
	crew__rooms_clean(w);
	crew__blocks_free(&w->context);
	w->context.dirty = 0;
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
	answer_error(w, error);
	crew__error_free(error);
	return true;
}

/* Where a result that does not fit into an answer is made: at once where it can stay. NULL: no memory. */
static void *result_room(const crew_task *task, void *otherwise)
{
	size_t size = CREW_TYPE_SIZE(task->result);

	return size <= WIDE_SIZE ? otherwise : crew_result_alloc(size).data;
}

/* Arguments or results of any size and kind; errors; memory that the task allocated. */
static void run_any(struct worker *w, const crew_task *task, const struct job *job)
{
	size_t arguments_size = (task->arguments + 63) & ~(size_t)63;
	unsigned char *arguments = scratch(w, arguments_size + WIDE_SIZE), *result;
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
	result = result_room(task, arguments + arguments_size);
	error = result ? crew__call(&w->context, task, arguments, result, &block) : NULL;
	crew__check_fork(w);
	if (error) {
		answer_error(w, error);
		crew__error_free(error);
	} else if (result) {
		answer_result(w, task, arguments, result);
	} else {
		answer_raised(w, task);
	}
	clean(w);
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

	if (job->size <= 16)
		memcpy(arguments, job->payload, 16);
	else
		memcpy(arguments, job->payload, JOB_PAYLOAD);
	task->run(arguments, result);
	crew__check_fork(w);
	if (likely(!w->context.dirty) || !answer_raised(w, task))
		answer_value(w, result, CREW_TYPE_SIZE(task->result));
	if (unlikely(w->context.dirty))
		clean(w);
}

void crew__job_run(struct worker *w, const struct job *job)
{
	const char *why;
	const crew_task *task = task_at(w, job->task, &why);

	if (unlikely(!task)) {
		answer_missing(w, why);
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
