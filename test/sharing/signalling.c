/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signalling.c: semaphores, events and conditions.
 */
#include <sched.h>
#include <unistd.h>

#include "sharers.h"

struct scene {
	crew_semaphore semaphore;
	crew_event event, ready;
	crew_condition condition;
	crew_value count, inside, most; /* int */
	size_t times;
};

static struct scene open_scene(int units, int bound)
{
	struct scene s = { crew_semaphore_make(units, bound), crew_event_make(), crew_event_make(), crew_condition_make((crew_rlock){ { 0, 0 } }),
			   crew_value_make(int, 0), crew_value_make(int, 0), crew_value_make(int, 0), test_scaled(4000) };

	CHECK_EQ(crew_handle_error(s.semaphore), 0);
	CHECK_EQ(crew_handle_error(s.condition), 0);
	return s;
}

static void close_scene(struct scene *s)
{
	CHECK_EQ(crew_drop(s->semaphore), 0);
	CHECK_EQ(crew_drop(s->event), 0);
	CHECK_EQ(crew_drop(s->ready), 0);
	CHECK_EQ(crew_drop(s->condition), 0);
	CHECK_EQ(crew_drop(s->count), 0);
	CHECK_EQ(crew_drop(s->inside), 0);
	CHECK_EQ(crew_drop(s->most), 0);
}

static void await_count(struct scene *s, int n)
{
	while (crew_value_load(s->count) < n)
		sched_yield();
}

/* ---- semaphores ---- */

static void go_in_and_out(int i, void *arg)
{
	struct scene *s = arg;

	(void)i;
	for (size_t k = 0; k < s->times; k++)
		CREW_WITH (s->semaphore) {
			int64_t now = crew_value_add(s->inside, 1) + 1, most = crew_value_load(s->most);

			while (now > most && !crew_value_cas(s->most, most, now))
				most = crew_value_load(s->most);
			crew_value_add(s->inside, -1);
		}
}
TEST_CARRIED(a_semaphore_lets_as_many_in_as_it_has_units)
{
	struct scene s = open_scene(3, 3);

	crowd_start(6, go_in_and_out, &s);
	crowd_join();
	CHECK_LE(crew_value_load(s.most), 3);
	CHECK_EQ(crew_semaphore_value(s.semaphore), 3);
	close_scene(&s);
}

TEST(a_bound_is_kept_and_no_bound_is_none)
{
	struct scene s = open_scene(2, 2), free = open_scene(2, 0);

	CHECK_EQ(crew_release(s.semaphore), -EOVERFLOW);
	CHECK_EQ(crew_acquire(s.semaphore), 0);
	CHECK_EQ(crew_acquire(s.semaphore), 0);
	CHECK_EQ(crew_try_acquire(s.semaphore), -EBUSY);
	CHECK_EQ(crew_acquire_within(s.semaphore, 20), -ETIMEDOUT);
	CHECK_EQ(crew_release(s.semaphore), 0);
	CHECK_EQ(crew_semaphore_value(s.semaphore), 1);
	CHECK_EQ(crew_release(free.semaphore), 0);
	CHECK_EQ(crew_release(free.semaphore), 0);
	CHECK_EQ(crew_semaphore_value(free.semaphore), 4);
	CHECK_EQ(crew_handle_error(crew_semaphore_make(-1, 0)), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_semaphore_make(3, 2)), -EINVAL);
	CHECK_EQ(crew_acquire(crew_semaphore_make(3, 2)), -EINVAL);
	close_scene(&s);
	close_scene(&free);
	CHECK_EQ(crew_release(s.semaphore), CREW_EHANDLE);
}

static void take_one(int i, void *arg)
{
	struct scene *s = arg;

	(void)i;
	CHECK_EQ(crew_acquire(s->semaphore), 0);
	crew_value_add(s->count, 1);
}
/* A row of releases reaches a row of sleepers, whichever of them see it first. */
TEST_CARRIED(as_many_as_are_released_come_through)
{
	struct scene s = open_scene(0, 0);

	crowd_start(12, take_one, &s);
	for (int i = 0; i < 12; i++) {
		CHECK_EQ(crew_release(s.semaphore), 0);
		if (i % 4 == 0)
			await_count(&s, i + 1);
	}
	crowd_join();
	CHECK_EQ(crew_semaphore_value(s.semaphore), 0);
	close_scene(&s);
}

static void sleep_for_a_unit(void *arg)
{
	struct scene *s = arg;

	crew_value_add(s->count, 1);
	CHECK_EQ(crew_acquire(s->semaphore), 0);
}
/* Sleepers that are killed take no units with them. */
TEST(killed_sleepers_cost_a_semaphore_nothing)
{
	struct scene s = open_scene(0, 0);
	pid_t pid[4];

	for (int i = 0; i < 4; i++) {
		pid[i] = child_start(sleep_for_a_unit, &s);
		await_count(&s, i + 1);
		child_await_sleep(pid[i]);
	}
	for (int i = 0; i < 3; i++)
		child_kill(pid[i]);
	CHECK_EQ(crew_release(s.semaphore), 0);
	child_join(pid[3]);
	CHECK_EQ(crew_semaphore_value(s.semaphore), 0);
	close_scene(&s);
}

/* ---- events ---- */

static void wait_for_gun(int i, void *arg)
{
	struct scene *s = arg;

	(void)i;
	crew_value_add(s->count, 1);
	CHECK_EQ(crew_event_wait(s->event, CREW_FOREVER), 0);
}
TEST_CARRIED(a_set_event_wakes_all)
{
	struct scene s = open_scene(0, 0);

	CHECK(!crew_event_is_set(s.event));
	CHECK_EQ(crew_event_wait(s.event, 0), -ETIMEDOUT);
	CHECK_EQ(crew_event_wait(s.event, 20), -ETIMEDOUT);
	crowd_start(8, wait_for_gun, &s);
	await_count(&s, 8);
	CHECK_EQ(crew_event_set(s.event), 0);
	CHECK_EQ(crew_event_set(s.event), 0);
	crowd_join();
	CHECK(crew_event_is_set(s.event));
	CHECK_EQ(crew_event_wait(s.event, 0), 0);
	CHECK_EQ(crew_event_clear(s.event), 0);
	CHECK(!crew_event_is_set(s.event));
	CHECK_EQ(crew_event_wait(s.event, 0), -ETIMEDOUT);
	close_scene(&s);
	CHECK_EQ(crew_event_set(s.event), CREW_EHANDLE);
	CHECK_EQ(crew_event_wait(s.event, 0), CREW_EHANDLE);
}

static void wait_asleep(void *arg)
{
	struct scene *s = arg;

	CHECK_EQ(crew_event_wait(s->event, CREW_FOREVER), 0);
}
/* Who sleeps sees a set, even if it is over before he wakes. */
TEST(a_set_that_is_cleared_at_once_is_seen_by_those_who_sleep)
{
	struct scene s = open_scene(0, 0);
	pid_t pid[4];

	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 4; i++) {
			pid[i] = child_start(wait_asleep, &s);
			child_await_sleep(pid[i]);
		}
		CHECK_EQ(crew_event_set(s.event), 0);
		CHECK_EQ(crew_event_clear(s.event), 0);
		for (int i = 0; i < 4; i++)
			child_join(pid[i]);
	}
	close_scene(&s);
}

/* ---- conditions ---- */

static void wait_for_notice(int i, void *arg)
{
	struct scene *s = arg;

	(void)i;
	CHECK_EQ(crew_acquire(s->condition), 0);
	CHECK_EQ(crew_acquire(s->condition), 0); /* given up and restored two deep */
	crew_value_add(s->count, 1);
	CHECK_EQ(crew_condition_wait(s->condition, CREW_FOREVER), 0);
	crew_value_add(s->inside, 1);
	CHECK_EQ(crew_release(s->condition), 0);
	CHECK_EQ(crew_release(s->condition), 0);
	CHECK_EQ(crew_release(s->condition), -EPERM);
}
TEST_CARRIED(notify_wakes_as_many_as_it_is_told_and_no_more)
{
	struct scene s = open_scene(0, 0);

	CHECK_EQ(crew_condition_notify(s.condition, 1), -EPERM);
	CHECK_EQ(crew_condition_wait(s.condition, 0), -EPERM);
	CREW_WITH (s.condition)
		CHECK_EQ(crew_condition_notify(s.condition, -1), 0);
	crowd_start(7, wait_for_notice, &s);
	await_count(&s, 7);
	CREW_WITH (s.condition) {
		CHECK_EQ(crew_condition_notify(s.condition, 0), 0);
		CHECK_EQ(crew_condition_notify(s.condition, 1), 1);
		CHECK_EQ(crew_condition_notify(s.condition, 2), 2);
	}
	while (crew_value_load(s.inside) < 3)
		sched_yield();
	CREW_WITH (s.condition) {
		CHECK_EQ(crew_value_load(s.inside), 3);
		CHECK_EQ(crew_condition_notify(s.condition, -1), 4);
		CHECK_EQ(crew_condition_notify(s.condition, -1), 0);
	}
	crowd_join();
	CHECK_EQ(crew_value_load(s.inside), 7);
	close_scene(&s);
}

/* A sleeper whose time is over is no sleeper any more. */
TEST(a_timed_out_sleeper_is_not_counted)
{
	struct scene s = open_scene(0, 0);

	CREW_WITH (s.condition) {
		for (int i = 0; i < 3; i++)
			CHECK_EQ(crew_condition_wait(s.condition, 10), -ETIMEDOUT);
		CHECK_EQ(crew_condition_notify(s.condition, 5), 0);
	}
	close_scene(&s);
}

static bool is_five(void *arg)
{
	return crew_value_load(*(crew_value *)arg) == 5;
}
static void wait_for_five(int i, void *arg)
{
	struct scene *s = arg;

	(void)i;
	CREW_WITH (s->condition) {
		crew_value_add(s->count, 1);
		CHECK_EQ(crew_condition_wait_for(s->condition, is_five, &s->inside, CREW_FOREVER), 0);
		CHECK_EQ(crew_value_load(s->inside), 5);
	}
}
TEST_CARRIED(wait_for_waits_for_the_predicate)
{
	struct scene s = open_scene(0, 0);

	CREW_WITH (s.condition) {
		CHECK_EQ(crew_condition_wait_for(s.condition, is_five, &s.inside, 20), -ETIMEDOUT);
		CHECK_EQ(crew_condition_wait_for(s.condition, NULL, NULL, 20), -EINVAL);
	}
	crowd_start(3, wait_for_five, &s);
	await_count(&s, 3);
	for (int i = 0; i < 5; i++)
		CREW_WITH (s.condition) {
			crew_value_add(s.inside, 1);
			CHECK_GE(crew_condition_notify(s.condition, -1), 0);
		}
	crowd_join();
	close_scene(&s);
}

static void wait_killed(void *arg)
{
	struct scene *s = arg;

	CHECK_EQ(crew_acquire(s->condition), 0);
	crew_value_add(s->count, 1);
	crew_condition_wait(s->condition, CREW_FOREVER);
	crew_value_add(s->inside, 1);
	crew_release(s->condition);
}
/* CPython's hang: a sleeper that was killed. It swallows no wake either. */
TEST(killed_sleepers_neither_hang_notify_nor_swallow_a_wake)
{
	struct scene s = open_scene(0, 0);
	pid_t pid[6];

	for (int i = 0; i < 6; i++) {
		pid[i] = child_start(wait_killed, &s);
		await_count(&s, i + 1);
		child_await_sleep(pid[i]);
	}
	for (int i = 0; i < 4; i++) /* the longest sleepers */
		child_kill(pid[i]);
	CREW_WITH (s.condition)
		CHECK_EQ(crew_condition_notify(s.condition, 1), 1);
	while (crew_value_load(s.inside) < 1)
		sched_yield();
	CREW_WITH (s.condition)
		CHECK_EQ(crew_condition_notify(s.condition, -1), 1);
	child_join(pid[4]);
	child_join(pid[5]);
	close_scene(&s);
}

static void notify_and_die(void *arg)
{
	struct scene *s = arg;

	CHECK_EQ(crew_acquire(s->condition), 0); /* its sleeper sleeps */
	CHECK_EQ(crew_condition_notify(s->condition, -1), 1);
	_exit(0);
}
/* A notifier that dies with the lock: the sleeper has it, and is told. */
TEST(a_sleeper_inherits_the_lock_of_a_dead_notifier)
{
	struct scene s = open_scene(0, 0);
	pid_t pid;

	CHECK_EQ(crew_acquire(s.condition), 0);
	pid = child_start(notify_and_die, &s);
	CHECK_EQ(crew_condition_wait(s.condition, CREW_FOREVER), -EOWNERDEAD);
	CHECK_EQ(crew_handle_recover(s.condition), 0);
	CHECK_EQ(crew_release(s.condition), 0);
	child_join(pid);
	close_scene(&s);
}

static void drop_it(void *arg)
{
	struct scene *s = arg;

	CHECK_EQ(crew_acquire(s->condition), 0); /* its sleeper sleeps */
	CHECK_EQ(crew_drop(s->condition), 0);
}
TEST(a_condition_that_is_dropped_sends_its_sleepers_away)
{
	struct scene s = open_scene(0, 0);
	pid_t pid;

	CHECK_EQ(crew_acquire(s.condition), 0);
	pid = child_start(drop_it, &s);
	CHECK_EQ(crew_condition_wait(s.condition, CREW_FOREVER), CREW_EHANDLE);
	child_join(pid);
	CHECK_EQ(crew_acquire(s.condition), CREW_EHANDLE);
}

/* Its lock may be one that others use as well. */
TEST(conditions_may_share_a_lock)
{
	crew_rlock lock = crew_rlock_make();
	crew_condition full = crew_condition_make(lock), empty = crew_condition_make(lock);

	CREW_WITH (lock) {
		CHECK_EQ(crew_condition_notify(full, 1), 0);
		CHECK_EQ(crew_condition_wait(empty, 5), -ETIMEDOUT);
	}
	CHECK_EQ(crew_drop(full), 0);
	CHECK_EQ(crew_drop(empty), 0);
	CHECK_EQ(crew_handle_error(lock), 0);
	CHECK_EQ(crew_drop(lock), 0);
	CHECK_EQ(crew_handle_error(crew_condition_make(lock)), CREW_EHANDLE);
}

/* ---- a queue of one, by conditions: everything at once ---- */

static bool is_empty(void *arg)
{
	return crew_value_as(int, *(crew_value *)arg) == 0;
}
static bool is_full(void *arg)
{
	return crew_value_as(int, *(crew_value *)arg) != 0;
}
static void produce_and_consume(int i, void *arg)
{
	struct scene *s = arg;

	for (size_t k = 0; k < s->times / 8; k++)
		CREW_WITH (s->condition) {
			CHECK_EQ(crew_condition_wait_for(s->condition, i % 2 ? is_full : is_empty, &s->inside, CREW_FOREVER), 0);
			crew_value_as(int, s->inside) = !(i % 2);
			crew_value_as(int, s->count) += 1;
			CHECK_GE(crew_condition_notify(s->condition, -1), 0);
		}
}
TEST_CARRIED(producers_and_consumers_alternate_over_a_condition)
{
	struct scene s = open_scene(0, 0);

	crowd_start(4, produce_and_consume, &s);
	crowd_join();
	CHECK_EQ(crew_value_load(s.count), 4 * (int)(s.times / 8));
	close_scene(&s);
}

/* ---- what a wait may find when it ends ---- */

static void sleep_for_what_is_dropped(void *arg)
{
	struct scene *s = arg;

	CHECK_EQ(crew_acquire(s->semaphore), CREW_EHANDLE);
}
TEST(a_semaphore_that_is_dropped_sends_its_sleepers_away)
{
	struct scene s = open_scene(0, 0);
	pid_t pid = child_start(sleep_for_what_is_dropped, &s);

	child_await_sleep(pid);
	CHECK_EQ(crew_drop(s.semaphore), 0);
	child_join(pid);
}

/* A predicate that came true without a word is seen when the time is over. */
static bool is_second_look(void *arg)
{
	return ++*(int *)arg > 1;
}
TEST(a_predicate_is_asked_once_more_at_the_end)
{
	struct scene s = open_scene(0, 0);
	int looks = 0;

	CREW_WITH (s.condition)
		CHECK_EQ(crew_condition_wait_for(s.condition, is_second_look, &looks, 10), 0);
	CHECK_EQ(looks, 2);
	close_scene(&s);
}

static bool is_never(void *arg)
{
	(void)arg;
	return false;
}
TEST(a_wait_for_a_predicate_ends_with_its_condition)
{
	struct scene s = open_scene(0, 0);
	pid_t pid;

	CHECK_EQ(crew_acquire(s.condition), 0);
	pid = child_start(drop_it, &s);
	CHECK_EQ(crew_condition_wait_for(s.condition, is_never, NULL, CREW_FOREVER), CREW_EHANDLE);
	child_join(pid);
}

static void take_and_die(void *arg)
{
	struct scene *s = arg;

	CHECK_EQ(crew_acquire(s->condition), 0);
	_exit(0);
}
/* The lock of one who died without a word comes back with his death, not with the end of the time. */
TEST(a_sleeper_whose_time_is_over_is_told_of_a_dead_owner)
{
	struct scene s = open_scene(0, 0);
	pid_t pid;
	int rc;

	CHECK_EQ(crew_acquire(s.condition), 0);
	pid = child_start(take_and_die, &s);
	child_await_sleep(pid);
	do
		rc = crew_condition_wait(s.condition, 20);
	while (rc == -ETIMEDOUT); /* the lock was ours again before it was his */
	CHECK_EQ(rc, -EOWNERDEAD);
	CHECK_EQ(crew_handle_recover(s.condition), 0);
	CHECK_EQ(crew_release(s.condition), 0);
	child_join(pid);
	close_scene(&s);
}
