/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock.c: lock and rlock: a word that survives its owners (ipc/lock_word.h) in an object of its own.
 *
 * The common case is here: find the object, one compare-and-swap. Everything that may have to wait is lock_word.c's.
 */
#include "lock/lock_object.h"

/* ---- either ---- */

static crew_handle make(enum handle_kind kind)
{
	void *object;

	return crew__handle_make(kind, sizeof(struct lock), &object);
}

/* Whatever the common case is not; out of its way. */
static __attribute__((__noinline__, __cold__)) int acquire(struct lock *l, crew_handle handle, bool recursive, int ms)
{
	if (!l)
		return crew__handle_reason(handle);
	return crew__word_acquire(&(struct lock_place){ &l->lock, l, handle, recursive }, ms);
}

static int drop(crew_handle handle, enum handle_kind kind)
{
	struct lock *l = crew__handle_end(handle, kind);

	if (!l)
		return crew__handle_reason(handle);
	crew__word_end(&l->lock);
	crew__family_free(handle.place);
	return 0;
}

static int recover(crew_handle handle, enum handle_kind kind)
{
	struct lock *l = handle_at(handle, kind);

	return l ? crew__word_recover(&l->lock) : crew__handle_reason(handle);
}

static bool locked(crew_handle handle, enum handle_kind kind)
{
	struct lock *l = handle_at(handle, kind);

	return l && !lock_is_free(ck_pr_load_64(&l->lock.word));
}

static struct crew_owner owner(crew_handle handle, enum handle_kind kind)
{
	struct lock *l = handle_at(handle, kind);

	return crew__word_owner(l ? &l->lock : NULL);
}

/* ---- lock ---- */

crew_lock crew_lock_make(void)
{
	return (crew_lock){ make(HANDLE_LOCK) };
}

int crew_lock_drop(crew_lock lock)
{
	return drop(lock.handle, HANDLE_LOCK);
}

int crew_lock_acquire(crew_lock lock, int ms)
{
	struct lock *l = handle_at(lock.handle, HANDLE_LOCK);

	if (likely(l && lock_take(&l->lock, crew__mortal_id)))
		return 0;
	return acquire(l, lock.handle, false, ms);
}

int crew_lock_release(crew_lock lock)
{
	struct lock *l = handle_at(lock.handle, HANDLE_LOCK);

	if (likely(l && lock_give(&l->lock, crew__mortal_id)))
		return 0;
	return l ? crew__word_release(&l->lock, false) : crew__handle_reason(lock.handle);
}

int crew_lock_recover(crew_lock lock)
{
	return recover(lock.handle, HANDLE_LOCK);
}

bool crew_lock_locked(crew_lock lock)
{
	return locked(lock.handle, HANDLE_LOCK);
}

struct crew_owner crew_lock_owner(crew_lock lock)
{
	return owner(lock.handle, HANDLE_LOCK);
}

/* ---- rlock ---- */

crew_rlock crew_rlock_make(void)
{
	return (crew_rlock){ make(HANDLE_RLOCK) };
}

int crew_rlock_drop(crew_rlock lock)
{
	return drop(lock.handle, HANDLE_RLOCK);
}

int crew_rlock_acquire(crew_rlock lock, int ms)
{
	struct lock *l = rlock_at(lock);

	if (likely(l && lock_take(&l->lock, crew__mortal_id)))
		return 0;
	return acquire(l, lock.handle, true, ms);
}

int crew_rlock_release(crew_rlock lock)
{
	struct lock *l = rlock_at(lock);

	if (likely(l && lock_is_shallow(&l->lock) && lock_give(&l->lock, crew__mortal_id)))
		return 0;
	return l ? crew__word_release(&l->lock, true) : crew__handle_reason(lock.handle);
}

int crew_rlock_recover(crew_rlock lock)
{
	return recover(lock.handle, HANDLE_RLOCK);
}

bool crew_rlock_locked(crew_rlock lock)
{
	return locked(lock.handle, HANDLE_RLOCK);
}

struct crew_owner crew_rlock_owner(crew_rlock lock)
{
	return owner(lock.handle, HANDLE_RLOCK);
}
