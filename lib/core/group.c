/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * group.c: an executor over an executor: futures, limits and an end of its own, the other's workers.
 *
 * A future of the group is a record of the executor at the bottom whose annex names the group; core asks the group once before the task is submitted
 * below (enter) and tells it once after everybody else was told that it is done. What may not run yet waits in the backlog with STATE_HELD set, so that
 * no hint can start it.
 *
 * All of a group is guarded by the mutex of the executor at the bottom, which outlives it: the completer of the last future unlocks that after its
 * last touch of the group, so whoever sees `unfinished` at 0 under it may free the group.
 */
#include "core/group.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/context.h"
#include "core/waiting.h"

enum { KILL_MS = 10000 /* for futures to fail whose tasks are killed: it takes a moment, a long one on a busy machine, and is not relied on */ };

struct group {
	crew_executor ex;
	/* fixed after open */
	crew_executor *below, *base;
	struct crew_group_options options;
	uint64_t deadline;
	/* guarded by base->mutex */
	crew_future *members, *last_member; /* all that were not given back, by annex->group_next */
	crew_future *backlog, *last_backlog; /* HELD, by annex->queue_next */
	int running, queued, stale; /* queued: in the backlog; stale: of these, done meanwhile */
	uint32_t unfinished;
	uint64_t submitted;
	bool cancelled; /* a failure cancelled what there was and cancels what comes */
	uint32_t changed; /* bumped when something ended: waiters sleep on it */
};

static struct group *group_of(crew_executor *ex)
{
	return (struct group *)ex;
}

crew_executor *crew__group_base(crew_executor *ex)
{
	return group_of(ex)->base;
}

static void lock(struct group *g)
{
	pthread_mutex_lock(&g->base->mutex);
}

static void unlock(struct group *g)
{
	pthread_mutex_unlock(&g->base->mutex);
}

/* ---- members ---- */

static void link_member(struct group *g, crew_future *f)
{
	struct annex *a = annex_of(f);

	a->group_prev = g->last_member;
	a->group_next = NULL;
	if (g->last_member)
		annex_of(g->last_member)->group_next = f;
	else
		g->members = f;
	g->last_member = f;
	a->member = true;
}

static void unlink_member(struct group *g, crew_future *f)
{
	struct annex *a = annex_of(f);

	if (a->group_next)
		annex_of(a->group_next)->group_prev = a->group_prev;
	else
		g->last_member = a->group_prev;
	if (a->group_prev)
		annex_of(a->group_prev)->group_next = a->group_next;
	else
		g->members = a->group_next;
	a->member = false;
}

void crew__group_forget(crew_executor *base, crew_future *f)
{
	struct annex *a = annex_of(f);

	pthread_mutex_lock(&base->mutex);
	if (a->member) /* then its group is still open: close unlinks all */
		unlink_member(group_of(a->group), f);
	pthread_mutex_unlock(&base->mutex);
}

/* The member after f, the first one for NULL, with a reference; NULL: there is none. */
static crew_future *pin_next(struct group *g, crew_future *f)
{
	crew_future *next;

	lock(g);
	next = f ? annex_of(f)->group_next : g->members;
	while (next && !crew__pin(next)) /* it is on its way out */
		next = annex_of(next)->group_next;
	unlock(g);
	return next;
}

static size_t count_members(struct group *g)
{
	size_t n = 0;

	lock(g);
	for (crew_future *f = g->members; f; f = annex_of(f)->group_next)
		n++;
	unlock(g);
	return n;
}

/* For as many as there are now: later ones stand behind them. The reference to one holds the place, for what has one stays a member; so this needs no
   memory, and no group is taken for empty because there is none. */
int crew__group_each(crew_executor *ex, int (*fn)(crew_future *f, void *arg), void *arg)
{
	struct group *g = group_of(ex);
	crew_future *f = pin_next(g, NULL), *next;
	int rc = 0;

	for (size_t left = count_members(g); f; f = next) {
		rc = fn(f, arg);
		next = rc == 0 && left-- > 1 ? pin_next(g, f) : NULL;
		crew__release(f);
	}
	return rc;
}

/* ---- the backlog ---- */

static void push_backlog(struct group *g, crew_future *f)
{
	annex_of(f)->queue_next = NULL;
	if (g->last_backlog)
		annex_of(g->last_backlog)->queue_next = f;
	else
		g->backlog = f;
	g->last_backlog = f;
	g->queued++;
	annex_of(f)->queued = true;
	crew__retain(f); /* the backlog's */
}

static void unlink_backlog(struct group *g, crew_future **place, crew_future *before)
{
	struct annex *a = annex_of(*place);

	if (g->last_backlog == *place)
		g->last_backlog = before;
	*place = a->queue_next;
	g->queued--;
	g->stale -= a->left;
	a->queued = false;
}

/* The oldest that is not done meanwhile (cancelled, run by who waited for it), whose reference passes to the caller; NULL: none. The others go
   to *ret_stale: their references must be dropped without the lock. */
static crew_future *pop_backlog(struct group *g, crew_future **ret_stale)
{
	while (g->backlog) {
		crew_future *f = g->backlog;
		struct annex *a = annex_of(f);

		unlink_backlog(g, &g->backlog, NULL);
		if (!a->left)
			return f;
		a->queue_next = *ret_stale;
		*ret_stale = f;
	}
	return NULL;
}

/* One of the backlog is done. When more than half are, all such go to *ret_stale: so they cost no more than they hold up, however many are cancelled behind
   one that runs for long. */
static void note_stale(struct group *g, crew_future **ret_stale)
{
	crew_future **place = &g->backlog, *before = NULL;

	if (++g->stale <= g->queued / 2)
		return;
	while (*place) {
		crew_future *f = *place;
		struct annex *a = annex_of(f);

		if (!a->left) {
			before = f;
			place = &a->queue_next;
			continue;
		}
		unlink_backlog(g, place, before);
		a->queue_next = *ret_stale;
		*ret_stale = f;
	}
}

static void drop_stale(crew_future *stale)
{
	while (stale) {
		crew_future *next = annex_of(stale)->queue_next;

		crew__release(stale);
		stale = next;
	}
}

static bool full(const struct group *g)
{
	return g->options.max_queued && g->queued - g->stale >= g->options.max_queued;
}

static bool busy(const struct group *g)
{
	return g->options.max_running && g->running >= g->options.max_running;
}

/* Submit below what there is room for now. Without the lock. */
static void release_backlog(crew_executor *base, crew_future *f)
{
	struct port *port = crew__port(base);
	int rc = 0;

	if (crew__unhold(f)) {
		rc = port ? base->ops->submit(base, port, f, keeps_arguments(base->ops) ? NULL : annex_of(f)->arguments) : -ENOMEM;
		if (rc && crew__claim(f))
			crew__fail_code(f, rc, "%s", crew_strerror(rc));
	}
	crew__release(f);
}

/* Room was made or work ran out: wake who waits for that. The lock is held, the address outlives the group's use of it. */
static void signal_change(struct group *g)
{
	ck_pr_faa_32(&g->changed, 1);
	crew__futex_wake(&g->changed, INT32_MAX, false);
}

/* ---- entering ---- */

/* One of the group's own that waits is run here instead of waiting for room: in a full group there is one. The lock is held, and again on return. */
static void run_one(struct group *g)
{
	crew_future *stale = NULL, *f = pop_backlog(g, &stale);

	unlock(g);
	drop_stale(stale);
	if (crew__claim_as(f, STATE_HELD))
		crew__run_nested(g->base, f, crew_task_worker());
	crew__release(f);
	lock(g);
}

/* As long as it is full it is busy: whoever ends takes one of those that wait in his place. */
static void wait_for_room(struct group *g)
{
	bool worker = crew__inside(g->base);

	while (full(g) && !g->cancelled) {
		uint32_t changed = ck_pr_load_32(&g->changed);

		if (worker) {
			run_one(g);
			continue;
		}
		unlock(g);
		crew__nap(g->base, &g->changed, changed, g->deadline); /* pairs with signal_change */
		lock(g);
		if (g->deadline != NEVER && crew__now() >= g->deadline)
			return;
	}
}

/* The group is full, so one of its own waits at least: 1 go on and queue it; 0 it was dealt with; -EAGAIN. The lock is held, and again on return. */
static int make_room(struct group *g, crew_future *f)
{
	crew_future *oldest, *stale = NULL;

	switch (g->options.when_full) {
	case CREW_REJECT:
		return -EAGAIN;
	case CREW_CALLER_RUNS:
		unlock(g);
		if (crew__claim_as(f, STATE_HELD))
			crew__run_nested(g->base, f, 0);
		lock(g);
		return 0;
	case CREW_DROP_OLDEST:
		oldest = pop_backlog(g, &stale);
		unlock(g);
		drop_stale(stale);
		crew__cancel(oldest, "dropped: the group was full");
		crew__release(oldest);
		lock(g);
		return 1;
	case CREW_BLOCK:
		break;
	}
	wait_for_room(g);
	return 1;
}

/* The lock is held, and again on return. */
static int admit(struct group *g, crew_future *f)
{
	if (g->cancelled)
		return -ECANCELED;
	if (busy(g) && full(g)) {
		int rc = make_room(g, f);

		if (rc != 1)
			return rc;
		if (annex_of(f)->left) /* cancelled while it waited for room: nobody would count it out again */
			return 0;
	}
	if (busy(g)) {
		push_backlog(g, f);
		return 0;
	}
	annex_of(f)->counted = true;
	g->running++;
	return 1;
}

int crew__group_enter(crew_executor *ex, crew_future *f)
{
	struct group *g = group_of(ex);
	struct annex *a = annex_of(f);
	int rc;

	if (g->deadline < a->deadline)
		a->deadline = g->deadline;
	lock(g);
	link_member(g, f);
	g->unfinished++;
	g->submitted++;
	rc = admit(g, f);
	unlock(g);
	if (rc != -ECANCELED)
		return rc;
	crew__cancel(f, "its group was cancelled");
	return 0;
}

/* ---- leaving ---- */

static int cancel_sibling(crew_future *f, void *arg)
{
	if (!crew__done(f))
		crew__cancel(f, arg);
	return 0;
}

bool crew__group_cancels(crew_executor *ex)
{
	return group_of(ex)->options.on_error == CREW_CANCEL_SIBLINGS;
}

void crew__group_failed(crew_executor *ex, crew_future *f, uint32_t state)
{
	struct group *g = group_of(ex);
	bool first;

	if (!(state & STATE_FAILED) || f->value.error->code == -EAGAIN) /* turned away: nothing of the group went wrong */
		return;
	ck_pr_faa_64(&ex->failed, 1);
	if (!crew__group_cancels(ex))
		return;
	lock(g);
	first = !g->cancelled;
	g->cancelled = true;
	unlock(g);
	if (first)
		crew__group_each(ex, cancel_sibling, (void *)(uintptr_t) "another task of its group failed");
}

void crew__group_done(crew_executor *ex, crew_future *f)
{
	struct group *g = group_of(ex);
	crew_executor *base = g->base;
	crew_future *next = NULL, *stale = NULL;

	if ((ck_pr_load_32(&f->state) & STATE_FAILED) && ck_pr_load_int(&ex->first_failure) == 0)
		(void)ck_pr_cas_int(&ex->first_failure, 0, f->value.error->code);
	if (phase_of(ck_pr_load_32(&f->state)) == PHASE_CANCELLED)
		ck_pr_faa_64(&ex->cancelled, 1);
	lock(g);
	annex_of(f)->left = true;
	if (annex_of(f)->counted)
		g->running--;
	if (annex_of(f)->queued)
		note_stale(g, &stale);
	if (!busy(g))
		next = pop_backlog(g, &stale);
	if (next) {
		annex_of(next)->counted = true;
		g->running++;
	}
	g->unfinished--;
	signal_change(g);
	unlock(g); /* the group may be gone from here on, unless `next` is one of its own that is unfinished */
	drop_stale(stale);
	if (next)
		release_backlog(base, next);
}

/* ---- the executor ---- */

/* Is a task of the group on this stack? The executor below may well be: that is what groups are for. */
static bool stands_in(const struct context *c, crew_executor *ex)
{
	for (; c; c = c->outer) {
		struct annex *a = c->future ? annex_of(c->future) : NULL;

		if ((a && a->group == ex) || (c->crowd && stands_in(c->crowd, ex)))
			return true;
	}
	return false;
}

static bool group_inside(crew_executor *ex)
{
	return stands_in(crew__context, ex);
}

static int await_member(crew_future *f, void *arg)
{
	return crew__await(f, *(uint64_t *)arg);
}

int crew__group_wait(crew_executor *ex, uint64_t deadline)
{
	struct group *g = group_of(ex);
	bool worker = crew__inside(g->base);
	int rc = 0;

	if (group_inside(ex))
		return -EDEADLK;
	lock(g);
	while (rc == 0 && g->unfinished) {
		uint32_t changed = ck_pr_load_32(&g->changed);

		unlock(g);
		if (deadline != NEVER && crew__now() >= deadline)
			rc = -ETIMEDOUT;
		else if (worker || g->deadline != NEVER)
			rc = crew__group_each(ex, await_member, &deadline);
		else
			crew__nap(g->base, &g->changed, changed, deadline); /* pairs with signal_change */
		lock(g);
	}
	unlock(g);
	return rc;
}

static int group_submit(crew_executor *ex, struct port *port, crew_future *f, const void *arguments)
{
	(void)ex, (void)port, (void)f, (void)arguments;
	return CREW_EHANDLE; /* core submits to the base */
}

static int group_workers(crew_executor *ex)
{
	crew_executor *base = group_of(ex)->base;

	return base->ops->workers(base);
}

static void group_stats(crew_executor *ex, struct crew_stats *ret)
{
	struct group *g = group_of(ex);

	lock(g);
	ret->submitted = g->submitted;
	unlock(g);
}

static int kill_member(crew_future *f, void *arg)
{
	crew_executor *base = executor_of(f);

	(void)arg;
	if (!crew__done(f))
		base->ops->kill(base, f, "its group was shut down, and its time was up", crew__now());
	return 0;
}

static void group_shutdown(crew_executor *ex, uint64_t deadline, bool kill)
{
	struct group *g = group_of(ex);

	if (crew__group_wait(ex, deadline) != -ETIMEDOUT || !kill || !g->base->ops->kill)
		return;
	crew__group_each(ex, kill_member, NULL);
	crew__group_wait(ex, crew__deadline(KILL_MS));
}

/* Every future is done: give back those that the user did not. */
static void group_close(crew_executor *ex)
{
	struct group *g = group_of(ex);

	lock(g);
	while (g->members) {
		crew_future *f = g->members;
		bool mine = crew__pin(f);

		unlink_member(g, f);
		ck_pr_store_ptr(&annex_of(f)->group, NULL);
		unlock(g);
		if (mine) {
			crew_future_free(f);
			crew__release(f);
		}
		lock(g);
	}
	unlock(g);
	ck_pr_faa_32(&g->below->groups, (uint32_t)-1);
}

const struct executor_ops crew__group_ops = {
	.kind = "group",
	.shares_memory = true, /* what counts is the base's */
	.submit = group_submit,
	.inside = group_inside,
	.workers = group_workers,
	.shutdown = group_shutdown,
	.close = group_close,
	.stats = group_stats,
};

crew_executor *crew_group_open(crew_executor *below, const struct crew_group_options *options, size_t size)
{
	struct group *g;
	int rc = crew__executor_check(below);

	if (rc)
		return crew__executor_failed(&crew__group_ops, rc, "a group over %s", crew_strerror(rc));
	rc = crew__executor_broken(below);
	if (rc)
		return crew__executor_failed(&crew__group_ops, rc, "%s", below->error.message);
	g = calloc(1, sizeof *g);
	if (!g)
		return crew__executor_failed(&crew__group_ops, -ENOMEM, "no memory for a group");
	rc = crew__options(&g->options, sizeof g->options, options, size);
	if (rc == 0 && (g->options.max_running < 0 || g->options.max_queued < 0 || g->options.timeout_ms < 0 ||
			(unsigned)g->options.when_full > CREW_DROP_OLDEST || (unsigned)g->options.on_error > CREW_CANCEL_SIBLINGS))
		rc = -EINVAL;
	if (rc == 0 && g->options.max_queued && !g->options.max_running)
		rc = -EINVAL;
	if (rc == 0) {
		g->below = below;
		g->base = is_group(below) ? crew__group_base(below) : below;
		g->deadline = g->options.timeout_ms ? crew__deadline(g->options.timeout_ms) : NEVER;
		rc = crew__executor_init(&g->ex, &crew__group_ops, below->name);
	}
	if (rc) {
		free(g);
		return crew__executor_failed(&crew__group_ops, rc,
					     rc == -EINVAL ? "a group's limits must not be negative, and max_queued needs max_running"
							   : "no memory for a group");
	}
	ck_pr_faa_32(&below->groups, 1);
	return &g->ex;
}
