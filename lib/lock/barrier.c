/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * barrier.c: all of it in one word, which changes by compare-and-swap alone.
 *
 *	63 … 48 how the last sixteen rounds ended │ 47 … 32 how many are here │ 31 … 1 round │ 0 BROKEN
 *
 * Sleepers sleep on the low half: it changes when the round ends or breaks. One who wakes late still finds how his round ended, 1: it was reset. The last to come
 * makes the round end, after his action; those who come meanwhile wait until it has.
 *
 * Whoever waits has his name in his seat (ipc/mortal.h). At the end of each slice sleepers look whether one of them has died, which the object counts; and break it.
 * Who runs the action may sleep elsewhere in it, and his seat then says that; so he leaves his name here as well.
 */
#include <crew/lock.h>
#include <errno.h>
#include <limits.h>

#include "ipc/mortal.h"
#include "ipc/object.h"
#include "ipc/patience.h"

enum { PARTIES_MOST = 32767, ROUND_SHIFT = 1, COUNT_SHIFT = 32, HISTORY_SHIFT = 48 };
#define BROKEN ((uint64_t)1)
#define ROUND_MASK ((uint64_t)0x7fffffff)
#define ONE_MORE ((uint64_t)1 << COUNT_SHIFT)

struct barrier {
	struct sleeping_object object;
	uint32_t parties; /* fixed */
	uint64_t word;	  /* everybody, atomically */
	uint64_t acting;  /* who runs the action of this round; 0: nobody. By him, and to 0 by a reset */
};

static uint32_t round_of(uint64_t word)
{
	return (uint32_t)(word >> ROUND_SHIFT & ROUND_MASK);
}

static uint32_t count_of(uint64_t word)
{
	return (uint32_t)(word >> COUNT_SHIFT & 0xffff);
}

/* The word of a new round: nobody is here, nothing is broken. */
static uint64_t next_round(uint64_t word, bool bad)
{
	uint64_t history = (word >> HISTORY_SHIFT << 1 | bad) & 0xffff;

	return history << HISTORY_SHIFT | (((uint64_t)round_of(word) + 1) & ROUND_MASK) << ROUND_SHIFT;
}

static void wake_all(struct barrier *b)
{
	crew__futex_wake(low_half(&b->word), INT_MAX, true);
}

static struct barrier *barrier_at(crew_barrier barrier)
{
	return handle_at(barrier.handle, HANDLE_BARRIER);
}

crew_barrier crew_barrier_make(int parties)
{
	struct barrier *b;
	crew_barrier ret;

	if (parties < 1 || parties > PARTIES_MOST)
		return (crew_barrier){ crew__handle_failed(-EINVAL) };
	ret.handle = crew__handle_make(HANDLE_BARRIER, sizeof *b, (void **)&b);
	if (b)
		b->parties = (uint32_t)parties;
	return ret;
}

int crew_barrier_drop(crew_barrier barrier)
{
	struct barrier *b = crew__handle_end(barrier.handle, HANDLE_BARRIER);

	if (!b)
		return crew__handle_reason(barrier.handle);
	wake_all(b);
	crew__family_free(barrier.handle.place);
	return 0;
}

/* Break this round, if it still goes on. */
static void break_round(struct barrier *b, uint32_t round)
{
	uint64_t seen = ck_pr_load_64(&b->word);

	while (round_of(seen) == round && !(seen & BROKEN))
		if (ck_pr_cas_64_value(&b->word, seen, seen | BROKEN, &seen)) {
			wake_all(b);
			return;
		}
}

/* Has one of those who are here died, as far as it is known? */
static bool death_is_known(struct barrier *b)
{
	uint64_t acting = ck_pr_load_64(&b->acting);

	return ck_pr_load_32(&b->object.deaths) || (acting && crew__mortal_state(acting) == MORTAL_GONE);
}

/* How a round ended that was ours: 0 or CREW_EBROKEN; 1: it goes on. */
static int outcome(uint64_t word, uint32_t round)
{
	uint32_t since = (uint32_t)((round_of(word) - round) & ROUND_MASK);

	if (since == 0)
		return word & BROKEN ? CREW_EBROKEN : 1;
	return since <= 16 && word >> HISTORY_SHIFT >> (since - 1) & 1 ? CREW_EBROKEN : 0;
}

/* Sleep until the round is over: as outcome(), or -ETIMEDOUT, CREW_EHANDLE. The time of a party that is over breaks it. */
static int await(struct barrier *b, crew_handle handle, uint32_t round, bool party, struct patience *patience)
{
	bool suspicious = false;
	int rc;

	for (;;) {
		uint64_t seen = load_acquire_64(&b->word); /* pairs with the release in crew_barrier_wait_with() */

		rc = outcome(seen, round);
		if (rc != 1)
			return rc;
		if (ck_pr_load_32(&b->object.deaths) || (suspicious && death_is_known(b))) {
			break_round(b, round);
			continue;
		}
		if (patience_is_over(patience)) {
			if (party)
				break_round(b, round);
			return outcome(ck_pr_load_64(&b->word), round) == 0 ? 0 : -ETIMEDOUT;
		}
		/* pairs with wake_all() */
		suspicious = patience_sleep(patience, low_half(&b->word), (uint32_t)seen);
		if (suspicious)
			crew__mortal_bury_sleepers(handle.stamp);
		if (!handle_alive(b, handle))
			return CREW_EHANDLE;
	}
}

/* Be counted among those of a round: its word, us included. CREW_EBROKEN, -ETIMEDOUT, CREW_EHANDLE. */
static int arrive(struct barrier *b, crew_handle handle, struct patience *patience, uint64_t *ret_word)
{
	for (;;) {
		uint64_t seen = ck_pr_load_64(&b->word);
		int rc;

		if (seen & BROKEN)
			return CREW_EBROKEN;
		if (count_of(seen) == b->parties) { /* its last one is about to end this round */
			rc = await(b, handle, round_of(seen), false, patience);
			if (rc)
				return rc;
		} else if (ck_pr_cas_64(&b->word, seen, seen + ONE_MORE)) {
			*ret_word = seen + ONE_MORE;
			return 0;
		}
	}
}

/* The seat says where its holder sleeps: while he acts, that may be elsewhere. */
static int run_action(struct barrier *b, crew_handle handle, int (*action)(void *arg), void *arg)
{
	int rc;

#ifdef CREW_FAULT_NAMELESS_ACTION
	crew__mortal_awakes();
	return action(arg);
#endif
	ck_pr_store_64(&b->acting, crew__mortal_id);
	rc = action(arg);
	crew__mortal_sleeps(handle);
	ck_pr_cas_64(&b->acting, crew__mortal_id, 0); /* it may be another's by now, after a reset */
	return rc;
}

/* We are the last: see that all of them live, run the action, and let all go. */
static int complete(struct barrier *b, crew_handle handle, uint64_t word, int (*action)(void *arg), void *arg)
{
	int rc;

	crew__mortal_bury_sleepers(handle.stamp);
	rc = ck_pr_load_32(&b->object.deaths) ? CREW_EBROKEN : action ? run_action(b, handle, action, arg) : 0;
	if (rc < 0) {
		break_round(b, round_of(word));
		return rc;
	}
	ck_pr_fence_release(); /* pairs with the acquire in await(): what was done before the barrier is seen behind it */
	if (!ck_pr_cas_64(&b->word, word, next_round(word, false)))
		return CREW_EBROKEN; /* by an abort or a reset, in the meantime */
	wake_all(b);
	return 0;
}

int crew_barrier_wait_with(crew_barrier barrier, int (*action)(void *arg), void *arg, int ms)
{
	struct barrier *b = barrier_at(barrier);
	struct patience patience = patience_for(ms);
	uint64_t word;
	int rc;

	if (unlikely(!b))
		return crew__handle_reason(barrier.handle);
	if (mortal_here() == 0)
		return -EAGAIN;
	crew__mortal_sleeps(barrier.handle); /* from before we are counted, so that our death cannot be missed */
	ck_pr_fence_release();		     /* what we did before we came; pairs with the acquire in await() and complete() */
	rc = arrive(b, barrier.handle, &patience, &word);
	if (rc == 0) {
		ck_pr_fence_acquire();
		rc = count_of(word) == b->parties ? complete(b, barrier.handle, word, action, arg) : await(b, barrier.handle, round_of(word), true, &patience);
	}
	crew__mortal_awakes();
	return rc ? rc : (int)count_of(word) - 1;
}

int crew_barrier_wait(crew_barrier barrier, int ms)
{
	return crew_barrier_wait_with(barrier, NULL, NULL, ms);
}

int crew_barrier_abort(crew_barrier barrier)
{
	struct barrier *b = barrier_at(barrier);

	if (!b)
		return crew__handle_reason(barrier.handle);
	break_round(b, round_of(ck_pr_load_64(&b->word)));
	return 0;
}

int crew_barrier_reset(crew_barrier barrier)
{
	struct barrier *b = barrier_at(barrier);
	uint64_t seen;

	if (!b)
		return crew__handle_reason(barrier.handle);
	crew__mortal_bury_sleepers(barrier.handle.stamp);
	if (ck_pr_load_32(&b->object.deaths) || ck_pr_load_64(&b->acting)) {
#ifndef CREW_FAULT_FORGOTTEN_DEATH
		break_round(b, round_of(ck_pr_load_64(&b->word))); /* before the deaths are forgotten: we may die between here and the new round */
#endif
		ck_pr_store_32(&b->object.deaths, 0);
		ck_pr_store_64(&b->acting, 0);
	}
	seen = ck_pr_load_64(&b->word);
	while (!ck_pr_cas_64_value(&b->word, seen, next_round(seen, seen & BROKEN || count_of(seen)), &seen))
		;
	wake_all(b);
	return 0;
}

int crew_barrier_parties(crew_barrier barrier)
{
	struct barrier *b = barrier_at(barrier);

	return b ? (int)b->parties : crew__handle_reason(barrier.handle);
}

int crew_barrier_waiting(crew_barrier barrier)
{
	struct barrier *b = barrier_at(barrier);
	uint64_t word = b ? ck_pr_load_64(&b->word) : 0;

	return !b ? crew__handle_reason(barrier.handle) : word & BROKEN ? 0 : (int)count_of(word);
}

bool crew_barrier_broken(crew_barrier barrier)
{
	struct barrier *b = barrier_at(barrier);

	return b && ck_pr_load_64(&b->word) & BROKEN;
}
