/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock_word.c: waiting for a lock word, and inheriting one; see lock_word.h.
 *
 *	free ──cas──> owner ──cas──> free, and a wake when WAITERS was there
 *	                │ owner dies
 *	                └──cas by a waiter at the end of a slice──> waiter | DAMAGED
 *
 * Who has slept takes the word with WAITERS, because others may still sleep; so at worst one wake goes to nobody. There is no queue: who comes first is first.
 */
#include "ipc/lock_word.h"

#include <errno.h>
#include <unistd.h>

#include "ipc/object.h"
#include "ipc/patience.h"

enum { SPINS = 100 };

/* A critical section of a few instructions ends sooner than a sleep begins. */
static void spin(struct lock_word *r)
{
	for (int i = 0; i < SPINS; i++) {
		uint64_t seen = ck_pr_load_64(&r->word);

		if (lock_is_free(seen) || seen & WORD_WAITERS)
			return;
		ck_pr_stall();
	}
}

/* Make the word ours, if it still is `seen`. */
static bool inherit(struct lock_word *r, uint64_t seen, uint64_t flags)
{
	if (!ck_pr_cas_64(&r->word, seen, crew__mortal_id | flags))
		return false;
	ck_pr_fence_acquire(); /* as in lock_take() */
	crew__mortal_holds++;
	ck_pr_store_32(&r->depth, 0);
	return true;
}

static bool owner_is_gone(const struct lock_place *at, uint64_t seen)
{
	enum mortal_state state = crew__mortal_state(seen);

#ifdef CREW_FAULT_NO_INHERITANCE
	return false;
#endif
	return state == MORTAL_GONE || (state == MORTAL_LEFT && at->recursive);
}

/* One look at the word. 1: we have to wait. */
static int attempt(const struct lock_place *at, uint64_t flags, bool suspicious)
{
	for (;;) {
		uint64_t seen = ck_pr_load_64(&at->word->word);

		if (lock_is_free(seen)) {
			if (inherit(at->word, seen, flags | (seen & WORD_DAMAGED)))
				return seen & WORD_DAMAGED ? -EOWNERDEAD : 0;
		} else if (suspicious && owner_is_gone(at, seen)) {
#ifdef CREW_FAULT_SILENT_DEATH
			if (inherit(at->word, seen, WORD_WAITERS))
				return 0;
#endif
			if (inherit(at->word, seen, WORD_WAITERS | WORD_DAMAGED)) {
				crew__mortal_relieve(seen);
				return -EOWNERDEAD;
			}
		} else {
			return 1;
		}
	}
}

static int await(const struct lock_place *at, int ms)
{
	struct patience patience = patience_for(ms);
	bool suspicious = true;
	int rc;

	while ((rc = attempt(at, WORD_WAITERS, suspicious)) == 1) {
		uint64_t seen = ck_pr_load_64(&at->word->word);

		if (patience_is_over(&patience))
			return -ETIMEDOUT;
		if (lock_is_free(seen))
			continue;
		if (!(seen & WORD_WAITERS) && !ck_pr_cas_64(&at->word->word, seen, seen | WORD_WAITERS))
			continue;
		/* pairs with the wakes in crew__word_release() and crew__word_end() */
		suspicious = patience_sleep(&patience, low_half(&at->word->word), (uint32_t)seen | WORD_WAITERS);
		if (!handle_alive(at->object, at->handle))
			return CREW_EHANDLE;
	}
	return rc;
}

int crew__word_acquire(const struct lock_place *at, int ms)
{
	int rc = crew__mortal_id ? 0 : crew__mortal_join();

	if (rc)
		return rc;
	if (lock_is_mine(at->word)) {
		if (at->recursive) {
			ck_pr_store_32(&at->word->depth, at->word->depth + 1);
			return at->word->depth ? 0 : -EAGAIN;
		}
		if (ms < 0)
			return -EDEADLK;
	}
	rc = attempt(at, 0, ms == 0);
	if (rc == 1 && ms != 0) {
		spin(at->word);
		rc = attempt(at, 0, false);
	}
	if (rc != 1)
		return rc;
	return ms == 0 ? -EBUSY : await(at, ms);
}

int crew__word_release(struct lock_word *r, bool recursive)
{
	uint64_t seen = ck_pr_load_64(&r->word), me = crew__mortal_id, damage;
	bool mine = me && lock_is_of(seen, me);

	if (lock_is_free(seen) || (recursive && !mine))
		return -EPERM;
	if (recursive && r->depth) {
		ck_pr_store_32(&r->depth, r->depth - 1);
		return 0;
	}
	damage = !mine && crew__mortal_state(seen) == MORTAL_GONE ? WORD_DAMAGED : 0; /* nobody makes good a death by releasing for the dead */
	ck_pr_fence_release(); /* pairs with the acquire in lock_take() and inherit() */
	while (!ck_pr_cas_64_value(&r->word, seen, (seen & WORD_DAMAGED) | damage, &seen))
		if (lock_is_free(seen))
			return -EPERM; /* another was faster */
	if (mine)
		crew__mortal_holds--;
	else
		crew__mortal_relieve(seen);
	if (seen & WORD_WAITERS)
		crew__futex_wake(low_half(&r->word), 1, true);
	return 0;
}

uint32_t crew__word_yield(struct lock_word *r)
{
	uint32_t depth = r->depth;

	ck_pr_store_32(&r->depth, 0);
	crew__word_release(r, true);
	return depth;
}

int crew__word_regain(const struct lock_place *at, uint32_t depth)
{
	int rc = crew__word_acquire(at, CREW_FOREVER);

	if (rc == 0 || rc == -EOWNERDEAD)
		ck_pr_store_32(&at->word->depth, depth);
	return rc;
}

int crew__word_recover(struct lock_word *r)
{
	uint64_t seen = ck_pr_load_64(&r->word);

	if (!lock_is_mine(r))
		return -EPERM;
	while (!ck_pr_cas_64_value(&r->word, seen, seen & ~(uint64_t)WORD_DAMAGED, &seen))
		;
	return 0;
}

struct crew_owner crew__word_owner(struct lock_word *r)
{
	struct crew_owner owner = { CREW_NOBODYS, 0, 0 };
	uint64_t word = r ? ck_pr_load_64(&r->word) : 0;

	if (lock_is_free(word))
		return owner;
	crew__mortal_name(word, &owner.pid, &owner.tid);
	owner.whose = lock_is_mine(r)				 ? CREW_MINE
		      : crew__mortal_state(word) == MORTAL_GONE	 ? CREW_DEAD
		      : owner.pid == getpid()			 ? CREW_THIS_PROCESS
								 : CREW_ANOTHER_PROCESS;
	return owner;
}

void crew__word_end(struct lock_word *r)
{
	crew__futex_wake(low_half(&r->word), INT32_MAX, true);
}
