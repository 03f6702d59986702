/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spinning.h: is it worth to spin for somebody who has to be woken first?
 *
 * It is, where that one wakes up on another CPU. But kernels also queue it behind its waker, on the waker's CPU, though others are idle (in a virtual
 * machine an idle CPU looks preempted), and there a spin only keeps it from running. Nobody can tell before. So each spinner remembers how its last such spin
 * has ended, and after one in vain sleeps at once, but for every eighth time.
 *
 * sched_yield() is no way out: where a third party wants the CPU it gives away a whole slice, milliseconds.
 */
#ifndef CREW_LIB_SPINNING_H
#define CREW_LIB_SPINNING_H

#include <stdbool.h>
#include <stdint.h>

enum {
	SPIN_NS = 15000, /* for a sleep's place: about what waking up costs */
	SPIN_AGAIN = 8
};

/* One spinner's; zeroes at first. */
struct spin_memory {
	bool in_vain;
	uint8_t skipped;
};

static inline bool spin_is_worth(struct spin_memory *memory)
{
	return !memory->in_vain || ++memory->skipped % SPIN_AGAIN == 0;
}

static inline void spin_ended(struct spin_memory *memory, bool found)
{
	memory->in_vain = !found;
}

#endif
