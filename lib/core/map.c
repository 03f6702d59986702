/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * map.c: out[i] = T(in[i]…) for all i, as one job.
 *
 * Where memory is shared, a few workers take chunks of indexes off one counter and work in place: no future, no copy for an item. Elsewhere
 * chunks are packed into raw tasks (chunk.h), a window of them at a time. Either way chunks grow until one takes about 100 µs, and never
 * take more than a share of what is left, so that the end is even.
 *
 * An item that fails leaves its out untouched; the failing item with the lowest index gives the answer.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/arguments.h"
#include "core/chunk.h"
#include "core/context.h"
#include "core/crowd.h"
#include "core/group.h"
#include "core/waiting.h"

#define CHUNK_NS 100000u
#define CHUNK_BYTES ((size_t)1 << 20)

struct map_job {
	/* fixed */
	crew_executor *ex;
	const crew_task *task;
	const void *const *columns;
	unsigned char *out;
	size_t n, hands;
	struct crew_map_options options;
	uint64_t deadline;
	/* workers, atomic */
	uint64_t next; /* the first index nobody has taken */
	uint32_t stop;
	uint32_t late; /* the deadline kept some item from beginning */
	/* guarded by mutex */
	pthread_mutex_t mutex;
	size_t first_failed; /* n: none */
	crew_error error;
};

static size_t result_size(const struct map_job *job)
{
	return CREW_TYPE_SIZE(job->task->result);
}

static void item_failed(struct map_job *job, size_t i, const crew_error *error)
{
	if (job->options.errors)
		job->options.errors[i] = error->code;
	pthread_mutex_lock(&job->mutex);
	if (i < job->first_failed) {
		job->first_failed = i;
		job->error = *error;
	}
	pthread_mutex_unlock(&job->mutex);
	if (job->options.stop_on_error)
		ck_pr_store_32(&job->stop, 1);
}

static void item_failed_with(struct map_job *job, size_t i, int code)
{
	crew_error error;

	crew__error_fill(&error, job->task, code);
	item_failed(job, i, &error);
}

/* Items nobody began. */
static void skip(struct map_job *job, size_t begin, size_t end)
{
	for (size_t i = begin; i < end && job->options.errors; i++)
		job->options.errors[i] = -ECANCELED;
}

static bool out_of_time(struct map_job *job)
{
	if (job->deadline == NEVER || crew__now() < job->deadline)
		return false;
	ck_pr_store_32(&job->late, 1);
	return true;
}

/* ---- in shared memory ---- */

/* Take up to `want` indexes; 0: none left. */
static size_t take(struct map_job *job, size_t want, size_t *ret_begin)
{
	uint64_t begin = ck_pr_load_64(&job->next), n;

	do {
		if (begin >= job->n)
			return 0;
		n = (job->n - begin) / (2 * job->hands) + 1;
		if (n > want)
			n = want;
	} while (!ck_pr_cas_64_value(&job->next, begin, begin + n, &begin));
	*ret_begin = begin;
	return n;
}

static void run_item(struct map_job *job, struct context *c, size_t i, void *arguments, void *value)
{
	struct block *block;
	crew_error *error;
	size_t size = result_size(job);

	crew__gather(job->task, job->columns, i, arguments);
	error = crew__call(c, job->task, arguments, value, &block);
	if (unlikely(error)) {
		item_failed(job, i, error);
		crew__error_free(error);
	} else if (job->out) {
		int rc = crew__value_out(job->task, value, job->out + i * size);

		if (unlikely(rc))
			item_failed_with(job, i, rc);
	}
	if (unlikely(c->dirty)) {
		crew__blocks_free(c);
		c->dirty = 0;
	}
}

static void work(void *arg)
{
	struct map_job *job = arg;
	struct context c, *outer = crew__context;
	void *arguments = calloc(1, job->task->arguments + 16), *value = malloc(result_size(job) + 16);
	size_t want = job->options.chunk ? job->options.chunk : 1, begin, n;

	if (!arguments || !value) {
		free(arguments);
		free(value);
		item_failed_with(job, 0, -ENOMEM);
		ck_pr_store_32(&job->stop, 1);
		return;
	}
	crew__context_init(&c, outer ? outer->ex : job->ex, outer ? outer->worker : 0);
	c.future = outer ? outer->future : NULL;
	c.deadline = job->deadline;
	while (!ck_pr_load_32(&job->stop) && !ck_pr_load_32(&job->late) && (n = take(job, want, &begin))) {
		uint64_t start = job->options.chunk ? 0 : crew__now();
		size_t i = begin;

		for (; i < begin + n; i++) {
			if (ck_pr_load_32(&job->stop) || out_of_time(job))
				break;
			run_item(job, &c, i, arguments, value);
		}
		skip(job, i, begin + n);
		if (!job->options.chunk && n == want && crew__now() - start < CHUNK_NS / 2)
			want *= 2;
	}
	crew__context_fini(&c);
	free(arguments);
	free(value);
}

static int map_in_place(struct map_job *job)
{
	size_t hands = job->hands < job->n ? job->hands : job->n;
	int rc = crew__crowd(job->ex, work, job, hands, job->deadline);
	size_t begun = job->next < job->n ? (size_t)job->next : job->n;

	skip(job, begun, job->n);
	if (begun == job->n || job->stop || out_of_time(job))
		return 0;
	return rc ? rc : -ECANCELED; /* the executor cancelled the hands */
}

/* ---- elsewhere ---- */

struct sent {
	crew_future *f;
	size_t begin, n;
};

/* Read an answer into out; a chunk that failed as a whole fails each of its items. */
static uint64_t receive(struct map_job *job, const struct sent *sent)
{
	struct chunk_answer answer = { 0 };
	size_t size = result_size(job);
	crew_error error;
	crew_bytes data;
	int rc = crew_future_result(sent->f, &data, sizeof data, CREW_TYPE(CREW_BYTES, sizeof data), CREW_FOREVER);

	if (rc == 0)
		rc = crew__chunk_open(&answer, job->task, data);
	if (rc == 0 && answer.count != sent->n)
		rc = CREW_EPROTO;
	if (rc) {
		error = rc == CREW_ERAISED ? *crew_future_error(sent->f) : (crew_error){ .code = 0 };
		if (!error.code)
			crew__error_fill(&error, job->task, rc);
	}
	for (size_t k = 0; k < sent->n; k++) {
		size_t i = sent->begin + k;

		if (rc || crew__chunk_next(&answer, job->out ? job->out + i * size : NULL, &error))
			item_failed(job, i, &error);
	}
	return answer.nanoseconds;
}

/* Send the next chunk; false: nothing more can be sent. */
static bool send(struct map_job *job, struct chunk *chunk, void *arguments, size_t want, struct sent *ret)
{
	size_t begin = (size_t)job->next, left = job->n - begin, n = left / (2 * job->hands) + 1;
	int rc;

	if (left == 0 || job->stop || out_of_time(job))
		return false;
	if (n > want)
		n = want;
	rc = crew__chunk_begin(chunk, job->ex, job->task);
	for (size_t i = 0; i < n && rc == 0 && (i == 0 || chunk->size < CHUNK_BYTES); i++) {
		crew__gather(job->task, job->columns, begin + i, arguments);
		rc = crew__chunk_add(chunk, arguments);
	}
	if (rc && chunk->count == 0) {
		item_failed_with(job, begin, rc);
		job->next++;
		*ret = (struct sent){ NULL, begin, 1 };
		return true;
	}
	*ret = (struct sent){ NULL, begin, chunk->count };
	job->next += chunk->count;
	ret->f = crew__chunk_submit(chunk, job->ex);
	return true;
}

/* The oldest chunk is awaited; what was not begun by the deadline never is. */
static void settle(struct map_job *job, struct sent *sent, size_t *want)
{
	uint64_t took;

	if (!sent->f)
		return;
	if (crew__await(sent->f, job->deadline) == -ETIMEDOUT) {
		ck_pr_store_32(&job->late, 1);
		crew__cancel(sent->f, "the map ran out of time");
		skip(job, sent->begin, sent->begin + sent->n);
	} else {
		took = receive(job, sent);
		if (!job->options.chunk && took)
			*want = 1 + (size_t)(CHUNK_NS * sent->n / took);
	}
	crew_future_free(sent->f);
}

static int map_by_chunks(struct map_job *job)
{
	size_t window = 2 * job->hands + 2, want = job->options.chunk ? job->options.chunk : 1, head = 0, tail = 0;
	struct sent *sent = calloc(window, sizeof *sent);
	void *arguments = calloc(1, job->task->arguments);
	struct chunk chunk = { 0 };
	int rc = 0;

	if (!sent || !arguments) {
		rc = -ENOMEM;
	} else {
		do {
			while (tail - head < window && send(job, &chunk, arguments, want, &sent[tail % window]))
				tail++;
			if (tail != head)
				settle(job, &sent[head++ % window], &want);
		} while (tail != head);
		skip(job, (size_t)job->next, job->n);
	}
	crew__chunk_fini(&chunk);
	free(arguments);
	free(sent);
	return rc;
}

/* ---- both ---- */

int crew__map_check(crew_executor *ex, const crew_task *task, const void *const *columns, void *out, size_t n)
{
	int rc = crew__executor_check(ex);

	if (rc)
		return rc;
	if (!task || !(task->run || task->raw))
		return CREW_ENOTASK;
	if (n == 0)
		return 0;
	if ((!out && CREW_TYPE_SIZE(task->result)) || (task->parameter_count && !columns))
		return -EINVAL;
	for (uint32_t p = 0; p < task->parameter_count; p++)
		if (!columns[p])
			return -EINVAL;
	return 0;
}

int crew_executor_map(crew_executor *ex, const crew_task *task, const void *const *columns, void *out, size_t n,
		      const struct crew_map_options *options, size_t size)
{
	struct map_job job = { .ex = ex, .task = task, .columns = columns, .out = out, .n = n, .first_failed = n };
	crew_executor *base;
	int rc = crew__map_check(ex, task, columns, out, n);

	if (rc == 0)
		rc = crew__options(&job.options, sizeof job.options, options, size);
	if (rc == 0 && job.options.timeout_ms < 0)
		rc = -EINVAL;
	if (rc == 0)
		rc = crew__refuse(ex, task);
	if (rc || n == 0)
		return rc;
	base = is_group(ex) ? crew__group_base(ex) : ex;
	job.hands = crew__hands(ex); /* whoever is not refused has a worker */
	job.deadline = job.options.timeout_ms ? crew__deadline(job.options.timeout_ms) : NEVER;
	if (job.options.errors)
		memset(job.options.errors, 0, n * sizeof job.options.errors[0]);
	if (job.options.error)
		memset(job.options.error, 0, sizeof *job.options.error);
	pthread_mutex_init(&job.mutex, NULL);
	rc = base->ops->shares_memory ? map_in_place(&job) : map_by_chunks(&job);
	pthread_mutex_destroy(&job.mutex);
	if (job.first_failed < n) {
		if (job.options.error)
			*job.options.error = job.error;
		return crew__as_result(job.error.code);
	}
	return rc == 0 && job.late ? -ETIMEDOUT : rc;
}
