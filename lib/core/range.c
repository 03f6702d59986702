/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * range.c: crew_for() and crew_reduce(), tasks over ranges of indexes.
 *
 * crew_for: in shared memory a few workers take ranges off one counter, large ones first, smaller as the work runs out, so that they end together;
 * elsewhere each range is a task, a window of them at a time.
 *
 * crew_reduce: the ranges are the same every time, for the same n and number of workers, and their parts are combined in order, by the
 * caller, so that a sum of floats is the same every time too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/chunk.h"
#include "core/context.h"
#include "core/crowd.h"
#include "core/group.h"
#include "core/waiting.h"

struct range_job {
	/* fixed */
	crew_executor *ex;
	const crew_task *task;
	const void *arguments; /* with begin and end yet to be filled in */
	size_t n, hands, grain;
	uint64_t deadline;
	/* workers, atomic */
	uint64_t next;
	uint32_t late;
	/* guarded by mutex */
	pthread_mutex_t mutex;
	size_t first_failed; /* its begin; n: none */
	int code;
};

static bool takes_ranges(const crew_task *task)
{
	const int size_type = CREW_TYPE(CREW_INTEGER, sizeof(size_t));

	return task->parameter_count >= 2 && task->parameters[0].type == size_type && task->parameters[1].type == size_type &&
	       !(task->flags & CREW_TASK_RAW_BYTES);
}

static int check_range(crew_executor *ex, const crew_task *task, const void *arguments)
{
	int rc = crew__executor_check(ex);

	if (rc)
		return rc;
	if (!task || !task->run)
		return CREW_ENOTASK;
	if (!takes_ranges(task))
		return CREW_ETYPE;
	return arguments ? crew__refuse(ex, task) : -EINVAL;
}

static void set_range(const crew_task *task, void *arguments, size_t begin, size_t end)
{
	memcpy((unsigned char *)arguments + task->parameters[0].offset, &begin, sizeof begin);
	memcpy((unsigned char *)arguments + task->parameters[1].offset, &end, sizeof end);
}

static void range_failed(struct range_job *job, size_t begin, int code)
{
	pthread_mutex_lock(&job->mutex);
	if (begin < job->first_failed) {
		job->first_failed = begin;
		job->code = code;
	}
	pthread_mutex_unlock(&job->mutex);
}

/* The next range: false when there is none, or no time. */
static bool take(struct range_job *job, size_t *ret_begin, size_t *ret_end)
{
	uint64_t begin = ck_pr_load_64(&job->next), n;

	do {
		if (begin >= job->n)
			return false;
		if (job->deadline != NEVER && crew__now() >= job->deadline) {
			ck_pr_store_32(&job->late, 1);
			return false;
		}
		n = crew__guided(job->n - begin, job->hands, job->grain);
	} while (!ck_pr_cas_64_value(&job->next, begin, begin + n, &begin));
	*ret_begin = begin;
	*ret_end = begin + n;
	return true;
}

/* ---- in shared memory ---- */

static void work(void *arg)
{
	struct range_job *job = arg;
	size_t size = job->task->arguments, begin, end;
	unsigned char *arguments = malloc(size + CREW_TYPE_SIZE(job->task->result) + 32), *value;
	struct context c, *outer = crew__context;

	if (!arguments) {
		range_failed(job, 0, -ENOMEM);
		return;
	}
	value = arguments + ((size + 15) & ~(size_t)15);
	crew__context_init(&c, outer ? outer->ex : job->ex, outer ? outer->worker : 0);
	c.future = outer ? outer->future : NULL;
	c.deadline = job->deadline;
	while (take(job, &begin, &end)) {
		struct block *block;
		crew_error *error;

		memcpy(arguments, job->arguments, size);
		set_range(job->task, arguments, begin, end);
		error = crew__call(&c, job->task, arguments, value, &block);
		if (error)
			range_failed(job, begin, error->code);
		crew__error_free(error);
		crew__blocks_free(&c);
		c.dirty = 0;
	}
	crew__context_fini(&c);
	free(arguments);
}

/* ---- elsewhere ---- */

struct sent {
	crew_future *f;
	size_t begin;
};

static void settle(struct range_job *job, struct sent *sent)
{
	const crew_error *error;

	if (crew__await(sent->f, job->deadline) == -ETIMEDOUT) {
		job->late = 1;
		crew__cancel(sent->f, "the loop ran out of time");
	} else {
		error = crew_future_error(sent->f);
		if (error->code)
			range_failed(job, sent->begin, error->code);
	}
	crew_future_free(sent->f);
}

static int by_tasks(struct range_job *job)
{
	size_t window = 2 * job->hands + 2, head = 0, tail = 0, begin, end;
	struct sent *sent = calloc(window, sizeof *sent);
	void *arguments = malloc(job->task->arguments);

	if (!sent || !arguments) {
		free(sent);
		free(arguments);
		return -ENOMEM;
	}
	memcpy(arguments, job->arguments, job->task->arguments);
	do {
		while (tail - head < window && take(job, &begin, &end)) {
			set_range(job->task, arguments, begin, end);
			sent[tail++ % window] =
				(struct sent){ crew_executor_submit(job->ex, job->task, arguments, NULL, 0), begin };
		}
		if (tail != head)
			settle(job, &sent[head++ % window]);
	} while (tail != head);
	free(arguments);
	free(sent);
	return 0;
}

int crew_executor_for(crew_executor *ex, size_t n, const crew_task *task, void *arguments,
		      const struct crew_for_options *options, size_t size)
{
	struct range_job job = { .ex = ex, .task = task, .arguments = arguments, .n = n, .first_failed = n };
	struct crew_for_options o;
	crew_executor *base;
	int rc = check_range(ex, task, arguments);

	if (rc == 0)
		rc = crew__options(&o, sizeof o, options, size);
	if (rc == 0 && o.timeout_ms < 0)
		rc = -EINVAL;
	if (rc || n == 0)
		return rc;
	base = is_group(ex) ? crew__group_base(ex) : ex;
	job.hands = crew__hands(ex); /* whoever is not refused has a worker */
	job.grain = o.grain ? o.grain : 1;
	job.deadline = o.timeout_ms ? crew__deadline(o.timeout_ms) : NEVER;
	pthread_mutex_init(&job.mutex, NULL);
	if (!base->ops->shares_memory)
		rc = by_tasks(&job);
	else
		rc = crew__crowd(ex, work, &job, job.hands < n ? job.hands : n, job.deadline);
	pthread_mutex_destroy(&job.mutex);
	if (job.first_failed < n)
		return crew__as_result(job.code);
	if (job.next >= n)
		return 0;
	if (job.late || (job.deadline != NEVER && crew__now() >= job.deadline))
		return -ETIMEDOUT;
	return rc ? rc : -ECANCELED; /* the executor cancelled the hands */
}

/* ---- reduce ---- */

struct parts {
	unsigned char *value;
	size_t size, count;
};

/* Wait for part i, whatever happened before; the first failure in order is the answer. */
static int receive(crew_future *f, void *value, size_t size, int type, bool wanted)
{
	int code = crew_future_wait(f, CREW_FOREVER);

	if (code == 0 && wanted)
		code = crew_future_result(f, value, size, type, 0);
	if (code == CREW_ERAISED)
		code = crew__as_result(crew_future_error(f)->code);
	crew_future_free(f);
	return code;
}

int crew_executor_reduce(crew_executor *ex, size_t n, const crew_task *task, void *arguments, int type, void **ret_parts,
			 size_t *ret_count)
{
	size_t size = CREW_TYPE_SIZE(type), count;
	crew_future **fs;
	unsigned char *value;
	int rc = check_range(ex, task, arguments);

	if (rc == 0 && (type != task->result || size == 0 || CREW_TYPE_CLASS(type) == CREW_BYTES || CREW_TYPE_CLASS(type) == CREW_STRING))
		rc = CREW_ETYPE;
	if (rc || n == 0)
		return rc;
	count = 4 * (size_t)crew_executor_workers(ex);
	count = count < n ? count : n;
	fs = malloc(count * sizeof *fs);
	value = calloc(count, size);
	if (!fs || !value) {
		free(fs);
		free(value);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		size_t begin = n / count * i + (i < n % count ? i : n % count);

		set_range(task, arguments, begin, begin + n / count + (i < n % count));
		fs[i] = crew_executor_submit(ex, task, arguments, NULL, 0);
	}
	for (size_t i = 0; i < count; i++) {
		int code = receive(fs[i], value + i * size, size, type, rc == 0);

		if (rc == 0)
			rc = code;
	}
	free(fs);
	*ret_parts = value;
	*ret_count = count;
	return rc;
}

void crew_parts_free(void *parts)
{
	free(parts);
}
