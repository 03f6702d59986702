/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * binding.c: from an outcome in the family's memory to a future of this process, and the other way.
 *
 * Values are copied on both ways: what a user borrows from his future must not depend on what other processes do. What lies in shared memory is
 * written once, before DONE, and stays while anybody has a stake.
 */
#include "ipc/binding.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/sharing.h"

/* ---- home ---- */

static bool is_run(enum crew_class class)
{
	return class == CREW_BYTES || class == CREW_STRING;
}

/* The value into f, as promise.c would have put it there. Flags for its state; -1: no memory. */
static int store(crew_future *f, int type, const struct verdict *v)
{
	const void *bytes = crew__verdict_data(v);
	enum crew_class class = CREW_TYPE_CLASS(type);
	struct block *block;

	if (!is_run(class) && v->size <= sizeof f->value.bytes) {
		memcpy(f->value.bytes, bytes, v->size);
		return 0;
	}
	f->value.run = (crew_bytes){ NULL, 0 };
	if (v->how & HOW_NULL)
		return 0;
	block = crew__block_new(v->size);
	if (!block)
		return -1;
	memcpy(block->data, bytes, v->size);
	if (is_run(class))
		f->value.run = (crew_bytes){ block->data, v->size };
	else
		f->value.large = block->data;
	return STATE_HEAP;
}

static void complete_value(struct binding *b, uint64_t keeper)
{
	const struct outcome *o = b->share.o;
	int flags;

	if (CREW_TYPE_CLASS(o->type) == CREW_POINTER && !same_member(keeper, crew__member_self())) {
		crew__fail_code(b->f, CREW_EPOINTER, "the result is a pointer of process %d", (int)member_pid(keeper));
		return;
	}
	flags = store(b->f, o->type, &o->verdict);
	if (flags < 0)
		crew__fail_code(b->f, -ENOMEM, "no memory for a result of %zu bytes", (size_t)o->verdict.size);
	else
		crew__complete(b->f, COMPLETE_FINISHED + (uint32_t)flags);
}

static void complete_error(struct binding *b)
{
	const struct verdict *v = &b->share.o->verdict;
	crew_error *error = malloc(sizeof *error);

	if (error)
		crew__verdict_read_error(v, error);
	else
		error = crew__error_no_memory();
	if ((v->how & HOW_MASK) == HOW_ERROR) {
		crew__fail(b->f, error);
		return;
	}
	b->f->value.error = error;
	ck_pr_faa_64(&executor_of(b->f)->cancelled, 1);
	crew__complete(b->f, COMPLETE_CANCELLED);
}

void crew__bring_home(struct binding *b)
{
	uint64_t word = load_acquire_64(&b->share.o->word); /* pairs with the release in crew__outcome_publish */

	if (phase_of_word(word) != OUTCOME_DONE || !crew__take(b->f))
		return;
	if ((b->share.o->verdict.how & HOW_MASK) == HOW_VALUE)
		complete_value(b, word);
	else
		complete_error(b);
}

/* ---- out ---- */

static int type_of(const crew_future *f)
{
	const crew_task *task = task_of(f);

	return task ? task->result : annex_of(f)->type;
}

static int take_value(struct verdict *v, const crew_future *f)
{
	int type = type_of(f);
	size_t size = CREW_TYPE_SIZE(type);

	switch (CREW_TYPE_CLASS(type)) {
	case CREW_STRING:
		return crew__verdict_value(v, f->value.run.data, f->value.run.data ? strlen(f->value.run.data) + 1 : 0);
	case CREW_BYTES:
		return crew__verdict_value(v, f->value.run.data, f->value.run.len);
	default:
		return crew__verdict_value(v, size > sizeof f->value.bytes ? f->value.large : (const void *)f->value.bytes, size);
	}
}

void crew__publish_future(struct binding *b)
{
	const crew_future *f = b->f;
	uint32_t s = load_acquire_32(&f->state);
	crew_error error = { .exit_status = -1 };
	struct verdict v = { .how = HOW_VALUE };
	int rc;

	if (phase_of(s) == PHASE_CANCELLED || (s & STATE_FAILED)) {
		crew__verdict_error(&v, f->value.error, phase_of(s) == PHASE_CANCELLED);
	} else if ((rc = take_value(&v, f)) != 0) {
		error.code = rc;
		snprintf(error.message, sizeof error.message, "no memory to share its result");
		crew__verdict_error(&v, &error, false);
	}
	if (crew__outcome_claim(b->share.o, true))
		crew__outcome_publish(b->share.o, &v);
	else
		crew__verdict_drop(&v);
}

/* ---- who may keep it ---- */

/* Each reference is somebody who may, but as many as wait. */
void crew__binding_weigh(struct binding *b)
{
	uint32_t s = ck_pr_load_32(&b->f->state), refs = ck_pr_load_32(&b->f->refs) & REFS_MASK, idle = b->waits;

	if (s & STATE_NOTIFY)
		idle += 1 + crew__subscribers(b->f, NULL);
	crew__stake_set(&b->share, !b->leads && (b->given_back || refs <= idle) ? STAKE_WAITING : STAKE_KEEPER, STAKE_KIND);
}
