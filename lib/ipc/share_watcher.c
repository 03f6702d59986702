/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * share_watcher.c: the thread that looks at shared outcomes when nobody waits for them: for callbacks, for waits on several futures, and for what other
 * processes ask about futures of this one.
 *
 *	sleep on our bell → each listed binding: done? bring it home (callbacks run here). asked? answer
 *	                  → nothing happened for a while: did somebody die?
 *
 * There is one while there is something to look at; it ends when there was nothing for a moment. Bells are rung by whoever completes; should he die before
 * he rings, a look comes by itself, first after 10 ms, at last every half second.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/futex.h"
#include "core/service.h"
#include "core/waiting.h"
#include "ipc/binding.h"
#include "ipc/family.h"

/* ---- the list; the mutex is held ---- */

static void list(struct sharing *here, struct binding *b)
{
	if (b->listed)
		return;
	b->listed = true;
	b->prev = NULL;
	b->next = here->first;
	if (here->first)
		here->first->prev = b;
	here->first = b;
}

void crew__unwatch_binding(struct sharing *here, struct binding *b)
{
	if (!b->listed)
		return;
	b->listed = false;
	if (b->next)
		b->next->prev = b->prev;
	if (b->prev)
		b->prev->next = b->next;
	else
		here->first = b->next;
	if (!here->first && here->watching)
		crew__bell_ring(crew__member_self()); /* it has nothing to look at, and may end */
}

/* ---- what others ask ---- */

static void cancel_for_others(struct binding *b)
{
	uint64_t reason = ck_pr_load_64(&b->share.o->reason);

	if (crew_future_cancel(b->f, reason ? crew__family_at(reason) : "cancelled by another process") == 0)
		ck_pr_or_32(&b->share.o->asked, ASKED_ANSWERED);
	crew__futex_wake(&b->share.o->asked, INT_MAX, true); /* pairs with the wait in cancel_there (shared_future.c) */
}

static void look_for_others(struct binding *b)
{
	struct outcome *o = b->share.o;
	uint64_t word = ck_pr_load_64(&o->word);

	if (crew_future_running(b->f) && phase_of_word(word) == OUTCOME_PENDING)
		ck_pr_cas_64(&o->word, word, crew__member_self() | OUTCOME_RUNNING);
}

/* Anything to do for b, which is pinned; not under the mutex. */
static void serve(struct binding *b)
{
	struct outcome *o = b->share.o;
	uint32_t asked = load_acquire_32(&o->asked);

	if (outcome_done(o)) {
		if (!b->leads)
			crew__bring_home(b);
		return;
	}
	if (!b->leads)
		return;
	if (asked & ASKED_LOOK) {
		ck_pr_and_32(&o->asked, ~(uint32_t)ASKED_LOOK);
		ck_pr_fence_memory(); /* who asks after this rings again */
		look_for_others(b);
	}
	if ((asked & ASKED_CANCEL) && !(asked & ASKED_ANSWERED))
		cancel_for_others(b);
}

static bool has_work(const struct binding *b)
{
	uint32_t asked = ck_pr_load_32(&b->share.o->asked);

	return outcome_done(b->share.o) ||
	       (b->leads && ((asked & ASKED_LOOK) || (asked & (ASKED_CANCEL | ASKED_ANSWERED)) == ASKED_CANCEL));
}

/* ---- the thread ---- */

/* One that has work, pinned; NULL: none. What is done leaves the list. */
static struct binding *next_due(struct sharing *here)
{
	struct binding *b, *due = NULL;

	pthread_mutex_lock(&here->mutex);
	for (b = here->first; b && !due; b = b->next)
		if (has_work(b) && crew__pin(b->f))
			due = b;
	if (due && outcome_done(due->share.o))
		crew__unwatch_binding(here, due);
	else if (due)
		here->busy = executor_of(due->f);
	pthread_mutex_unlock(&here->mutex);
	return due;
}

/* Let go of what next_due gave. */
static void let_go(struct sharing *here, struct binding *b)
{
	crew__release(b->f);
	pthread_mutex_lock(&here->mutex);
	here->busy = NULL;
	pthread_mutex_unlock(&here->mutex);
}

/* Nobody rang for a while. False: there is nothing to look at, and the watcher is no more. */
static bool look_around(struct sharing *here)
{
	bool any;

	pthread_mutex_lock(&here->mutex);
	for (struct binding *b = here->first; b; b = b->next) {
		if (b->leads)
			continue;
		crew__binding_weigh(b);
		crew__outcome_check(b->share.o);
	}
	any = here->watching = here->first != NULL;
	pthread_mutex_unlock(&here->mutex);
	return any;
}

static void *watcher(void *arg)
{
	struct sharing *here = arg;
	uint32_t *bell = crew__bell_of(crew__member_self()), rung;
	uint64_t slice = SLICE_FIRST_NS;
	struct binding *b;

	pthread_setname_np(pthread_self(), "crew-watcher");
	for (;;) {
		rung = load_acquire_32(bell); /* before the look: a ring after it changes the word */
		while ((b = next_due(here)) != NULL) {
			serve(b);
			let_go(here, b);
		}
		crew__futex_wait(bell, rung, crew__now() + slice, true); /* pairs with crew__bell_ring */
		if (load_acquire_32(bell) != rung) {
			slice = SLICE_FIRST_NS;
			continue;
		}
		slice = 2 * slice < SLICE_LAST_NS ? 2 * slice : SLICE_LAST_NS;
		crew__find_jams(here);
		if (!look_around(here))
			break;
	}
	crew__service_leave();
	return NULL;
}

/* The mutex is held. */
static int start(struct sharing *here)
{
	int rc;

	if (here->watching)
		return 0;
	rc = crew__service_start(NULL, watcher, here);
	here->watching = rc == 0;
	return rc;
}

int crew__watch_binding(struct sharing *here, struct binding *b)
{
	int rc;

	pthread_mutex_lock(&here->mutex);
	rc = start(here);
	if (rc == 0) {
		list(here, b);
		crew__stake_set(&b->share, STAKE_WATCHED, STAKE_WATCHED);
	}
	pthread_mutex_unlock(&here->mutex);
	ck_pr_fence_memory(); /* the flag, then the word; pairs with the barrier in crew__outcome_publish */
	if (rc == 0 && has_work(b))
		crew__bell_ring(crew__member_self());
	return rc;
}
