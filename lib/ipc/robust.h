/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * robust.h: mutual exclusion and sleeping in shared memory, for structures whose users may be killed at any instruction.
 *
 * The mutex is glibc's robust one: the kernel itself hands it on when its owner dies, whoever that is and however. What it guards must be right at every
 * instant, that is, change by one store; then its next owner has nothing to repair, or little.
 *
 * Sleeping never loses a wake, also when the waker is killed at any instruction, by two means. The change and the wake are *one system call*, FUTEX_WAKE_OP, when
 * somebody sleeps. And a sleeper says that he does (his bell) inside the waker's mutex, so that the waker who did not see it has made his change:
 *
 *	sleeper						waker, in the mutex
 *	  try the mutex: bell := 1, leave		  bell = 0: the change, by one store
 *	  look; nothing: sleep while news = what it	  bell = 1: bell := 0; news + 1;
 *	  was when the bell was set			            { the change; wake all who sleep on news } by the kernel
 *
 * If the waker dies before that call, nothing has changed; who enters after him finds that he died, and sets the bell again. A sleeper who finds the mutex taken
 * does not wait for it: he sets the bell all the same and sleeps for a millisecond at first, then tries again. So no one who was just woken runs into the
 * mutex of who woke him. test/model/queue.pml.
 */
#ifndef CREW_LIB_ROBUST_H
#define CREW_LIB_ROBUST_H

#include <pthread.h>

#include "base/atomic.h"

struct robust {
	pthread_mutex_t mutex;
} CREW__ALIGNED;

int crew__robust_init(struct robust *r); /* -errno */

#define MOMENT 0 /* a deadline: some milliseconds from now, for who does not want to wait, but for somebody in the middle of it */

/* 0; 1: entered after an owner died inside; -ETIMEDOUT. Spins for a moment, as owners stay for less than a microsecond. */
int crew__robust_enter(struct robust *r, uint64_t deadline);
/* The same, but never waits: -EBUSY. */
int crew__robust_try(struct robust *r);
void crew__robust_leave(struct robust *r);

/* For the waker, in the mutex: count := count + 1, and wake who sleeps. */
void crew__ring_and_add(uint32_t *bell, uint32_t *news, uint32_t *count);
static inline void ring_and_add(uint32_t *bell, uint32_t *news, uint32_t *count)
{
	if (unlikely(ck_pr_load_32(bell))) /* set inside the mutex by who sleeps for long */
		crew__ring_and_add(bell, news, count);
	else
		store_release_32(count, *count + 1); /* pairs with the acquire of who looks */
}

/* Likewise: word := value, and wake who sleeps. value is small. */
void crew__ring_and_set(uint32_t *bell, uint32_t *news, uint32_t *word, uint32_t value);

#endif
