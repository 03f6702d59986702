/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * frames_meet.c: lib/thread/frames.c, one owner that spawns and syncs, and thieves: each call is made once, each sync gets its result.
 *
 * The pool is only the shape that frames.c needs: workers that nobody starts; its threads are the scenario's.
 */
#include <crew/spawn.h>
#include <crew/task.h>
#include <string.h>

#include "interleaving/scheduler.h"
#include "thread/thread_pool.h"

enum { WORKERS = 3, CALLS = 8 };

static struct thread_pool pool;
static struct thread_worker workers[WORKERS];
static uint32_t calls[CALLS];
static int busy; /* threads that have not detached */
static struct crew_frame **const untouched = (struct crew_frame **)(uintptr_t)0x5a5a5a50;

CREW_TASK(int, called, (int, i))
{
	ck_pr_inc_32(&calls[i]);
	return 100 + i;
}

/* Two frames below another. */
CREW_TASK(int, calls_two, (int, i))
{
	ck_pr_inc_32(&calls[i]);
	crew_spawn(called, a, i + 1);
	crew_spawn(called, b, i + 2);
	return crew_sync(called, b) + crew_sync(called, a);
}

static void begin(void)
{
	memset(calls, 0, sizeof calls);
	busy = WORKERS;
	pool.workers = workers;
	pool.count = pool.high = WORKERS;
	pool.limit = WORKERS;
	for (int i = 0; i < WORKERS; i++) {
		struct crew_frame **frames = workers[i].frames; /* stays mapped */

		memset(&workers[i], 0, sizeof workers[i]);
		workers[i].frames = frames;
		workers[i].pool = &pool;
		workers[i].index = i;
		workers[i].waker_cpu = -1;
	}
}

static void attach(void)
{
	struct thread_worker *w = &workers[schedule_thread()];

	crew__frames_attach(w);
	crew__context_init(&w->context, &pool.base, w->index);
}

/* As the end of its thread: from here on nobody may write to this thread's memory. */
static void detach(void)
{
	struct thread_worker *w = &workers[schedule_thread()];

	EXPECT(w->shared == 0 || !w->frames || (w->shared >> 32) == (uint32_t)w->shared);
	crew__context_fini(&w->context);
	crew__frames_detach(w);
	crew_frames.limit = untouched;
}

static void end(void)
{
	for (int i = 0; i < WORKERS && workers[i].owner; i++)
		EXPECT(workers[i].owner->limit == untouched);
}

static void end_of(int count)
{
	for (int i = 0; i < CALLS; i++)
		EXPECT(calls[i] == (i < count));
	end();
}

static void steal_once(void)
{
	attach();
	crew__frames_steal(&workers[schedule_thread()]);
	detach();
}

static void steal_twice(void)
{
	attach();
	crew__frames_steal(&workers[schedule_thread()]);
	crew__frames_steal(&workers[schedule_thread()]);
	detach();
}

/* ---- the last frame ---- */

static void spawn_one(void)
{
	attach();
	{
		crew_spawn(called, a, 0);
		EXPECT(crew_sync(called, a) == 100);
	}
	detach();
}

static void end_of_one(void)
{
	end_of(1);
}

static const struct scenario last_frame = {
	.name = "last_frame", .begin = begin, .end = end_of_one, .thread = { spawn_one, steal_once, steal_once }, .preemptions = 3, .delays = 1,
	.timeouts = TIMEOUTS_NEVER
};

SEARCH(the_last_frame_is_its_owners_or_one_thiefs)
{
	explore(&last_frame);
}

SEARCH(finds_a_frame_that_two_take)
{
	find(&last_frame, &(struct fault){ "shared_cas", BLIND_CAS });
}

SEARCH(finds_a_thief_that_wakes_nobody)
{
	find(&last_frame, &(struct fault){ "run_stolen", NO_WAKE });
}

SEARCH(finds_a_thief_that_does_not_say_that_it_is_done)
{
	find(&last_frame, &(struct fault){ "run_stolen", NO_UPDATE });
}

SEARCH(finds_an_owner_that_sleeps_unseen)
{
	find(&last_frame, &(struct fault){ "join", BLIND_CAS });
}

/* ---- several frames, asking for more ---- */

static void spawn_three(void)
{
	attach();
	for (int round = 0; round < 2; round++) {
		crew_spawn(called, a, 4 * round);
		crew_spawn(called, b, 4 * round + 1);
		crew_spawn(called, c, 4 * round + 2);
		EXPECT(crew_sync(called, c) + crew_sync(called, a) + crew_sync(called, b) == 3 * 101 + 12 * round);
		ck_pr_inc_32(&calls[4 * round + 3]);
	}
	detach();
}

static void end_of_all(void)
{
	end_of(CALLS);
}

static const struct scenario three_frames = {
	.name = "three_frames", .begin = begin, .end = end_of_all, .thread = { spawn_three, steal_twice }, .preemptions = 3,
	.timeouts = TIMEOUTS_NEVER
};

SEARCH(frames_are_taken_and_taken_back_in_any_order)
{
	explore(&three_frames);
}

SEARCH(finds_an_owner_that_does_not_share_what_it_says)
{
	find(&three_frames, &(struct fault){ "share", NO_STORE });
}

/* ---- the asked one ends ---- */

static void ask(void)
{
	attach();
	crew__frames_arm(&workers[0]);
	crew__frames_steal(&workers[schedule_thread()]);
	detach();
}

static void spawn_and_disarm(void)
{
	attach();
	{
		crew_spawn(called, a, 0);
		crew_spawn(called, b, 1);
		crew_spawn(called, c, 2);
		EXPECT(crew_sync(called, c) + crew_sync(called, b) + crew_sync(called, a) == 303);
	}
	detach();
}

static void end_of_three(void)
{
	end_of(3);
}

static const struct scenario asked_at_its_end = {
	.name = "asked_at_its_end", .begin = begin, .end = end_of_three, .thread = { spawn_and_disarm, ask, ask }, .preemptions = 2,
	.delays = 1, .timeouts = TIMEOUTS_NEVER, .schedules = 50000
};

SEARCH(nobody_asks_in_the_memory_of_a_thread_that_has_ended)
{
	explore(&asked_at_its_end);
}

SEARCH(finds_an_asker_that_does_not_look_whether_it_may)
{
	find(&asked_at_its_end, &(struct fault){ "crew__frames_arm", BLIND_CAS });
}

/* ---- leapfrogging: who waits takes from its taker ---- */

static void spawn_deep(void)
{
	attach();
	{
		crew_spawn(calls_two, a, 0);
		crew_spawn(called, b, 3);
		EXPECT(crew_sync(called, b) == 103);
		EXPECT(crew_sync(calls_two, a) == 203);
	}
	detach();
}

static void end_of_four(void)
{
	end_of(4);
}

static const struct scenario leapfrog = {
	.name = "leapfrog", .begin = begin, .end = end_of_four, .thread = { spawn_deep, steal_once }, .preemptions = 3,
	.timeouts = TIMEOUTS_NEVER
};

SEARCH(who_waits_for_a_stolen_call_helps_its_taker)
{
	explore(&leapfrog);
}
