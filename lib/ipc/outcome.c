/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outcome.c: what processes do to a shared outcome. It is written as if each died at every instruction.
 *
 *	have    stake: 0 → ours; then look at life again: ALIVE, of our generation. DYING is made ALIVE again. FREE: take the stake back
 *	leave   stake: ours → 0; nobody else has one: life ALIVE → DYING; still nobody: DYING → FREE, by one of all who try
 *	keep    word: PENDING or RUNNING → CLAIMED by us; the outcome; → DONE; wake, ring
 *	check   word CLAIMED by a dead one → CLAIMED by us, broken; nobody is left who may keep it → claimed, broken
 *
 * Between have and leave stands the usual pair: who has writes his stake, then reads life; who frees writes life, then reads the stakes. At least one
 * sees the other, and the version in life keeps him who looked before a revival from freeing after it.
 *
 * "Nobody is left" must have been true at one moment, while stakes change one by one as they are read. So they are read twice, and must be
 * the same words both times; each change of a stake changes its counter.
 */
#include "ipc/outcome.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "ipc/family.h"

static uint64_t life_make(uint64_t generation, uint64_t version, enum outcome_life state)
{
	return generation << 32 | (version & 0xffffff) << 8 | state;
}

static enum outcome_life state_of(uint64_t life)
{
	return (enum outcome_life)(life & LIFE_STATE);
}

/* The same generation, one version on. */
static uint64_t life_next(uint64_t life, enum outcome_life state)
{
	return life_make(life >> 32, (life >> 8) + 1, state);
}

/* ---- stakes ---- */

/* Any value that differs from the last one given in this process. */
static uint64_t next_count(void)
{
	static uint32_t count;

	return (uint64_t)(ck_pr_faa_32(&count, 1) & 0xff) << 6;
}

static uint64_t stake_make(uint32_t bits)
{
	return crew__member_self() | next_count() | bits;
}

/* The stake of that number, or NULL: behind the last. */
static uint64_t *stake_at(struct outcome *o, uint32_t slot)
{
	uint64_t more;

	if (slot < STAKES_INLINE)
		return &o->stake[slot];
	slot -= STAKES_INLINE;
	more = load_acquire_64(&o->more);
	while (more) {
		struct stakes *s = crew__family_at(more);

		if (slot < STAKES_MORE)
			return &s->stake[slot];
		slot -= STAKES_MORE;
		more = load_acquire_64(&s->more); /* pairs with the CAS in extend */
	}
	return NULL;
}

bool crew__any_stake(struct outcome *o, bool (*fn)(uint64_t *place, uint64_t word, void *arg), void *arg)
{
	uint64_t *places = o->stake, more = load_acquire_64(&o->more);

	for (uint32_t n = STAKES_INLINE;; n = STAKES_MORE) {
		struct stakes *s;

		for (uint32_t i = 0; i < n; i++) {
			uint64_t word = load_acquire_64(&places[i]);

			if (word && fn(&places[i], word, arg))
				return true;
		}
		if (!more)
			return false;
		s = crew__family_at(more);
		places = s->stake;
		more = load_acquire_64(&s->more);
	}
}

static bool is_stake(uint64_t *place, uint64_t word, void *arg)
{
	(void)place, (void)word, (void)arg;
	return true;
}

/* More room, at the end of the chain. Who dies with the block in hand loses it. */
static bool extend(struct outcome *o)
{
	uint64_t *end = &o->more, offset;

	while (ck_pr_load_64(end))
		end = &((struct stakes *)crew__family_at(ck_pr_load_64(end)))->more;
	if (crew__family_alloc(sizeof(struct stakes), &offset))
		return false;
	ck_pr_fence_release();
	if (!ck_pr_cas_64(end, 0, offset))
		crew__family_free(offset);
	return true;
}

/* Write a stake where there is none: its slot; -1: no memory. */
static int stake_take(struct outcome *o, uint64_t word)
{
	for (uint32_t slot = 0; slot < STAKES_MAX; slot++) {
		uint64_t *place = stake_at(o, slot);

		if (!place && !extend(o))
			return -1;
		if (!place)
			place = stake_at(o, slot);
		if (ck_pr_load_64(place) == 0 && ck_pr_cas_64(place, 0, word))
			return (int)slot;
	}
	return -1;
}

void crew__stake_set(const struct share *s, uint32_t bits, uint32_t mask)
{
	uint64_t word = ck_pr_load_64(s->place);

	while ((word & mask) != bits && !ck_pr_cas_64_value(s->place, word,
							     (word & MEMBER_MASK) | next_count() | (word & 0x3f & ~mask) | bits, &word))
		;
}

int crew__stake_hand(const struct share *s, uint64_t *ret_word)
{
	*ret_word = stake_make(STAKE_HANDLE);
	return stake_take(s->o, *ret_word);
}

bool crew__stake_is(const struct share *s, uint32_t slot, uint64_t word)
{
	return ck_pr_load_64(stake_at(s->o, slot)) == word;
}

void crew__stake_withdraw(const struct share *s, uint32_t slot, uint64_t word)
{
	ck_pr_cas_64(stake_at(s->o, slot), word, 0);
}

/* ---- life ---- */

/* Nobody else comes near what is FREE, but a passing stake. */
static void clear(struct outcome *o)
{
	if (o->verdict.block)
		crew__family_free(o->verdict.block);
	if (o->reason)
		crew__family_free(o->reason);
	o->verdict.block = o->reason = 0;
	o->asked = 0;
	crew__outcome_put(o);
}

/* If nobody has it. Whoever has will do this when he leaves. */
static void retire(struct outcome *o)
{
	uint64_t life;

	for (;;) {
		ck_pr_fence_memory(); /* our stake is gone; pairs with the barrier in revive */
		life = ck_pr_load_64(&o->life);
		if (state_of(life) == LIFE_FREE || crew__any_stake(o, is_stake, NULL))
			return;
		if (state_of(life) == LIFE_ALIVE)
			ck_pr_cas_64(&o->life, life, life_next(life, LIFE_DYING));
		else if (ck_pr_cas_64(&o->life, life, life_next(life, LIFE_FREE))) {
			clear(o);
			return;
		}
	}
}

/* After our stake was written: is it (still, again) alive? */
static bool revive(struct outcome *o, uint32_t generation)
{
	uint64_t life;

	ck_pr_fence_memory(); /* pairs with the barrier in retire */
	for (;;) {
		life = ck_pr_load_64(&o->life);
		if (life >> 32 != generation || state_of(life) == LIFE_FREE)
			return false;
		if (state_of(life) == LIFE_ALIVE || ck_pr_cas_64(&o->life, life, life_next(life, LIFE_ALIVE)))
			return true;
	}
}

int crew__outcome_new(int type, enum outcome_kind kind, struct share *ret)
{
	int rc = crew__outcome_pool(), slot;
	uint32_t index;
	struct outcome *o = rc ? NULL : crew__outcome_take(&index);

	if (!o)
		return rc ? rc : -ENOMEM;
	slot = stake_take(o, stake_make(STAKE_KEEPER));
	if (slot < 0) {
		crew__outcome_put(o);
		return -ENOMEM;
	}
	o->type = type;
	o->kind = kind;
	o->owner = crew__member_self();
	ck_pr_store_64(&o->word, OUTCOME_PENDING);
	*ret = (struct share){ o, stake_at(o, (uint32_t)slot), index, (uint32_t)(o->life >> 32) + 1 };
	store_release_64(&o->life, life_make(ret->generation, o->life >> 8, LIFE_ALIVE));
	return 0;
}

int crew__outcome_open(uint32_t index, uint32_t generation, uint32_t slot, struct share *ret)
{
	struct outcome *o = crew__outcome_pool() ? NULL : crew__outcome_at(index);
	uint64_t life = o ? load_acquire_64(&o->life) : 0, word, *place;

	if (!o || life >> 32 != generation || state_of(life) == LIFE_FREE)
		return CREW_EHANDLE;
	place = slot < STAKES_MAX ? stake_at(o, slot) : NULL;
	word = place ? ck_pr_load_64(place) : 0;
	if ((word & STAKE_KIND) != STAKE_HANDLE || !ck_pr_cas_64(place, word, stake_make(STAKE_KEEPER))) {
		int taken = stake_take(o, stake_make(STAKE_KEEPER)); /* opened before */

		if (taken < 0)
			return -ENOMEM;
		place = stake_at(o, (uint32_t)taken);
	}
	*ret = (struct share){ o, place, index, generation };
	if (revive(o, generation))
		return 0;
	ck_pr_store_64(place, 0);
	retire(o); /* of whatever generation it is: nobody may have freed it because of our stake */
	return CREW_EHANDLE;
}

/* ---- the verdict ---- */

static int verdict_bytes(struct verdict *v, const void *data, size_t n)
{
	int rc;

	v->size = n;
	v->block = 0;
	if (n <= sizeof v->bytes) {
		if (n)
			memcpy(v->bytes, data, n);
		return 0;
	}
	rc = crew__family_alloc(n, &v->block);
	if (rc == 0)
		memcpy(crew__family_at(v->block), data, n);
	return rc;
}

int crew__verdict_value(struct verdict *v, const void *data, size_t n)
{
	v->how = data ? HOW_VALUE : HOW_VALUE | HOW_NULL;
	return verdict_bytes(v, data, data ? n : 0);
}

/* An error as it fits without memory. */
struct brief {
	int code;
	char message[VERDICT_INLINE - sizeof(int)];
};

void crew__verdict_error(struct verdict *v, const crew_error *error, bool cancelled)
{
	struct brief brief = { .code = error->code };

	v->how = cancelled ? HOW_CANCELLED : HOW_ERROR;
	if (verdict_bytes(v, error, sizeof *error) == 0)
		return;
	v->how |= HOW_BRIEF;
	snprintf(brief.message, sizeof brief.message, "%.*s", (int)sizeof brief.message - 1, error->message);
	(void)verdict_bytes(v, &brief, sizeof brief);
}

void crew__verdict_drop(struct verdict *v)
{
	if (v->block)
		crew__family_free(v->block);
	v->block = 0;
}

const void *crew__verdict_data(const struct verdict *v)
{
	return v->block ? crew__family_at(v->block) : v->bytes;
}

void crew__verdict_read_error(const struct verdict *v, crew_error *ret)
{
	struct brief brief;

	memset(ret, 0, sizeof *ret);
	ret->exit_status = -1;
	if (!(v->how & HOW_BRIEF)) {
		memcpy(ret, crew__verdict_data(v), sizeof *ret);
		return;
	}
	memcpy(&brief, v->bytes, sizeof brief);
	ret->code = brief.code;
	memcpy(ret->message, brief.message, sizeof brief.message);
}

/* ---- claiming and publishing ---- */

bool crew__outcome_claim(struct outcome *o, bool running)
{
	uint64_t word = ck_pr_load_64(&o->word);

	while (phase_of_word(word) == OUTCOME_PENDING || (running && phase_of_word(word) == OUTCOME_RUNNING))
		if (ck_pr_cas_64_value(&o->word, word, crew__member_self() | OUTCOME_CLAIMED, &word)) {
			ck_pr_fence_acquire();
			return true;
		}
	return false;
}

static bool ring_watcher(uint64_t *place, uint64_t word, void *arg)
{
	(void)place, (void)arg;
	if (word & STAKE_WATCHED)
		crew__bell_ring(word);
	return false;
}

void crew__outcome_publish(struct outcome *o, const struct verdict *v)
{
	o->verdict = *v;
	store_release_64(&o->word, crew__member_self() | OUTCOME_DONE); /* pairs with outcome_done */
	crew__futex_wake(outcome_futex(o), INT_MAX, true);
	ck_pr_fence_memory(); /* the word, then who watches; pairs with the barrier after STAKE_WATCHED is set */
	crew__any_stake(o, ring_watcher, NULL);
}

/* ---- when somebody died ---- */

static void break_it(struct outcome *o, const char *format, pid_t pid)
{
	crew_error error = { .code = CREW_EBROKEN, .exit_status = -1 };
	struct verdict v;

	snprintf(error.message, sizeof error.message, format, (int)pid);
	crew__verdict_error(&v, &error, false);
	crew__outcome_publish(o, &v);
}

struct look {
	bool check; /* that they live */
	uint64_t print;
};

/* Somebody who may keep it? What belongs to the dead is taken out on the way. */
static bool may_keep(uint64_t *place, uint64_t word, void *arg)
{
	struct look *look = arg;
	bool keeps = (word & STAKE_KIND) == STAKE_KEEPER || (word & STAKE_KIND) == STAKE_HANDLE || (word & STAKE_GENEROUS);

	if (look->check && !crew__member_lives(word)) {
		ck_pr_cas_64(place, word, 0);
		return false;
	}
	look->print = (look->print ^ word ^ (uint64_t)(uintptr_t)place) * 0x100000001b3ull;
	return keeps;
}

/* Is there a moment at which nobody could? */
static bool deserted(struct outcome *o, bool check)
{
	struct look first = { check, 0 }, second = { false, 0 };

	if (crew__any_stake(o, may_keep, &first))
		return false;
	ck_pr_fence_load();
	return !crew__any_stake(o, may_keep, &second) && first.print == second.print;
}

static void check_claimer(struct outcome *o, uint64_t word)
{
#ifndef CREW_FAULT_NO_TAKEOVER
	if (!crew__member_lives(word) && ck_pr_cas_64(&o->word, word, crew__member_self() | OUTCOME_CLAIMED))
		break_it(o, "process %d died while it kept the promise", member_pid(word));
#endif
}

void crew__outcome_check(struct outcome *o)
{
	uint64_t word = load_acquire_64(&o->word);

	switch (phase_of_word(word)) {
	case OUTCOME_DONE:
		return;
	case OUTCOME_CLAIMED:
		check_claimer(o, word);
		return;
	default:
		if (o->kind == OUTCOME_FOLLOWED) {
			if (!crew__member_lives(o->owner) && crew__outcome_claim(o, true))
				break_it(o, "process %d, which had submitted it, died", member_pid(o->owner));
		} else if (deserted(o, true) && crew__outcome_claim(o, true)) {
			break_it(o, "nobody is left who could keep the promise", 0);
		}
	}
}

void crew__outcome_leave(const struct share *s)
{
	struct outcome *o = s->o;

	if (o->kind == OUTCOME_PROMISE && !outcome_done(o)) {
		crew__stake_set(s, STAKE_WAITING, STAKE_KIND | STAKE_GENEROUS); /* still ours, so that it stays what it is */
		if (deserted(o, false) && crew__outcome_claim(o, true))
			break_it(o, "it was given back before it was kept", 0);
	}
	ck_pr_fence_release();
	ck_pr_store_64(s->place, 0);
	retire(o);
}

/* What the dead have left. */
static bool bury(uint64_t *place, uint64_t word, void *arg)
{
	(void)arg;
	if (!crew__member_lives(word))
		ck_pr_cas_64(place, word, 0);
	return false;
}

void crew__outcome_sweep(struct outcome *o)
{
	if (state_of(ck_pr_load_64(&o->life)) == LIFE_FREE)
		return;
	crew__any_stake(o, bury, NULL);
	retire(o);
}
