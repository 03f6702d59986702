/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock_killer.c: kill -9 a process after each single instruction of what it does with a lock, and see what becomes of the others.
 *
 *	victim (traced): ready, SIGSTOP ── k instructions of its part ── killed
 *	others, live: who slept there before, and who comes afterwards
 *
 * For each k until the part is over. When the victim falls asleep in a part that waits, the scene rouses it once (a notify, a party that comes). Afterwards nobody may hang,
 * nobody may be told less than what happened, and the thing must work again. Locks, semaphores, events and conditions are here, the others in meeting_killer.c. Built with a fault put in on purpose (CREW_FAULT_…), the same killer must find it.
 */
#include <errno.h>

#include "scene.h"

/* ---- locks ---- */

static void use_lock(struct scene *s)
{
	if (crew_acquire(s->lock) == 0) {
		change_inside(s);
		crew_release(s->lock);
	}
}
static void judge_lock(struct scene *s)
{
	for (int i = 0; i < 2; i++) {
		int rc = crew_acquire_within(s->lock, PATIENCE_MS);

		look_inside(s, rc);
		if (rc == -EOWNERDEAD && (i == 1 || crew_handle_recover(s->lock)))
			complain(s, "the lock cannot be repaired", rc);
		if (crew_release(s->lock))
			complain(s, "the lock cannot be released", 0);
	}
}

static void take_lock(struct scene *s)
{
	CHECK_EQ(crew_acquire(s->lock), 0);
}
static void give_lock(struct scene *s)
{
	crew_release(s->lock);
}
static void wait_for_lock(struct scene *s)
{
	int rc;

	crew_value_store(s->begun, 1);
	rc = crew_acquire(s->lock);
	CHECK(rc == 0 || rc == -EOWNERDEAD);
	crew_handle_recover(s->lock);
	crew_release(s->lock);
}
static void judge_lock_sleeper(struct scene *s)
{
	if (!ends(s->sleeper))
		complain(s, "who slept for the lock sleeps on", 0);
	judge_lock(s);
}

/* The lock is had here, and given back when the victim sleeps for it. */
static void hold_lock(struct scene *s)
{
	CHECK_EQ(crew_acquire(s->lock), 0);
}
static void judge_lock_held(struct scene *s)
{
	if (crew_lock_owner(s->lock).whose == CREW_MINE)
		crew_release(s->lock);
	judge_lock(s);
}

static void use_rlock(struct scene *s)
{
	CREW_WITH (s->rlock)
		CREW_WITH (s->rlock)
			change_inside(s);
}
static void judge_rlock(struct scene *s)
{
	int rc = crew_acquire_within(s->rlock, PATIENCE_MS);

	look_inside(s, rc);
	if (crew_try_acquire(s->rlock) || crew_handle_recover(s->rlock) || crew_release(s->rlock) || crew_release(s->rlock))
		complain(s, "the rlock is not whole", 0);
	if (crew_rlock_locked(s->rlock))
		complain(s, "the rlock is still locked", 0);
}

#if !FAULTY || defined(CREW_FAULT_NO_INHERITANCE) || defined(CREW_FAULT_SILENT_DEATH)
TEST_VICTIM(a_process_may_die_after_any_instruction_with_a_lock)
{
	kill_each_step(&(struct part){ .victim = use_lock, .judge = judge_lock });
}
TEST_VICTIM(a_process_may_die_after_any_instruction_with_an_rlock)
{
	kill_each_step(&(struct part){ .victim = use_rlock, .judge = judge_rlock });
}
#endif
#if !FAULTY
TEST_VICTIM(a_process_may_die_after_any_instruction_of_waiting_for_a_lock)
{
	kill_each_step(&(struct part){ .setup = hold_lock, .victim = use_lock, .rouse = give_lock, .judge = judge_lock_held });
}
#endif
#if !FAULTY || defined(CREW_FAULT_SOUND_SLEEP)
TEST_VICTIM(a_process_may_die_after_any_instruction_of_a_release_that_wakes)
{
	kill_each_step(&(struct part){ .before = take_lock, .victim = give_lock, .sleeper = wait_for_lock, .judge = judge_lock_sleeper });
}
#endif

/* ---- semaphores and events ---- */

static void use_semaphore(struct scene *s)
{
	if (crew_acquire(s->semaphore) == 0)
		crew_release(s->semaphore);
}
/* At most the unit that the dead had is gone. */
static void judge_semaphore(struct scene *s)
{
	int value = crew_semaphore_value(s->semaphore);

	if (value != 0 && value != 1)
		complain(s, "units out of nothing", value);
	if (crew_release(s->semaphore) || crew_acquire_within(s->semaphore, PATIENCE_MS) || crew_semaphore_value(s->semaphore) != value)
		complain(s, "the semaphore does not work any more", 0);
}

static void judge_semaphore_held(struct scene *s)
{
	if (crew_semaphore_value(s->semaphore) == 0)
		crew_release(s->semaphore); /* ours, if the victim did not sleep; else what it had */
	judge_semaphore(s);
}

static void use_one_of_three(struct scene *s)
{
	if (crew_acquire(s->units) == 0)
		crew_release(s->units);
}
static void judge_units(struct scene *s)
{
	int value = crew_semaphore_value(s->units);

	if (value != 2 && value != 3)
		complain(s, "one death has cost more than a unit", value);
}

static void take_unit(struct scene *s)
{
	CHECK_EQ(crew_acquire(s->semaphore), 0);
}
static void give_unit(struct scene *s)
{
	crew_release(s->semaphore);
}
static void wait_for_unit(struct scene *s)
{
	crew_value_store(s->begun, 1);
	CHECK_EQ(crew_acquire(s->semaphore), 0);
	crew_event_set(s->away);
}
static void judge_semaphore_sleeper(struct scene *s)
{
	if (crew_semaphore_value(s->semaphore) == 0 && crew_event_wait(s->away, 30) == -ETIMEDOUT)
		crew_release(s->semaphore); /* it died before it had released */
	if (!ends(s->sleeper))
		complain(s, "who slept for a unit sleeps on", crew_semaphore_value(s->semaphore));
}

static void set_event(struct scene *s)
{
	crew_event_set(s->event);
}
static void wait_for_event(struct scene *s)
{
	crew_value_store(s->begun, 1);
	CHECK_EQ(crew_event_wait(s->event, CREW_FOREVER), 0);
}
static void judge_event_sleeper(struct scene *s)
{
	if (!crew_event_is_set(s->event))
		crew_event_set(s->event);
	if (s->sleeper && !ends(s->sleeper))
		complain(s, "who slept for the event sleeps on", 0);
	if (crew_event_wait(s->event, 0) || crew_event_clear(s->event) || crew_event_is_set(s->event))
		complain(s, "the event does not work any more", 0);
}

#if !FAULTY || defined(CREW_FAULT_SOUND_SLEEP)
TEST_VICTIM(a_process_may_die_after_any_instruction_of_a_semaphores_release)
{
	kill_each_step(&(struct part){ .before = take_unit, .victim = give_unit, .sleeper = wait_for_unit, .judge = judge_semaphore_sleeper });
}
TEST_VICTIM(a_process_may_die_after_any_instruction_of_setting_an_event)
{
	kill_each_step(&(struct part){ .victim = set_event, .sleeper = wait_for_event, .judge = judge_event_sleeper });
}
#endif
#if !FAULTY || defined(CREW_FAULT_TAKES_ALL)
TEST_VICTIM(a_process_may_die_after_any_instruction_with_one_of_three_units)
{
	kill_each_step(&(struct part){ .victim = use_one_of_three, .judge = judge_units });
}
#endif
#if !FAULTY
TEST_VICTIM(a_process_may_die_after_any_instruction_of_waiting_for_a_unit)
{
	kill_each_step(&(struct part){ .setup = take_unit, .victim = use_semaphore, .rouse = give_unit, .judge = judge_semaphore_held });
}
TEST_VICTIM(a_process_may_die_after_any_instruction_with_a_semaphore)
{
	kill_each_step(&(struct part){ .victim = use_semaphore, .judge = judge_semaphore });
}
TEST_VICTIM(a_process_may_die_after_any_instruction_of_waiting_for_an_event)
{
	kill_each_step(&(struct part){ .victim = wait_for_event, .rouse = set_event, .judge = judge_event_sleeper });
}
#endif

/* ---- conditions ---- */

static void wait_on_condition(struct scene *s)
{
	int rc = crew_acquire(s->condition);

	crew_value_store(s->begun, 1);
	if (rc == 0)
		rc = crew_condition_wait(s->condition, CREW_FOREVER);
	if (rc == 0 || rc == -EOWNERDEAD) {
		crew_handle_recover(s->condition);
		crew_release(s->condition);
	}
}
/* Nobody who is dead is woken, and nobody is waited for. */
static void judge_condition(struct scene *s)
{
	int rc = crew_acquire_within(s->condition, PATIENCE_MS), woken;

	if (rc && rc != -EOWNERDEAD) {
		complain(s, "the condition's lock could not be had", rc);
		return;
	}
	crew_handle_recover(s->condition);
	woken = crew_condition_notify(s->condition, 5);
	if (woken != 0)
		complain(s, "a dead sleeper was woken", woken);
	crew_release(s->condition);
}
static void judge_condition_sleeper(struct scene *s)
{
	notify_condition(s);
	if (!ends(s->sleeper))
		complain(s, "who slept on the condition sleeps on", 0);
	judge_condition(s);
}

#if !FAULTY || defined(CREW_FAULT_DEAD_SLEEPERS)
TEST_VICTIM(a_process_may_die_after_any_instruction_of_waiting_on_a_condition)
{
	kill_each_step(&(struct part){ .victim = wait_on_condition, .rouse = notify_condition, .judge = judge_condition });
}
#endif
#if !FAULTY
TEST_VICTIM(a_process_may_die_after_any_instruction_of_a_notify)
{
	kill_each_step(&(struct part){ .victim = notify_condition, .sleeper = wait_on_condition, .judge = judge_condition_sleeper });
}
#endif
