/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clock.h: time inside the library is absolute monotonic nanoseconds; milliseconds are for the border.
 */
#ifndef CREW_LIB_CLOCK_H
#define CREW_LIB_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NEVER UINT64_MAX /* a deadline that does not come */
#define MS_TO_NS 1000000ull

static inline uint64_t crew__now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* -1 for ever, 0 now. */
static inline uint64_t crew__deadline(int ms)
{
	return ms < 0 ? NEVER : crew__now() + (uint64_t)ms * MS_TO_NS;
}

/* Milliseconds left, rounded up, so that nobody polls a deadline that is a fraction away; -1 for ever. */
static inline int crew__ms_left(uint64_t deadline)
{
	uint64_t now, ms;

	if (deadline == NEVER)
		return -1;
	now = crew__now();
	if (deadline <= now)
		return 0;
	ms = (deadline - now + MS_TO_NS - 1) / MS_TO_NS;
	return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

#endif
