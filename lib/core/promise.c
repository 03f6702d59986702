/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * promise.c: futures that somebody completes by hand.
 *
 * They are records like all others, of an executor that has no workers and is never closed: one for each process, made at the first promise
 * (a forked child makes its own). To complete one is to claim it, which is why only the first of two sets wins.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/waiting.h"

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

static const struct executor_ops promise_ops = {
	.kind = "promises",
	.shares_memory = true,
	.submit = promises_submit,
	.workers = promises_workers,
	.shutdown = promises_shutdown,
	.close = promises_close,
};

static crew_executor *promises; /* by CAS */

static crew_executor *promises_here(void)
{
	crew_executor *ex = load_acquire_ptr((void *const *)&promises), *made;

	if (ex && ex->generation == crew__fork_generation)
		return ex;
	made = calloc(1, sizeof *made);
	if (!made || crew__executor_init(made, &promise_ops, "promises")) {
		free(made);
		return NULL;
	}
	ck_pr_fence_release();
	if (ck_pr_cas_ptr(&promises, ex, made))
		return made;
	crew_executor_close(made);
	return load_acquire_ptr((void *const *)&promises);
}

crew_future *crew_future_new(int type)
{
	crew_executor *ex = promises_here();
	struct port *port = ex ? crew__port(ex) : NULL;
	crew_future *f = port ? crew__record_new(port) : NULL;
	struct annex *a;

	if (!f)
		return &crew__fixed[FIXED_NO_MEMORY];
	crew__record_init(f, NULL, PHASE_PENDING | STATE_HELD | STATE_OWNED);
	a = crew__annex(f);
	if (!a) {
		if (crew__claim_as(f, STATE_HELD))
			crew__fail(f, crew__error_no_memory());
		return f;
	}
	a->type = type;
	crew__unhold(f);
	return f;
}

/* Is f a promise that may be completed? The claim is what decides. */
static int check_promise(crew_future *f)
{
	int rc = crew__check(f);

	if (rc)
		return rc;
	return is_fixed(f) || executor_of(f)->ops != &promise_ops ? CREW_EHANDLE : 0;
}

/* RUNNING by crew_future_set_running() is claimed already: STATE_HELD tells it from a set that is in progress. */
static int claim_promise(crew_future *f)
{
	uint32_t s = ck_pr_load_32(&f->state);

	if (crew__claim(f))
		return 0;
	while (phase_of(s) == PHASE_RUNNING && (s & STATE_HELD))
		if (ck_pr_cas_32_value(&f->state, s, s & ~(uint32_t)STATE_HELD, &s)) {
			ck_pr_fence_acquire();
			return 0;
		}
	return -EALREADY;
}

int crew_future_set_running(crew_future *f)
{
	uint32_t s;
	int rc = check_promise(f);

	if (rc)
		return rc;
	s = ck_pr_load_32(&f->state);
	while (phase_of(s) == PHASE_PENDING)
		if (ck_pr_cas_32_value(&f->state, s, ((s & ~(uint32_t)PHASE_MASK) | PHASE_RUNNING | STATE_HELD), &s))
			return 0;
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
	rc = copy_out(value, type, &block, &run);
	if (rc)
		return rc;
	rc = claim_promise(f);
	if (rc) {
		crew__block_free(block);
		return rc;
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

int crew_future_set_error(crew_future *f, int code, const char *format, ...)
{
	char text[sizeof ((crew_error *)0)->message];
	va_list list;
	int rc = check_promise(f);

	if (rc == 0)
		rc = claim_promise(f);
	if (rc)
		return rc;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	crew__fail_code(f, code, "%s", text);
	return 0;
}
