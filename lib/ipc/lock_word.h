/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock_word.h: the lock word that everything in the family's memory is locked by.
 *
 *	63 … 32 generation │ 31 … 2 seat │ 1 DAMAGED │ 0 WAITERS
 *
 * A word with no seat is free. The rest is the id of its owner (mortal.h): so taking it is one compare-and-swap, and whoever waits can ask whether the
 * owner lives. Who takes the word of a dead owner has it with DAMAGED, and is told -EOWNERDEAD; so is everybody after him until one says that it is repaired.
 *
 * The word is free at the instant of a release; the wake that follows may be lost with him who owes it, which costs the sleepers a slice of their patience.
 */
#ifndef CREW_LIB_LOCK_WORD_H
#define CREW_LIB_LOCK_WORD_H

#include <crew/lock.h>

#include "ipc/mortal.h"

enum { WORD_WAITERS = 1, WORD_DAMAGED = 2 };

struct lock_word {
	uint64_t word;	/* everybody, atomically */
	uint32_t depth; /* owner only: of a recursive one, how often it was taken beyond the first time */
	uint32_t reserved;
};

/* What an acquire may find out. `alive` is asked by sleepers: has the object that the word lies in been dropped (then CREW_EHANDLE)? */
struct lock_place {
	struct lock_word *word;
	const void *object;
	crew_handle handle;
	bool recursive; /* owner is the thread: its end is a death, and it may take it again */
};

static inline bool lock_is_free(uint64_t word)
{
	return (uint32_t)word >> 2 == 0;
}

static inline bool lock_is_of(uint64_t word, uint64_t id)
{
	return (word & ~(uint64_t)MORTAL_FLAGS) == id;
}

/* The common case: free, undamaged, nobody waits. */
static inline bool lock_take(struct lock_word *r, uint64_t me)
{
	if (unlikely(me == 0 || !ck_pr_cas_64(&r->word, 0, me)))
		return false;
	ck_pr_fence_acquire(); /* pairs with the release in crew__word_release() */
	crew__mortal_holds++;
	return true;
}

/* Of a recursive one: a release frees it, if it is this thread's. Another's depth may be read while he writes it: then lock_give() fails. */
static inline bool lock_is_shallow(struct lock_word *r)
{
	return ck_pr_load_32(&r->depth) == 0;
}

/* The common case: this thread's, nobody waits. */
static inline bool lock_give(struct lock_word *r, uint64_t me)
{
	ck_pr_fence_release(); /* pairs with the acquire in lock_take() */
	if (unlikely(me == 0 || !ck_pr_cas_64(&r->word, me, 0)))
		return false;
	crew__mortal_holds--;
	return true;
}

/*
 * 0; -EOWNERDEAD: it is ours all the same, what it guards is in the state in which somebody died.
 * Not ours: -EBUSY (ms is 0), -ETIMEDOUT, -EDEADLK (it is ours already, and ms is for ever), CREW_EHANDLE; -EAGAIN, -ENOMEM: no seat to be had.
 */
int crew__word_acquire(const struct lock_place *at, int ms);

/* By whomever, unless it is recursive. 0; -EPERM: it is free; recursive: it is not this thread's. */
int crew__word_release(struct lock_word *r, bool recursive);

/* Give a recursive one up altogether; how deep it was, for crew__word_regain(). It must be ours. */
uint32_t crew__word_yield(struct lock_word *r);
int crew__word_regain(const struct lock_place *at, uint32_t depth); /* as crew__word_acquire() for ever */

/* What was damaged is repaired. 0; -EPERM: it is not this thread's. */
int crew__word_recover(struct lock_word *r);

/* Who has it now; NULL: nobody. */
struct crew_owner crew__word_owner(struct lock_word *r);

/* Of an object that was dropped: wake all who sleep here, for good. */
void crew__word_end(struct lock_word *r);

static inline bool lock_is_mine(struct lock_word *r)
{
	uint64_t me = crew__mortal_id;

	return me && lock_is_of(ck_pr_load_64(&r->word), me);
}

#endif
