/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * patience.h: sleeping on a word that other processes change, any of whom may be killed before he wakes us.
 *
 * So nobody sleeps for longer than a slice without a look at the word and at who should change it. Slices grow from 20 ms to 640 ms: a death costs those who
 * wait at most as long again as they have waited, and a sleeper that waits for hours wakes up three times in two seconds.
 */
#ifndef CREW_LIB_PATIENCE_H
#define CREW_LIB_PATIENCE_H

#include "base/atomic.h"
#include "base/futex.h"

struct patience {
	uint64_t deadline, slice;
};
#ifdef CREW_FAULT_SOUND_SLEEP
#define SLICE_LEAST (3600000 * MS_TO_NS)
#else
#define SLICE_LEAST (20 * MS_TO_NS)
#endif
#define SLICE_MOST (640 * MS_TO_NS)

static inline struct patience patience_for(int ms)
{
	return (struct patience){ crew__deadline(ms), SLICE_LEAST };
}

static inline bool patience_is_over(const struct patience *p)
{
	return p->deadline != NEVER && crew__now() >= p->deadline;
}

/* Sleep while *word is value, for a slice at most. True: the whole slice has passed, or the deadline: time to look who lives. */
static inline bool patience_sleep(struct patience *p, const uint32_t *word, uint32_t value)
{
	uint64_t end = crew__now() + p->slice;

	crew__futex_wait(word, value, end < p->deadline ? end : p->deadline, true);
	if (crew__now() < end && !patience_is_over(p))
		return false;
	if (p->slice < SLICE_MOST)
		p->slice *= 2;
	return true;
}

/* The half of a 64-bit word that a futex can look at: its flags and the seat of its owner. */
static inline const uint32_t *low_half(const uint64_t *word)
{
	return (const uint32_t *)(const void *)word + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

#endif
