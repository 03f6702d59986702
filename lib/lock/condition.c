/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * condition.c: who sleeps on a condition says so in his own seat (ipc/mortal.h); the condition itself keeps no list.
 *
 *	sleeper, with the lock:	my seat.sleeps_on = stamp; give the lock up; sleep until it is not; take the lock
 *	notifier, with the lock:	of all seats with this stamp whose holders live, the longest sleepers: sleeps_on = 0, wake
 *
 * So there is nothing that a killed sleeper could leave inconsistent, and a notifier never waits for a sleeper. Nobody lies down while a notifier looks, since both
 * need the lock; who gives up or dies meanwhile is at worst woken in vain. The count of sleepers is a guess that saves the walk over the seats when there
 * are none: too high after a death, put right by the next walk.
 */
#include <errno.h>
#include <limits.h>

#include "ipc/patience.h"
#include "lock/lock_object.h"

struct condition {
	struct sleeping_object object;

	/* fixed */
	crew_rlock lock;
	bool owns_lock;

	/* guarded by lock; changed by one store each */
	uint32_t sleepers;
	uint64_t next_turn;
};

static struct condition *condition_at(crew_condition condition)
{
	return handle_at(condition.handle, HANDLE_CONDITION);
}

crew_condition crew_condition_make(crew_rlock lock)
{
	bool own = lock.handle.place == 0 && lock.handle.stamp == 0;
	struct condition *c;
	crew_condition ret;
	int rc;

	if (own)
		lock = crew_rlock_make();
	rc = crew_handle_error(lock);
	if (rc)
		return (crew_condition){ crew__handle_failed(rc) };
	ret.handle = crew__handle_make(HANDLE_CONDITION, sizeof *c, (void **)&c);
	if (c) {
		c->lock = lock;
		c->owns_lock = own;
	} else if (own) {
		crew_rlock_drop(lock);
	}
	return ret;
}

/* The sleeper of this seat, if he still sleeps here. */
static bool wake(struct mortal *seat, uint64_t stamp)
{
	ck_pr_fence_release();
	if (!ck_pr_cas_64(&seat->sleeps_on, stamp, 0))
		return false;
	crew__futex_wake(low_half(&seat->sleeps_on), 1, true);
	return true;
}

static int wake_all(uint64_t stamp)
{
	int woken = 0;

	for (uint32_t i = 0; i < crew__mortal_seats(); i++) {
		struct mortal *seat = crew__mortal_at(i);

		if (ck_pr_load_64(&seat->sleeps_on) == stamp && crew__mortal_state_at(i) != MORTAL_GONE)
			woken += wake(seat, stamp);
	}
	return woken;
}

/* Who has slept here for longest and lives; NULL: nobody. */
static struct mortal *longest(uint64_t stamp)
{
	for (;;) {
		struct mortal *found = NULL;
		uint32_t at = 0;

		for (uint32_t i = 0; i < crew__mortal_seats(); i++) {
			struct mortal *seat = crew__mortal_at(i);

			if (ck_pr_load_64(&seat->sleeps_on) == stamp && (!found || seat->turn < found->turn)) {
				found = seat;
				at = i;
			}
		}
#ifdef CREW_FAULT_DEAD_SLEEPERS
		return found;
#endif
		if (!found || crew__mortal_state_at(at) != MORTAL_GONE)
			return found;
		ck_pr_cas_64(&found->sleeps_on, stamp, 0); /* as a rule he has been buried, which has done that */
	}
}

int crew_condition_drop(crew_condition condition)
{
	struct condition *c = crew__handle_end(condition.handle, HANDLE_CONDITION);

	if (!c)
		return crew__handle_reason(condition.handle);
	wake_all(condition.handle.stamp);
	if (c->owns_lock)
		crew_rlock_drop(c->lock);
	crew__family_free(condition.handle.place);
	return 0;
}

int crew_condition_acquire(crew_condition condition, int ms)
{
	struct condition *c = condition_at(condition);

	return c ? crew_rlock_acquire(c->lock, ms) : crew__handle_reason(condition.handle);
}

int crew_condition_release(crew_condition condition)
{
	struct condition *c = condition_at(condition);

	return c ? crew_rlock_release(c->lock) : crew__handle_reason(condition.handle);
}

int crew_condition_recover(crew_condition condition)
{
	struct condition *c = condition_at(condition);

	return c ? crew_rlock_recover(c->lock) : crew__handle_reason(condition.handle);
}

struct crew_owner crew_condition_owner(crew_condition condition)
{
	struct condition *c = condition_at(condition);

	return crew_rlock_owner(c ? c->lock : (crew_rlock){ { 0, 0 } });
}

/* ---- sleeping ---- */

/* Until we are woken, or the time is over. */
static void sleep_on(struct condition *c, crew_handle handle, struct patience *patience)
{
	uint64_t *word = &crew__mortal_seat->sleeps_on;

	while (load_acquire_64(word) == handle.stamp && !patience_is_over(patience) && handle_alive(c, handle))
		patience_sleep(patience, low_half(word), (uint32_t)handle.stamp); /* pairs with wake() */
}

/* The lock is ours. Have we been woken? Else we sleep no more. */
static bool was_woken(struct condition *c, crew_handle handle)
{
	if (ck_pr_load_64(&crew__mortal_seat->sleeps_on) != handle.stamp)
		return true;
	crew__mortal_awakes();
	if (c->sleepers)
		c->sleepers--;
	return false;
}

static int wait_for(crew_condition condition, struct patience patience)
{
	struct condition *c = condition_at(condition);
	struct lock *l = c ? rlock_at(c->lock) : NULL;
	struct lock_place place;
	uint32_t depth;
	int rc;

	if (!l)
		return c ? CREW_EHANDLE : crew__handle_reason(condition.handle);
	if (!lock_is_mine(&l->lock))
		return -EPERM;
	place = rlock_place(l, c->lock);
	c->sleepers++;
	crew__mortal_seat->turn = c->next_turn++;
	crew__mortal_sleeps(condition.handle);
	depth = crew__word_yield(&l->lock);
	sleep_on(c, condition.handle, &patience);
	rc = handle_alive(c, condition.handle) ? crew__word_regain(&place, depth) : CREW_EHANDLE;
	if (rc && rc != -EOWNERDEAD) {
		crew__mortal_awakes();
		return rc;
	}
	if (!was_woken(c, condition.handle) && rc == 0)
		rc = -ETIMEDOUT;
	return rc;
}

int crew_condition_wait(crew_condition condition, int ms)
{
	return wait_for(condition, patience_for(ms));
}

int crew_condition_wait_for(crew_condition condition, bool (*pred)(void *arg), void *arg, int ms)
{
	struct condition *c = condition_at(condition);
	struct lock *l = c ? rlock_at(c->lock) : NULL;
	struct patience patience = patience_for(ms);
	int rc;

	if (!l)
		return c ? CREW_EHANDLE : crew__handle_reason(condition.handle);
	if (!pred)
		return -EINVAL;
	if (!lock_is_mine(&l->lock))
		return -EPERM;
	while (!pred(arg)) {
		rc = wait_for(condition, patience);
		if (rc == -ETIMEDOUT)
			return pred(arg) ? 0 : rc;
		if (rc)
			return rc;
	}
	return 0;
}

int crew_condition_notify(crew_condition condition, int n)
{
	struct condition *c = condition_at(condition);
	struct lock *l = c ? rlock_at(c->lock) : NULL;
	uint64_t stamp = condition.handle.stamp;
	struct mortal *seat;
	int woken = 0;

	if (!l)
		return c ? CREW_EHANDLE : crew__handle_reason(condition.handle);
	if (!lock_is_mine(&l->lock))
		return -EPERM;
	if (c->sleepers == 0)
		return 0;
	if (n < 0) {
		woken = wake_all(stamp);
		c->sleepers = 0;
		return woken;
	}
	while (woken < n && (seat = longest(stamp)) != NULL)
		woken += wake(seat, stamp);
	c->sleepers = woken < n || c->sleepers < (uint32_t)woken ? 0 : c->sleepers - (uint32_t)woken;
	return woken;
}
