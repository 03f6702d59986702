/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * groups_meet.c: lib/core/group.c and completion.c: a group is closed while the last of its tasks ends, lets go the next one, is told of a failure, or
 * tells somebody who asks just then. Whatever comes first, close returns, nothing touches the group after it, and each task ends once.
 */
#include <crew/crew.h>
#include <errno.h>
#include <string.h>

#include "interleaving/hands.h"
#include "interleaving/scheduler.h"

enum { OWNER, WORKER, OTHER, SECOND_OTHER };
enum { TASKS = 3 };

static crew_executor *ex, *group;
static crew_future *f[TASKS];
static uint32_t runs[TASKS];
static int told;
static bool cancelled; /* somebody's cancel said that it never runs: f[1] */

CREW_TASK(int, square, (int, n))
{
	ck_pr_inc_32(&runs[n]);
	return n * n;
}

CREW_TASK(int, fails, (int, n))
{
	ck_pr_inc_32(&runs[n]);
	return crew_raise(-EDOM, "on purpose");
}

static void open_group(unsigned workers)
{
	ex = hands_open(workers);
	memset(runs, 0, sizeof runs);
	told = 0;
	cancelled = false;
}

static void close_group(void)
{
	EXPECT(crew_executor_close(group) == NULL);
	hands_stop(ex);
}

static void end(void)
{
	for (int i = 0; i < TASKS; i++)
		EXPECT(runs[i] <= 1);
	EXPECT(!cancelled || runs[1] == 0);
	EXPECT(crew_executor_close(ex) == NULL);
}

static void work(void)
{
	hands_work(ex);
}

/* ---- closed under its tasks ---- */

static void begin_one_at_a_time(void)
{
	open_group(1 << WORKER | 1 << OTHER);
	group = crew_group(ex, .max_running = 1);
}

static void submit_two_and_close(void)
{
	f[0] = crew_submit(group, square, 0);
	f[1] = crew_submit(group, square, 1);
	close_group();
}

static void end_of_two(void)
{
	EXPECT(runs[0] == 1 && runs[1] == 1);
	end();
}

static const struct scenario group_closed = {
	.name = "group_closed", .begin = begin_one_at_a_time, .end = end_of_two, .thread = { submit_two_and_close, work, work }, .preemptions = 2,
	.timeouts = TIMEOUTS_NEVER, .schedules = 8000
};

SEARCH(a_group_may_be_closed_while_its_last_task_ends)
{
	explore(&group_closed);
}

SEARCH(finds_an_end_that_the_closer_does_not_hear_of)
{
	find(&group_closed, &(struct fault){ "signal_change", NO_WAKE });
}

SEARCH(finds_a_group_that_is_used_after_its_last_unlock)
{
	find(&group_closed, &(struct fault){ "signal_change", LATE });
}

SEARCH(finds_a_sleep_for_a_change_that_was_before)
{
	find(&group_closed, &(struct fault){ "signal_change", NO_UPDATE });
}

SEARCH(finds_a_task_that_is_let_go_and_still_held)
{
	find(&group_closed, &(struct fault){ "release_backlog", DEAF_CAS });
}

/* ---- who waits for room ---- */

static void begin_with_little_room(void)
{
	open_group(1 << WORKER | 1 << OTHER);
	group = crew_group(ex, .max_running = 1, .max_queued = 1);
}

static void submit_three_and_close(void)
{
	for (int i = 0; i < TASKS; i++)
		crew_submit(group, square, i);
	close_group();
}

static void end_of_three(void)
{
	EXPECT(runs[0] == 1 && runs[1] == 1 && runs[2] == 1);
	end();
}

static const struct scenario room_in_group = {
	.name = "room_in_group", .begin = begin_with_little_room, .end = end_of_three, .thread = { submit_three_and_close, work, work },
	.preemptions = 2, .timeouts = TIMEOUTS_NEVER, .schedules = 5000
};

SEARCH(who_waits_for_room_in_a_group_gets_it)
{
	explore(&room_in_group);
}

SEARCH(finds_room_that_nobody_is_told_of)
{
	find(&room_in_group, &(struct fault){ "signal_change", NO_WAKE });
}

/* ---- a callback comes while its future ends, and its group is closed ---- */

static void begin_plain(void)
{
	open_group(1 << WORKER);
	group = crew_group(ex);
}

static void tell(crew_future *which, void *arg)
{
	EXPECT(which == f[0] && crew_future_done(which));
	++*(int *)arg;
}

static void submit_and_close(void)
{
	int told_before = 0;

	f[0] = crew_submit(group, square, 0);
	crew_future_ref(f[0]);
	EXPECT(crew_future_on_done(f[0], tell, &told_before) == 0);
	schedule_rouse(OTHER);
	EXPECT(crew_executor_close(group) == NULL);
	EXPECT(told_before == 1);
	hands_stop(ex);
}

static void subscribe(void)
{
	bool done;

	schedule_sleep();
	done = crew_future_done(f[0]);
	EXPECT(crew_future_on_done(f[0], tell, &told) == 0);
	EXPECT(told == 1 || !done); /* after the fact it is called at once */
	crew_future_unref(f[0]);
}

static void end_of_telling(void)
{
	EXPECT(told == 1);
	end();
}

static const struct scenario group_and_callback = {
	.name = "group_and_callback", .begin = begin_plain, .end = end_of_telling, .thread = { submit_and_close, work, subscribe }, .preemptions = 2,
	.delays = 1, .timeouts = TIMEOUTS_NEVER, .schedules = 8000
};

SEARCH(a_callback_may_come_while_its_future_ends_and_its_group_closes)
{
	explore(&group_and_callback);
}

SEARCH(finds_a_closer_that_does_not_wait_for_callbacks)
{
	find(&group_and_callback, &(struct fault){ "crew__notify", DEAF_CAS });
}

/* ---- a callback gives back what it was called for, perhaps before its registering has returned ---- */

static void give_back(crew_future *which, void *arg)
{
	++*(int *)arg;
	crew_future_free(which);
}

CREW_TASK(int, waits)
{
	schedule_rouse(OWNER);
	schedule_sleep();
	return 0;
}

static void begin_meeting(void)
{
	begin_plain();
	schedule_quiet(true); /* until the task is about to end */
}

static void submit_and_forget(void)
{
	crew_future *done = crew_submit(group, waits);

	schedule_sleep();
	schedule_rouse(WORKER);
	schedule_quiet(false);
	EXPECT(crew_future_on_done(done, give_back, &told) == 0);
	schedule_quiet(true);
	close_group();
}

static const struct scenario group_and_forget = {
	.name = "group_and_forget", .begin = begin_meeting, .end = end_of_telling, .thread = { submit_and_forget, work }, .preemptions = 3,
	.timeouts = TIMEOUTS_NEVER, .schedules = 8000
};

SEARCH(a_callback_may_give_back_its_future_while_it_is_registered)
{
	explore(&group_and_forget);
}

/* ---- a cancel meets the letting go ---- */

static void cancel_second(void)
{
	int rc;

	schedule_sleep();
	rc = crew_future_cancel(f[1], "enough");
	EXPECT(rc == 1 || rc == 0 || rc == -EALREADY);
	cancelled = rc == 1;
	EXPECT(crew_future_wait(f[1], -1) == (cancelled ? -ECANCELED : 0));
	crew_future_unref(f[1]);
}

static void begin_one_by_one(void)
{
	open_group(1 << WORKER);
	group = crew_group(ex, .max_running = 1);
}

static void submit_two_of_which_one_is_shared(void)
{
	f[0] = crew_submit(group, square, 0);
	f[1] = crew_future_ref(crew_submit(group, square, 1));
	schedule_rouse(OTHER);
	close_group();
}

static void end_of_cancel(void)
{
	EXPECT(runs[0] == 1 && runs[1] == !cancelled);
	end();
}

static const struct scenario group_and_cancel = {
	.name = "group_and_cancel", .begin = begin_one_by_one, .end = end_of_cancel,
	.thread = { submit_two_of_which_one_is_shared, work, cancel_second }, .preemptions = 2, .timeouts = TIMEOUTS_NEVER, .schedules = 8000
};

SEARCH(what_a_group_lets_go_may_be_cancelled_on_its_way)
{
	explore(&group_and_cancel);
}

SEARCH(finds_a_group_that_lets_go_what_was_cancelled)
{
	find(&group_and_cancel, &(struct fault){ "release_backlog", BLIND_CAS });
}

SEARCH(finds_a_cancel_that_takes_what_was_let_go)
{
	find(&group_and_cancel, &(struct fault){ "crew__revoke", BLIND_CAS });
}

/* ---- one fails, its siblings are cancelled, and given back meanwhile ---- */

static void begin_siblings(void)
{
	open_group(1 << WORKER | 1 << OTHER);
	group = crew_group(ex, .on_error = CREW_CANCEL_SIBLINGS);
}

static void submit_siblings(void)
{
	f[0] = crew_submit(group, fails, 0);
	f[1] = crew_submit(group, square, 1);
	crew_future_free(f[1]);
	f[2] = crew_submit(group, square, 2);
	EXPECT(crew_future_wait(f[0], -1) == CREW_ERAISED);
	crew_future_free(f[2]);
	close_group();
}

static void end_of_siblings(void)
{
	EXPECT(runs[0] == 1);
	end();
}

static const struct scenario siblings = {
	.name = "siblings", .begin = begin_siblings, .end = end_of_siblings, .thread = { submit_siblings, work, work }, .preemptions = 2,
	.timeouts = TIMEOUTS_NEVER, .schedules = 6000
};

SEARCH(siblings_of_what_failed_may_be_given_back_and_their_group_closed)
{
	explore(&siblings);
}

SEARCH(finds_a_sibling_that_is_cancelled_without_being_held)
{
	find(&siblings, &(struct fault){ "crew__pin", DEAF_CAS });
}

SEARCH(finds_two_completers_of_one_sibling)
{
	find(&siblings, &(struct fault){ "crew__revoke", BLIND_CAS });
}
