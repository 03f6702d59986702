/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock.h: locks, and holding one for the length of a block.
 *
 *	crew_lock lock = crew_lock_make();
 *
 *	CREW_WITH (lock)
 *		balance += 1;
 *
 * All of them work across threads and across processes of every start method; they are handles (handle.h): passed by value, also as arguments of tasks. Time
 * is counted on CLOCK_MONOTONIC, and goes on through any storm of signals. Any thread may call; every call may block that takes `ms`, or is
 * named acquire, and none else.
 *
 * When an owner dies. A process may be killed at any instruction, in the middle of what a lock guards. Whoever takes that lock next gets it, but with
 * -EOWNERDEAD instead of 0: what it guards may be half-changed. Once he has put that right he says crew_handle_recover(lock); until somebody does, every
 * taker is told. CREW_WITH does not run its block then. Nobody waits for the dead: those who sleep look after the owner every now and then (20 ms
 * at first, 640 ms in the end). A thread that ends without a release leaves an rlock or an rwlock like one who died; a lock stays locked, as others may release it.
 * A semaphore has no owner: a unit that a dead process had taken is gone, as it would be from any count; whoever keeps count of something that can be counted
 * anew may put it back by crew_release().
 */
#pragma GCC system_header
#ifndef CREW_LOCK_H
#define CREW_LOCK_H

#include <crew/base.h>
#include <crew/handle.h>
#include <crew/task.h>
#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The words. h is a crew_lock, crew_rlock, crew_semaphore, crew_condition, crew_rwlock, crew_reading(rwlock), crew_value, crew_array, or a
 * pthread_mutex_t * (process-shared and robust ones too).
 *
 *	crew_acquire(h)			0: it is held. -EOWNERDEAD: it is held, see above. Else it is not: -EDEADLK (a lock that this thread holds already),
 *					CREW_EHANDLE, -EAGAIN or -ENOMEM (no place to note that this thread is an owner)
 *	crew_try_acquire(h)		never blocks: -EBUSY
 *	crew_acquire_within(h, ms)	-ETIMEDOUT
 *	crew_release(h)			0; -EPERM: it is free, or what only its owner may release is another's
 *	crew_handle_recover(h)		0; -EPERM: it is not this thread's. What -EOWNERDEAD told of is repaired
 *
 * -EOWNERDEAD of a robust pthread mutex is different: the mutex is not held, and from then on -ENOTRECOVERABLE; a program that can repair what it guards takes it
 * by pthread_mutex_lock() itself.
 */
#ifndef __cplusplus
#define crew_acquire(h_) crew_acquire_within((h_), CREW_FOREVER)
#define crew_try_acquire(h_) crew_acquire_within((h_), 0)
#define crew_acquire_within(h_, ms_) CREW__LOCKABLE(h_, acquire)((h_), (ms_))
#define crew_release(h_) CREW__LOCKABLE(h_, release)(h_)
#define crew_handle_recover(h_)                                                                                                \
	_Generic((h_), crew_lock: crew_lock_recover, crew_rlock: crew_rlock_recover, crew_condition: crew_condition_recover,   \
		 crew_rwlock: crew_rwlock_recover, crew_value: crew_value_recover, crew_array: crew_array_recover)(h_)
#define CREW__LOCKABLE(h_, verb_)                                                                                              \
	_Generic((h_), pthread_mutex_t *: crew_mutex_##verb_, crew_lock: crew_lock_##verb_, crew_rlock: crew_rlock_##verb_,    \
		 crew_semaphore: crew_semaphore_##verb_, crew_condition: crew_condition_##verb_, crew_rwlock: crew_rwlock_##verb_, \
		 crew_reader: crew_reader_##verb_, crew_value: crew_value_##verb_, crew_array: crew_array_##verb_)
#endif

/* ---- lock: not recursive; whoever wants may release it, in any thread or process ---- */

CREW_API crew_lock crew_lock_make(void);
CREW_API int crew_lock_acquire(crew_lock lock, int ms);
CREW_API int crew_lock_release(crew_lock lock);
CREW_API int crew_lock_recover(crew_lock lock);
CREW_API bool crew_lock_locked(crew_lock lock);

/* ---- rlock: its owner, a thread, may take it again, and has to release it as often ---- */

CREW_API crew_rlock crew_rlock_make(void);
CREW_API int crew_rlock_acquire(crew_rlock lock, int ms);
CREW_API int crew_rlock_release(crew_rlock lock); /* -EPERM: not by its owner */
CREW_API int crew_rlock_recover(crew_rlock lock);
CREW_API bool crew_rlock_locked(crew_rlock lock); /* by anybody, at any depth */

/* For people who look for a deadlock: who holds it now. Of anything that has an owner; of an rwlock: who writes. Nobody: also of what is no such object. */
enum crew_whose { CREW_NOBODYS, CREW_MINE, CREW_THIS_PROCESS, CREW_ANOTHER_PROCESS, CREW_DEAD };
struct crew_owner {
	enum crew_whose whose;
	pid_t pid, tid; /* as they are known in his pid namespace; 0: not known any more */
};
#ifndef __cplusplus
#define crew_owner_of(h_)                                                                                                      \
	_Generic((h_), crew_lock: crew_lock_owner, crew_rlock: crew_rlock_owner, crew_condition: crew_condition_owner,         \
		 crew_rwlock: crew_rwlock_owner, crew_value: crew_value_owner, crew_array: crew_array_owner)(h_)
#endif
CREW_API struct crew_owner crew_lock_owner(crew_lock lock);
CREW_API struct crew_owner crew_rlock_owner(crew_rlock lock);
CREW_API struct crew_owner crew_condition_owner(crew_condition condition);
CREW_API struct crew_owner crew_rwlock_owner(crew_rwlock lock);
CREW_API struct crew_owner crew_value_owner(crew_value value);
CREW_API struct crew_owner crew_array_owner(crew_array array);

/* ---- semaphore: acquire takes a unit, release adds one ---- */

/* bound: release beyond it is -EOVERFLOW; 0: none (INT_MAX / 2). -EINVAL: value is negative or beyond its bound. */
CREW_API crew_semaphore crew_semaphore_make(int value, int bound);
CREW_API int crew_semaphore_acquire(crew_semaphore semaphore, int ms);
CREW_API int crew_semaphore_release(crew_semaphore semaphore);
CREW_API int crew_semaphore_value(crew_semaphore semaphore); /* a snapshot */

/* ---- event: set or not; wait until it is ---- */

CREW_API crew_event crew_event_make(void);
CREW_API int crew_event_set(crew_event event); /* wakes all; they have seen it, even if it is cleared at once */
CREW_API int crew_event_clear(crew_event event);
CREW_API bool crew_event_is_set(crew_event event);
CREW_API int crew_event_wait(crew_event event, int ms); /* 0; -ETIMEDOUT */

/*
 * ---- condition: wait until somebody notifies, with the lock given up meanwhile ----
 *
 * acquire and release are its rlock's. A zero lock, (crew_rlock){ 0 }, gives it one of its own, which is dropped with it.
 *
 * wait gives the lock up, however deep it was taken, and has it back as deep when it returns. 0: notified. -ETIMEDOUT: not in time; -EOWNERDEAD: see
 * above; -EPERM: the lock is not this thread's; CREW_EHANDLE: it or the condition was dropped, and the lock is not held.
 * wait_for waits until pred(arg), called with the lock held, is true: 0; -ETIMEDOUT: it is still false, and ms is over. -EINVAL: pred is NULL.
 * notify wakes n of those who sleep now, the longest sleepers first, -1: all. How many. A sleeper who died is passed over. Needs the lock: -EPERM.
 */
CREW_API crew_condition crew_condition_make(crew_rlock lock);
CREW_API int crew_condition_acquire(crew_condition condition, int ms);
CREW_API int crew_condition_release(crew_condition condition);
CREW_API int crew_condition_recover(crew_condition condition);
CREW_API int crew_condition_wait(crew_condition condition, int ms);
CREW_API int crew_condition_wait_for(crew_condition condition, bool (*pred)(void *arg), void *arg, int ms);
CREW_API int crew_condition_notify(crew_condition condition, int n);

/*
 * ---- barrier: nobody passes before all are there ----
 *
 * wait returns a number from 0 to parties - 1, in the order of arrival, once all have come. Broken: CREW_EBROKEN, for all who are there and all who come, until a
 * reset. It is broken by abort, by a party whose time is over (who gets -ETIMEDOUT), by an action that fails, and by the death of a party while it
 * waits here. A party that dies elsewhere is not missed by anybody but the clock: where parties may be killed, give ms.
 *
 * reset sends those who wait away with CREW_EBROKEN and makes the barrier new.
 * wait_with: the last to come runs its action (the others' are not called) before anybody passes. Negative: the barrier is broken, and that is what he gets.
 */
CREW_API crew_barrier crew_barrier_make(int parties); /* -EINVAL: less than 1 or more than 32767 */
CREW_API int crew_barrier_wait(crew_barrier barrier, int ms);
CREW_API int crew_barrier_wait_with(crew_barrier barrier, int (*action)(void *arg), void *arg, int ms);
CREW_API int crew_barrier_abort(crew_barrier barrier);
CREW_API int crew_barrier_reset(crew_barrier barrier);
CREW_API int crew_barrier_parties(crew_barrier barrier);
CREW_API int crew_barrier_waiting(crew_barrier barrier); /* how many wait there now */
CREW_API bool crew_barrier_broken(crew_barrier barrier);

/*
 * ---- rwlock: many who read, or one who writes ----
 *
 *	CREW_WITH (rwlock) …			to write
 *	CREW_WITH (crew_reading(rwlock)) …	to read
 *
 * A writer who waits comes before readers who come later; whoever reads already may read again. A reader who dies leaves nothing behind. After a
 * writer who died the next one, also if he comes to read, has the lock alone, and -EOWNERDEAD. -EDEADLK: to write while reading, to read or write while writing.
 * At most 960 may read at once; more wait.
 */
CREW_API crew_rwlock crew_rwlock_make(void);
CREW_API int crew_rwlock_acquire(crew_rwlock lock, int ms);
CREW_API int crew_rwlock_release(crew_rwlock lock); /* what this thread has of it */
CREW_API int crew_rwlock_recover(crew_rwlock lock);
CREW_API int crew_reader_acquire(crew_reader lock, int ms);
CREW_API int crew_reader_release(crew_reader lock);
static inline crew_reader crew_reading(crew_rwlock lock)
{
	crew_reader reader = { lock.handle };

	return reader;
}

/* ---- the locks of values and arrays (shared.h), and pthread mutexes ---- */

CREW_API int crew_value_acquire(crew_value value, int ms);
CREW_API int crew_value_release(crew_value value);
CREW_API int crew_value_recover(crew_value value);
CREW_API int crew_array_acquire(crew_array array, int ms);
CREW_API int crew_array_release(crew_array array);
CREW_API int crew_array_recover(crew_array array);
CREW_API int crew_mutex_acquire(pthread_mutex_t *mutex, int ms);
CREW_API int crew_mutex_release(pthread_mutex_t *mutex);

/*
 * ---- blocks that hold ----
 *
 * CREW_WITH (h) { … }		the lock is given back on every way out of the block: end, break, continue, return, goto. break and continue leave the block
 *				only, not a loop around it: there use CREW_GUARD.
 * CREW_GUARD (h, return -1);	holds h for the rest of the enclosing block; the second argument is what to do when it cannot be had.
 *
 * When the lock cannot be had, or comes with -EOWNERDEAD, it is not kept, the block is skipped, and a crew_raise() says so, which fails the task, so that it cannot
 * go unseen.
 */

/* What a block holds. */
struct crew_held {
	int code; /* 0: it is held */
	pthread_mutex_t *mutex;
	crew_handle handle;
	int (*release)(crew_handle handle); /* NULL: it is the mutex */
};

/* Acquire for a block; raises when that fails. */
CREW_API struct crew_held crew_hold_mutex(pthread_mutex_t *mutex, const char *file, int line);

/* The same for what has answered `code` to an acquire. */
CREW_API struct crew_held crew_hold_handle(crew_handle handle, int code, int (*release)(crew_handle), const char *file, int line);

static inline void crew__held_fini(struct crew_held *held)
{
	if (held->code == 0 && held->release)
		held->release(held->handle);
	else if (held->code == 0)
		crew_mutex_release(held->mutex);
}

#ifndef __cplusplus
#define CREW__HOLD_BY(noun_)                                                                                       \
	static inline int crew__##noun_##_let_go(crew_handle handle)                                               \
	{                                                                                                          \
		return crew_##noun_##_release((crew_##noun_){ handle });                                           \
	}                                                                                                          \
	static inline struct crew_held crew_hold_##noun_(crew_##noun_ h, const char *file, int line)               \
	{                                                                                                          \
		int code = crew_##noun_##_acquire(h, CREW_FOREVER);                                                \
                                                                                                                   \
		if (code)                                                                                          \
			return crew_hold_handle(h.handle, code, crew__##noun_##_let_go, file, line);               \
		return (struct crew_held){ 0, NULL, h.handle, crew__##noun_##_let_go };                            \
	}
CREW__HOLD_BY(lock)
CREW__HOLD_BY(rlock)
CREW__HOLD_BY(semaphore)
CREW__HOLD_BY(condition)
CREW__HOLD_BY(rwlock)
CREW__HOLD_BY(reader)
CREW__HOLD_BY(value)
CREW__HOLD_BY(array)
#undef CREW__HOLD_BY

#define crew_hold(h_, file_, line_)                                                                                            \
	_Generic((h_), pthread_mutex_t *: crew_hold_mutex, crew_lock: crew_hold_lock, crew_rlock: crew_hold_rlock,             \
		 crew_semaphore: crew_hold_semaphore, crew_condition: crew_hold_condition, crew_rwlock: crew_hold_rwlock,      \
		 crew_reader: crew_hold_reader, crew_value: crew_hold_value, crew_array: crew_hold_array)((h_), (file_), (line_))

#define CREW_WITH(h_) CREW__WITH(h_, CREW__PASTE(crew_held_, __COUNTER__))
#define CREW__WITH(h_, held_) CREW__WITH_(h_, held_, CREW__PASTE(held_, _end))
#define CREW__WITH_(h_, held_, end_)                                                                 \
	for (struct crew_held held_ __attribute__((__cleanup__(crew__held_fini))) =                  \
		     crew_hold((h_), __FILE__, __LINE__);                                            \
	     ; __extension__({ goto end_; }))                                                        \
		if (held_.code) {                                                                    \
		end_:                                                                                \
			break;                                                                       \
		} else

#define CREW_GUARD(h_, otherwise_) CREW__GUARD(h_, CREW__PASTE(crew_held_, __COUNTER__), otherwise_)
#define CREW__GUARD(h_, held_, otherwise_)                                                           \
	struct crew_held held_ __attribute__((__cleanup__(crew__held_fini))) =                       \
		crew_hold((h_), __FILE__, __LINE__);                                                 \
	if (held_.code)                                                                              \
	otherwise_
#endif

#ifdef __cplusplus
}
#endif
#endif
