/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * executor.c: what all executors share beside the submit: life, the walks over all futures, shutdown and close.
 *
 * There is no count of what is outstanding: a counter that every submit and every completion touch would cost more than either. Who wants to
 * wait for everything walks the records, which is what their slabs are for.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/context.h"
#include "core/group.h"
#include "core/inbox.h"
#include "core/registry.h"
#include "core/shared_block.h"
#include "core/sharing.h"
#include "core/waiting.h"

/* ---- life ---- */

int crew__options(void *ours, size_t our_size, const void *theirs, size_t their_size)
{
	memset(ours, 0, our_size);
	if (!theirs)
		return 0;
	for (size_t i = our_size; i < their_size; i++)
		if (((const unsigned char *)theirs)[i])
			return -EINVAL;
	memcpy(ours, theirs, their_size < our_size ? their_size : our_size);
	return 0;
}

int crew__executor_init(crew_executor *ex, const struct executor_ops *ops, const char *name)
{
	int rc;

	ex->ops = ops;
	ex->magic = EXECUTOR_MAGIC;
	snprintf(ex->name, sizeof ex->name, "%s", name ? name : "crew");
	pthread_mutex_init(&ex->mutex, NULL);
	rc = crew__registry_add(ex);
	if (rc)
		pthread_mutex_destroy(&ex->mutex);
	return rc;
}

/* An executor that only fails: what a failed opener returns. */
static int failed_submit(crew_executor *ex, struct port *port, crew_future *f, const void *arguments)
{
	(void)port, (void)f, (void)arguments;
	return ck_pr_load_int(&ex->broken);
}

static int no_workers(crew_executor *ex)
{
	(void)ex;
	return 0;
}

static void nothing_to_shut_down(crew_executor *ex, uint64_t deadline, bool kill)
{
	(void)ex, (void)deadline, (void)kill;
}

static void nothing_to_close(crew_executor *ex)
{
	(void)ex;
}

static const struct executor_ops failed_ops = {
	.kind = "failed",
	.shares_memory = true,
	.submit = failed_submit,
	.workers = no_workers,
	.shutdown = nothing_to_shut_down,
	.close = nothing_to_close,
};

/* When there is no memory even for that. In no list, never freed. */
static crew_executor no_memory_executor = {
	.magic = EXECUTOR_MAGIC,
	.closed = 1,
	.ops = &failed_ops,
	.name = "failed",
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.broken = -ENOMEM,
	.error = { .code = -ENOMEM, .exit_status = -1, .message = "no memory for an executor" },
};

void crew__executor_break_with(crew_executor *ex, const crew_error *error)
{
	pthread_mutex_lock(&ex->mutex);
	if (ex->broken == 0) {
		ex->error = *error;
		ck_pr_fence_release();
		ck_pr_store_int(&ex->broken, error->code); /* publishes error; pairs with crew__executor_broken */
	}
	pthread_mutex_unlock(&ex->mutex);
}

static void set_broken(crew_executor *ex, int code, const char *format, va_list list)
{
	crew_error error = { .code = code, .exit_status = -1 };

	vsnprintf(error.message, sizeof error.message, format, list);
	crew__executor_break_with(ex, &error);
}

void crew__executor_break(crew_executor *ex, int code, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	set_broken(ex, code, format, list);
	va_end(list);
}

crew_executor *crew__executor_failed(const struct executor_ops *ops, int code, const char *format, ...)
{
	crew_executor *ex = calloc(1, sizeof *ex);
	va_list list;

	(void)ops;
	if (!ex || crew__executor_init(ex, &failed_ops, "failed")) {
		free(ex);
		return &no_memory_executor;
	}
	va_start(list, format);
	set_broken(ex, code, format, list);
	va_end(list);
	return ex;
}

int crew__executor_broken(crew_executor *ex)
{
	int code = ck_pr_load_int(&ex->broken);

	ck_pr_fence_acquire();
	return code;
}

int crew__executor_check(const crew_executor *ex)
{
	if (!ex || ex->magic != EXECUTOR_MAGIC)
		return CREW_EHANDLE;
	return ex == &no_memory_executor || ex->generation == crew__fork_generation ? 0 : CREW_EFORKED;
}

int crew_executor_error(crew_executor *ex, crew_error *ret)
{
	int rc = crew__executor_check(ex);

	if (ret)
		memset(ret, 0, sizeof *ret);
	if (rc) {
		if (ret) {
			ret->code = rc;
			ret->exit_status = -1;
			snprintf(ret->message, sizeof ret->message, "%s", crew_strerror(rc));
		}
		return rc;
	}
	rc = crew__executor_broken(ex);
	if (ret && rc)
		*ret = ex->error;
	return rc;
}

const char *crew_executor_name(crew_executor *ex)
{
	return crew__executor_check(ex) == CREW_EHANDLE ? "" : ex->name;
}

int crew_executor_workers(crew_executor *ex)
{
	int rc = crew__executor_check(ex);

	return rc ? rc : ex->ops->workers(ex);
}

pid_t crew_executor_worker_pid(crew_executor *ex, int i)
{
	int rc = crew__executor_check(ex);

	if (rc)
		return rc;
	return ex->ops->worker_pid ? ex->ops->worker_pid(ex, i) : -EINVAL;
}

int crew_executor_kill(crew_executor *ex, int signal)
{
	int rc = crew__executor_check(ex);

	if (rc)
		return rc;
	if (signal < 0 || signal >= NSIG)
		return -EINVAL;
	return ex->ops->signal ? ex->ops->signal(ex, signal) : 0;
}

/* ---- all futures ---- */

/* Call fn for each record that is not FREE, until it answers other than 0. Records come and go meanwhile. */
static int each_record(crew_executor *ex, int (*fn)(crew_future *f, void *arg), void *arg)
{
	struct slab *slab;
	int rc = 0;

	pthread_mutex_lock(&ex->mutex);
	slab = ex->slabs; /* it only grows at this end */
	pthread_mutex_unlock(&ex->mutex);
	for (; slab && rc == 0; slab = slab->next) {
		uint32_t used = load_acquire_32(&slab->used);

		for (uint32_t i = 0; i < used && rc == 0; i++)
			if (phase_of(load_acquire_32(&slab->record[i].state)) != PHASE_FREE)
				rc = fn(&slab->record[i], arg);
	}
	return rc;
}

static int each_future(crew_executor *ex, int (*fn)(crew_future *f, void *arg), void *arg)
{
	return is_group(ex) ? crew__group_each(ex, fn, arg) : each_record(ex, fn, arg);
}

/* Sleep until this incarnation of f is done. Nothing of it is touched but the word, so it may be recycled at any time. */
static int outlast_word(crew_future *f, uint64_t deadline)
{
	uint32_t generation = ck_pr_load_32(&f->refs) & ~REFS_MASK;

	for (;;) {
		uint32_t s = load_acquire_32(&f->state);

		if (phase_done(s) || phase_of(s) == PHASE_FREE || (ck_pr_load_32(&f->refs) & ~REFS_MASK) != generation)
			return 0;
		if (deadline != NEVER && crew__now() >= deadline)
			return -ETIMEDOUT;
		if ((s & STATE_WAITER) || ck_pr_cas_32(&f->state, s, s | STATE_WAITER))
			crew__futex_wait(&f->state, s | STATE_WAITER, deadline, false); /* woken by crew__completed */
	}
}

/* … and until its callbacks have run and its inbox has it. f is pinned. */
static int outlast_callbacks(crew_future *f, uint64_t deadline)
{
	struct annex *a = annex_of(f);

	while (!load_acquire_32(&a->settled)) {
		if (deadline != NEVER && crew__now() >= deadline)
			return -ETIMEDOUT;
		crew__futex_wait(&a->settled, 0, deadline, false); /* woken by crew__completed */
	}
	return 0;
}

static int outlast(crew_future *f, void *arg)
{
	uint64_t deadline = *(uint64_t *)arg;
	bool told = (load_acquire_32(&f->state) & STATE_NOTIFY) && crew__pin(f);
	int rc = executor_of(f)->ops->drain ? 0 : outlast_word(f, deadline);

	if (told) {
		if (rc == 0 && (load_acquire_32(&f->state) & STATE_NOTIFY) && phase_done(ck_pr_load_32(&f->state)))
			rc = outlast_callbacks(f, deadline);
		crew__release(f);
	}
	return rc;
}

bool crew__inside(crew_executor *ex)
{
	return crew__in_callback(ex) || (ex->ops->inside && ex->ops->inside(ex));
}

int crew_executor_wait(crew_executor *ex, int ms)
{
	uint64_t deadline = crew__deadline(ms);
	int rc = crew__executor_check(ex), failure;

	if (rc)
		return rc;
	if (is_group(ex))
		rc = crew__group_wait(ex, deadline);
	else if (crew__inside(ex))
		rc = -EDEADLK;
	else if (ex->ops->drain)
		rc = ex->ops->drain(ex, deadline);
	if (rc == 0 && !is_group(ex))
		rc = each_record(ex, outlast, &deadline);
	if (rc)
		return rc;
	failure = ck_pr_load_int(&ex->first_failure);
	ck_pr_store_int(&ex->first_failure, 0);
	return crew__as_result(failure);
}

struct cancelling {
	const char *reason;
	uint32_t phase; /* those that are in it */
	int count;
};

/* Its user may give it back meanwhile: an annex is read only under a pin. Without one it is a task's, and a claim finds out what has become of it. */
static int cancel_one(crew_future *f, void *arg)
{
	struct cancelling *c = arg;
	bool annexed = (uintptr_t)load_acquire_ptr((void *const *)&f->about) & 1;

	if (annexed && !crew__pin(f))
		return 0;
	if (!crew__done(f) && phase_of(load_acquire_32(&f->state)) == c->phase)
		c->count += (annexed ? crew__cancel(f, c->reason) : crew__cancel_task(f, c->reason)) == 1;
	if (annexed)
		crew__release(f);
	return 0;
}

/* What waits first: a running task that is asked to stop makes room for one that waits. How many never start. */
static int cancel_all(crew_executor *ex, const char *reason, bool running)
{
	struct cancelling c = { reason, PHASE_PENDING, 0 };

	each_future(ex, cancel_one, &c);
	c.phase = PHASE_RUNNING;
	if (running)
		each_future(ex, cancel_one, &c);
	return c.count;
}

int crew_executor_cancel(crew_executor *ex, const char *reason)
{
	int rc = crew__executor_check(ex);

	return rc ? rc : cancel_all(ex, reason, true);
}

/* ---- shutdown and close ---- */

static int count_one(crew_future *f, void *arg)
{
	if (!crew__done(f))
		++*(int *)arg;
	return 0;
}

int crew_executor_shutdown(crew_executor *ex, unsigned flags, int ms)
{
	uint64_t deadline = crew__deadline(ms);
	int rc = crew__executor_check(ex), unfinished = 0;

	if (rc)
		return rc;
	if (flags & ~(unsigned)(CREW_CANCEL_PENDING | CREW_KILL_RUNNING))
		return -EINVAL;
	if (ms != 0 && crew__inside(ex))
		return -EDEADLK;
	ck_pr_store_32(&ex->closed, 1);
	ck_pr_fence_memory();
	if (flags)
		cancel_all(ex, "the executor was shut down", flags & CREW_KILL_RUNNING);
	do { /* a submit that another thread had begun before `closed` may end after the last look: then look again */
		ex->ops->shutdown(ex, deadline, flags & CREW_KILL_RUNNING);
		unfinished = 0;
		each_future(ex, count_one, &unfinished);
	} while (unfinished && (is_group(ex) || each_record(ex, outlast, &deadline) == 0) && crew__now() < deadline);
	return unfinished;
}

struct listing {
	struct crew_unfinished *ret;
	size_t n, count;
};

static int list_one(crew_future *f, void *arg)
{
	struct listing *l = arg;
	uint32_t s = load_acquire_32(&f->state);
	uintptr_t about = (uintptr_t)load_acquire_ptr((void *const *)&f->about);
	bool pinned = (about & 1) && crew__pin(f);
	const crew_task *task = pinned ? task_of(f) : about & 1 ? NULL : (const crew_task *)about;

	if (!phase_done(s) && l->count++ < l->n)
		l->ret[l->count - 1] = (struct crew_unfinished){
			.future = (s & STATE_DETACHED) || (pinned && annex_of(f)->foreign) ? NULL : f,
			.task = task ? task->name : "",
			.where = task ? task->where : "",
			.running = phase_of(s) == PHASE_RUNNING,
			.age_ms = -1,
		};
	if (pinned)
		crew__release(f);
	return 0;
}

int crew_executor_unfinished(crew_executor *ex, struct crew_unfinished *ret, size_t n)
{
	struct listing l = { ret, ret ? n : 0, 0 };
	int rc = crew__executor_check(ex);

	if (rc)
		return rc;
	each_future(ex, list_one, &l);
	return l.count > INT_MAX ? INT_MAX : (int)l.count;
}

static void free_ports(crew_executor *ex)
{
	struct port *port = ex->ports, *next;

	for (; port; port = next) {
		next = port->next;
		if (ex->ops->port_fini)
			ex->ops->port_fini(ex, port);
		free(port);
	}
	if (crew__last_id == ex->id)
		crew__last_id = 0;
}

crew_executor *crew_executor_close(crew_executor *ex)
{
	if (!ex || ex == &no_memory_executor || crew__executor_check(ex))
		return NULL; /* a child's copy of its parent's executor goes when the child does */
	if (crew__inside(ex) || ck_pr_load_32(&ex->groups))
		return ex;
	if (crew_executor_shutdown(ex, 0, CREW_FOREVER) != 0)
		return ex;
	if (crew__sharing)
		crew__sharing->closing(ex);
	ex->ops->close(ex);
	if (!is_group(ex)) {
		crew__inbox_fini(ex->inbox);
		ex->inbox = NULL;
	}
	crew__registry_remove(ex);
	crew__shared_fini(ex);
	crew__records_fini(ex);
	free_ports(ex);
	pthread_mutex_destroy(&ex->mutex);
	ex->magic = 0;
	free(ex);
	return NULL;
}

/* ---- figures ---- */

static int tally(crew_future *f, void *arg)
{
	struct crew_stats *stats = arg;
	uint32_t phase;

	crew__done(f);
	phase = phase_of(load_acquire_32(&f->state));
	stats->queued += phase == PHASE_PENDING;
	stats->running += phase == PHASE_RUNNING;
	return 0;
}

int crew_executor_stats(crew_executor *ex, struct crew_stats *ret, size_t size)
{
	struct crew_stats stats = { 0 };
	int rc = crew__executor_check(ex);

	if (rc)
		return rc;
	if (!ret)
		return -EINVAL;
	for (struct port *port = load_acquire_ptr((void *const *)&ex->ports); port; port = port->next)
		stats.submitted += ck_pr_load_64(&port->submitted);
	each_future(ex, tally, &stats);
	stats.workers = ex->ops->workers(ex);
	stats.failed = ck_pr_load_64(&ex->failed);
	stats.cancelled = ck_pr_load_64(&ex->cancelled);
	if (ex->ops->stats)
		ex->ops->stats(ex, &stats);
	if (stats.submitted > stats.queued + stats.running)
		stats.done = stats.submitted - stats.queued - stats.running;
	memset(ret, 0, size);
	memcpy(ret, &stats, size < sizeof stats ? size : sizeof stats);
	return 0;
}
