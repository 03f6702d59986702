/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * releases_meet.c: a group over the executor over processes lets go its next task while somebody cancels that. On its way it is nobody's: the group has
 * forgotten it, the ring does not have it yet. Where it is decides who may cancel it: crew__claim_held(), crew__process_cancel(), crew__process_submit().
 *
 *	thread 0   submits two to the group, of which one may run at a time; takes the first, and so lets go the second
 *	thread 1   the only worker
 *	thread 2   cancels the second
 */
#include <crew/crew.h>
#include <errno.h>
#include <string.h>

#include "interleaving/rings.h"
#include "interleaving/scheduler.h"

enum { FIRST, SECOND, TASKS };
enum { CANCELLER = RING_SECOND_WORKER };

static crew_executor *group;
static crew_future *f[TASKS];
static int ran[TASKS];
static bool cancelled;
static int outcome; /* of the second, as its user sees it */

CREW_TASK(int, noted, (int, n))
{
	ran[n]++;
	return 100 + n;
}

static void open_ring(void)
{
	ring_open(&noted_crew_task);
}

static void begin(void)
{
	memset(ran, 0, sizeof ran);
	cancelled = false;
	ring_begin();
	group = crew_group(&processes->base, .max_running = 1);
	schedule_quiet(true);
}

static void end(void)
{
	ring_end();
	EXPECT(ran[FIRST] == 1 && ran[SECOND] == !cancelled);
	EXPECT(outcome == (cancelled ? -ECANCELED : 0));
}

/* The first is done, and has been looked for by nobody, when it becomes loud. */
static void use(void)
{
	int y = 0;

	ring_known(&noted_crew_task);
	f[FIRST] = crew_submit(group, noted, FIRST);
	f[SECOND] = crew_future_ref(crew_submit(group, noted, SECOND));
	while (ran[FIRST] == 0)
		sched_yield();
	schedule_rouse(CANCELLER);
	schedule_sleep();
	EXPECT(crew_result(f[FIRST], &y) == 0 && y == 100 + FIRST);
	outcome = crew_future_wait(f[SECOND], -1);
	schedule_quiet(true);
	EXPECT(crew_executor_close(group) == NULL);
	ring_stop();
}

static void cancel(void)
{
	int rc;

	schedule_sleep();
	schedule_rouse(RING_USER);
	schedule_quiet(false);
	rc = crew_future_cancel(f[SECOND], "enough");
	EXPECT(rc == 1 || rc == 0 || rc == -EALREADY);
	cancelled = rc == 1;
	EXPECT(crew_future_wait(f[SECOND], -1) == (cancelled ? -ECANCELED : 0));
	crew_future_unref(f[SECOND]);
}

static const struct scenario let_go_and_cancel = {
	.name = "let_go_and_cancel", .open = open_ring, .begin = begin, .end = end, .thread = { use, ring_work, cancel }, .preemptions = 2,
	.timeouts = TIMEOUTS_NEVER, .keeps = true, .schedules = 12000
};

SEARCH(what_a_group_lets_go_is_cancelled_or_run_by_a_process)
{
	explore(&let_go_and_cancel);
}

SEARCH(finds_a_cancel_that_takes_what_the_ring_has)
{
	find(&let_go_and_cancel, &(struct fault){ "crew__revoke", BLIND_CAS });
}

SEARCH(finds_a_ring_that_takes_what_was_cancelled_on_its_way)
{
	find(&let_go_and_cancel, &(struct fault){ "crew__process_submit", BLIND_LOAD });
}

SEARCH(finds_a_group_that_lets_go_to_the_ring_what_was_cancelled)
{
	find(&let_go_and_cancel, &(struct fault){ "release_backlog", BLIND_CAS });
}
