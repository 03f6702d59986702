/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wait.c: waiting for several futures at once.
 *
 * Waiting for all is waiting for each. Waiting for the first registers one callback with each future, whose node lies in one allocation of the
 * waiter's and is taken back when it stops waiting, so a loop of short waits on a long task leaves nothing behind.
 *
 *	completers ─push node→ stack ─take all, reversed→ ready ─→ crew_completions_next()
 *
 * In a worker, what has not started is run here first: a pool of one cannot deadlock.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/context.h"
#include "core/waiting.h"

struct node {
	struct callback cb;
	struct node *next; /* the stack's; then the ready list's */
	crew_future *f;	   /* NULL: this entry was a repetition, or nothing */
	bool delivered;	   /* the user has it, and may have given it back: hands off */
	struct crew_completions *set;
};

struct crew_completions {
	/* the waiter's */
	crew_future *const *fs;
	size_t n, next_help, waited, delivered, total; /* waited: all before it are delivered */
	uint64_t deadline, own_deadline; /* the earliest of its futures' own; NEVER */
	size_t *left;
	struct node *ready;
	bool poor; /* no memory for nodes: futures in the order given */
	/* written by completers */
	struct node *arrived CREW__ALIGNED;
	uint32_t signal; /* bumped after each push; the waiter sleeps on it */
	struct node node[];
};

/* In the completing thread. Nothing of the node is touched after the push, but by callback.c's mark. */
static void arrived(crew_future *f, void *arg)
{
	struct node *node = arg, *head;
	struct crew_completions *set = node->set;

	(void)f;
	do {
		head = ck_pr_load_ptr(&set->arrived);
		node->next = head;
		ck_pr_fence_release(); /* pairs with the swap in collect */
	} while (!ck_pr_cas_ptr(&set->arrived, head, node));
	ck_pr_faa_32(&set->signal, 1);
	crew__futex_wake(&set->signal, 1, false);
}

static int by_future(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	return x->f < y->f ? -1 : x->f > y->f;
}

/* Each future once. Order is that of addresses then, which is nobody's business: those that are done come first anyway. */
static void drop_repeated(struct crew_completions *set)
{
	qsort(set->node, set->n, sizeof set->node[0], by_future);
	for (size_t i = set->n; i-- > 1;)
		if (set->node[i].f == set->node[i - 1].f)
			set->node[i].f = NULL;
}

static bool usable(const crew_future *f)
{
	return f && crew__check(f) == 0;
}

/* Register with every future; in the order they were given if that can be told from the nodes. */
static bool subscribe(struct crew_completions *set)
{
	for (size_t i = 0; i < set->n; i++) {
		struct node *node = &set->node[i];
		struct annex *a;

		if (!node->f)
			continue;
		node->set = set;
		node->cb = (struct callback){ .fn = arrived, .arg = node, .embedded = true };
		if (is_fixed(node->f) || crew__done(node->f)) {
			ck_pr_store_32(&node->cb.phase, CALLBACK_DONE);
			arrived(node->f, node);
		} else if (crew__subscribe(node->f, &node->cb)) {
			node->f = NULL;
			return false;
		}
		set->total++;
		a = annex_of(node->f);
		if (a && a->deadline < set->own_deadline)
			set->own_deadline = a->deadline;
	}
	return true;
}

static void unsubscribe(struct crew_completions *set)
{
	for (size_t i = 0; i < set->n; i++) {
		struct node *node = &set->node[i];

		if (!node->f || !node->set)
			continue;
		if (!node->delivered)
			crew__unsubscribe(node->f, &node->cb);
		while (load_acquire_32(&node->cb.phase) == CALLBACK_TAKEN)
			sched_yield(); /* its completer is just leaving `arrived` */
	}
}

static struct crew_completions *set_new(crew_future *const *fs, size_t n)
{
	struct crew_completions *set = NULL;

	if (n <= (SIZE_MAX / 2 - sizeof *set) / sizeof set->node[0]) {
		size_t size = sizeof *set + n * sizeof set->node[0];

		set = aligned_alloc(CREW__CACHELINE, (size + CREW__CACHELINE - 1) / CREW__CACHELINE * CREW__CACHELINE);
	}
	if (!set)
		return NULL;
	memset(set, 0, sizeof *set + n * sizeof set->node[0]);
	set->fs = fs;
	set->n = n;
	set->own_deadline = set->deadline = NEVER;
	for (size_t i = 0; i < n; i++)
		set->node[i].f = usable(fs[i]) ? fs[i] : NULL;
	drop_repeated(set);
	if (!subscribe(set)) {
		unsubscribe(set);
		free(set);
		return NULL;
	}
	return set;
}

static void set_free(struct crew_completions *set)
{
	unsubscribe(set);
	free(set);
}

/* ---- waiting on a set ---- */

static bool collect(struct crew_completions *set)
{
	struct node *newest = ck_pr_fas_ptr(&set->arrived, NULL);

	ck_pr_fence_acquire();
	while (newest) {
		struct node *next = newest->next;

		newest->next = set->ready;
		set->ready = newest;
		newest = next;
	}
	return set->ready != NULL;
}

/* Run one that has not started, if this thread may. */
static bool help(struct crew_completions *set)
{
	while (set->next_help < set->n) {
		struct node *node = &set->node[set->next_help++];
		crew_future *f = node->delivered ? NULL : node->f;

		if (f && !crew__done(f) && crew__help(f))
			return true;
	}
	return false;
}

/* Everything that is left waits for this very thread. */
static bool stuck(struct crew_completions *set)
{
	if (!crew__context)
		return false;
	for (size_t i = 0; i < set->n; i++) {
		crew_future *f = set->node[i].delivered ? NULL : set->node[i].f;

		if (f && (crew__done(f) || !crew__on_this_stack(f))) /* what is done arrives, if it has not yet */
			return false;
	}
	return true;
}

/* A future whose own time is up before it started is failed by whoever waits for it; crew__await does that. */
static void expire(struct crew_completions *set)
{
	set->own_deadline = NEVER;
	for (size_t i = 0; i < set->n; i++) {
		crew_future *f = set->node[i].delivered ? NULL : set->node[i].f;
		struct annex *a = f ? annex_of(f) : NULL;

		if (!a || a->deadline == NEVER || crew__done(f))
			continue;
		crew__await(f, 0);
		if (!crew__done(f) && a->deadline > crew__now() && a->deadline < set->own_deadline)
			set->own_deadline = a->deadline;
	}
}

/* Sleep until the signal changes. When it does not, what could not be run here before may be looked at again. */
static void sleep_on(struct crew_completions *set, uint32_t signal, uint64_t until)
{
	struct node *node = &set->node[set->waited];

	while (set->waited < set->n && (!node->f || node->delivered)) /* which may be given back by now */
		node = &set->node[++set->waited];
	crew__nap(set->waited < set->n ? executor_of(node->f) : NULL, &set->signal, signal, until); /* pairs with the bump in arrived */
	if (ck_pr_load_32(&set->signal) == signal)
		set->next_help = 0;
}

/* Until something is ready: 0; -ETIMEDOUT; -EDEADLK. */
static int wait_ready(struct crew_completions *set)
{
	for (;;) {
		uint32_t signal = load_acquire_32(&set->signal);
		uint64_t until = set->own_deadline < set->deadline ? set->own_deadline : set->deadline;

		if (collect(set))
			return 0;
		if (help(set))
			continue;
		if (until != NEVER && crew__now() >= until) {
			if (until == set->deadline)
				return -ETIMEDOUT;
			expire(set);
			continue;
		}
		if (stuck(set))
			return -EDEADLK;
		sleep_on(set, signal, until);
	}
}

/* ---- as completed ---- */

/* For the one who has no memory for a set: it needs none but this. */
static __thread struct crew_completions poor __attribute__((__tls_model__("initial-exec")));

crew_completions *crew_completions_open(crew_future *const *fs, size_t n, int ms, size_t *left)
{
	struct crew_completions *set = set_new(fs, fs ? n : 0);

	if (!set) {
		if (poor.poor)
			return NULL;
		set = &poor;
		memset(set, 0, sizeof *set);
		set->poor = true;
		set->fs = fs;
		set->n = set->total = n;
	}
	set->deadline = crew__deadline(ms);
	set->left = left;
	if (left)
		*left = set->total;
	return set;
}

static bool seen_before(const struct crew_completions *set, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (set->fs[k] == set->fs[i])
			return true;
	return false;
}

static crew_future *next_in_order(struct crew_completions *set)
{
	while (set->delivered < set->n) {
		size_t i = set->delivered++;

		if (!usable(set->fs[i]) || seen_before(set, i))
			continue;
		if (crew__await(set->fs[i], set->deadline))
			return NULL;
		if (set->left)
			*set->left = set->n - set->delivered;
		return set->fs[i];
	}
	return NULL;
}

crew_future *crew_completions_next(crew_completions *set)
{
	struct node *node;

	if (set->poor)
		return next_in_order(set);
	if (set->delivered == set->total || (!set->ready && wait_ready(set)))
		return NULL;
	node = set->ready;
	set->ready = node->next;
	node->delivered = true;
	set->delivered++;
	if (set->left)
		*set->left = set->total - set->delivered;
	return node->f;
}

crew_completions *crew_completions_close(crew_completions *set)
{
	if (!set)
		return NULL;
	if (set->poor)
		set->poor = false;
	else
		set_free(set);
	return NULL;
}

/* ---- crew_wait ---- */

/* 0; CREW_EHANDLE, CREW_EFORKED: one of them is no future. */
static int check_all(crew_future *const *fs, size_t n)
{
	int rc = n && !fs ? -EINVAL : 0;

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = fs[i] ? crew__check(fs[i]) : 0;
	return rc;
}

static int count_done(crew_future *const *fs, size_t n)
{
	int count = 0;

	for (size_t i = 0; i < n; i++)
		count += fs[i] && crew__done(fs[i]);
	return count;
}

static bool failed(const crew_future *f)
{
	return ck_pr_load_32(&f->state) & STATE_FAILED;
}

static bool satisfied(crew_future *const *fs, size_t n, enum crew_when when)
{
	bool all = true;

	for (size_t i = 0; i < n; i++) {
		if (!fs[i])
			continue;
		if (!crew__done(fs[i]))
			all = false;
		else if (when == CREW_FIRST_COMPLETED || failed(fs[i]))
			return true;
	}
	return all;
}

static int wait_each(crew_future *const *fs, size_t n, uint64_t deadline)
{
	int rc = 0;

	for (size_t i = 0; i < n && (rc == 0 || rc == -ETIMEDOUT); i++)
		if (fs[i] && !crew__done(fs[i]))
			rc = crew__await(fs[i], deadline);
	return rc == -ETIMEDOUT ? 0 : rc;
}

static int wait_first(crew_future *const *fs, size_t n, enum crew_when when, uint64_t deadline)
{
	struct crew_completions *set;
	crew_future *f;
	int rc = 0;

	if (satisfied(fs, n, when))
		return 0;
	set = set_new(fs, n);
	if (!set)
		return -ENOMEM;
	set->deadline = deadline;
	while (set->delivered < set->total && (set->ready || (rc = wait_ready(set)) == 0)) {
		f = crew_completions_next(set);
		if (when == CREW_FIRST_COMPLETED || failed(f))
			break;
	}
	set_free(set);
	return rc == -ETIMEDOUT ? 0 : rc;
}

int crew_wait(crew_future *const *fs, size_t n, enum crew_when when, int ms)
{
	uint64_t deadline = crew__deadline(ms);
	int rc = check_all(fs, n);

	if (rc == 0 && when != CREW_ALL_COMPLETED && when != CREW_FIRST_COMPLETED && when != CREW_FIRST_EXCEPTION)
		rc = -EINVAL;
	if (rc == 0)
		rc = when == CREW_ALL_COMPLETED ? wait_each(fs, n, deadline) : wait_first(fs, n, when, deadline);
	return rc ? rc : count_done(fs, n);
}

int crew_wait_any(crew_future *const *fs, size_t n, int ms)
{
	bool any = false;
	int rc = check_all(fs, n);

	for (size_t i = 0; rc == 0 && i < n; i++)
		any = any || fs[i];
	if (rc == 0 && !any)
		rc = -ENOENT;
	if (rc == 0)
		rc = wait_first(fs, n, CREW_FIRST_COMPLETED, crew__deadline(ms));
	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++)
		if (fs[i] && crew__done(fs[i]))
			return (int)i;
	return -ETIMEDOUT;
}
