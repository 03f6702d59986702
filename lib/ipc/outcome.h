/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outcome.h: what becomes of a future that several processes share, in the family's memory.
 *
 *	word    PENDING → RUNNING → CLAIMED by somebody → DONE        futex on the lower half
 *	life    FREE → ALIVE ⇄ DYING → FREE                           with a generation, by which a stale handle is known
 *	stakes  one word for each who has it: a handle that was given and not opened yet, a future that stands for it
 *
 * Whoever moves the word to CLAIMED, in whatever process, is the only one who writes the outcome. Every word names its process (ipc/member.h) and changes by
 * one compare-and-swap, so whoever finds that this process is dead may put it right: a dead claimer's outcome is written by who notices, as CREW_EBROKEN; a
 * dead holder's stake is taken out. Nobody keeps a count that a death could leave wrong.
 *
 * Outcomes are type-stable: their memory never becomes anything else, so a stale handle looks at an outcome of another generation and nothing worse.
 */
#ifndef CREW_LIB_OUTCOME_H
#define CREW_LIB_OUTCOME_H

#include <crew/base.h>

#include "base/atomic.h"
#include "ipc/member.h"

enum outcome_phase { OUTCOME_PENDING, OUTCOME_RUNNING, OUTCOME_CLAIMED, OUTCOME_DONE, OUTCOME_PHASE = 3 };
enum outcome_life { LIFE_FREE, LIFE_ALIVE, LIFE_DYING, LIFE_STATE = 0xff };
enum outcome_kind {
	OUTCOME_PROMISE,  /* whoever has it may keep it */
	OUTCOME_FOLLOWED /* of a future in `owner`, which alone completes it */
};

/* How it ended. */
enum { HOW_VALUE = 1, HOW_ERROR, HOW_CANCELLED, HOW_MASK = 3, HOW_NULL = 4 /* a run without memory */, HOW_BRIEF = 8 /* an error of code and text */ };
enum { VERDICT_INLINE = 48 };

struct verdict {
	uint32_t how;
	uint64_t size, block; /* of the bytes; where they are, 0: in `bytes` */
	unsigned char bytes[VERDICT_INLINE];
};

enum { ASKED_LOOK = 1 /* does it run? */, ASKED_CANCEL = 2, ASKED_ANSWERED = 4 /* it could not be cancelled */ };

/* A stake: member | counter:8 | flags:4 | kind:2. */
enum {
	STAKE_HANDLE = 1,  /* given by this process, not opened yet */
	STAKE_WAITING = 2, /* a future of this process; nobody there may be expected to keep it */
	STAKE_KEEPER = 3,  /* … somebody there may */
	STAKE_KIND = 3,
	STAKE_WATCHED = 4, /* ring its process's bell when it is done */
	STAKE_STUCK = 16,  /* set by another process: its wait could never end */
	STAKE_GENEROUS = 8 /* it has given more handles than can be counted: a keeper, whatever its kind */
};
enum { STAKES_INLINE = 16, STAKES_MORE = 63, STAKES_MAX = 0xffff };

struct outcome {
	uint64_t life; /* generation:32 | version:24 | state:8; anybody, by CAS */
	uint64_t word; /* member | phase; anybody, by CAS */
	/* fixed before it is ALIVE */
	int type;
	uint32_t kind;
	uint64_t owner;
	/* the claimer's; read-only from DONE on */
	struct verdict verdict;
	/* anybody, by atomic or */
	uint32_t asked;
	uint32_t next; /* in the list of free ones, + 1; only while it is there */
	/* anybody, by CAS from 0 */
	uint64_t reason; /* a string in the family: of the first cancel that was asked for */
	uint64_t more;	 /* struct stakes; stays for ever */
	uint64_t stake[STAKES_INLINE];
} CREW__ALIGNED;
_Static_assert(sizeof(struct outcome) == 256, "four cache lines");

struct stakes {
	uint64_t more;
	uint64_t stake[STAKES_MORE];
};

/* Somebody's stake. */
struct share {
	struct outcome *o;
	uint64_t *place; /* of his stake */
	uint32_t index, generation;
};

static inline enum outcome_phase phase_of_word(uint64_t word)
{
	return (enum outcome_phase)(word & OUTCOME_PHASE);
}

static inline bool outcome_done(const struct outcome *o)
{
	return phase_of_word(load_acquire_64(&o->word)) == OUTCOME_DONE; /* pairs with the release in crew__outcome_publish */
}

static inline const uint32_t *outcome_futex(const struct outcome *o)
{
	return (const uint32_t *)&o->word + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

/* A pending one, with the caller as a keeper. -errno. */
int crew__outcome_new(int type, enum outcome_kind kind, struct share *ret);

/* Have a share in it, as a keeper. `slot` is where the handle's stake was; it becomes ours. CREW_EHANDLE: there is no such outcome any more. */
int crew__outcome_open(uint32_t index, uint32_t generation, uint32_t slot, struct share *ret);

/* Give the share up. What nobody can keep any more is broken, what nobody has any more is freed. */
void crew__outcome_leave(const struct share *s);

/* Change the share's stake: kind and flags. */
void crew__stake_set(const struct share *s, uint32_t bits, uint32_t mask);

/* Call fn for each stake of o, until it says true: then true. */
bool crew__any_stake(struct outcome *o, bool (*fn)(uint64_t *place, uint64_t word, void *arg), void *arg);

/* A stake for a handle: its slot; -1: there is no room for one. *ret_word is what stands there until it is opened. */
int crew__stake_hand(const struct share *s, uint64_t *ret_word);
bool crew__stake_is(const struct share *s, uint32_t slot, uint64_t word); /* still */
void crew__stake_withdraw(const struct share *s, uint32_t slot, uint64_t word);

/* ---- the end of it ---- */

/* What will be said, prepared before the claim: -ENOMEM, -ENOSPC. run: bytes that lie elsewhere (string, bytes, large); data NULL: there are none. */
int crew__verdict_value(struct verdict *v, const void *data, size_t n);
void crew__verdict_error(struct verdict *v, const crew_error *error, bool cancelled); /* without memory it is brief */
void crew__verdict_drop(struct verdict *v); /* the claim was lost */
const void *crew__verdict_data(const struct verdict *v);
void crew__verdict_read_error(const struct verdict *v, crew_error *ret);

/* PENDING (or RUNNING, if `running`) → CLAIMED by us. */
bool crew__outcome_claim(struct outcome *o, bool running);
void crew__outcome_publish(struct outcome *o, const struct verdict *v); /* and wake everybody */

/* Look whether it must end because somebody died or nobody is left, and end it then. Reads /proc. */
void crew__outcome_check(struct outcome *o);

/* ---- who watches ---- */
uint32_t *crew__bell_of(uint64_t member);
void crew__bell_ring(uint64_t member);

/* ---- outcome_pool.c ---- */
struct outcome *crew__outcome_take(uint32_t *ret_index); /* FREE and nobody else's; NULL: no memory */
struct outcome *crew__outcome_at(uint32_t index);	  /* NULL: there never was one */
void crew__outcome_put(struct outcome *o);
uint32_t crew__outcome_nonce(void); /* 16 bits that tell this family from another */
int crew__outcome_pool(void);	     /* there is one: 0 or -errno */
void crew__outcome_sweep(struct outcome *o); /* outcome.c: take out what belongs to the dead, free it when nobody has it */

#endif
