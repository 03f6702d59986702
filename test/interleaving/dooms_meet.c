/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dooms_meet.c: a task that runs in a worker is ended by force (lib/process/doom.c) while it ends by itself, while its worker takes the next one, while
 * somebody waits for it, while its worker is killed by somebody else.
 *
 * What must hold is said at the top of doom.c: the worker that is killed has this very task, or has just ended by itself. So the other task, which
 * nobody wants ended, has its result and has run once, whatever comes first.
 */
#include <crew/crew.h>
#include <errno.h>
#include <string.h>

#include "interleaving/rings.h"
#include "interleaving/scheduler.h"

enum { DOOMED, SPARED, TASKS };

static crew_future *f[TASKS];
static int ran[TASKS], lost, kills;
static bool withdrawn; /* the kill said that it never runs */
static bool meeting;   /* the doomed task waits until the engine has come so far */

CREW_TASK(int, cube, (int, n))
{
	ran[n]++;
	if (n == DOOMED && meeting) {
		schedule_rouse(RING_ENGINE);
		schedule_sleep();
	}
	return 100 + n;
}

static void open_ring(void)
{
	ring_open(&cube_crew_task);
}

static void begin(void)
{
	memset(ran, 0, sizeof ran);
	lost = kills = 0;
	withdrawn = meeting = false;
	ring_begin();
}

static void killed(int thread)
{
	kills++;
	ring_killed(thread);
}

/* ---- what may come of them ---- */

static void take_doomed(int as)
{
	crew_error error;
	int y = 0, rc = crew_take(f[DOOMED], &y, &error);

	if (rc == 0)
		EXPECT(y == 100 + DOOMED && ran[DOOMED] == 1 && !withdrawn);
	else
		EXPECT(rc == as || error.code == as || (error.code == CREW_EWORKER && !withdrawn && ++lost));
	EXPECT(!withdrawn || ran[DOOMED] == 0);
}

static void take_spared(void)
{
	crew_error error;
	int y = 0, rc = crew_take(f[SPARED], &y, &error);

	EXPECT((rc == 0 && y == 100 + SPARED && ran[SPARED] == 1) || (rc == CREW_ERAISED && error.code == CREW_EWORKER && ++lost));
}

static void stop(void)
{
	schedule_quiet(true);
	ring_stop();
}

/* Nobody but the doomed one is lost with a worker; with a kill that nobody called for, one is. */
static void end_of(int uncalled)
{
	ring_end();
	EXPECT(ran[DOOMED] <= 1 && ran[SPARED] <= 1);
	EXPECT(lost <= uncalled && kills <= uncalled + 1);
}

static void end(void)
{
	end_of(0);
}

static void end_of_kills(void)
{
	end_of(1);
}

#define RING_OF(end_)                                                                                                       \
	.open = open_ring, .begin = begin, .end = end_, .killed = killed, .signalled = ring_signalled, .timeouts = TIMEOUTS_NEVER, .keeps = true

/* ---- a kill comes at any time ---- */

static void submit(int timeout_ms)
{
	ring_known(&cube_crew_task);
	f[DOOMED] = crew_submit_with(&processes->base, (.timeout_ms = timeout_ms), cube, DOOMED);
	f[SPARED] = crew_submit(&processes->base, cube, SPARED);
}

static void kill_one(void)
{
	submit(0);
	withdrawn = crew_future_kill(f[DOOMED], "enough", 0) == 1;
	schedule_rouse(RING_ENGINE);
	take_doomed(-ECANCELED);
	take_spared();
	stop();
}

static const struct scenario kill_at_any_time = {
	.name = "kill_at_any_time", RING_OF(end), .thread = { kill_one, ring_work, ring_work, ring_be_engine }, .idle = 1 << RING_ENGINE,
	.preemptions = 2, .schedules = 5000
};

SEARCH(a_kill_may_come_before_its_task_begins)
{
	explore(&kill_at_any_time);
}

/* ---- a kill meets the end of its task, and the next task ---- */

static void begin_meeting(void)
{
	begin();
	meeting = true;
	schedule_quiet(true); /* until the engine comes */
}

static void meet(int timeout_ms, int as)
{
	submit(timeout_ms);
	take_doomed(as);
	take_spared();
	stop();
}

static void let_one_be_killed(void)
{
	meet(0, -ECANCELED);
}

/* Has no part in it until the other is dead. */
static void succeed(void)
{
	schedule_sleep();
	ring_work();
}

static void was_killed(int thread)
{
	killed(thread);
	if (thread == RING_FIRST_WORKER)
		schedule_rouse(RING_SECOND_WORKER);
}

/* The engine, once the task runs, which goes on just now. What comes after the signal is for the next scenario. */
static void doom_and_bury(void)
{
	schedule_rouse(RING_FIRST_WORKER);
	schedule_quiet(false);
	crew__timetable_run(processes);
	schedule_quiet(true);
	ring_be_engine();
}

static void carry_out_kill(void)
{
	schedule_sleep();
	EXPECT(crew_future_kill(f[DOOMED], "enough", 0) == 0);
	doom_and_bury();
}

static void carry_out_kill_before_death(void)
{
	schedule_sleep();
	EXPECT(crew_future_kill(f[DOOMED], "enough", 0) == 0);
	schedule_rouse(RING_FIRST_WORKER);
	schedule_quiet(false);
	schedule_rouse(RING_ENGINE);
	ring_be_engine();
}

#define MEETING_OF(user_, engine_, end_)                                                                                      \
	.open = open_ring, .begin = begin_meeting, .end = end_, .thread = { user_, ring_work, succeed, engine_ }, .killed = was_killed, \
	.signalled = ring_signalled, .idle = 1 << RING_SECOND_WORKER | 1 << RING_ENGINE, .timeouts = TIMEOUTS_NEVER, .keeps = true

static const struct scenario kill_and_next = {
	.name = "kill_and_next", MEETING_OF(let_one_be_killed, carry_out_kill, end), .preemptions = 2, .schedules = 12000
};

SEARCH(a_kill_ends_its_task_and_no_other)
{
	explore(&kill_and_next);
}

SEARCH(finds_a_worker_that_goes_on_though_it_is_doomed)
{
	find(&kill_and_next, &(struct fault){ "set_finished", NO_EXIT });
}

SEARCH(finds_a_doom_of_what_has_ended)
{
	find(&kill_and_next, &(struct fault){ "set_doomed", BLIND_CAS });
}

SEARCH(finds_a_doom_that_nobody_can_read)
{
	find(&kill_and_next, &(struct fault){ "set_doomed", DEAF_CAS });
}

SEARCH(finds_a_doom_that_wakes_nobody)
{
	find(&kill_and_next, &(struct fault){ "crew__settle_doomed", NO_WAKE });
}

static const struct scenario kill_and_death = {
	.name = "kill_and_death", MEETING_OF(let_one_be_killed, carry_out_kill_before_death, end_of_kills), .preemptions = 1, .mortal = 1 << RING_FIRST_WORKER,
	.kills = 1, .schedules = 12000
};

SEARCH(a_kill_may_meet_a_death)
{
	explore(&kill_and_death);
}

/* ---- a deadline does ---- */

static void let_one_be_late(void)
{
	meet(1, CREW_EDEADLINE);
}

/* Time goes by while the task runs: past its deadline, and past the courtesy. */
static void keep_time(void)
{
	schedule_sleep();
	schedule_pass(2);
	schedule_rouse(RING_ENGINE);
	ring_engine_turn();
	schedule_pass(2 * COURTESY_MS);
	doom_and_bury();
}

static const struct scenario deadline_and_next = {
	.name = "deadline_and_next", MEETING_OF(let_one_be_late, keep_time, end), .preemptions = 2, .schedules = 12000
};

SEARCH(a_deadline_ends_its_task_and_no_other)
{
	explore(&deadline_and_next);
}

SEARCH(finds_a_late_worker_that_goes_on)
{
	find(&deadline_and_next, &(struct fault){ "set_finished", NO_EXIT });
}

SEARCH(finds_a_deadline_of_what_has_ended)
{
	find(&deadline_and_next, &(struct fault){ "set_doomed", BLIND_CAS });
}
