/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spinning.h: is it worth to spin for somebody who has to be woken first?
 *
 * It is, where that one wakes up on another CPU. But kernels also queue it behind its waker, on the waker's CPU, though others are idle (in a virtual
 * machine an idle CPU looks preempted), and there a spin only keeps it from running. Nobody can tell before. So each spinner remembers how its last such spin
 * has ended, and after one in vain sleeps at once, but for every eighth time.
 *
 * A conversation is another thing: the next question follows an answer within a spin's time. Then both sides spin, and who is woken on its waker's CPU moves to
 * another. Who asks knows, and tells whom it wakes: that one cannot tell the time of a wake from a pause.
 *
 * sched_yield() is no way out: where a third party wants the CPU it gives away a whole slice, milliseconds.
 */
#ifndef CREW_LIB_SPINNING_H
#define CREW_LIB_SPINNING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

enum {
	SPIN_NS = 15000, /* for a sleep's place: about what waking up costs */
	SPIN_AGAIN = 8
};

/* One spinner's; zeroes at first. */
struct spin_memory {
	bool in_vain;
	uint8_t skipped;
};

/* When this thread had its last answer from whom it had woken. initial-exec: no call, no allocation. */
extern __thread uint64_t crew__answered __attribute__((__tls_model__("initial-exec")));

/* It asks now: is this a conversation? */
static inline bool is_conversation(uint64_t now)
{
	return now - crew__answered < SPIN_NS;
}

static inline bool spin_is_worth(struct spin_memory *memory)
{
	return !memory->in_vain || ++memory->skipped % SPIN_AGAIN == 0;
}

static inline void spin_ended(struct spin_memory *memory, bool found)
{
	memory->in_vain = !found;
}

#endif
