/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * robust.c: see robust.h. The mutex is process-shared and robust; its deadline is on CLOCK_MONOTONIC, absolute.
 */
#include "ipc/robust.h"

#include <errno.h>
#include <time.h>

#include "base/futex.h"

#if defined(__SANITIZE_THREAD__)
#define DEADLINES_UNSEEN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DEADLINES_UNSEEN
#endif
#endif

enum { TRIES = 64, MOMENT_MS = 10, SLICE_MS = 100 }; /* tries: about a microsecond */

int crew__robust_init(struct robust *r)
{
	pthread_mutexattr_t attributes;
	int rc = pthread_mutexattr_init(&attributes);

	if (rc)
		return -rc;
	rc = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (rc == 0)
		rc = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	if (rc == 0)
		rc = pthread_mutex_init(&r->mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return -rc;
}

/* What glibc's answer means. A death between two lines here leaves the mark of the dead for the next. */
static int entered(struct robust *r, int rc)
{
	if (likely(rc == 0))
		return 0;
	if (rc == EOWNERDEAD)
		return pthread_mutex_consistent(&r->mutex) ? -ENOTRECOVERABLE : 1;
	return -rc;
}

int crew__robust_try(struct robust *r)
{
	return entered(r, pthread_mutex_trylock(&r->mutex));
}

/* ThreadSanitizer takes a mutex that was had by a lock with a deadline from a dead owner for one that is not locked: there it is tried now and then. */
static int lock_until(pthread_mutex_t *mutex, uint64_t end)
{
	const struct timespec t = { (time_t)(end / 1000000000ull), (long)(end % 1000000000ull) };
#ifdef DEADLINES_UNSEEN
	const struct timespec pause = { 0, 1000000 };
	int rc;

	(void)t;
	while ((rc = pthread_mutex_trylock(mutex)) == EBUSY && crew__now() < end)
		nanosleep(&pause, NULL);
	return rc == EBUSY ? ETIMEDOUT : rc;
#else
	return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &t);
#endif
}

/*
 * In slices. A sleeper that is woken may be killed before it has said that others sleep, while somebody new has taken the mutex, who then wakes nobody when he
 * leaves; the kernel sees nothing amiss in that. Who comes to the end of a slice looks again, and says so.
 */
static int enter_within(struct robust *r, uint64_t deadline)
{
	uint64_t end = deadline == MOMENT ? crew__deadline(MOMENT_MS) : deadline, slice;
	int rc;

	do {
		slice = crew__deadline(SLICE_MS);
		slice = slice < end ? slice : end;
		rc = lock_until(&r->mutex, slice);
	} while (rc == ETIMEDOUT && slice != end);
	return entered(r, rc);
}

int crew__robust_enter(struct robust *r, uint64_t deadline)
{
	for (int i = 0; i < TRIES; i++) {
		int rc = pthread_mutex_trylock(&r->mutex);

		if (likely(rc != EBUSY))
			return entered(r, rc);
		ck_pr_stall();
	}
	return enter_within(r, deadline);
}

void crew__robust_leave(struct robust *r)
{
	pthread_mutex_unlock(&r->mutex);
}

/*
 * The kernel makes the change and wakes, without a point between at which a kill takes effect. The addition of nothing before it is the release, and what
 * ThreadSanitizer sees of the change.
 */
static void change_and_wake(uint32_t *bell, uint32_t *news, uint32_t *word, int operation)
{
	ck_pr_store_32(bell, 0); /* whoever finds us dead sets it again */
	ck_pr_faa_32(news, 1);
	ck_pr_faa_32(word, 0);
#ifdef CREW_FAULT_LOST_WAKE /* for test/fault, which must find it */
	ck_pr_store_32(word, *word + 1);
	crew__futex_wake(news, INT_MAX, true);
	(void)operation;
#else
	syscall(SYS_futex, news, FUTEX_WAKE_OP, INT_MAX, 0, word, operation); /* pairs with the waits on news */
#endif
}

void crew__ring_and_add(uint32_t *bell, uint32_t *news, uint32_t *count)
{
	change_and_wake(bell, news, count, (int)FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0));
}

void crew__ring_and_set(uint32_t *bell, uint32_t *news, uint32_t *word, uint32_t value)
{
	change_and_wake(bell, news, word, (int)FUTEX_OP(FUTEX_OP_SET, value, FUTEX_OP_CMP_EQ, 0));
}
