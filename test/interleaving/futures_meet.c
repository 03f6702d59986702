/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * futures_meet.c: what two or three threads may do to one promise at the same time, and what must come of it.
 */
#include <crew/future.h>
#include <errno.h>
#include <stdlib.h>

#include "interleaving/scheduler.h"

static crew_future *f, *g;
static int told[2], kept, given;

static void begin(void)
{
	f = crew_future_new(CREW_TYPE_OF(int));
	g = NULL;
	told[0] = told[1] = kept = given = 0;
}

static void end(void)
{
	EXPECT(crew_future_done(f));
	crew_future_free(g);
	crew_future_free(f); /* last: it is the first that begin() gets again */
}

static void set_value(int value)
{
	int rc = crew_future_set_result(f, &value, CREW_TYPE_OF(int));

	EXPECT(rc == 0 || rc == -EALREADY || rc == -ECANCELED);
	kept += rc == 0;
}

static void set(void)
{
	set_value(7);
}

static void set_other(void)
{
	set_value(8);
}

static void cancel(void)
{
	int rc = crew_future_cancel(f, "enough");

	EXPECT(rc == 1 || rc == 0 || rc == -EALREADY);
	kept += rc == 1;
}

static void wait_for_value(void)
{
	int y = 0;

	EXPECT(crew_result(f, &y) == 0);
	EXPECT(y == 7);
}

static void wait_for_end(void)
{
	int y = 0, rc = crew_result(f, &y);

	EXPECT(rc == -ECANCELED || (rc == 0 && y >= 7));
	EXPECT(crew_future_wait(f, -1) == rc); /* and it stays so */
}

/* ---- a set, a wait ---- */

static const struct scenario set_and_wait = {
	.name = "set_and_wait", .begin = begin, .end = end, .thread = { set, wait_for_value, wait_for_value }, .preemptions = 3, .delays = 1
};

SEARCH(who_waits_for_a_promise_is_woken_by_its_set)
{
	explore(&set_and_wait);
}

SEARCH(finds_a_set_that_wakes_nobody)
{
	find(&set_and_wait, &(struct fault){ "crew__completed", NO_WAKE });
}

/* ---- who is first ---- */

static void end_of_race(void)
{
	EXPECT(kept == 1);
	end();
}

static const struct scenario two_sets_and_a_cancel = {
	.name = "two_sets_and_a_cancel", .begin = begin, .end = end_of_race, .thread = { set, set_other, cancel, wait_for_end },
	.preemptions = 2, .delays = 1
};

SEARCH(one_of_two_sets_and_a_cancel_is_first)
{
	explore(&two_sets_and_a_cancel);
}

SEARCH(finds_a_claim_that_looks_away)
{
	find(&two_sets_and_a_cancel, &(struct fault){ "claim_promise", BLIND_CAS });
}

/* ---- callbacks ---- */

static void tell(crew_future *which, void *arg)
{
	EXPECT(which == f && crew_future_done(f));
	++*(int *)arg;
}

static void subscribe(int *calls)
{
	bool done = crew_future_done(f);

	EXPECT(crew_future_on_done(f, tell, calls) == 0);
	EXPECT(*calls == 1 || !done); /* after the fact it is called at once */
}

static void subscribe_one(void)
{
	subscribe(&told[0]);
}

static void subscribe_other(void)
{
	subscribe(&told[1]);
}

static void end_of_telling(void)
{
	EXPECT(told[0] == 1 && told[1] == 1);
	end();
}

static const struct scenario set_and_subscribe = {
	.name = "set_and_subscribe", .begin = begin, .end = end_of_telling, .thread = { set, subscribe_one, subscribe_other }, .preemptions = 2, .delays = 1
};

SEARCH(each_callback_is_called_once_whenever_it_comes)
{
	explore(&set_and_subscribe);
}

SEARCH(finds_a_list_that_is_closed_without_its_mutex)
{
	find(&set_and_subscribe, &(struct fault){ "close_list", NO_LOCK });
}

SEARCH(finds_a_notice_that_is_lost)
{
	find(&set_and_subscribe, &(struct fault){ "crew__notify", BLIND_CAS });
}

/* ---- several at once ---- */

static void begin_two(void)
{
	begin();
	g = crew_future_new(CREW_TYPE_OF(int));
}

static void set_second(void)
{
	int value = 9;

	EXPECT(crew_future_set_result(g, &value, CREW_TYPE_OF(int)) == 0);
}

static void wait_for_any(void)
{
	crew_future *both[] = { f, g };
	int i = crew_wait_any(both, 2, -1);

	EXPECT(i == 0 || i == 1);
	EXPECT(crew_future_done(both[i]));
}

static const struct scenario wait_for_one_of_two = {
	.name = "wait_for_one_of_two", .begin = begin_two, .end = end, .thread = { set, set_second, wait_for_any }, .preemptions = 2
};

SEARCH(who_waits_for_one_of_two_leaves_nothing_behind)
{
	explore(&wait_for_one_of_two);
}

SEARCH(finds_an_arrival_that_wakes_nobody)
{
	find(&wait_for_one_of_two, &(struct fault){ "arrived", NO_WAKE });
}

SEARCH(finds_an_arrival_without_a_signal)
{
	find(&wait_for_one_of_two, &(struct fault){ "arrived", NO_UPDATE });
}

SEARCH(finds_a_node_that_is_freed_before_its_completer_has_left_it)
{
	find(&wait_for_one_of_two, &(struct fault){ "crew__unsubscribe", NO_LOCK });
}

/* ---- time ---- */

static void wait_a_little(void)
{
	int y = 0, rc = crew_result_within(f, &y, 5);

	EXPECT(rc == -ETIMEDOUT || (rc == 0 && y == 7));
}

static const struct scenario set_and_timeout = {
	.name = "set_and_timeout", .begin = begin, .end = end, .thread = { set, wait_a_little, wait_for_end }, .preemptions = 2, .delays = 1,
	.timeouts = TIMEOUTS_ANY
};

SEARCH(a_wait_that_times_out_takes_no_wake_from_others)
{
	explore(&set_and_timeout);
}

static void wait_a_little_for_any(void)
{
	crew_future *both[] = { f, g };
	int i = crew_wait_any(both, 2, 5);

	EXPECT(i == 0 || i == 1 || i == -ETIMEDOUT);
}

static const struct scenario timeout_of_two = {
	.name = "timeout_of_two", .begin = begin_two, .end = end, .thread = { set, set_second, wait_a_little_for_any }, .preemptions = 2,
	.timeouts = TIMEOUTS_ANY
};

SEARCH(a_wait_for_two_that_times_out_leaves_nothing_behind)
{
	explore(&timeout_of_two);
}

/* ---- giving back ---- */

static void free_it(void)
{
	crew_future_free(f);
}

static void set_and_unref(void)
{
	set();
	crew_future_unref(f);
}

static void begin_with_two_references(void)
{
	begin();
	crew_future_ref(f);
}

static const struct scenario set_and_free = {
	.name = "set_and_free", .begin = begin_with_two_references, .thread = { set_and_unref, free_it }, .preemptions = 4, .delays = 1
};

SEARCH(a_promise_may_be_given_back_while_it_is_kept)
{
	explore(&set_and_free);
}

SEARCH(finds_references_that_are_not_counted)
{
	find(&set_and_free, &(struct fault){ "drop", NO_UPDATE });
}

/* The last reference goes unkept: who was told, is told. */
static void give_up(void)
{
	crew_future_unref(f);
}

static void begin_watched(void)
{
	begin_with_two_references();
	EXPECT(crew_future_on_done(f, tell, told) == 0);
}

static void end_of_watch(void)
{
	EXPECT(told[0] == 1);
}

static const struct scenario both_give_up = {
	.name = "both_give_up", .begin = begin_watched, .end = end_of_watch, .thread = { give_up, free_it }, .preemptions = 4, .delays = 1
};

SEARCH(a_promise_that_both_sides_give_up_is_broken_once)
{
	explore(&both_give_up);
}

static const struct scenario set_and_give_up = {
	.name = "set_and_give_up", .begin = begin_watched, .end = end_of_watch, .thread = { set_and_unref, free_it }, .preemptions = 4, .delays = 1
};

SEARCH(a_promise_that_is_kept_while_the_other_side_gives_up_tells_once)
{
	explore(&set_and_give_up);
}
