/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rwlock.c: a lock word for who writes, and a line of boxes for those who read: each reader has his id in a box of his own.
 *
 *	reader: id into a box; is there a writer? then out again, and wait		both see each other, or one of them does:
 *	writer: take the word; is there a reader in a box? then wait until he is out	each writes first and looks then
 *
 * So what a killed reader leaves behind has a name on it: a writer who waits for him finds that he is dead, and clears his box. Readers start at a box that
 * comes from their seat, so as a rule nobody shares it. A box that was ever entered has its bit in `used`, for good: nobody looks into the others.
 *
 * Readers that have to wait come in through the word as well. So a word whose owner died tells of damage only if `writing` says that he was there to write.
 *
 * Who waits for a reader sleeps on a bell that readers ring as they leave, if WAITED says that somebody listens.
 */
#include <crew/lock.h>
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "ipc/cell.h"
#include "ipc/object.h"
#include "ipc/patience.h"
#include "ipc/lock_word.h"

enum { BOXES = 960 };

struct rwlock {
	uint64_t stamp;
	struct lock_word lock; /* of the writer */

	/* everybody, atomically */
	uint32_t bell;	 /* counts departures of readers that somebody waited for */
	uint32_t waited; /* whether somebody does */
	/* owner of the word only */
	uint32_t writing; /* he may write, or died while he might and nobody has made that good */

	/* everybody, atomically; only ever set, before the box is entered */
	uint64_t used[BOXES / 64] CREW__ALIGNED;
	uint64_t box[BOXES]; /* 0 or a reader's id; each written by its reader, and by who clears up after him */
};
_Static_assert(sizeof(struct rwlock) <= CELL_MAX, "an object lies in a cell");

static struct rwlock *rwlock_at(crew_handle handle)
{
	return handle_at(handle, HANDLE_RWLOCK);
}

static uint32_t first_box(uint64_t id)
{
	return (uint32_t)id / 4 % BOXES;
}

/* ---- boxes ---- */

static void mark_used(struct rwlock *l, uint32_t i)
{
	uint64_t bit = (uint64_t)1 << i % 64;

	if (!(ck_pr_load_64(&l->used[i / 64]) & bit))
		ck_pr_or_64(&l->used[i / 64], bit);
}

/* The first box from i on that was ever entered; BOXES: none. */
static uint32_t next_used(struct rwlock *l, uint32_t i)
{
	while (i < BOXES) {
		uint64_t rest = ck_pr_load_64(&l->used[i / 64]) >> i % 64;

		if (rest)
			return i + (uint32_t)__builtin_ctzll(rest);
		i = (i / 64 + 1) * 64;
	}
	return BOXES;
}

/* Our id into a free box: which; -1: none is free. */
static int enter(struct rwlock *l, uint64_t me)
{
	uint32_t start = first_box(me);

	for (uint32_t i = 0; i < BOXES; i++) {
		uint32_t at = (start + i) % BOXES;

		if (ck_pr_load_64(&l->box[at]))
			continue;
		mark_used(l, at);
		if (ck_pr_cas_64(&l->box[at], 0, me)) {
			crew__mortal_holds++;
			return (int)at;
		}
	}
	return -1;
}

static void ring(struct rwlock *l)
{
	ck_pr_fence_memory(); /* the box before `waited`; pairs with the fence in await_change() */
	if (ck_pr_load_32(&l->waited)) {
		ck_pr_store_32(&l->waited, 0);
		ck_pr_inc_32(&l->bell);
		crew__futex_wake(&l->bell, INT_MAX, true);
	}
}

static void leave(struct rwlock *l, int box)
{
	ck_pr_fence_release(); /* pairs with the acquire in has_readers() */
	ck_pr_store_64(&l->box[box], 0);
	crew__mortal_holds--;
	ring(l);
}

/* A box with our id; -1: none. */
static int find(struct rwlock *l, uint64_t me)
{
	if (me && ck_pr_load_64(&l->box[first_box(me)]) == me)
		return (int)first_box(me);
	for (uint32_t i = next_used(l, 0); me && i < BOXES; i = next_used(l, i + 1))
		if (ck_pr_load_64(&l->box[i]) == me)
			return (int)i;
	return -1;
}

/* Is somebody reading? Those who died are shown out. */
static bool has_readers(struct rwlock *l, bool suspicious)
{
	bool any = false;

	for (uint32_t i = next_used(l, 0); i < BOXES; i = next_used(l, i + 1)) {
		uint64_t id = ck_pr_load_64(&l->box[i]);
#ifdef CREW_FAULT_DEAD_READERS
		enum mortal_state state = MORTAL_LIVES;
#else
		enum mortal_state state = id && suspicious ? crew__mortal_state(id) : MORTAL_LIVES;
#endif

		if (id && state == MORTAL_LIVES)
			any = true;
		else if (id && ck_pr_cas_64(&l->box[i], id, 0))
			crew__mortal_relieve(id);
	}
	ck_pr_fence_acquire(); /* pairs with the release in leave() */
	return any;
}

/* Sleep until a reader has left, for a slice at most. True: see who lives. */
static bool await_change(struct rwlock *l, struct patience *patience, uint32_t bell)
{
	return patience_sleep(patience, &l->bell, bell); /* pairs with the wake in ring() and _drop() */
}

/* ---- life cycle ---- */

crew_rwlock crew_rwlock_make(void)
{
	void *object;

	return (crew_rwlock){ crew__handle_make(HANDLE_RWLOCK, sizeof(struct rwlock), &object) };
}

int crew_rwlock_drop(crew_rwlock lock)
{
	struct rwlock *l = crew__handle_end(lock.handle, HANDLE_RWLOCK);

	if (!l)
		return crew__handle_reason(lock.handle);
	crew__word_end(&l->lock);
	ck_pr_inc_32(&l->bell);
	crew__futex_wake(&l->bell, INT_MAX, true);
	crew__family_free(lock.handle.place);
	return 0;
}

int crew_rwlock_recover(crew_rwlock lock)
{
	struct rwlock *l = rwlock_at(lock.handle);

	return l ? crew__word_recover(&l->lock) : crew__handle_reason(lock.handle);
}

struct crew_owner crew_rwlock_owner(crew_rwlock lock)
{
	struct rwlock *l = rwlock_at(lock.handle);

	return crew__word_owner(l ? &l->lock : NULL);
}

/* ---- to write ---- */

/* Take the word. A dead owner who had not come to write has left nothing to repair. */
static int take_word(struct rwlock *l, crew_handle handle, int ms)
{
	int rc = crew__word_acquire(&(struct lock_place){ &l->lock, l, handle, true }, ms);

	return rc == -EOWNERDEAD && !ck_pr_load_32(&l->writing) ? crew__word_recover(&l->lock) : rc;
}

static int give_word(struct rwlock *l)
{
	if (!(ck_pr_load_64(&l->lock.word) & WORD_DAMAGED))
		ck_pr_store_32(&l->writing, 0);
	return crew__word_release(&l->lock, true);
}

/* The word is ours: wait until those who read are gone. */
static int outlast_readers(struct rwlock *l, crew_handle handle, int ms)
{
	struct patience patience = patience_for(ms);
	bool suspicious = ms == 0;

	for (;;) {
		uint32_t bell = ck_pr_load_32(&l->bell);

		ck_pr_store_32(&l->waited, 1);
		ck_pr_fence_memory(); /* `waited` before the boxes; pairs with the fence in ring() */
		if (!has_readers(l, suspicious))
			return 0;
		if (patience_is_over(&patience))
			return ms == 0 ? -EBUSY : -ETIMEDOUT;
		suspicious = await_change(l, &patience, bell);
		if (!handle_alive(l, handle))
			return CREW_EHANDLE;
	}
}

int crew_rwlock_acquire(crew_rwlock lock, int ms)
{
	struct rwlock *l = rwlock_at(lock.handle);
	uint64_t me = l ? mortal_here() : 0, end = crew__deadline(ms);
	int rc, late;

	if (!me)
		return l ? -EAGAIN : crew__handle_reason(lock.handle);
	if (lock_is_mine(&l->lock) || find(l, me) >= 0)
		return -EDEADLK;
	rc = take_word(l, lock.handle, ms);
	if (rc && rc != -EOWNERDEAD)
		return rc;
	late = outlast_readers(l, lock.handle, ms > 0 ? crew__ms_left(end) : ms);
	if (late == 0) {
		ck_pr_store_32(&l->writing, 1);
		return rc;
	}
	if (late != CREW_EHANDLE)
		give_word(l);
	return late == -EBUSY && ms > 0 ? -ETIMEDOUT : late;
}

int crew_rwlock_release(crew_rwlock lock)
{
	struct rwlock *l = rwlock_at(lock.handle);
	int box;

	if (!l)
		return crew__handle_reason(lock.handle);
	if (lock_is_mine(&l->lock))
		return give_word(l);
	box = find(l, crew__mortal_id);
	if (box < 0)
		return -EPERM;
	leave(l, box);
	return 0;
}

/* ---- to read ---- */

/* Has this thread another box than this one? */
static bool reads_already(struct rwlock *l, uint64_t me, int box)
{
	for (uint32_t i = next_used(l, 0); i < BOXES; i = next_used(l, i + 1))
		if (i != (uint32_t)box && ck_pr_load_64(&l->box[i]) == me)
			return true;
	return false;
}

/* Read, if nobody writes or waits to. 1: somebody does, or all boxes are taken. */
static int try_to_read(struct rwlock *l, uint64_t me)
{
	int box = enter(l, me);

	if (box < 0)
		return 1;
	ck_pr_fence_memory(); /* the box before the word; pairs with the exchange that takes the word */
	if (ck_pr_load_64(&l->lock.word) == 0 || reads_already(l, me, box))
		return 0;
	leave(l, box);
	return 1;
}

/* Come in through the word, alone: behind whoever writes or waits to. What is damaged is kept like that. */
static int queue_to_read(struct rwlock *l, crew_handle handle, uint64_t me, int ms)
{
	int rc = take_word(l, handle, ms), box;

	if (rc == -EOWNERDEAD) {
		int late = outlast_readers(l, handle, ms);

		if (late && late != CREW_EHANDLE)
			give_word(l);
		return late ? late : rc;
	}
	if (rc)
		return rc;
	box = enter(l, me);
	give_word(l);
	return box < 0 ? 1 : 0;
}

int crew_reader_acquire(crew_reader lock, int ms)
{
	struct rwlock *l = rwlock_at(lock.handle);
	uint64_t me = l ? mortal_here() : 0, end = crew__deadline(ms);
	struct patience patience;
	int rc;

	if (!me)
		return l ? -EAGAIN : crew__handle_reason(lock.handle);
	if (lock_is_mine(&l->lock))
		return -EDEADLK;
	rc = try_to_read(l, me);
	patience = patience_for(ms);
	while (rc == 1) {
		uint32_t bell = ck_pr_load_32(&l->bell);

		rc = queue_to_read(l, lock.handle, me, ms > 0 ? crew__ms_left(end) : ms);
		if (rc != 1)
			break;
		ck_pr_store_32(&l->waited, 1);
		if (patience_is_over(&patience))
			return ms == 0 ? -EBUSY : -ETIMEDOUT;
		if (await_change(l, &patience, bell))
			has_readers(l, true);
		if (!handle_alive(l, lock.handle))
			return CREW_EHANDLE;
	}
	return rc == -EBUSY && ms > 0 ? -ETIMEDOUT : rc;
}

int crew_reader_release(crew_reader lock)
{
	return crew_rwlock_release((crew_rwlock){ lock.handle });
}
