/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * future.c: what users do with one future: ask, wait, read, cancel, be told, give back; and promises, whose future they complete themselves.
 *
 * Everything here reads one word and decides; the backend is asked only while that word says that the future is not done. Each public function
 * checks its pointer first (crew__check): from a wild or stale pointer comes a code, not a crash.
 */
#include <crew/future.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/copy.h"
#include "base/futex.h"
#include "core/context.h"
#include "core/group.h"
#include "core/region.h"
#include "core/sharing.h"
#include "core/slab_map.h"
#include "core/waiting.h"

/* ---- waiting ---- */

bool crew__done(crew_future *f)
{
	crew_executor *ex;

	if (phase_done(load_acquire_32(&f->state)))
		return true;
	ex = executor_of(f);
	if (!ex->ops->refresh)
		return false;
	ex->ops->refresh(ex, f);
	return phase_done(load_acquire_32(&f->state));
}

bool crew__stands_on(const struct context *c, const crew_future *f)
{
	for (; c; c = c->outer)
		if (c->future == f || (c->crowd && crew__stands_on(c->crowd, f)))
			return true;
	return false;
}

bool crew__on_this_stack(const crew_future *f)
{
	return crew__stands_on(crew__context, f);
}

void crew__nap(crew_executor *ex, const uint32_t *word, uint32_t value, uint64_t deadline)
{
	for (struct context *c = crew__context; c; c = c->outer)
		if (c->ex && c->ex->ops->nap) {
			c->ex->ops->nap(c->ex, word, value, deadline);
			return;
		}
	if (ex && ex->ops->nap)
		ex->ops->nap(ex, word, value, deadline);
	else
		crew__futex_wait(word, value, deadline, false); /* the caller says who wakes it */
}

/* The wait of executors that have no better one. Pairs with the faa and the wake of crew__complete. */
int crew__sleep_on_word(crew_future *f, uint64_t deadline)
{
	uint32_t s = load_acquire_32(&f->state);

	if (crew__on_this_stack(f))
		return -EDEADLK;
	while (!phase_done(s)) {
		if (!(s & STATE_WAITER)) {
			if (!ck_pr_cas_32_value(&f->state, s, s | STATE_WAITER, &s))
				continue;
			s |= STATE_WAITER;
		}
		crew__nap(NULL, &f->state, s, deadline);
		return 0;
	}
	return 0;
}

/* Its own deadline has passed: if it has not started, it never will. */
static void expire(crew_future *f)
{
	if (crew__revoke(f) == 1)
		crew__fail_code(f, CREW_EDEADLINE, "its time was up before it started");
}

int crew__await(crew_future *f, uint64_t deadline)
{
	crew_executor *ex;
	bool look;
	int rc;

	if (phase_done(load_acquire_32(&f->state)))
		return 0;
	look = deadline != NEVER || annex_of(f) || !executor_of(f)->ops->wait_refreshes;
	for (; !look || !crew__done(f); look = true) {
		struct annex *a = annex_of(f);
		uint64_t own = a && phase_of(ck_pr_load_32(&f->state)) == PHASE_PENDING ? a->deadline : NEVER;
		uint64_t until = own < deadline ? own : deadline, now = until == NEVER ? 0 : crew__now();

		if (until <= now) {
			if (own <= now)
				expire(f);
			if (deadline <= now)
				return crew__done(f) ? 0 : -ETIMEDOUT;
			continue;
		}
		ex = executor_of(f);
		rc = ex->ops->wait ? ex->ops->wait(ex, f, until) : crew__sleep_on_word(f, until);
		if (rc)
			return crew__done(f) ? 0 : rc;
	}
	return 0;
}

bool crew__help(crew_future *f)
{
	crew_executor *ex = executor_of(f);

	return ex->ops->help && ex->ops->help(ex, f);
}

/* ---- stopping ---- */

/* False: it is done. A task may obey and end before its asker has come back from here: it was asked all the same. */
static bool ask_to_stop(crew_future *f)
{
	uint32_t s = ck_pr_load_32(&f->state);

	while (!phase_done(s) && !(s & STATE_STOP))
		if (ck_pr_cas_32_value(&f->state, s, s | STATE_STOP, &s))
			return true;
	return !phase_done(s);
}

int crew__revoke(crew_future *f)
{
	crew_executor *ex = executor_of(f);

	if (crew__done(f))
		return -EALREADY;
	if (ex->ops->cancel) {
		if (crew__claim_held(f, STATE_REVOKED))
			return 1;
		ask_to_stop(f);
		return ex->ops->cancel(ex, f);
	}
	if (crew__claim_marked(f, STATE_HELD, STATE_REVOKED))
		return 1;
	return ask_to_stop(f) ? 0 : -EALREADY;
}

/* What a cancel answers that comes after the end. */
static int cancelled_before(const crew_future *f)
{
	return phase_of(load_acquire_32(&f->state)) == PHASE_CANCELLED ? 1 : -EALREADY;
}

int crew__cancel_task(crew_future *f, const char *reason)
{
	int rc = crew__revoke(f);

	if (rc == 1)
		crew__cancelled(f, reason);
	return rc;
}

int crew__cancel(crew_future *f, const char *reason)
{
	if (crew__done(f))
		return cancelled_before(f);
	return task_of(f) ? crew__cancel_task(f, reason) : crew__promise_cancel(f, reason);
}

/* The caller has a reference, so the record outlasts this: it may wait until what another cancel, or its deadline, has claimed is done. Neither of the two
   waits or calls anybody before that. */
static int cancel_and_know(crew_future *f, const char *reason)
{
	int rc = crew__cancel(f, reason);

	if (rc == 1 || !(ck_pr_load_32(&f->state) & STATE_REVOKED))
		return rc;
	while (!phase_done(load_acquire_32(&f->state)))
		crew__sleep_on_word(f, NEVER);
	return cancelled_before(f);
}

int crew_future_cancel(crew_future *f, const char *reason)
{
	int rc = crew__check(f);

	return rc ? rc : cancel_and_know(f, reason);
}

int crew_future_kill(crew_future *f, const char *reason, int grace_ms)
{
	crew_executor *ex;
	int rc = crew__check(f);

	if (rc == 0 && grace_ms < CREW_FOREVER)
		rc = -EINVAL;
	if (rc == 0)
		rc = cancel_and_know(f, reason);
	if (rc || grace_ms == CREW_FOREVER)
		return rc;
	ex = executor_of(f);
	rc = ex->ops->kill ? ex->ops->kill(ex, f, reason, crew__deadline(grace_ms)) : 0;
	return rc == -EALREADY ? 0 : rc; /* it was asked, and has obeyed already */
}

int crew_cancel(crew_future *const *fs, size_t n)
{
	int count = 0;

	if (!fs && n)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (fs[i] && crew_future_cancel(fs[i], NULL) == 1)
			count++;
	return count;
}

/* ---- asking ---- */

bool crew_future_done(crew_future *f)
{
	return crew__check(f) == 0 && crew__done(f);
}

bool crew_future_running(crew_future *f)
{
	if (crew__check(f) || crew__done(f))
		return false;
	return phase_of(ck_pr_load_32(&f->state)) == PHASE_RUNNING;
}

bool crew_future_cancelled(crew_future *f)
{
	return crew__check(f) == 0 && crew__done(f) && phase_of(ck_pr_load_32(&f->state)) == PHASE_CANCELLED;
}

const char *crew_future_task(crew_future *f)
{
	const crew_task *task = crew__check(f) == 0 ? task_of(f) : NULL;

	return task ? task->name : "";
}

/* ---- reading ---- */

static int type_of(const crew_future *f)
{
	const crew_task *task = task_of(f);

	return task ? task->result : annex_of(f)->type;
}

/* Class and size, by value: what crew_result may copy. */
static const void *value_of(const crew_future *f, size_t size)
{
	return size > sizeof f->value.bytes ? f->value.large : (const void *)f->value.bytes;
}

/* 0, or why there is no value; f is done. */
static int outcome(const crew_future *f)
{
	uint32_t s = load_acquire_32(&f->state);

	if (phase_of(s) == PHASE_CANCELLED)
		return -ECANCELED;
	return s & STATE_FAILED ? CREW_ERAISED : 0;
}

static int read_value(crew_future *f, void *y, size_t size, int type)
{
	int rc = outcome(f);

	if (rc)
		return rc;
	if (type != type_of(f) || size < CREW_TYPE_SIZE(type))
		return CREW_ETYPE;
	memcpy(y, value_of(f, CREW_TYPE_SIZE(type)), CREW_TYPE_SIZE(type));
	return 0;
}

int crew_future_result(crew_future *f, void *y, size_t size, int type, int ms)
{
	int rc = crew__check(f);

	if (rc == 0 && !y)
		rc = -EINVAL;
	if (rc == 0 && !phase_done(load_acquire_32(&f->state)))
		rc = crew__await(f, crew__deadline(ms));
	return rc ? rc : read_value(f, y, size, type);
}

int crew_future_wait(crew_future *f, int ms)
{
	int rc = crew__check(f);

	if (rc == 0)
		rc = crew__await(f, crew__deadline(ms));
	return rc ? rc : outcome(f);
}

static const crew_error no_error = { .code = 0, .exit_status = -1 };
static const crew_error handle_error = { .code = CREW_EHANDLE, .exit_status = -1, .message = "not a live future" };
static const crew_error forked_error = {
	.code = CREW_EFORKED, .exit_status = -1, .message = "the future belongs to the parent of this forked process"
};
static const crew_error deadlock_error = {
	.code = -EDEADLK, .exit_status = -1, .message = "waiting for this future here could never end"
};

const crew_error *crew_future_error(crew_future *f)
{
	int rc = crew__check(f);

	if (rc)
		return rc == CREW_EFORKED ? &forked_error : &handle_error;
	if (crew__await(f, NEVER))
		return &deadlock_error;
	return outcome(f) ? f->value.error : &no_error;
}

/* ---- taking ---- */

/* A result that outlives its future: bytes in a block of their own, strings from malloc. */
static int take_value(crew_future *f, void *y, size_t size, int type)
{
	enum crew_class class = CREW_TYPE_CLASS(type);
	struct block *block;
	crew_bytes run;
	char *text;
	int rc;

	rc = read_value(f, y, size, type);
	if (rc || (class != CREW_BYTES && class != CREW_STRING))
		return rc;
	run = f->value.run;
	if (!run.data)
		return 0;
	if (class == CREW_STRING) {
		text = strdup(run.data);
		if (!text)
			return -ENOMEM;
		memcpy(y, &text, sizeof text);
		return 0;
	}
	if ((ck_pr_load_32(&f->state) & STATE_HEAP) && (ck_pr_load_32(&f->refs) & REFS_MASK) == 1) {
		ck_pr_and_32(&f->state, ~(uint32_t)STATE_HEAP); /* ours alone: the block changes hands */
		crew__memory_keep(run.data);
		return 0;
	}
	block = crew__block_new(run.len);
	if (!block)
		return -ENOMEM;
	memcpy(block->data, run.data, run.len);
	run.data = block->data;
	memcpy(y, &run, sizeof run);
	return 0;
}

/*
 * The common case: a value of at most 16 bytes that owns nothing, in a future that is done, and that nobody else refers to or can pin. True: taken.
 * A slab's head is never taken for a record: where that has its state, it has a pointer's low half, which is no phase.
 */
static inline bool take_common(crew_future *f, void *y, size_t size, int type)
{
	const uint32_t plain = PHASE_MASK | STATE_OWNED | STATE_FAILED | STATE_HEAP | STATE_BACKEND;
	size_t n = CREW_TYPE_SIZE(type);
	enum crew_class class = CREW_TYPE_CLASS(type);
	uintptr_t about;

	if ((load_acquire_32(&f->state) & plain) != (PHASE_FINISHED | STATE_OWNED) || (ck_pr_load_32(&f->refs) & REFS_MASK) != 1)
		return false;
	about = f->about;
	if (!about || (about & 1) || ((const crew_task *)about)->result != type || n > size || n > 16 || class == CREW_STRING || class == CREW_BYTES || !y)
		return false;
	copy_few(y, f->value.bytes, n);
	crew__recycle_empty(f);
	return true;
}

static __attribute__((__noinline__)) int take_any(crew_future *f, void *y, size_t size, int type, crew_error *err)
{
	int rc = crew__check(f);

	if (rc == 0 && !phase_done(load_acquire_32(&f->state)))
		rc = crew__await(f, NEVER);
	if (rc == 0 && !err && take_common(f, y, size, type))
		return 0;
	if (err)
		*err = rc ? (rc == CREW_EFORKED ? forked_error : rc == CREW_EHANDLE ? handle_error : deadlock_error)
			  : *crew_future_error(f);
	if (rc == CREW_EHANDLE || rc == CREW_EFORKED)
		return rc;
	if (rc == 0)
		rc = y ? take_value(f, y, size, type) : -EINVAL;
	crew_future_free(f);
	return rc;
}

/*
 * Of a task without options that has not started: this thread runs it, if it may. A worker that joins what it submitted itself comes here;
 * crew__await() would come to the same.
 */
static __attribute__((__noinline__)) int take_by_helping(crew_future *f, void *y, size_t size, int type)
{
	uintptr_t about = (uintptr_t)load_acquire_ptr((void *const *)&f->about);
	crew_executor *ex = executor_of(f);

	if (phase_of(load_acquire_32(&f->state)) == PHASE_PENDING && !(about & 1) && ex->ops->help && !ex->ops->refresh &&
	    ex->ops->help(ex, f) && take_common(f, y, size, type))
		return 0;
	return take_any(f, y, size, type, NULL);
}

int crew_future_take(crew_future *f, void *y, size_t size, int type, crew_error *err)
{
	if (unlikely(err || !crew__in_slab(f) || slab_of(f)->generation != crew__fork_generation))
		return take_any(f, y, size, type, err);
	return likely(take_common(f, y, size, type)) ? 0 : take_by_helping(f, y, size, type);
}

/* ---- being told ---- */

int crew_future_on_done(crew_future *f, crew_done_fn *fn, void *arg)
{
	struct callback *cb;
	int rc = crew__check(f);

	if (rc)
		return rc;
	if (!fn)
		return -EINVAL;
	if (is_fixed(f)) {
		fn(f, arg);
		return 0;
	}
	crew__done(f);
	cb = calloc(1, sizeof *cb);
	if (!cb)
		return -ENOMEM;
	cb->fn = fn;
	cb->arg = arg;
	rc = crew__subscribe(f, cb);
	if (rc)
		free(cb);
	return rc;
}

int crew_future_set_data(crew_future *f, void *data)
{
	int rc = crew__check(f);
	struct annex *a;

	if (rc)
		return rc;
	a = is_fixed(f) ? NULL : crew__annex(f);
	if (!a)
		return -ENOMEM;
	ck_pr_store_ptr(&a->data, data);
	return 0;
}

void *crew_future_data(crew_future *f)
{
	struct annex *a = crew__check(f) == 0 ? annex_of(f) : NULL;

	return a ? ck_pr_load_ptr(&a->data) : NULL;
}

/* ---- giving back ---- */

/* A user's reference goes. The last one to a promise takes along what it promised. */
static void release_user(crew_future *f)
{
	uint32_t refs = ck_pr_load_32(&f->refs);

	while (!task_of(f) && !phase_done(load_acquire_32(&f->state))) {
		if ((refs & REFS_MASK) <= (ck_pr_load_32(&f->state) & STATE_NOTIFY ? 2u : 1u)) {
			crew__promise_give_up(f);
			break;
		}
		ck_pr_fence_release();
		if (ck_pr_cas_32_value(&f->refs, refs, refs - 1, &refs))
			return;
	}
	crew__release(f);
}

crew_future *crew_future_free(crew_future *f)
{
	uint32_t s;

	if (crew__check(f) || is_fixed(f))
		return NULL;
	s = ck_pr_load_32(&f->state);
	if (phase_done(s) && (s & STATE_OWNED) && (ck_pr_load_32(&f->refs) & REFS_MASK) == 1 && !(f->about & 1)) {
		ck_pr_fence_acquire();
		crew__recycle(f); /* done, nobody but us refers to it, nobody can pin it */
		return NULL;
	}
	do {
		if (!(s & STATE_OWNED))
			return NULL; /* given back already */
	} while (!ck_pr_cas_32_value(&f->state, s, s & ~(uint32_t)STATE_OWNED, &s));
	release_user(f);
	return NULL;
}

crew_future *crew_future_ref(crew_future *f)
{
	if (crew__check(f) == 0 && !is_fixed(f))
		crew__retain(f);
	return f;
}

crew_future *crew_future_unref(crew_future *f)
{
	if (crew__check(f) == 0 && !is_fixed(f))
		release_user(f);
	return NULL;
}
