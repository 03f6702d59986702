/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * completion.c: what happens once a future's word says that it is done.
 *
 *	word (crew__complete) → sleepers woken → group told → callbacks, in order → inbox → the completer's reference dropped
 *
 * From the moment the word has changed, the record may be given back by its owner and used anew, unless the completer holds a reference: that is
 * what STATE_NOTIFY is for, whose setter took one for it. A sleeper is woken by address alone; should the record have been recycled by then, that
 * wakes somebody once too often, which every wait allows for.
 *
 * Errors are made here too. There is always one to give: when there is no memory, a static one says so.
 */
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "core/context.h"
#include "core/executor_ops.h"
#include "core/group.h"
#include "core/inbox.h"
#include "core/record.h"
#include "core/sharing.h"

/* ---- callbacks ---- */

/* Whose callbacks this thread is in, innermost first. */
struct in_callback {
	crew_executor *ex, *group;
	struct in_callback *outer;
};
static __thread struct in_callback *in_callback __attribute__((__tls_model__("initial-exec")));

static pthread_mutex_t callback_mutexes[16] = {
#define M PTHREAD_MUTEX_INITIALIZER
	M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
#undef M
};

void crew__callbacks_before_fork(void)
{
	for (size_t i = 0; i < 16; i++)
		pthread_mutex_lock(&callback_mutexes[i]);
}

void crew__callbacks_after_fork(void)
{
	for (size_t i = 0; i < 16; i++)
		pthread_mutex_unlock(&callback_mutexes[i]);
}

static pthread_mutex_t *mutex_of(const crew_future *f)
{
	return &callback_mutexes[((uintptr_t)f / sizeof *f) % 16];
}

/* The list becomes the caller's; from now on registering means running. The mutex is held. */
static struct callback *take_list(struct annex *a)
{
	struct callback *list = a->closed ? NULL : a->first;

	for (struct callback *cb = list; cb; cb = cb->next)
		ck_pr_store_32(&cb->phase, CALLBACK_TAKEN);
	a->first = NULL;
	a->closed = true;
	return list;
}

static struct callback *close_list(crew_future *f, struct annex *a)
{
	struct callback *list;

	pthread_mutex_lock(mutex_of(f));
	list = take_list(a);
	pthread_mutex_unlock(mutex_of(f));
	return list;
}

/* A raise in a callback belongs to nobody: it ends here. */
static void call(crew_future *f, crew_done_fn *fn, void *arg)
{
	struct context context;
	struct annex *a = annex_of(f);
	struct in_callback here = { executor_of(f), a ? a->group : NULL, in_callback };

	crew__context_init(&context, executor_of(f), -1);
	in_callback = &here;
	fn(f, arg);
	in_callback = here.outer;
	crew__context_fini(&context);
}

static void run_list(crew_future *f, struct callback *list)
{
	while (list) {
		struct callback *cb = list;
		bool embedded = cb->embedded;

		list = cb->next;
		call(f, cb->fn, cb->arg);
		if (embedded)
			store_release_32(&cb->phase, CALLBACK_DONE); /* pairs with crew__unsubscribe, which frees it */
		else
			free(cb);
	}
}

bool crew__in_callback(crew_executor *ex)
{
	for (struct in_callback *c = in_callback; c; c = c->outer)
		if (c->ex == ex || c->group == ex)
			return true;
	return false;
}

bool crew__notify(crew_future *f)
{
	uint32_t s = load_acquire_32(&f->state);
	crew_executor *ex = executor_of(f);

	if (s & STATE_NOTIFY)
		return !phase_done(s);
	crew__retain(f);
	while (!phase_done(s) && !(s & STATE_NOTIFY))
		if (ck_pr_cas_32_value(&f->state, s, s | STATE_NOTIFY, &s)) {
			if (ex->ops->watch)
				ex->ops->watch(ex, f);
			return true;
		}
	crew__release(f);
	return !phase_done(s);
}

int crew__subscribe(crew_future *f, struct callback *cb)
{
	struct annex *a = phase_done(load_acquire_32(&f->state)) ? annex_of(f) : crew__annex(f);
	bool listed = false;

	cb->next = NULL;
	ck_pr_store_32(&cb->phase, CALLBACK_LISTED);
	if (!a && !phase_done(load_acquire_32(&f->state)))
		return -ENOMEM;
	if (a) {
		pthread_mutex_lock(mutex_of(f));
		listed = !a->closed && !phase_done(load_acquire_32(&f->state)); /* done, its completer may not have come to close the list: it is after the fact */
		if (listed) {
			struct callback **end = a->first ? a->last : &a->first;

			crew__retain(f); /* it may be called from here on, and give f back: ours, until we are through */
			*end = cb;
			a->last = &cb->next;
		}
		pthread_mutex_unlock(mutex_of(f));
	}
	if (!listed) {
		ck_pr_store_32(&cb->phase, CALLBACK_TAKEN);
		run_list(f, cb);
	} else if (!crew__notify(f) && !(ck_pr_load_32(&f->state) & STATE_NOTIFY)) {
		run_list(f, close_list(f, a)); /* done before anybody wanted to know: the completer will not look */
	}
	if (listed)
		crew__release(f);
	return 0;
}

void crew__unsubscribe(crew_future *f, struct callback *cb)
{
	struct annex *a = annex_of(f);
	bool listed;

	if (load_acquire_32(&cb->phase) == CALLBACK_DONE)
		return;
	pthread_mutex_lock(mutex_of(f));
	listed = ck_pr_load_32(&cb->phase) == CALLBACK_LISTED;
	if (listed) {
		struct callback **place = &a->first;

		while (*place != cb)
			place = &(*place)->next;
		*place = cb->next;
		if (a->last == &cb->next)
			a->last = place;
	}
	pthread_mutex_unlock(mutex_of(f));
	while (!listed && load_acquire_32(&cb->phase) != CALLBACK_DONE) /* its fn is short: it marks and wakes */
		sched_yield();
}

uint32_t crew__subscribers(crew_future *f, uint32_t *ret_callbacks)
{
	struct annex *a = annex_of(f);
	uint32_t waiting = 0, callbacks = 0;

	pthread_mutex_lock(mutex_of(f));
	for (struct callback *cb = a && !a->closed ? a->first : NULL; cb; cb = cb->next)
		++*(cb->embedded ? &waiting : &callbacks);
	pthread_mutex_unlock(mutex_of(f));
	if (ret_callbacks)
		*ret_callbacks = callbacks;
	return waiting;
}

/* ---- completion ---- */

/* Everybody who asked to be told; list is a's, closed. */
static void tell(crew_future *f, struct annex *a, struct callback *list)
{
	run_list(f, list);
	if (a->inbox)
		crew__inbox_put(a->inbox, f);
	if (a->group)
		crew__group_done(a->group, f);
	store_release_32(&a->settled, 1); /* pairs with outlast_callbacks */
	crew__futex_wake(&a->settled, INT_MAX, false);
	crew__release(f);
}

/* Nobody else refers to it: the completer has the last reference. */
static void drop_detached(crew_future *f, uint32_t state)
{
	if (!(state & STATE_DETACHED))
		return;
	if (annex_of(f))
		crew__release(f);
	else
		crew__recycle(f);
}

bool crew__completed_briefly(crew_future *f, uint32_t state)
{
	struct annex *a = annex_of(f);
	struct callback *list;
	bool brief = !(a->group && (state & STATE_FAILED) && crew__group_cancels(a->group)); /* its siblings, and tells theirs */

	pthread_mutex_lock(mutex_of(f));
	for (struct callback *cb = a->closed ? NULL : a->first; cb; cb = cb->next)
		brief &= cb->embedded;
	list = brief ? take_list(a) : NULL;
	pthread_mutex_unlock(mutex_of(f));
	if (!brief)
		return false;
	if (state & STATE_WAITER)
		crew__futex_wake(&f->state, INT_MAX, false);
	if (a->group)
		crew__group_failed(a->group, f, state);
	tell(f, a, list);
	drop_detached(f, state);
	return true;
}

void crew__completed(crew_future *f, uint32_t state)
{
	struct annex *a;

	if (state & STATE_WAITER)
		crew__futex_wake(&f->state, INT_MAX, false); /* pairs with the wait in crew__await */
	if (state & STATE_NOTIFY) {
		a = annex_of(f);
		if (a->group)
			crew__group_failed(a->group, f, state);
		tell(f, a, close_list(f, a));
	}
	drop_detached(f, state);
}

/* ---- errors ---- */

/* The errors of fixed futures, and those that need no memory. */
static crew_error static_errors[] = {
	[FIXED_NO_MEMORY] = { .code = -ENOMEM, .exit_status = -1, .message = "out of memory" },
	[FIXED_HANDLE] = { .code = CREW_EHANDLE, .exit_status = -1, .message = "submitted to what is no live executor" },
	[FIXED_FORKED] = { .code = CREW_EFORKED, .exit_status = -1, .message = "submitted to an executor of the parent of this forked process" },
	[FIXED_COUNT] = { .code = -ECANCELED, .exit_status = -1, .message = "cancelled before it started" },
};
#define no_memory_error static_errors[FIXED_NO_MEMORY]
#define cancelled_error static_errors[FIXED_COUNT]

#define FIXED(i_) { .state = PHASE_FINISHED | STATE_FAILED, .refs = 1, .value.error = &static_errors[i_] }
crew_future crew__fixed[FIXED_COUNT] = { FIXED(FIXED_NO_MEMORY), FIXED(FIXED_HANDLE), FIXED(FIXED_FORKED) };
#undef FIXED

void crew__error_free(crew_error *error)
{
	if (error < static_errors || error > &cancelled_error)
		free(error);
}

crew_error *crew__error_no_memory(void)
{
	return &no_memory_error;
}

/* The last part of a path: enough to find a line by. */
void crew__error_where(crew_error *error, const char *where)
{
	const char *slash = where ? strrchr(where, '/') : NULL;

	snprintf(error->where, sizeof error->where, "%s", slash ? slash + 1 : where ? where : "");
}

static crew_error *error_new(const crew_task *task, int code, const char *format, va_list list)
{
	crew_error *error = calloc(1, sizeof *error);

	if (!error)
		return &no_memory_error;
	error->code = code ? code : CREW_ERAISED;
	error->exit_status = -1;
	if (task) {
		snprintf(error->task, sizeof error->task, "%s", task->name);
		crew__error_where(error, task->where);
	}
	vsnprintf(error->message, sizeof error->message, format, list);
	if (!error->message[0])
		snprintf(error->message, sizeof error->message, "%s", crew_strerror(error->code));
	return error;
}

crew_error *crew__error_make(const crew_task *task, int code, const char *format, ...)
{
	crew_error *error;
	va_list list;

	va_start(list, format);
	error = error_new(task, code, format, list);
	va_end(list);
	return error;
}

void crew__fail(crew_future *f, crew_error *error)
{
	crew_executor *ex = executor_of(f);

	f->value.error = error;
	ck_pr_faa_64(&ex->failed, 1);
	if (ck_pr_load_int(&ex->first_failure) == 0)
		(void)ck_pr_cas_int(&ex->first_failure, 0, error->code);
	crew__complete(f, COMPLETE_FINISHED + STATE_FAILED);
}

void crew__fail_code(crew_future *f, int code, const char *format, ...)
{
	crew_error *error;
	va_list list;

	va_start(list, format);
	error = error_new(task_of(f), code, format, list);
	va_end(list);
	crew__fail(f, error);
}

void crew__cancelled(crew_future *f, const char *reason)
{
	crew_executor *ex = executor_of(f);

	f->value.error = reason ? crew__error_make(task_of(f), -ECANCELED, "%s", reason) : &cancelled_error;
	if (f->value.error == &no_memory_error)
		f->value.error = &cancelled_error;
	ck_pr_faa_64(&ex->cancelled, 1);
	crew__complete(f, COMPLETE_CANCELLED);
}

/* ---- the annex ---- */

struct annex *crew__annex(crew_future *f)
{
	uintptr_t about = (uintptr_t)load_acquire_ptr((void *const *)&f->about);
	struct annex *a;

	if (about & 1)
		return (struct annex *)(about - 1);
	a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	a->task = (const crew_task *)about;
	a->deadline = NEVER;
	ck_pr_fence_release();
	if (ck_pr_cas_ptr((void **)&f->about, (void *)about, (void *)((uintptr_t)a | 1)))
		return a;
	free(a);
	return annex_of(f);
}
