/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool.c: what multiprocessing.Pool has that an executor has not: callbacks before the result, maps that nobody waits for, and an end that terminates.
 *
 *	apply_async: future of the task ──on_done──> callback ──> promise
 *	map_async:   futures of chunks ──on_done──> out, count down ──> callback ──> promise
 *
 * Promise is what the user holds. It lives in an executor of the pool's own that does nothing but hold promises, so it belongs to the pool as other futures
 * do. A job is what is known of one call until its promise is kept; it always is, because each future of an executor is completed, whatever dies.
 */
#include <crew/pool.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/arguments.h"
#include "core/chunk.h"
#include "core/context.h"
#include "core/promises.h"

struct crew_pool {
	crew_executor *ex, *promises; /* fixed; NULL: no memory */
	uint32_t jobs;		      /* promises not kept yet; any thread, atomic; a futex */
};
static crew_pool no_memory;

struct job;

/* A chunk of a map, or the one future of an apply. */
struct part {
	struct job *job;
	size_t first, count;
};

struct job {
	crew_pool *pool;
	crew_future *promise; /* with a reference of the job's */
	const crew_task *task;
	struct crew_pool_call call;
	/* of a map */
	unsigned char *out;
	uint32_t left; /* parts, and one for whoever submits them; any thread, by faa */
	pthread_mutex_t mutex;
	size_t failed_at; /* guarded by mutex, as the next; SIZE_MAX: nothing has failed */
	crew_error error;
	size_t part_count;
	struct part parts[];
};

/* ---- jobs ---- */

static struct job *job_new(crew_pool *pool, const crew_task *task, int type, const struct crew_pool_call *call, size_t parts)
{
	struct job *job = calloc(1, sizeof *job + parts * sizeof job->parts[0]); /* fewer than 2^32 */

	if (!job)
		return NULL;
	job->promise = crew__promise_in(pool->promises, type);
	crew_future_ref(job->promise);
	job->pool = pool;
	job->task = task;
	job->call = *call;
	job->failed_at = SIZE_MAX;
	pthread_mutex_init(&job->mutex, NULL);
	ck_pr_inc_32(&pool->jobs);
	return job;
}

static void job_free(struct job *job)
{
	crew_pool *pool = job->pool;

	crew_future_unref(job->promise);
	pthread_mutex_destroy(&job->mutex);
	free(job);
	ck_pr_fence_release();
	ck_pr_dec_32(&pool->jobs);
	crew__futex_wake(&pool->jobs, INT_MAX, false); /* pairs with await_jobs */
}

static int await_jobs(crew_pool *pool, uint64_t deadline)
{
	uint32_t left;

	while ((left = load_acquire_32(&pool->jobs))) {
		if (deadline != NEVER && crew__now() >= deadline)
			return -ETIMEDOUT;
		crew__futex_wait(&pool->jobs, left, deadline, false); /* woken by job_free */
	}
	return 0;
}

static void call_back(const struct crew_pool_call *call, crew_future *f, bool well)
{
	crew_done_fn *fn = well ? call->callback : call->error_callback;

	if (fn)
		fn(f, call->arg);
}

/* The outcome of f, which is done, to the promise. */
static void keep_as(crew_future *promise, crew_future *f, const crew_task *task)
{
	const crew_error *error = crew_future_error(f);
	int type = crew_future_cancelled(f) || error->code ? 0 : task->result;
	void *value;
	int rc;

	if (crew_future_cancelled(f)) {
		crew_future_cancel(promise, error->message);
	} else if (error->code) {
		crew__promise_fail(promise, error);
	} else {
		value = malloc(CREW_TYPE_SIZE(type) + 16);
		rc = value ? crew_future_result(f, value, CREW_TYPE_SIZE(type) + 16, type, 0) : -ENOMEM;
		if (rc == 0)
			rc = crew_future_set_result(promise, value, type);
		if (rc && rc != -EALREADY)
			crew_future_set_error(promise, rc, "the result could not be copied: %s", crew_strerror(rc));
		free(value);
	}
}

/* ---- apply ---- */

static void applied(crew_future *f, void *arg)
{
	struct job *job = arg;

	call_back(&job->call, f, !crew_future_cancelled(f) && crew_future_error(f)->code == 0);
	keep_as(job->promise, f, job->task);
	job_free(job);
	crew_future_free(f);
}

/* Have fn(f, arg) called once f is done; where there is no memory to note that, when we have waited for it. */
static void tell_when_done(crew_future *f, crew_done_fn *fn, void *arg)
{
	if (crew_future_on_done(f, fn, arg) == 0)
		return;
	crew_future_wait(f, CREW_FOREVER);
	fn(f, arg);
}

static crew_future *failed(crew_pool *pool, int code)
{
	crew_future *f = crew__promise_in(pool->promises, 0);

	crew_future_set_error(f, code, "%s", crew_strerror(code));
	return f;
}

crew_future *crew_pool_submit(crew_pool *pool, const crew_task *task, const void *arguments, const struct crew_pool_call *options, size_t size)
{
	struct crew_pool_call call;
	struct job *job;
	crew_future *promise;
	int rc = crew__options(&call, sizeof call, options, size);

	if (!pool || !pool->promises)
		return crew_executor_submit(NULL, task, arguments, NULL, 0);
	if (rc)
		return failed(pool, rc);
	if (!task || (!call.callback && !call.error_callback))
		return crew_executor_submit(pool->ex, task, arguments, NULL, 0);
	job = job_new(pool, task, task->result, &call, 0);
	if (!job)
		return failed(pool, -ENOMEM);
	promise = job->promise;
	tell_when_done(crew_executor_submit(pool->ex, task, arguments, NULL, 0), applied, job);
	return promise;
}

/* ---- map ---- */

static void note_error(struct job *job, size_t index, const crew_error *error, int code)
{
	pthread_mutex_lock(&job->mutex);
	if (index < job->failed_at) {
		job->failed_at = index;
		if (error && error->code)
			job->error = *error;
		else
			crew__error_fill(&job->error, job->task, code);
	}
	pthread_mutex_unlock(&job->mutex);
}

/* All parts are in: tell of it with a future that is done, then keep the promise. */
static void finish(struct job *job)
{
	bool well = job->failed_at == SIZE_MAX;

	if (well ? job->call.callback != NULL : job->call.error_callback != NULL) {
		crew_future *told = crew_future_new(0);

		if (well)
			crew_future_set_result(told, NULL, 0);
		else
			crew__promise_fail(told, &job->error);
		call_back(&job->call, told, well);
		crew_future_free(told);
	}
	if (well)
		crew_future_set_result(job->promise, NULL, 0);
	else if (job->error.code == -ECANCELED)
		crew_future_cancel(job->promise, job->error.message);
	else
		crew__promise_fail(job->promise, &job->error);
	job_free(job);
}

static void drop(struct job *job)
{
	ck_pr_fence_release();
	if (ck_pr_faa_32(&job->left, (uint32_t)-1) == 1) {
		ck_pr_fence_acquire();
		finish(job);
	}
}

static void read_part(const struct part *part, crew_bytes data)
{
	struct job *job = part->job;
	size_t size = CREW_TYPE_SIZE(job->task->result);
	struct chunk_answer answer;
	crew_error error;
	int rc = crew__chunk_open(&answer, job->task, data);

	if (rc == 0 && answer.count != part->count)
		rc = CREW_EPROTO;
	if (rc)
		note_error(job, part->first, NULL, rc);
	for (size_t i = 0; rc == 0 && i < part->count; i++) {
		uint64_t nothing;
		int code = crew__chunk_next(&answer, job->out ? job->out + (part->first + i) * size : (void *)&nothing, &error);

		if (code)
			note_error(job, part->first + i, &error, code);
	}
}

static void part_done(crew_future *f, void *arg)
{
	const struct part *part = arg;
	crew_bytes data;
	int rc = crew_future_result(f, &data, sizeof data, CREW_TYPE(CREW_BYTES, sizeof data), 0);

	if (rc == 0)
		read_part(part, data);
	else
		note_error(part->job, part->first, crew_future_error(f), rc);
	drop(part->job);
	crew_future_free(f);
}

/* Submit the items [part->first, + part->count); what cannot be packed fails the part. */
static void send_part(struct job *job, struct part *part, const void *const *columns, void *arguments)
{
	struct chunk chunk = { 0 };
	int rc = crew__chunk_begin(&chunk, job->pool->ex, job->task);

	for (size_t i = 0; rc == 0 && i < part->count; i++) {
		crew__gather(job->task, columns, part->first + i, arguments);
		rc = crew__chunk_add(&chunk, arguments);
	}
	if (rc == 0) {
		tell_when_done(crew__chunk_submit(&chunk, job->pool->ex), part_done, part);
	} else {
		note_error(job, part->first, NULL, rc);
		drop(job);
	}
	crew__chunk_fini(&chunk);
}

static void send(struct job *job, const void *const *columns, size_t n, size_t chunk)
{
	void *arguments = calloc(1, job->task->arguments + 16);

	if (!arguments) {
		note_error(job, 0, NULL, -ENOMEM);
		job->part_count = 0;
	}
	job->left = (uint32_t)job->part_count + 1; /* ours: a part may be done before the next is sent */
	for (size_t i = 0; i < job->part_count; i++) {
		size_t first = i * chunk;

		job->parts[i] = (struct part){ job, first, n - first < chunk ? n - first : chunk };
		send_part(job, &job->parts[i], columns, arguments);
	}
	free(arguments);
	drop(job);
}

crew_future *crew_pool_start_map(crew_pool *pool, const crew_task *task, const void *const *columns, void *out, size_t n,
				 const struct crew_pool_call *options, size_t size)
{
	struct crew_pool_call call;
	crew_future *promise;
	struct job *job;
	size_t share, chunk;
	int rc = crew__options(&call, sizeof call, options, size);

	if (!pool || !pool->promises)
		return crew_executor_submit(NULL, task, NULL, NULL, 0);
	if (rc == 0)
		rc = crew__map_check(pool->ex, task, columns, out, n);
	if (rc == 0)
		rc = crew__refuse(pool->ex, task);
	if (rc)
		return failed(pool, rc);
	share = 4 * (size_t)crew_executor_workers(pool->ex);
	chunk = call.chunksize ? call.chunksize : n / share + (n % share != 0);
	job = (chunk ? n / chunk : 0) >= UINT32_MAX ? NULL : job_new(pool, task, 0, &call, chunk ? n / chunk + (n % chunk != 0) : 0);
	if (!job)
		return failed(pool, -ENOMEM);
	promise = job->promise;
	job->part_count = chunk ? n / chunk + (n % chunk != 0) : 0;
	job->out = out;
	send(job, columns, n, chunk);
	return promise;
}

/* ---- life ---- */

static crew_pool *pool_new(crew_executor *ex)
{
	crew_pool *pool = calloc(1, sizeof *pool);

	if (pool)
		pool->promises = crew__promises_open();
	if (!pool || !pool->promises) {
		free(pool);
		crew_executor_close(ex);
		return &no_memory;
	}
	pool->ex = ex;
	return pool;
}

crew_pool *crew_pool_open(const struct crew_pool_options *options, size_t size)
{
	struct crew_pool_options o;
	struct crew_processes_options p = { 0 };

	if (crew__options(&o, sizeof o, options, size))
		return pool_new(crew_processes(.workers = -1));
	p.workers = o.processes;
	p.initializer = o.initializer;
	p.arg = o.arg;
	p.arg_size = o.arg_size;
	p.max_tasks_per_child = o.maxtasksperchild;
	p.start = o.context;
	p.name = o.name;
	p.grace_ms = o.grace_ms;
	return pool_new(crew_processes_open(&p, sizeof p));
}

crew_pool *crew_pool_open_threads(const struct crew_pool_options *options, size_t size)
{
	struct crew_pool_options o;

	if (crew__options(&o, sizeof o, options, size))
		return pool_new(crew_threads(.workers = -1));
	return pool_new(crew_threads(.workers = o.processes, .initializer = o.initializer, .arg = o.arg, .max_tasks_per_child = o.maxtasksperchild,
				     .name = o.name));
}

crew_pool *crew_pool_over(crew_executor *ex)
{
	return pool_new(crew_group(ex));
}

crew_executor *crew_pool_executor(crew_pool *pool)
{
	return pool ? pool->ex : NULL;
}

int crew_pool_error(crew_pool *pool, crew_error *ret)
{
	if (pool != &no_memory)
		return crew_executor_error(crew_pool_executor(pool), ret);
	if (ret)
		*ret = *crew__error_no_memory();
	return -ENOMEM;
}

int crew_pool_finish(crew_pool *pool)
{
	int rc = crew_executor_shutdown(crew_pool_executor(pool), 0, 0);

	return rc < 0 ? rc : 0;
}

int crew_pool_terminate(crew_pool *pool)
{
	int rc = crew__executor_check(crew_pool_executor(pool));

	if (rc == 0 && crew__inside(pool->ex))
		return -EDEADLK;
	if (rc == 0) /* first, or a worker that obeys at once begins what was to be cancelled */
		rc = crew_executor_shutdown(pool->ex, CREW_CANCEL_PENDING, 0);
	if (rc >= 0)
		rc = crew_executor_shutdown(pool->ex, CREW_CANCEL_PENDING | CREW_KILL_RUNNING, 0);
	return rc < 0 ? rc : 0;
}

int crew_pool_join(crew_pool *pool, int ms)
{
	uint64_t deadline = crew__deadline(ms);
	int rc = crew__executor_check(crew_pool_executor(pool));

	if (rc)
		return rc;
	if (!ck_pr_load_32(&pool->ex->closed))
		return -EINVAL;
	if (crew__inside(pool->ex))
		return -EDEADLK;
	return crew_executor_shutdown(pool->ex, 0, ms) ? -ETIMEDOUT : await_jobs(pool, deadline); /* what it refuses was refused above */
}

crew_pool *crew_pool_close(crew_pool *pool)
{
	if (!pool || pool == &no_memory || crew__executor_check(pool->ex))
		return NULL;
	if (crew_pool_terminate(pool) == -EDEADLK || crew_executor_close(pool->ex))
		return pool;
	await_jobs(pool, NEVER);
	crew_executor_close(pool->promises);
	free(pool);
	return NULL;
}
