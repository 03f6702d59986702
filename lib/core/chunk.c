/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chunk.c: see chunk.h for the two formats. The worker's side is an ordinary raw task, so chunks need nothing of an executor but that it runs tasks.
 *
 * Both sides check what they read: a request comes from the parent, but an answer comes from a worker that may be mad.
 */
#include "core/chunk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/group.h"
#include "core/packing.h"

struct request_header {
	struct task_identity task;
	uint32_t count;
	uint32_t path; /* bytes of the path of the task's module that follow, padded; 0: none does */
};

struct answer_header {
	uint64_t nanoseconds;
	uint32_t count, reserved;
};

struct item_header {
	int32_t code;
	uint32_t reserved;
	uint64_t size;
};

static size_t padded(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

/* ---- the worker's side ---- */

/* The answer grows in result memory: it is the result. */
struct writer {
	crew_bytes out;
	size_t used;
	bool failed;
};

static void put(struct writer *w, const void *data, size_t n)
{
	size_t size = padded(n);

	if (w->failed)
		return;
	if (size > w->out.len - w->used) {
		crew_bytes bigger = crew_result_resize(w->out, 2 * (w->used + size));

		if (!bigger.data) {
			w->failed = true;
			return;
		}
		w->out = bigger;
	}
	if (n)
		memcpy((unsigned char *)w->out.data + w->used, data, n);
	memset((unsigned char *)w->out.data + w->used + n, 0, size - n);
	w->used += size;
}

static void put_value(struct writer *w, const crew_task *task, const void *value)
{
	enum crew_class class = CREW_TYPE_CLASS(task->result);
	struct item_header header = { .size = CREW_TYPE_SIZE(task->result) };
	crew_bytes run = { NULL, 0 };

	if (class == CREW_STRING) {
		run.data = *(void *const *)value;
		header.size = run.data ? strlen(run.data) + 1 : 0;
	} else if (class == CREW_BYTES) {
		run = *(const crew_bytes *)value;
		header.size = run.len;
	} else {
		run.data = (void *)(uintptr_t)value;
	}
	header.reserved = run.data != NULL;
	put(w, &header, sizeof header);
	put(w, run.data, run.data ? header.size : 0);
}

static void put_error(struct writer *w, crew_error *error)
{
	struct item_header header = { .code = error->code, .size = sizeof *error };

	put(w, &header, sizeof header);
	put(w, error, sizeof *error);
	crew__error_free(error);
}

/* One item, in a context of its own, so that what it raises or allocates ends with it. */
static void run_item(struct writer *w, const crew_task *task, void *arguments, void *value)
{
	struct context *outer = crew__context, c;
	struct block *block;
	crew_error *error;

	crew__context_init(&c, outer->ex, outer->worker);
	c.future = outer->future;
	c.deadline = outer->deadline;
	c.stopping = outer->stopping;
	c.backend = outer->backend;
	error = crew__call(&c, task, arguments, value, &block);
	if (error && error != crew__error_no_memory())
		snprintf(error->task, sizeof error->task, "%s", task->name);
	crew__context = outer; /* the answer is allocated in the chunk's context, not the item's */
	if (error)
		put_error(w, error);
	else
		put_value(w, task, value);
	crew__context = &c;
	crew__context_fini(&c);
}

static int run_items(struct writer *w, const crew_task *task, const unsigned char *at, size_t left, uint32_t count)
{
	unsigned char *arguments = malloc(task->arguments + 16), *value = malloc(CREW_TYPE_SIZE(task->result) + 16);
	int rc = arguments && value ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < count && rc == 0; i++) {
		uint64_t size;

		if (left < sizeof size)
			rc = CREW_EPROTO;
		else
			memcpy(&size, at, sizeof size);
		if (rc == 0 && (size > left - sizeof size || size < task->arguments))
			rc = CREW_EPROTO;
		if (rc)
			break;
		at += sizeof size;
		left -= sizeof size;
		memcpy(arguments, at, task->arguments);
		rc = crew__unpack(task, arguments, at, size, &crew__shared_here);
		if (rc == 0)
			run_item(w, task, arguments, value);
		at += size;
		left -= size;
	}
	free(arguments);
	free(value);
	return rc;
}

/* NULL: it cannot be had; the raise says why. */
static const crew_task *find_task(const struct request_header *request, const char *path)
{
	const crew_task *task = crew__identified(&request->task);
	const char *why;

	if (task)
		return task;
	why = crew__identity_load(&request->task, request->path ? path : "");
	task = why ? NULL : crew__identified(&request->task);
	if (!task)
		crew_raise_at(CREW_ENOTASK, NULL, 0, "no such task in the worker: %s", why ? why : "its module has it no more");
	return task;
}

static int run_chunk(crew_call *call)
{
	crew_bytes in = crew_call_args(call);
	struct request_header request;
	struct answer_header answer = { 0 };
	struct writer w = { .out = crew_result_alloc(4096) };
	const crew_task *task;
	uint64_t begin = crew__now();
	int rc;

	if (in.len < sizeof request)
		return CREW_EPROTO;
	memcpy(&request, in.data, sizeof request);
	if (request.path % 8 || request.path > in.len - sizeof request)
		return CREW_EPROTO;
	task = find_task(&request, (const char *)in.data + sizeof request);
	if (!task)
		return CREW_ENOTASK;
	w.failed = !w.out.data;
	put(&w, &answer, sizeof answer);
	rc = run_items(&w, task, (unsigned char *)in.data + sizeof request + request.path, in.len - sizeof request - request.path,
		       request.count);
	if (rc == 0 && w.failed)
		rc = -ENOMEM;
	if (rc)
		return rc;
	answer.count = request.count;
	answer.nanoseconds = crew__now() - begin;
	memcpy(w.out.data, &answer, sizeof answer);
	w.out.len = w.used;
	return crew__call_give(call, w.out);
}

static const struct crew_parameter chunk_parameters[] = {
	{ CREW_TYPE(CREW_BYTES, sizeof(crew_bytes)), 0, "request" },
};

const crew_task crew__chunk_task = {
	.size = sizeof(crew_task),
	.flags = CREW_TASK_DEEP | CREW_TASK_RAW_BYTES,
	.result = CREW_TYPE(CREW_BYTES, sizeof(crew_bytes)),
	.arguments = sizeof(crew_bytes),
	.parameter_count = 1,
	.parameters = chunk_parameters,
	.name = "chunk",
	.where = "chunk.c",
	.raw = run_chunk,
};

/* ---- writing a request ---- */

/* n is far from the end of numbers: see crew__chunk_add(). */
static int reserve(struct chunk *chunk, size_t n)
{
	size_t capacity = chunk->capacity ? chunk->capacity : 1024;
	unsigned char *data;

	while (capacity < chunk->size + n)
		capacity *= 2;
	if (capacity == chunk->capacity)
		return 0;
	data = realloc(chunk->data, capacity);
	if (!data)
		return -ENOMEM;
	chunk->data = data;
	chunk->capacity = capacity;
	return 0;
}

int crew__chunk_begin(struct chunk *chunk, crew_executor *ex, const crew_task *task)
{
	crew_executor *base = is_group(ex) ? crew__group_base(ex) : ex;
	struct request_header header = { .count = 0 };
	struct module_file file;
	int rc = crew__identify(task, &header.task, &file);

	chunk->shared = (struct shared_range){ NULL, 0 };
	if (base->ops->shared_range)
		base->ops->shared_range(base, &chunk->shared);
	chunk->task = task;
	chunk->size = 0;
	chunk->count = 0;
	if (rc)
		return rc;
	header.path = file.path[0] ? (uint32_t)padded(strlen(file.path) + 1) : 0;
	rc = reserve(chunk, sizeof header + header.path);
	if (rc)
		return rc;
	memcpy(chunk->data, &header, sizeof header);
	memset(chunk->data + sizeof header, 0, header.path);
	if (header.path)
		memcpy(chunk->data + sizeof header, file.path, strlen(file.path));
	chunk->size = sizeof header + header.path;
	return 0;
}

int crew__chunk_add(struct chunk *chunk, const void *arguments)
{
	size_t size;
	uint64_t word;
	int rc = crew__packed_size(chunk->task, arguments, &chunk->shared, &size);

	if (rc == 0 && size > SIZE_MAX / 8)
		rc = -ENOMEM;
	if (rc == 0)
		rc = reserve(chunk, sizeof word + padded(size));
	if (rc)
		return rc;
	word = padded(size);
	memset(chunk->data + chunk->size, 0, sizeof word + padded(size));
	memcpy(chunk->data + chunk->size, &word, sizeof word);
	crew__pack(chunk->task, arguments, &chunk->shared, chunk->data + chunk->size + sizeof word);
	chunk->size += sizeof word + padded(size);
	chunk->count++;
	return 0;
}

crew_future *crew__chunk_submit(struct chunk *chunk, crew_executor *ex)
{
	crew_bytes request = { chunk->data, chunk->size };
	crew_future *f;

	memcpy(chunk->data + offsetof(struct request_header, count), &chunk->count, sizeof chunk->count);
	f = crew_executor_submit(ex, &crew__chunk_task, &request, NULL, 0);
	chunk->size = 0;
	chunk->count = 0;
	return f;
}

void crew__chunk_fini(struct chunk *chunk)
{
	free(chunk->data);
	chunk->data = NULL;
	chunk->capacity = 0;
}

/* ---- reading an answer ---- */

int crew__chunk_open(struct chunk_answer *answer, const crew_task *task, crew_bytes data)
{
	struct answer_header header;

	if (!data.data || data.len < sizeof header)
		return CREW_EPROTO;
	memcpy(&header, data.data, sizeof header);
	*answer = (struct chunk_answer){
		.task = task,
		.at = (unsigned char *)data.data + sizeof header,
		.left = data.len - sizeof header,
		.count = header.count,
		.nanoseconds = header.nanoseconds,
	};
	return 0;
}

static int read_value(const crew_task *task, const unsigned char *from, const struct item_header *header, void *value)
{
	enum crew_class class = CREW_TYPE_CLASS(task->result);
	crew_bytes run = { NULL, header->size };

	if (class == CREW_STRING) {
		if (header->reserved && (header->size == 0 || from[header->size - 1] != '\0'))
			return CREW_EPROTO;
		run.data = header->reserved ? (void *)(uintptr_t)from : NULL;
		return crew__value_out(task, &run.data, value);
	}
	if (class == CREW_BYTES) {
		run.data = header->reserved ? (void *)(uintptr_t)from : NULL;
		return crew__value_out(task, &run, value);
	}
	if (header->size != CREW_TYPE_SIZE(task->result))
		return CREW_EPROTO;
	if (value)
		memcpy(value, from, header->size);
	return 0;
}

int crew__chunk_next(struct chunk_answer *answer, void *value, crew_error *error)
{
	struct item_header header;
	const unsigned char *from;
	int rc;

	if (answer->left < sizeof header)
		goto spoilt;
	memcpy(&header, answer->at, sizeof header);
	from = answer->at + sizeof header;
	answer->left -= sizeof header;
	if (header.size > answer->left || (header.code && header.size != sizeof *error))
		goto spoilt;
	answer->at = from + padded(header.size);
	answer->left -= padded(header.size) < answer->left ? padded(header.size) : answer->left;
	if (header.code) {
		memcpy(error, from, sizeof *error);
		error->where[sizeof error->where - 1] = error->task[sizeof error->task - 1] = '\0';
		error->message[sizeof error->message - 1] = '\0';
		return error->code ? error->code : CREW_ERAISED;
	}
	rc = read_value(answer->task, from, &header, value);
	if (rc)
		crew__error_fill(error, answer->task, rc);
	return rc;
spoilt:
	answer->left = 0;
	crew__error_fill(error, answer->task, CREW_EPROTO);
	return CREW_EPROTO;
}

/* ---- values ---- */

int crew__value_out(const crew_task *task, const void *from, void *to)
{
	enum crew_class class = CREW_TYPE_CLASS(task->result);
	struct block *block;
	crew_bytes run;
	char *text;

	if (!to)
		return 0;
	if (class == CREW_STRING) {
		const char *old = *(const char *const *)from;

		text = old ? strdup(old) : NULL;
		if (old && !text)
			return -ENOMEM;
		memcpy(to, &text, sizeof text);
		return 0;
	}
	if (class != CREW_BYTES) {
		memcpy(to, from, CREW_TYPE_SIZE(task->result));
		return 0;
	}
	memcpy(&run, from, sizeof run);
	if (run.data) {
		block = crew__block_new(run.len);
		if (!block)
			return -ENOMEM;
		memcpy(block->data, run.data, run.len);
		run.data = block->data;
	}
	memcpy(to, &run, sizeof run);
	return 0;
}

void crew__error_fill(crew_error *error, const crew_task *task, int code)
{
	memset(error, 0, sizeof *error);
	error->code = code;
	error->exit_status = -1;
	snprintf(error->task, sizeof error->task, "%s", task->name);
	crew__error_where(error, task->where);
	snprintf(error->message, sizeof error->message, "%s", crew_strerror(code));
}
