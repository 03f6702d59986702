/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * futex.h: sleep until a word changes.
 *
 * Deadlines are absolute: under a storm of signals a relative timeout would start anew at each EINTR and never end. Every wait may return
 * early for no reason; callers look again. `shared` words lie in memory of several processes.
 */
#ifndef CREW_LIB_FUTEX_H
#define CREW_LIB_FUTEX_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static inline void crew__futex_wait(const uint32_t *word, uint32_t value, uint64_t deadline, bool shared)
{
	struct timespec t = { (time_t)(deadline / 1000000000ull), (long)(deadline % 1000000000ull) };

	syscall(SYS_futex, word, FUTEX_WAIT_BITSET | (shared ? 0 : FUTEX_PRIVATE_FLAG), value,
		deadline == NEVER ? NULL : &t, NULL, FUTEX_BITSET_MATCH_ANY);
}

/* Until either changes: a private word, or one that processes share; or until the deadline, which is not NEVER. A kernel before 5.16 looks at the first
   only, for 2 ms. */
static inline void crew__futex_wait_either(const uint32_t *word, uint32_t value, const uint32_t *shared, uint32_t shared_value,
					   uint64_t deadline)
{
	uint64_t soon = crew__now() + 2 * MS_TO_NS;
	struct futex_waitv both[2] = {
		{ .val = value, .uaddr = (uintptr_t)word, .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG },
		{ .val = shared_value, .uaddr = (uintptr_t)shared, .flags = FUTEX_32 },
	};
	struct timespec t = { (time_t)(deadline / 1000000000ull), (long)(deadline % 1000000000ull) };

	if (syscall(SYS_futex_waitv, both, 2, 0, &t, CLOCK_MONOTONIC) < 0 && errno == ENOSYS)
		crew__futex_wait(word, value, deadline < soon ? deadline : soon, false);
}

static inline void crew__futex_wake(const uint32_t *word, int count, bool shared)
{
	syscall(SYS_futex, word, FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG), count, NULL, NULL, 0);
}

#endif
