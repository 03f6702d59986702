/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * task.c: what a task may call, and what a worker does to run one.
 *
 * A worker has one context and runs task after task in it. The common task (arguments and result within the record, no raise, no memory) costs a
 * call of its function and a look at `dirty`; that path is inline in context.h. Everything else is here.
 *
 * Result memory is a chain of blocks in the context. The one that the result lies in passes to the future, the rest is freed when the task
 * ends, so a task that fails on its way leaks nothing.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/copy.h"
#include "core/context.h"
#include "core/region.h"
#include "core/registry.h"

__thread struct context *crew__context __attribute__((__tls_model__("initial-exec")));

/* ---- blocks ---- */

struct block *crew__block_new(size_t n)
{
	struct block *block;

	if (n > SIZE_MAX / 2 - sizeof *block)
		return NULL;
	block = malloc(sizeof *block + n);
	if (!block)
		return NULL;
	block->next = NULL;
	block->capacity = n;
	block->magic = BLOCK_MAGIC;
	return block;
}

void crew__block_free(struct block *block)
{
	if (!block)
		return;
	block->magic = 0;
	free(block);
}

void crew__blocks_free(struct context *c)
{
	while (c->blocks) {
		struct block *block = c->blocks;

		c->blocks = block->next;
		crew__block_free(block);
	}
}

void crew_bytes_free(crew_bytes bytes)
{
	crew__memory_free(bytes.data);
}

/* The block of c that p lies in, taken out of the chain; NULL: in none. */
static struct block *take_block(struct context *c, const void *p)
{
	const unsigned char *at = p;

	for (struct block **place = &c->blocks; *place; place = &(*place)->next) {
		struct block *block = *place;

		if (at >= block->data && at <= block->data + block->capacity) {
			*place = block->next;
			block->next = NULL;
			return block;
		}
	}
	return NULL;
}

/* ---- contexts ---- */

void crew__context_init(struct context *c, crew_executor *ex, int worker)
{
	memset(c, 0, sizeof *c);
	c->ex = ex;
	c->worker = worker;
	c->deadline = NEVER;
	c->outer = crew__context;
	crew__context = c;
}

void crew__context_fini(struct context *c)
{
	crew__context = c->outer;
	if (unlikely(c->raised))
		crew__error_free(c->raised);
	c->raised = NULL;
	if (unlikely(c->blocks))
		crew__blocks_free(c);
}

/* ---- raising ---- */

static int keep_raise(crew_error *error)
{
	struct context *c = crew__context;

	if (!c) {
		crew_error *old = crew__thread_swap_error(error);

		if (old) /* the first one wins */
			crew__error_free(crew__thread_swap_error(old));
		return 0;
	}
	c->dirty = 1;
	if (c->raised)
		crew__error_free(error);
	else
		c->raised = error;
	return 0;
}

static crew_error *error_here(int code, const char *file, int line, const char *format, va_list list)
{
	struct context *c = crew__context;
	char text[sizeof ((crew_error *)0)->message], where[PATH_MAX];
	crew_error *error;
	bool own = c && c->future && !(c->outer && c->outer->future == c->future); /* else it is the hand's of a crowd: sign() names the task */

	vsnprintf(text, sizeof text, format, list);
	error = crew__error_make(own ? task_of(c->future) : NULL, code ? code : CREW_ERAISED, "%s", text);
	if (error != crew__error_no_memory() && file) {
		snprintf(where, sizeof where, "%s:%d", file, line);
		crew__error_where(error, where);
	}
	return error;
}

int crew_raise_at(int code, const char *file, int line, const char *format, ...)
{
	crew_error *error;
	va_list list;

	va_start(list, format);
	error = error_here(code, file, line, format, list);
	va_end(list);
	return keep_raise(error);
}

int crew_reraise_from(crew_future *f)
{
	const crew_error *cause = crew_future_error(f);
	crew_error *copy;

	if (cause->code == 0)
		return 0;
	copy = malloc(sizeof *copy);
	if (!copy)
		return keep_raise(crew__error_no_memory());
	*copy = *cause;
	return keep_raise(copy);
}

bool crew_caught(crew_error *ret)
{
	struct context *c = crew__context;
	crew_error *error;

	if (c) {
		error = c->raised;
		c->raised = NULL;
	} else {
		error = crew__thread_swap_error(NULL);
	}
	if (!error)
		return false;
	if (ret)
		*ret = *error;
	crew__error_free(error);
	return true;
}

/* ---- questions ---- */

/* The context of the task this thread is in: callbacks and stolen frames have one without a future. */
static struct context *task_context(void)
{
	struct context *c = crew__context;

	return c && c->worker >= 0 ? c : NULL;
}

bool crew_task_cancelled(void)
{
	struct context *c = task_context();

	if (!c)
		return false;
	if (c->deadline != NEVER && crew__now() >= c->deadline)
		return true;
	if (c->stopping)
		return c->stopping(c);
	return c->future && (ck_pr_load_32(&c->future->state) & STATE_STOP);
}

int crew_task_time_left(void)
{
	struct context *c = task_context();

	return c ? crew__ms_left(c->deadline) : CREW_FOREVER;
}

int crew_task_worker(void)
{
	struct context *c = task_context();

	return c ? c->worker : -1;
}

crew_executor *crew_task_executor(void)
{
	struct context *c = task_context();

	return c ? c->ex : NULL;
}

/* ---- memory for results ---- */

static crew_bytes out_of_memory(void)
{
	crew_raise_at(-ENOMEM, NULL, 0, "no memory for the result");
	return (crew_bytes){ NULL, 0 };
}

crew_bytes crew_result_alloc(size_t n)
{
	struct context *c = crew__context;
	void *place = NULL;
	struct block *block;

	if (c && c->memory && c->memory->alloc(c, n, &place))
		return out_of_memory();
	if (place) {
		c->dirty = 1;
		return (crew_bytes){ place, n };
	}
	block = crew__block_new(n);
	if (!block)
		return out_of_memory();
	if (c) {
		block->next = c->blocks;
		c->blocks = block;
		c->dirty = 1;
	}
	return (crew_bytes){ block->data, n };
}

crew_bytes crew_result_copy(const void *data, size_t n)
{
	crew_bytes bytes = crew_result_alloc(n);
	struct context *c = crew__context;

	if (bytes.data)
		crew__copy_announced(bytes.data, data, n, c && c->memory ? &(struct herald){ c->memory->announce, c } : NULL);
	return bytes;
}

crew_bytes crew_result_printf(const char *format, ...)
{
	crew_bytes bytes;
	va_list list;
	int n;

	va_start(list, format);
	n = vsnprintf(NULL, 0, format, list);
	va_end(list);
	if (n < 0) {
		crew_raise_at(-errno, NULL, 0, "the result cannot be printed");
		return (crew_bytes){ NULL, 0 };
	}
	bytes = crew_result_alloc((size_t)n + 1); /* the 0 is there for those who print, and not counted */
	if (!bytes.data)
		return bytes;
	va_start(list, format);
	vsnprintf(bytes.data, (size_t)n + 1, format, list);
	va_end(list);
	bytes.len = (size_t)n;
	return bytes;
}

/* Memory of the backend's, or not ours to move: an argument, static data. */
static crew_bytes resize_elsewhere(struct context *c, crew_bytes bytes, size_t n)
{
	crew_bytes copy;

	if (c && c->memory && c->memory->resize(c, bytes.data, n))
		return (crew_bytes){ bytes.data, n };
	copy = crew_result_alloc(n);
	if (copy.data)
		memcpy(copy.data, bytes.data, bytes.len < n ? bytes.len : n);
	if (copy.data && c && c->memory)
		c->memory->drop(c, bytes.data);
	if (copy.data && !c)
		crew__memory_free(bytes.data);
	return copy;
}

crew_bytes crew_result_resize(crew_bytes bytes, size_t n)
{
	struct context *c = crew__context;
	struct block *old, *block;

	if (!bytes.data)
		return crew_result_alloc(n);
	old = c ? take_block(c, bytes.data) : crew__memory_is_lent(bytes.data) ? NULL : block_of(bytes.data);
	if (!old)
		return resize_elsewhere(c, bytes, n);
	block = n > SIZE_MAX / 2 - sizeof *block ? NULL : realloc(old, sizeof *block + n);
	if (block)
		block->capacity = n;
	if (c) {
		struct block *kept = block ? block : old;

		kept->next = c->blocks;
		c->blocks = kept;
	}
	return block ? (crew_bytes){ block->data, n } : out_of_memory();
}

/* ---- raw tasks ---- */

struct crew_call {
	struct context *context;
	crew_bytes in, out;
};

crew_bytes crew_call_args(crew_call *call)
{
	return call->in;
}

int crew_call_return(crew_call *call, const void *data, size_t n)
{
	call->out = crew_result_copy(data, n);
	return call->out.data ? 0 : -ENOMEM;
}

int crew__call_give(crew_call *call, crew_bytes out)
{
	call->out = out;
	return 0;
}

int crew_call_raise(crew_call *call, int code, const char *format, ...)
{
	crew_error *error;
	va_list list;

	(void)call;
	va_start(list, format);
	error = error_here(code, NULL, 0, format, list);
	va_end(list);
	keep_raise(error);
	return code < 0 ? code : CREW_ERAISED;
}

static void call_raw(struct context *c, const crew_task *task, void *arguments, void *result)
{
	crew_call call = { .context = c, .in = *(crew_bytes *)arguments };
	int code = task->raw(&call);

	*(crew_bytes *)result = call.out;
	if (code < 0 && !c->raised) {
		c->raised = crew__error_make(task, code, "%s", crew_strerror(code));
		c->dirty = 1;
	}
}

/* ---- running ---- */

/* Who failed it and where it ran, for an error that the task made itself. */
static void sign(crew_error *error, const crew_task *task)
{
	if (error == crew__error_no_memory())
		return;
	error->worker = getpid();
	if (error->attempts == 0)
		error->attempts = 1;
	if (!error->task[0])
		snprintf(error->task, sizeof error->task, "%s", task->name);
	if (!error->where[0])
		crew__error_where(error, task->where);
}

/* A BYTES result starts where its block does: a task may return a part of what it allocated. */
static void to_front(struct block *block, crew_bytes *bytes)
{
	if (bytes->data != block->data) {
		memmove(block->data, bytes->data, bytes->len);
		bytes->data = block->data;
	}
}

crew_error *crew__call(struct context *c, const crew_task *task, void *arguments, void *result, struct block **ret_block)
{
	enum crew_class class = CREW_TYPE_CLASS(task->result);
	crew_error *error;

	*ret_block = NULL;
	if (task->flags & CREW_TASK_RAW_BYTES)
		call_raw(c, task, arguments, result);
	else
		task->run(arguments, result);
	error = c->raised;
	c->raised = NULL;
	if (error) {
		sign(error, task);
		return error;
	}
	if (c->blocks && (class == CREW_BYTES || class == CREW_STRING)) {
		struct block *block = take_block(c, *(void **)result);

		if (block) {
			block->next = c->blocks;
			c->blocks = block;
			*ret_block = block;
		}
	}
	return NULL;
}

/* Strings are copied: a task may return a literal, an argument, or what it allocated. */
static int own_string(struct context *c, crew_future *f, uint32_t *add)
{
	const char *text = f->value.run.data;
	struct block *block;
	size_t n;

	(void)c;
	if (!text)
		return 0;
	n = strlen(text) + 1;
	block = crew__block_new(n);
	if (!block)
		return -ENOMEM;
	memcpy(block->data, text, n);
	f->value.run = (crew_bytes){ block->data, n - 1 };
	*add |= STATE_HEAP;
	return 0;
}

void crew__run_finish(struct context *c, crew_future *f, const crew_task *task)
{
	enum crew_class class = CREW_TYPE_CLASS(task->result);
	uint32_t add = COMPLETE_FINISHED + (CREW_TYPE_SIZE(task->result) > 16 ? STATE_HEAP : 0);
	crew_error *error = c->raised;

	c->dirty = 0;
	c->raised = NULL;
	c->future = NULL;
	if (!error && class == CREW_STRING && own_string(c, f, &add))
		error = crew__error_no_memory();
	if (!error && class == CREW_BYTES) {
		struct block *block = take_block(c, f->value.run.data);

		if (block) {
			to_front(block, &f->value.run);
			add |= STATE_HEAP;
		}
	}
	crew__blocks_free(c);
	if (!error) {
		crew__complete(f, add);
		return;
	}
	sign(error, task);
	if (CREW_TYPE_SIZE(task->result) > 16)
		crew__block_free(block_of(f->value.large));
	crew__fail(f, error);
}

/* The argument struct of f, and room for a result that is larger than the record. */
void crew__run_slow(struct context *c, crew_future *f)
{
	struct annex *a = annex_of(f);
	const crew_task *task = task_of(f);
	size_t size = CREW_TYPE_SIZE(task->result);
	void *arguments = a && a->argument_size ? a->arguments : f->value.bytes, *result = f->value.bytes;
	struct block *block = NULL;

	if (a && a->deadline != NEVER && crew__now() >= a->deadline) {
		crew__fail_code(f, CREW_EDEADLINE, "its time was up before it started");
		return;
	}
	if (size > 16) {
		block = crew__block_new(size);
		if (!block) {
			crew__fail_code(f, -ENOMEM, "no memory for a result of %zu bytes", size);
			return;
		}
		result = block->data;
	}
	c->future = f;
	c->deadline = a ? a->deadline : NEVER;
	if (a)
		a->attempts++;
	if (task->flags & CREW_TASK_RAW_BYTES)
		call_raw(c, task, arguments, result);
	else
		task->run(arguments, result);
	c->deadline = NEVER;
	if (block)
		f->value.large = block->data;
	if (c->dirty || CREW_TYPE_CLASS(task->result) == CREW_STRING || CREW_TYPE_CLASS(task->result) == CREW_BYTES)
		crew__run_finish(c, f, task);
	else
		crew__complete(f, COMPLETE_FINISHED + (block ? STATE_HEAP : 0));
}

void crew__run_nested(crew_executor *ex, crew_future *f, int worker)
{
	struct context context;

	crew__context_init(&context, ex, worker);
	crew__run(&context, f);
	crew__context_fini(&context);
}
