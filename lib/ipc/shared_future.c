/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared_future.c: crew_future_share(), crew_promise_future(), and what they change about a future.
 *
 *	process A: f ──binding──> outcome in the family's memory <──binding── f' : process B
 *
 * A promise that is shared is decided in its outcome: set, cancel and set_running claim there first, in every process alike, and each process brings the
 * outcome home when it looks, waits or is told by its watcher. Any other future decides for itself; its completion publishes.
 *
 * A wait sleeps on the outcome's word, in slices that grow: after each it looks whether somebody died on whom it depends. In a task of a pool it sleeps as
 * the pool wants its tasks to sleep, on the future's own word, and has the watcher look.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/context.h"
#include "core/sharing.h"
#include "core/waiting.h"
#include "ipc/binding.h"
#include "ipc/family.h"

static const struct sharing_ops sharing_ops;

struct sharing *crew__sharing_here(void)
{
	static struct sharing *sharing;
	struct sharing *here = load_acquire_ptr((void *const *)&sharing), *made;

	if (here && here->generation == crew__fork_generation)
		return here;
	made = calloc(1, sizeof *made);
	if (!made)
		return NULL;
	made->generation = crew__fork_generation;
	pthread_mutex_init(&made->mutex, NULL);
	ck_pr_store_ptr(&crew__sharing, &sharing_ops);
	ck_pr_fence_release();
	if (ck_pr_cas_ptr(&sharing, here, made))
		return made;
	pthread_mutex_destroy(&made->mutex);
	free(made);
	return load_acquire_ptr((void *const *)&sharing);
}

/* ---- keeping ---- */

/* The bytes of a value, wherever they lie. */
static crew_bytes run_of(const void *value, int type)
{
	const char *text;
	crew_bytes run = { (void *)(uintptr_t)value, CREW_TYPE_SIZE(type) };

	switch (CREW_TYPE_CLASS(type)) {
	case CREW_STRING:
		memcpy(&text, value, sizeof text);
		return (crew_bytes){ (void *)(uintptr_t)text, text ? strlen(text) + 1 : 0 };
	case CREW_BYTES:
		memcpy(&run, value, sizeof run);
		return run;
	case CREW_VOID:
		return (crew_bytes){ (void *)(uintptr_t)"", 0 };
	default:
		return run;
	}
}

/* Say v, unless somebody was faster. */
static int decide(crew_future *f, struct verdict *v)
{
	struct binding *b = binding_of(f);

	if (!crew__outcome_claim(b->share.o, true)) {
		crew__verdict_drop(v);
		return -EALREADY;
	}
	crew__outcome_publish(b->share.o, v);
	crew__bring_home(b);
	return 0;
}

static int keep(crew_future *f, const void *value, int type)
{
	struct binding *b = binding_of(f);
	struct verdict v = { 0 };
	crew_bytes bytes;
	int rc;

	if (b->share.o->kind != OUTCOME_PROMISE)
		return CREW_EHANDLE;
	bytes = run_of(value, type);
	rc = crew__verdict_value(&v, bytes.data, bytes.len);
	return rc ? rc : decide(f, &v);
}

static int fail(crew_future *f, const crew_error *error)
{
	struct verdict v = { 0 };

	if (binding_of(f)->share.o->kind != OUTCOME_PROMISE)
		return CREW_EHANDLE;
	crew__verdict_error(&v, error, false);
	return decide(f, &v);
}

static int run(crew_future *f)
{
	struct binding *b = binding_of(f);
	struct outcome *o = b->share.o;
	uint64_t word = ck_pr_load_64(&o->word);

	if (o->kind != OUTCOME_PROMISE)
		return CREW_EHANDLE;
	while (phase_of_word(word) == OUTCOME_PENDING)
		if (ck_pr_cas_64_value(&o->word, word, crew__member_self() | OUTCOME_RUNNING, &word)) {
			crew__mark_running(f);
			return 0;
		}
	crew__bring_home(b);
	return phase_of(load_acquire_32(&f->state)) == PHASE_CANCELLED ? -ECANCELED : -EALREADY;
}

/* ---- cancelling ---- */

static int cancel_here(crew_future *f, const char *reason)
{
	struct outcome *o = binding_of(f)->share.o;
	crew_error error = { .code = -ECANCELED, .exit_status = -1 };
	struct verdict v = { 0 };

	if (!crew__outcome_claim(o, false))
		return phase_of_word(ck_pr_load_64(&o->word)) == OUTCOME_RUNNING ? 0 : -EALREADY;
	snprintf(error.message, sizeof error.message, "%s", reason ? reason : "cancelled before it started");
	crew__verdict_error(&v, &error, true);
	crew__outcome_publish(o, &v);
	crew__bring_home(binding_of(f));
	return 1;
}

/* The first reason that anybody gives stays. */
static void leave_reason(struct outcome *o, const char *reason)
{
	uint64_t offset;

	if (!reason || ck_pr_load_64(&o->reason) || crew__family_alloc(sizeof ((crew_error *)0)->message, &offset))
		return;
	snprintf(crew__family_at(offset), sizeof ((crew_error *)0)->message, "%s", reason);
	ck_pr_fence_release();
	if (!ck_pr_cas_64(&o->reason, 0, offset))
		crew__family_free(offset);
}

/* Have its owner cancel it, and wait for the answer as long as that may take when it is well: its watcher has nothing else to do. */
static int cancel_there(crew_future *f, const char *reason)
{
	struct outcome *o = binding_of(f)->share.o;
	uint64_t end = crew__now() + 1000 * MS_TO_NS;
	uint32_t asked;

	leave_reason(o, reason);
	ck_pr_fence_memory();
	ck_pr_or_32(&o->asked, ASKED_CANCEL);
	crew__bell_ring(o->owner);
	while (!crew__done(f) && !((asked = load_acquire_32(&o->asked)) & ASKED_ANSWERED) && crew__now() < end)
		crew__futex_wait(&o->asked, asked, crew__now() + 5 * MS_TO_NS, true); /* woken by cancel_for_others (share_watcher.c) */
	if (!crew__done(f))
		return 0;
	return phase_of(load_acquire_32(&f->state)) == PHASE_CANCELLED ? 1 : -EALREADY;
}

static int cancel(crew_future *f, const char *reason)
{
	return binding_of(f)->share.o->kind == OUTCOME_PROMISE ? cancel_here(f, reason) : cancel_there(f, reason);
}

/* ---- looking ---- */

/* Does it run there? The answer comes a little later, if its owner is well. */
static void ask_to_look(struct binding *b)
{
	struct outcome *o = b->share.o;
	uint64_t now = crew__now(), last = ck_pr_load_64(&b->looked_at);

	if (now - last < LOOK_NS || !ck_pr_cas_64(&b->looked_at, last, now))
		return;
	ck_pr_or_32(&o->asked, ASKED_LOOK);
	crew__bell_ring(o->owner);
}

static void refresh(crew_future *f)
{
	struct binding *b = binding_of(f);
	uint64_t word = load_acquire_64(&b->share.o->word);

	if (phase_of_word(word) == OUTCOME_DONE)
		crew__bring_home(b);
	else if (phase_of_word(word) == OUTCOME_RUNNING)
		crew__mark_running(f);
	else if (b->share.o->kind == OUTCOME_FOLLOWED)
		ask_to_look(b);
}

/* ---- waiting ---- */

/* In a task of ex, which therefore stays. */
static bool in_task_of(const crew_executor *ex)
{
	for (struct context *c = crew__context; c; c = c->outer)
		if (c->ex == ex)
			return true;
	return false;
}

/* The future that f stands for, referenced, if this is a task of its executor: waiting for it itself may run it, or find that it would never end. NULL: it
   is not. */
static crew_future *original_of(struct sharing *here, struct binding *b)
{
	crew_future *f = NULL;

	if (!crew__context || b->share.o->kind != OUTCOME_FOLLOWED || !same_member(b->share.o->owner, crew__member_self()))
		return NULL;
	pthread_mutex_lock(&here->mutex);
	for (struct binding *other = here->first; other && !f; other = other->next)
		if (other->leads && other->share.o == b->share.o && in_task_of(executor_of(other->f)) && crew__pin(other->f))
			f = other->f;
	pthread_mutex_unlock(&here->mutex);
	return f;
}

static void count_wait(struct sharing *here, struct binding *b, uint32_t n)
{
	pthread_mutex_lock(&here->mutex);
	b->waits += n;
	crew__binding_weigh(b);
	pthread_mutex_unlock(&here->mutex);
}

static bool over(const struct binding *b, uint64_t deadline)
{
	return outcome_done(b->share.o) || phase_done(load_acquire_32(&b->f->state)) || (deadline != NEVER && crew__now() >= deadline);
}

/* The process that submitted it says that this wait could never end (jam.c). */
static bool is_stuck(struct binding *b)
{
	if (!(ck_pr_load_64(b->share.place) & STAKE_STUCK))
		return false;
	crew__stake_set(&b->share, 0, STAKE_STUCK);
	return !outcome_done(b->share.o);
}

static uint64_t longer(uint64_t slice)
{
	return 2 * slice < SLICE_LAST_NS ? 2 * slice : SLICE_LAST_NS;
}

static int sleep_on_outcome(struct binding *b, uint64_t deadline)
{
	struct outcome *o = b->share.o;
	uint64_t slice = SLICE_FIRST_NS;

	while (!over(b, deadline)) {
		uint64_t word = load_acquire_64(&o->word), until = crew__now() + slice;

		if (phase_of_word(word) == OUTCOME_DONE)
			break;
		if (is_stuck(b))
			return -EDEADLK;
		crew__futex_wait(outcome_futex(o), (uint32_t)word, until < deadline ? until : deadline, true); /* pairs with the wake in crew__outcome_publish */
		if (!outcome_done(o) && crew__now() >= until) {
			crew__outcome_check(o);
			slice = longer(slice);
		}
	}
	return 0;
}

static int watch_binding(struct sharing *here, struct binding *b)
{
	int rc = crew__watch_binding(here, b);

	if (rc && crew__take(b->f))
		crew__fail_code(b->f, rc, "there can be no thread that watches it");
	return rc;
}

/* As its pool sleeps: it has to look after other things meanwhile. */
static int sleep_in_task(struct sharing *here, struct binding *b, uint64_t deadline)
{
	crew_executor *ex = crew__context->ex;
	uint64_t slice = SLICE_FIRST_NS;

	if (watch_binding(here, b))
		return 0;
	while (!over(b, deadline)) {
		uint32_t s = load_acquire_32(&b->f->state);
		uint64_t until = crew__now() + slice;

		if (is_stuck(b))
			return -EDEADLK;
		if (!phase_done(s) && ((s & STATE_WAITER) || ck_pr_cas_32(&b->f->state, s, s | STATE_WAITER)))
			ex->ops->nap(ex, &b->f->state, s | STATE_WAITER, until < deadline ? until : deadline); /* woken by crew__completed */
		slice = longer(slice);
	}
	return 0;
}

static int wait(crew_future *f, uint64_t deadline)
{
	struct binding *b = binding_of(f);
	struct sharing *here = crew__sharing_here();
	crew_future *original = original_of(here, b);
	int rc;

	if (original && !crew__done(original)) {
		rc = crew__await(original, deadline);
		crew__release(original);
		return rc == -ETIMEDOUT ? 0 : rc;
	}
	if (original)
		crew__release(original);
	count_wait(here, b, 1);
	if (crew__context && crew__context->ex && crew__context->ex->ops->nap)
		rc = sleep_in_task(here, b, deadline);
	else
		rc = sleep_on_outcome(b, deadline);
	count_wait(here, b, (uint32_t)-1);
	crew__bring_home(b);
	return rc;
}

static void watch(crew_future *f)
{
	struct sharing *here = crew__sharing_here();

	watch_binding(here, binding_of(f));
}

/* ---- giving back ---- */

/* With callbacks left it stays, to be told: but nobody here will keep it. */
static void give_back(crew_future *f)
{
	struct binding *b = binding_of(f);
	struct sharing *here = crew__sharing_here();
	uint32_t callbacks;

	crew__subscribers(f, &callbacks);
	pthread_mutex_lock(&here->mutex);
	b->given_back = true;
	crew__binding_weigh(b);
	pthread_mutex_unlock(&here->mutex);
	if (callbacks) {
		crew__outcome_check(b->share.o);
		crew__bring_home(b);
	} else if (crew__take(f)) {
		crew__fail_code(f, CREW_EBROKEN, "it was given back here");
	}
}

static void closing(crew_executor *ex)
{
	struct sharing *here = crew__sharing_here();
	bool busy = here != NULL;

	while (busy) {
		pthread_mutex_lock(&here->mutex);
		busy = here->busy == ex;
		pthread_mutex_unlock(&here->mutex);
		if (busy)
			sched_yield(); /* it looks, or has a callback run */
	}
}

static void forget(crew_future *f)
{
	struct binding *b = binding_of(f);
	struct sharing *here = crew__sharing_here();

	pthread_mutex_lock(&here->mutex);
	crew__unwatch_binding(here, b);
	pthread_mutex_unlock(&here->mutex);
	for (uint32_t i = 0; i < b->handed_count; i++)
		crew__stake_withdraw(&b->share, b->handed[i].slot, b->handed[i].word);
	crew__outcome_leave(&b->share);
	free(b);
}

static const struct sharing_ops sharing_ops = {
	.keep = keep,
	.fail = fail,
	.run = run,
	.cancel = cancel,
	.refresh = refresh,
	.wait = wait,
	.watch = watch,
	.give_back = give_back,
	.closing = closing,
	.forget = forget,
};

/* ---- sharing ---- */

static crew_promise failed_promise(int code)
{
	return (crew_promise){ 0, (uint64_t)(uint32_t)code };
}

static void publish(crew_future *f, void *arg)
{
	(void)f;
	crew__publish_future(arg);
}

/* f's, made if there is none. The mutex is held. -errno. *ret_new: it has to be set to work. */
static int bind(crew_future *f, struct annex *a, struct binding **ret, bool *ret_new)
{
	struct binding *b = ck_pr_load_ptr(&a->binding);
	int rc;

	*ret_new = !b;
	*ret = b;
	if (b)
		return 0;
	b = calloc(1, sizeof *b);
	if (!b)
		return -ENOMEM;
	rc = crew__outcome_new(task_of(f) ? task_of(f)->result : a->type, OUTCOME_PROMISE, &b->share);
	if (rc) {
		free(b);
		return rc;
	}
	b->f = f;
	b->told = (struct callback){ .fn = publish, .arg = b, .embedded = true };
	store_release_ptr((void **)&a->binding, b); /* pairs with binding_of */
	b->leads = task_of(f) || !crew__promise_share(f);
	if (b->leads)
		b->share.o->kind = OUTCOME_FOLLOWED; /* nobody else knows it yet */
	*ret = b;
	return 0;
}

/* What was begun before it was shared goes on as a shared one would. */
static int set_to_work(struct sharing *here, struct binding *b)
{
	crew_future *f = b->f;
	uint32_t s = load_acquire_32(&f->state);

	if (b->leads) {
		int rc = crew__subscribe(f, &b->told);

		if (rc == 0 && !outcome_done(b->share.o))
			(void)crew__watch_binding(here, b); /* without a watcher it cannot be cancelled from elsewhere; it is published all the same */
		return rc;
	}
	if (phase_of(s) == PHASE_RUNNING)
		ck_pr_cas_64(&b->share.o->word, OUTCOME_PENDING, crew__member_self() | OUTCOME_RUNNING);
	if (s & STATE_WAITER)
		crew__futex_wake(&f->state, INT_MAX, false); /* who sleeps there must sleep elsewhere */
	if (s & STATE_NOTIFY)
		watch(f);
	return 0;
}

/* A stake for a new handle; those of handles that were opened are forgotten. The mutex is held. */
static uint32_t hand(struct binding *b)
{
	uint32_t kept = 0;
	uint64_t word;
	int slot;

	for (uint32_t i = 0; i < b->handed_count; i++)
		if (crew__stake_is(&b->share, b->handed[i].slot, b->handed[i].word))
			b->handed[kept++] = b->handed[i];
	b->handed_count = kept;
	slot = kept < HANDED_MAX && !b->leads ? crew__stake_hand(&b->share, &word) : -1;
	if (slot < 0) {
		crew__stake_set(&b->share, STAKE_GENEROUS, STAKE_GENEROUS);
		return STAKES_MAX;
	}
	b->handed[b->handed_count++] = (struct handed){ (uint32_t)slot, word };
	return (uint32_t)slot;
}

crew_promise crew_future_share(crew_future *f)
{
	int rc = crew__check(f);
	struct sharing *here = rc ? NULL : crew__sharing_here();
	struct annex *a = here && !is_fixed(f) ? crew__annex(f) : NULL;
	struct binding *b = NULL;
	uint32_t slot = STAKES_MAX;
	bool fresh = false;

	if (rc)
		return failed_promise(rc);
	if (is_fixed(f))
		return failed_promise(crew_future_error(f)->code);
	if (!a)
		return failed_promise(-ENOMEM);
	pthread_mutex_lock(&here->mutex);
	rc = bind(f, a, &b, &fresh);
	if (rc == 0)
		slot = hand(b);
	pthread_mutex_unlock(&here->mutex);
	if (rc == 0 && fresh)
		rc = set_to_work(here, b);
	if (rc)
		return failed_promise(rc);
	return (crew_promise){ (uint64_t)b->share.generation << 32 | (b->share.index + 1),
			       (uint64_t)slot << 48 | (uint64_t)crew__outcome_nonce() << 32 | (uint32_t)b->share.o->type };
}

/* ---- opening ---- */

static crew_future *failed_future(int code, const char *why)
{
	crew_future *f = crew__promise_new(0);

	if (!f)
		return &crew__fixed[FIXED_NO_MEMORY];
	crew__promise_open(f, false);
	crew_future_set_error(f, code, "%s", why);
	return f;
}

static int open_share(crew_promise p, struct share *ret)
{
	if (crew__outcome_pool())
		return -ENOMEM;
	if (crew__outcome_nonce() != (p.type_ >> 32 & 0xffff))
		return CREW_EHANDLE;
	return crew__outcome_open((uint32_t)p.id_ - 1, (uint32_t)(p.id_ >> 32), (uint32_t)(p.type_ >> 48), ret);
}

crew_future *crew_promise_future(crew_promise p)
{
	struct binding *b = NULL;
	crew_future *f = NULL;
	struct share share;
	int rc;

	if ((uint32_t)p.id_ == 0)
		return p.type_ ? failed_future((int)(uint32_t)p.type_, "its future could not be shared") : failed_future(CREW_EHANDLE, "no promise");
	if (crew__sharing_here()) {
		b = calloc(1, sizeof *b);
		f = crew__promise_new((int)(uint32_t)p.type_);
	}
	rc = b && f ? open_share(p, &share) : -ENOMEM;
	if (rc) {
		free(b);
		if (!f)
			return &crew__fixed[FIXED_NO_MEMORY];
		crew__promise_open(f, false);
		crew_future_set_error(f, rc, "%s", rc == CREW_EHANDLE ? "the future was given back everywhere" : crew_strerror(rc));
		return f;
	}
	b->f = f;
	b->share = share;
	annex_of(f)->type = share.o->type;
	store_release_ptr((void **)&annex_of(f)->binding, b); /* pairs with binding_of */
	crew__promise_open(f, true);
	return f;
}
