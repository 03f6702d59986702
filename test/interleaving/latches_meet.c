/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * latches_meet.c: lib/base/latch.h under three threads: never two inside, and nobody sleeps for ever.
 *
 * It looks twice before it sleeps here, so that a schedule stays short. With a wake left out, a thread has to be found asleep.
 */
#include "base/latch.h"
#include "interleaving/scheduler.h"

static struct latch latch;
static uint32_t inside, passed;

static void begin(void)
{
	latch = (struct latch){ 0 };
	inside = passed = 0;
}

static void end(void)
{
	EXPECT(passed == 3);
	EXPECT(latch.word == LATCH_FREE);
}

__attribute__((__noinline__)) static void leave(void)
{
	latch_release(&latch);
}

static void pass(void)
{
	latch_take(&latch);
	ck_pr_inc_32(&inside); /* a step, between which another may come */
	EXPECT(ck_pr_load_32(&inside) == 1);
	ck_pr_dec_32(&inside);
	passed++;
	leave();
}

static const struct scenario three = { .name = "three", .begin = begin, .end = end, .thread = { pass, pass, pass }, .preemptions = 2, .delays = 1,
				       .timeouts = TIMEOUTS_NEVER, .schedules = 25000 };

SEARCH(one_at_a_time_has_a_latch_and_nobody_sleeps_for_ever)
{
	explore(&three);
}

SEARCH(a_latch_released_without_a_wake_is_found)
{
	find(&three, &(struct fault){ "leave", NO_WAKE });
}

SEARCH(a_latch_that_does_not_look_whether_it_is_taken_is_found)
{
	find(&three, &(struct fault){ "pass", BLIND_CAS });
}
