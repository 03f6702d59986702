/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock.h: holding a lock for the length of a block.
 *
 *	CREW_WITH (&mutex)
 *		balance += 1;
 *
 * h is a pthread_mutex_t * (process-shared and robust ones too). The lock is given back on every way out of the block: end, break, continue, return, goto.
 * break and continue leave the block only, not a loop around it: there use CREW_GUARD.
 *
 * When the lock cannot be had (-EDEADLK, -ENOTRECOVERABLE, …) the block is skipped, and a crew_raise() says so, which fails the task, so that it
 * cannot go unseen. -EOWNERDEAD, the owner of a robust mutex died, is such a case too: the lock is not kept, and what it guards is lost until a
 * program that can repair it takes it with pthread_mutex_lock() itself.
 */
#pragma GCC system_header
#ifndef CREW_LOCK_H
#define CREW_LOCK_H

#include <crew/base.h>
#include <crew/task.h>
#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0; -errno: not acquired. May block; try never does (-EBUSY); within -ETIMEDOUT. */
CREW_API int crew_mutex_acquire(pthread_mutex_t *mutex, int ms);
CREW_API int crew_mutex_release(pthread_mutex_t *mutex);

/* What a block holds. */
struct crew_held {
	pthread_mutex_t *mutex;
	int code; /* 0: it is held */
};

/* Acquire for a block; raises when that fails. */
CREW_API struct crew_held crew_hold(pthread_mutex_t *mutex, const char *file, int line);

static inline void crew__held_fini(struct crew_held *held)
{
	if (held->code == 0)
		crew_mutex_release(held->mutex);
}

#ifndef __cplusplus
#define crew_acquire(h_) crew_mutex_acquire((h_), CREW_FOREVER)
#define crew_try_acquire(h_) crew_mutex_acquire((h_), 0)
#define crew_acquire_within(h_, ms_) crew_mutex_acquire((h_), (ms_))
#define crew_release(h_) crew_mutex_release(h_)

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

/* CREW_GUARD (h, return -1); holds h for the rest of the enclosing block; the second argument is what to do when it cannot be had. */
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
