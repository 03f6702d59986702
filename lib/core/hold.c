/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hold.c: the functions behind CREW_WITH, and pthread mutexes as locks. Deadlines are on CLOCK_MONOTONIC, which pthread_mutex_clocklock() has since glibc 2.30.
 */
#include <crew/lock.h>
#include <errno.h>

#include "base/clock.h"

static int lock_within(pthread_mutex_t *mutex, int ms)
{
	uint64_t deadline = crew__deadline(ms);
	struct timespec t = { (time_t)(deadline / 1000000000ull), (long)(deadline % 1000000000ull) };

	return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &t);
}

int crew_mutex_acquire(pthread_mutex_t *mutex, int ms)
{
	int rc;

	if (!mutex)
		return -EINVAL;
	rc = ms < 0 ? pthread_mutex_lock(mutex) : ms == 0 ? pthread_mutex_trylock(mutex) : lock_within(mutex, ms);
	if (rc == EOWNERDEAD)
		pthread_mutex_unlock(mutex); /* not repaired: from now on -ENOTRECOVERABLE */
	return -rc;
}

int crew_mutex_release(pthread_mutex_t *mutex)
{
	return mutex ? -pthread_mutex_unlock(mutex) : -EINVAL;
}

static struct crew_held held_by(struct crew_held held, const char *file, int line)
{
	if (held.code)
		crew_raise_at(held.code, file, line, "the lock could not be acquired: %s", crew_strerror(held.code));
	return held;
}

struct crew_held crew_hold_mutex(pthread_mutex_t *mutex, const char *file, int line)
{
	return held_by((struct crew_held){ crew_mutex_acquire(mutex, CREW_FOREVER), mutex, { 0, 0 }, NULL }, file, line);
}

struct crew_held crew_hold_handle(crew_handle handle, int code, int (*release)(crew_handle), const char *file, int line)
{
	if (code == -EOWNERDEAD)
		release(handle); /* not repaired: the next taker is told as well */
	return held_by((struct crew_held){ code, NULL, handle, release }, file, line);
}
