/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inboxes_meet.c: lib/core/inbox.c between those who complete and the loop that sleeps on its descriptor: each future is delivered once, no ring is
 * lost, and the inbox may be closed as soon as the last one was delivered, whatever its completer is still at.
 */
#include <crew/crew.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>

#include "interleaving/hands.h"
#include "interleaving/scheduler.h"

enum { LOOP, FIRST_WORKER, SECOND_WORKER, OTHER };
enum { TASKS = 3 };

static crew_executor *ex;
static crew_inbox *inbox;
static crew_future *f;
static int told[TASKS];

CREW_TASK(int, square, (int, n))
{
	return n * n;
}

static void begin(unsigned workers)
{
	ex = hands_open(workers);
	inbox = crew_inbox_open();
	EXPECT(inbox);
	memset(told, 0, sizeof told);
	f = NULL;
}

static void end(void)
{
	EXPECT(crew_executor_close(ex) == NULL);
}

/* ---- a loop ---- */

static void tell(crew_future *done, void *arg)
{
	int n = (int)((int *)arg - told), y = 0;

	EXPECT(crew_result(done, &y) == 0 && y == n * n);
	told[n]++;
}

static int told_of(int n)
{
	int sum = 0;

	for (int i = 0; i < n; i++) {
		EXPECT(told[i] <= 1);
		sum += told[i];
	}
	return sum;
}

static crew_future *submit_one(int n)
{
	return crew_submit_with(ex, (.on_done = tell, .on_done_arg = &told[n], .inbox = inbox), square, n);
}

/* Nobody looks into an inbox unless its descriptor says so. */
static bool is_readable(int fd)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) == 1;
}

static void drain_until(int n)
{
	while (told_of(n) < n)
		if (is_readable(crew_inbox_fd(inbox)))
			EXPECT(crew_inbox_drain(inbox) >= 0);
		else
			sched_yield();
}

static void close_inbox(void)
{
	EXPECT(crew_inbox_close(inbox) == NULL);
	hands_stop(ex);
}

static void work(void)
{
	hands_work(ex);
}

/* ---- two complete, one drains and closes ---- */

static void begin_two_workers(void)
{
	begin(1 << FIRST_WORKER | 1 << SECOND_WORKER);
}

static void run_loop(void)
{
	submit_one(0);
	submit_one(1);
	drain_until(2);
	close_inbox();
}

static const struct scenario inbox_closed = {
	.name = "inbox_closed", .begin = begin_two_workers, .end = end, .thread = { run_loop, work, work }, .preemptions = 2,
	.schedules = 8000
};

SEARCH(an_inbox_may_be_closed_once_all_is_delivered)
{
	explore(&inbox_closed);
}

SEARCH(finds_an_inbox_that_does_not_ring)
{
	find(&inbox_closed, &(struct fault){ "crew__inbox_put", NO_WAKE });
}

SEARCH(finds_a_push_that_looks_away)
{
	find(&inbox_closed, &(struct fault){ "crew__inbox_put", BLIND_CAS });
}

SEARCH(finds_a_close_that_does_not_wait_for_who_rings)
{
	find(&inbox_closed, &(struct fault){ "crew__inbox_put", NO_UPDATE });
}

SEARCH(finds_an_inbox_that_is_looked_at_and_not_emptied)
{
	find(&inbox_closed, &(struct fault){ "take_all", NO_UPDATE });
}

static void begin_one_worker(void)
{
	begin(1 << FIRST_WORKER);
}

static const struct scenario inbox_of_one = {
	.name = "inbox_of_one", .begin = begin_one_worker, .end = end, .thread = { run_loop, work }, .preemptions = 3,
	.schedules = 8000
};

SEARCH(an_inbox_rings_for_what_comes_while_it_is_drained)
{
	explore(&inbox_of_one);
}

SEARCH(finds_a_descriptor_that_is_emptied_after_its_inbox)
{
	find(&inbox_of_one, &(struct fault){ "crew_inbox_drain", LATE });
}

/* ---- two loops on one inbox ---- */

static void drain_both(void)
{
	drain_until(2);
	hands_stop(ex);
}

static void submit_and_drain(void)
{
	submit_one(0);
	submit_one(1);
	drain_both();
}

static void end_of_two_loops(void)
{
	EXPECT(told_of(2) == 2);
	close_inbox();
	end();
}

static const struct scenario two_loops = {
	.name = "two_loops", .begin = begin_one_worker, .end = end_of_two_loops, .thread = { submit_and_drain, work, drain_both }, .preemptions = 2,
	.schedules = 4000
};

SEARCH(two_loops_on_one_inbox_share_what_comes)
{
	explore(&two_loops);
}

/* ---- an executor's own inbox ---- */

static void submit_to_own(int n)
{
	crew_submit_to(ex, tell, &told[n], square, n);
}

static void use_own(void)
{
	submit_to_own(0);
	while (told_of(2) < 2)
		if (is_readable(crew_executor_fd(ex)))
			EXPECT(crew_drain(ex) >= 0);
		else
			sched_yield();
	hands_stop(ex);
}

static void use_own_too(void)
{
	submit_to_own(1);
}

static void end_of_own(void)
{
	close_inbox(); /* which nobody used */
	end();
}

static const struct scenario own_inbox = {
	.name = "own_inbox", .begin = begin_one_worker, .end = end_of_own, .thread = { use_own, work, use_own_too }, .preemptions = 2,
	.schedules = 5000
};

SEARCH(two_that_are_first_get_one_inbox)
{
	explore(&own_inbox);
}

SEARCH(finds_an_executor_with_two_inboxes)
{
	find(&own_inbox, &(struct fault){ "crew__inbox_of", BLIND_CAS });
}

/* ---- others wait for what is delivered, or stop it ---- */

static void run_loop_with_others(void)
{
	f = submit_one(0);
	crew_future_ref(f);
	crew_future_ref(f);
	schedule_rouse(SECOND_WORKER); /* who is none here */
	schedule_rouse(OTHER);
	drain_until(1);
	close_inbox();
}

static void join(void)
{
	int y = -1;

	schedule_sleep();
	EXPECT(crew_future_wait(f, -1) == 0);
	EXPECT(crew_result(f, &y) == 0 && y == 0);
	crew_future_unref(f);
}

static const struct scenario inbox_and_joins = {
	.name = "inbox_and_joins", .begin = begin_one_worker, .end = end, .thread = { run_loop_with_others, work, join, join }, .preemptions = 2,
	.timeouts = TIMEOUTS_NEVER, .schedules = 8000
};

SEARCH(who_waits_for_a_future_may_be_later_than_its_delivery)
{
	explore(&inbox_and_joins);
}

SEARCH(finds_a_delivery_without_a_reference)
{
	find(&inbox_and_joins, &(struct fault){ "crew__retain", NO_UPDATE });
}

SEARCH(finds_a_completion_that_wakes_none_of_several)
{
	find(&inbox_and_joins, &(struct fault){ "crew__completed", NO_WAKE });
}

static void tell_whatever(crew_future *done, void *arg)
{
	int rc = crew_future_wait(done, 0);

	EXPECT(rc == 0 || rc == -ECANCELED);
	++*(int *)arg;
}

static void run_loop_with_a_cancel(void)
{
	f = crew_submit_with(ex, (.on_done = tell_whatever, .on_done_arg = &told[0], .inbox = inbox), square, 0);
	crew_future_ref(f);
	schedule_rouse(SECOND_WORKER);
	drain_until(1);
	close_inbox();
}

static void cancel(void)
{
	int rc;

	schedule_sleep();
	rc = crew_future_cancel(f, "enough");
	EXPECT(rc == 1 || rc == 0 || rc == -EALREADY);
	EXPECT(crew_future_wait(f, -1) == (rc == 1 ? -ECANCELED : 0));
	crew_future_unref(f);
}

static const struct scenario inbox_and_cancel = {
	.name = "inbox_and_cancel", .begin = begin_one_worker, .end = end, .thread = { run_loop_with_a_cancel, work, cancel }, .preemptions = 2,
	.timeouts = TIMEOUTS_NEVER, .schedules = 8000
};

SEARCH(what_is_cancelled_is_delivered_once)
{
	explore(&inbox_and_cancel);
}

SEARCH(finds_a_cancel_that_takes_what_runs)
{
	find(&inbox_and_cancel, &(struct fault){ "crew__revoke", BLIND_CAS });
}
