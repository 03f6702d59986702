/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * promise.c: futures that somebody completes by hand.
 *
 * They are records like all others, of an executor that has no workers and is never closed: one for each process, made at the first promise
 * (a forked child makes its own). To complete one is to claim it, which is why only the first of two sets wins.
 *
 * Once a promise is shared with other processes (STATE_SHARED, sharing.h) it is claimed where all of them can see it. Flag and claim are in one word, so
 * that either the claim comes first, and there is nothing to share but the outcome, or nobody claims here any more.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/promises.h"
#include "core/sharing.h"
#include "core/waiting.h"

const struct sharing_ops *crew__sharing;

static bool is_shared(const crew_future *f)
{
	return load_acquire_32(&f->state) & STATE_SHARED;
}

static int promises_submit(crew_executor *ex, struct port *port, crew_future *f, const void *arguments)
{
	(void)ex, (void)port, (void)f, (void)arguments;
	return CREW_ENOTASK;
}

static int promises_workers(crew_executor *ex)
{
	(void)ex;
	return 0;
}

static void promises_shutdown(crew_executor *ex, uint64_t deadline, bool kill)
{
	(void)ex, (void)deadline, (void)kill;
}

static void promises_close(crew_executor *ex)
{
	(void)ex;
}

static void promises_refresh(crew_executor *ex, crew_future *f)
{
	(void)ex;
	if (is_shared(f))
		crew__sharing->refresh(f);
}

static int promises_wait(crew_executor *ex, crew_future *f, uint64_t deadline)
{
	(void)ex;
	return is_shared(f) ? crew__sharing->wait(f, deadline) : crew__sleep_on_word(f, deadline);
}

static void promises_watch(crew_executor *ex, crew_future *f)
{
	(void)ex;
	if (is_shared(f))
		crew__sharing->watch(f);
}

static const struct executor_ops promise_ops = {
	.kind = "promises",
	.shares_memory = true,
	.submit = promises_submit,
	.refresh = promises_refresh,
	.wait = promises_wait,
	.watch = promises_watch,
	.workers = promises_workers,
	.shutdown = promises_shutdown,
	.close = promises_close,
};

crew_executor *crew__promises_open(void)
{
	crew_executor *made = calloc(1, sizeof *made);

	if (!made || crew__executor_init(made, &promise_ops, "promises")) {
		free(made);
		return NULL;
	}
	return made;
}

static crew_executor *promises; /* by CAS */

static crew_executor *promises_here(void)
{
	crew_executor *ex = load_acquire_ptr((void *const *)&promises), *made;

	if (ex && ex->generation == crew__fork_generation)
		return ex;
	made = crew__promises_open();
	if (!made)
		return NULL;
	ck_pr_fence_release();
	if (ck_pr_cas_ptr(&promises, ex, made))
		return made;
	crew_executor_close(made);
	return load_acquire_ptr((void *const *)&promises);
}

static crew_future *promise_new(crew_executor *ex, int type)
{
	struct port *port = ex ? crew__port(ex) : NULL;
	crew_future *f = port ? crew__record_new(port) : NULL;
	struct annex *a;

	if (!f)
		return NULL;
	crew__record_init(f, NULL, PHASE_PENDING | STATE_HELD | STATE_OWNED);
	a = crew__annex(f);
	if (!a) {
		if (crew__claim_as(f, STATE_HELD))
			crew__fail(f, crew__error_no_memory());
		crew_future_free(f);
		return NULL;
	}
	a->type = type;
	return f;
}

crew_future *crew__promise_new(int type)
{
	return promise_new(promises_here(), type);
}

void crew__promise_open(crew_future *f, bool shared)
{
	uint32_t s = ck_pr_load_32(&f->state);

	ck_pr_fence_release();
	while (!ck_pr_cas_32_value(&f->state, s, (s & ~(uint32_t)STATE_HELD) | (shared ? STATE_SHARED : 0), &s))
		;
}

crew_future *crew__promise_in(crew_executor *ex, int type)
{
	crew_future *f = promise_new(ex, type);

	if (!f)
		return &crew__fixed[FIXED_NO_MEMORY];
	crew__promise_open(f, false);
	return f;
}

crew_future *crew_future_new(int type)
{
	return crew__promise_in(promises_here(), type);
}

/* Is f a promise that may be completed? The claim is what decides. */
static int check_promise(crew_future *f)
{
	int rc = crew__check(f);

	if (rc)
		return rc;
	return is_fixed(f) || executor_of(f)->ops != &promise_ops ? CREW_EHANDLE : 0;
}

enum { SHARED_ONE = 1 }; /* not to be claimed here */

/* May it still be claimed? RUNNING by crew_future_set_running() is told from a claim by STATE_HELD. */
static bool is_open(uint32_t state)
{
	return phase_of(state) == PHASE_PENDING || (phase_of(state) == PHASE_RUNNING && (state & STATE_HELD));
}

/* 0; -EALREADY; SHARED_ONE. `running`: also what was set running. */
static int claim_promise(crew_future *f, bool running, uint32_t mark)
{
	uint32_t s = ck_pr_load_32(&f->state);

	while (is_open(s) && (running || phase_of(s) == PHASE_PENDING)) {
		if (s & STATE_SHARED)
			return SHARED_ONE;
		if (ck_pr_cas_32_value(&f->state, s, (s & ~(uint32_t)(PHASE_MASK | STATE_HELD)) | PHASE_RUNNING | STATE_TAKEN | mark, &s)) {
			ck_pr_fence_acquire();
			return 0;
		}
	}
	return s & STATE_SHARED ? SHARED_ONE : -EALREADY;
}

bool crew__promise_share(crew_future *f)
{
	uint32_t s = ck_pr_load_32(&f->state);

	ck_pr_fence_release();
	while (is_open(s))
		if (ck_pr_cas_32_value(&f->state, s, (s & ~(uint32_t)STATE_HELD) | STATE_SHARED, &s))
			return true;
	return false;
}

int crew__promise_cancel(crew_future *f, const char *reason)
{
	int rc = claim_promise(f, false, STATE_REVOKED);

	if (rc == SHARED_ONE)
		return crew__sharing->cancel(f, reason);
	if (rc)
		return phase_done(load_acquire_32(&f->state)) ? -EALREADY : 0;
	crew__cancelled(f, reason);
	return 1;
}

void crew__promise_give_up(crew_future *f)
{
	int rc = claim_promise(f, true, 0);

	if (rc == SHARED_ONE)
		crew__sharing->give_back(f);
	else if (rc == 0)
		crew__fail_code(f, CREW_EBROKEN, "its promise was given back before it was kept");
}

int crew_future_set_running(crew_future *f)
{
	uint32_t s;
	int rc = check_promise(f);

	if (rc)
		return rc;
	s = ck_pr_load_32(&f->state);
	while (phase_of(s) == PHASE_PENDING && !(s & STATE_SHARED))
		if (ck_pr_cas_32_value(&f->state, s, ((s & ~(uint32_t)PHASE_MASK) | PHASE_RUNNING | STATE_HELD), &s))
			return 0;
	if (s & STATE_SHARED)
		return crew__sharing->run(f);
	return phase_of(s) == PHASE_CANCELLED ? -ECANCELED : -EALREADY;
}

/* A copy of a value whose bytes lie elsewhere; `*ret` is the block, NULL when none is needed. */
static int copy_out(const void *value, int type, struct block **ret, crew_bytes *ret_run)
{
	enum crew_class class = CREW_TYPE_CLASS(type);
	size_t size = CREW_TYPE_SIZE(type);
	crew_bytes run = { NULL, 0 };

	*ret = NULL;
	if (class == CREW_STRING) {
		const char *text = *(const char *const *)value;

		run = (crew_bytes){ (void *)(uintptr_t)text, text ? strlen(text) + 1 : 0 };
	} else if (class == CREW_BYTES) {
		run = *(const crew_bytes *)value;
	} else if (size > 16) {
		run = (crew_bytes){ (void *)(uintptr_t)value, size };
	}
	*ret_run = run;
	if (!run.data)
		return 0;
	*ret = crew__block_new(run.len);
	if (!*ret)
		return -ENOMEM;
	memcpy((*ret)->data, run.data, run.len);
	ret_run->data = (*ret)->data;
	return 0;
}

int crew_future_set_result(crew_future *f, const void *value, int type)
{
	int rc = check_promise(f);
	size_t size = CREW_TYPE_SIZE(type);
	struct block *block;
	crew_bytes run;

	if (rc)
		return rc;
	if (type != annex_of(f)->type)
		return CREW_ETYPE;
	if (!value && size)
		return -EINVAL;
	if (is_shared(f))
		return crew__sharing->keep(f, value, type);
	rc = copy_out(value, type, &block, &run);
	if (rc)
		return rc;
	rc = claim_promise(f, true, 0);
	if (rc) {
		crew__block_free(block);
		return rc == SHARED_ONE ? crew__sharing->keep(f, value, type) : rc;
	}
	if (CREW_TYPE_CLASS(type) == CREW_STRING || CREW_TYPE_CLASS(type) == CREW_BYTES)
		f->value.run = run;
	else if (size > 16)
		f->value.large = run.data;
	else if (size)
		memcpy(f->value.bytes, value, size);
	crew__complete(f, COMPLETE_FINISHED + (block ? STATE_HEAP : 0));
	return 0;
}

static int fail_shared(crew_future *f, int code, const char *text)
{
	crew_error error = { .code = code ? code : CREW_ERAISED, .exit_status = -1 };

	snprintf(error.message, sizeof error.message, "%s", text[0] ? text : crew_strerror(error.code));
	return crew__sharing->fail(f, &error);
}

int crew_future_set_error(crew_future *f, int code, const char *format, ...)
{
	char text[sizeof ((crew_error *)0)->message];
	va_list list;
	int rc = check_promise(f);

	if (rc)
		return rc;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	rc = claim_promise(f, true, 0);
	if (rc == SHARED_ONE)
		return fail_shared(f, code, text);
	if (rc == 0)
		crew__fail_code(f, code, "%s", text);
	return rc;
}

int crew__promise_fail(crew_future *f, const crew_error *error)
{
	crew_error *copy;
	int rc = check_promise(f);

	if (rc == 0)
		rc = claim_promise(f, true, 0);
	if (rc)
		return rc == SHARED_ONE ? crew__sharing->fail(f, error) : rc;
	copy = malloc(sizeof *copy);
	if (copy)
		*copy = *error;
	crew__fail(f, copy ? copy : crew__error_no_memory());
	return 0;
}
