/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock_killer.c: kill -9 a process after each single instruction of what it does with a lock, and see what becomes of the others.
 *
 *	victim (traced): ready, SIGSTOP ── k instructions of its part ── killed
 *	others, live: who slept there before, and who comes afterwards
 *
 * For each k until the part is over. When the victim falls asleep in a part that waits, the scene rouses it once (a notify, a party that comes). Afterwards nobody may hang,
 * nobody may be told less than what happened, and the thing must work again. Built with a fault put in on purpose (CREW_FAULT_…), the same killer must find it.
 */
#include <crew/crew.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "ipc/family.h"
#include "runner.h"
#include "stepper.h"

#if defined(CREW_FAULT_NO_INHERITANCE) || defined(CREW_FAULT_SILENT_DEATH) || defined(CREW_FAULT_SOUND_SLEEP) || defined(CREW_FAULT_DEAD_SLEEPERS) || \
	defined(CREW_FAULT_NO_BURIAL) || defined(CREW_FAULT_DEAD_READERS)
#define FAULTY 1
#else
#define FAULTY 0
#endif

enum { PATIENCE_MS = FAULTY ? 1500 : 20000 };

struct scene {
	crew_lock lock;
	crew_rlock rlock;
	crew_semaphore semaphore;
	crew_event event, away;
	crew_condition condition;
	crew_barrier barrier;
	crew_rwlock rwlock;
	crew_value a, b; /* int; equal whenever nobody is between them */
	crew_value begun;
	pid_t sleeper; /* who slept there before; 0: nobody */
	int violations;
	long k;
};

/* One thing that may be interrupted. */
struct part {
	void (*before)(struct scene *s); /* in the victim, as it is */
	void (*victim)(struct scene *s); /* step by step */
	void (*sleeper)(struct scene *s); /* another, asleep when the steps begin; NULL: none */
	void (*rouse)(struct scene *s);	 /* when the victim sleeps; NULL: it is killed there */
	void (*judge)(struct scene *s);
	long length; /* of a part with long loops: so many times fewer kills; 0: once */
};

static void complain(struct scene *s, const char *what, int rc)
{
	s->violations++;
	printf("after %ld steps: %s (%d)\n", s->k, what, rc);
}

/* ---- processes ---- */

static pid_t child_of(void (*body)(struct scene *s), struct scene *s)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body(s);
		_exit(0);
	}
	return pid;
}

static bool ends(pid_t pid)
{
	return stepper_ends(pid, PATIENCE_MS);
}

struct victim {
	const struct part *part;
	struct scene *scene;
	bool roused;
};

static void prepare(void *arg)
{
	struct victim *v = arg;

	crew_acquire(crew_lock_make()); /* a seat in the family */
	if (v->part->before)
		v->part->before(v->scene);
}

static void act(void *arg)
{
	struct victim *v = arg;

	v->part->victim(v->scene);
}

/* It sleeps: it is roused, once. */
static bool rouse(void *arg)
{
	struct victim *v = arg;

	if (!v->part->rouse || v->roused)
		return false;
	v->roused = true;
	v->part->rouse(v->scene);
	return true;
}

static bool kill_after(const struct part *part, struct scene *s, long k)
{
	struct victim victim = { part, s, false };
	pid_t pid = stepper_fork(prepare, act, &victim);
	bool more = true;

	s->k = k;
	s->sleeper = 0;
	if (part->sleeper) {
		s->sleeper = child_of(part->sleeper, s);
		for (int seen = 0; seen < 3; sched_yield())
			seen = crew_value_load(s->begun) && stepper_state(s->sleeper) == 'S' ? seen + 1 : 0;
	}
	for (long i = 0; i < k && more; i++)
		more = stepper_step(pid, rouse, &victim);
	stepper_kill(pid);
	part->judge(s);
	return more;
}

static struct scene open_scene(void)
{
	struct scene s = { .lock = crew_lock_make(), .rlock = crew_rlock_make(), .semaphore = crew_semaphore_make(1, 0), .event = crew_event_make(),
			   .away = crew_event_make(), .condition = crew_condition_make((crew_rlock){ { 0, 0 } }), .barrier = crew_barrier_make(2),
			   .rwlock = crew_rwlock_make(), .a = crew_value_make(int, 0), .b = crew_value_make(int, 0), .begun = crew_value_make(int, 0) };

	return s;
}

static void close_scene(struct scene *s)
{
	crew_drop(s->lock);
	crew_drop(s->rlock);
	crew_drop(s->semaphore);
	crew_drop(s->event);
	crew_drop(s->away);
	crew_drop(s->condition);
	crew_drop(s->barrier);
	crew_drop(s->rwlock);
	crew_drop(s->a);
	crew_drop(s->b);
	crew_drop(s->begun);
}

/* Every seventh instruction, from a random one on. */
static void kill_each_step(const struct part *part)
{
	long stride = (FAULTY ? 1 : stepper_stride(7)) * (part->length ? part->length : 1), k, kills = 0;
	int violations = 0;
	bool more = true;

	for (k = stepper_first(stride); more && violations == 0; k += stride, kills++) {
		struct scene s = open_scene();

		more = kill_after(part, &s, k);
		violations += s.violations;
		close_scene(&s);
	}
	printf("%ld kills in %ld steps; %d violations\n", kills, k, violations);
	if (FAULTY)
		CHECK(violations > 0);
	else
		CHECK_EQ(violations, 0);
}

/* ---- locks ---- */

/* Whoever gets the lock with 0 finds a and b equal; with -EOWNERDEAD he makes them so. */
static void look_inside(struct scene *s, int rc)
{
	if (rc == 0 && crew_value_load(s->a) != crew_value_load(s->b))
		complain(s, "a death in the lock went unsaid", 0);
	if (rc == -EOWNERDEAD)
		crew_value_store(s->b, crew_value_load(s->a));
	if (rc != 0 && rc != -EOWNERDEAD)
		complain(s, "the lock could not be had", rc);
}

static void change_inside(struct scene *s)
{
	crew_value_add(s->a, 1);
	crew_value_add(s->b, 1);
}

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
TEST_WITHIN(a_process_may_die_after_any_instruction_with_a_lock, 600)
{
	kill_each_step(&(struct part){ .victim = use_lock, .judge = judge_lock });
}
TEST_WITHIN(a_process_may_die_after_any_instruction_with_an_rlock, 600)
{
	kill_each_step(&(struct part){ .victim = use_rlock, .judge = judge_rlock });
}
#endif
#if !FAULTY || defined(CREW_FAULT_SOUND_SLEEP)
TEST_WITHIN(a_process_may_die_after_any_instruction_of_a_release_that_wakes, 600)
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
TEST_WITHIN(a_process_may_die_after_any_instruction_of_a_semaphores_release, 600)
{
	kill_each_step(&(struct part){ .before = take_unit, .victim = give_unit, .sleeper = wait_for_unit, .judge = judge_semaphore_sleeper });
}
TEST_WITHIN(a_process_may_die_after_any_instruction_of_setting_an_event, 600)
{
	kill_each_step(&(struct part){ .victim = set_event, .sleeper = wait_for_event, .judge = judge_event_sleeper });
}
#endif
#if !FAULTY
TEST_WITHIN(a_process_may_die_after_any_instruction_with_a_semaphore, 600)
{
	kill_each_step(&(struct part){ .victim = use_semaphore, .judge = judge_semaphore });
}
TEST_WITHIN(a_process_may_die_after_any_instruction_of_waiting_for_an_event, 600)
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
static void notify_condition(struct scene *s)
{
	int rc = crew_acquire_within(s->condition, PATIENCE_MS);

	if (rc == 0 || rc == -EOWNERDEAD) {
		crew_handle_recover(s->condition);
		crew_condition_notify(s->condition, 1);
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
TEST_WITHIN(a_process_may_die_after_any_instruction_of_waiting_on_a_condition, 600)
{
	kill_each_step(&(struct part){ .victim = wait_on_condition, .rouse = notify_condition, .judge = judge_condition });
}
#endif
#if !FAULTY
TEST_WITHIN(a_process_may_die_after_any_instruction_of_a_notify, 600)
{
	kill_each_step(&(struct part){ .victim = notify_condition, .sleeper = wait_on_condition, .judge = judge_condition_sleeper });
}
#endif

/* ---- barriers ---- */

static void meet(struct scene *s)
{
	crew_value_store(s->begun, 1);
	crew_barrier_wait(s->barrier, CREW_FOREVER);
}
/* Another comes: either it meets the victim, or is sent away. */
static void come(struct scene *s)
{
	s->sleeper = child_of(meet, s);
}
static void judge_barrier(struct scene *s)
{
	int rc;

	if (s->sleeper && crew_barrier_waiting(s->barrier) == 1 && !crew_barrier_broken(s->barrier)) {
		rc = crew_barrier_wait(s->barrier, PATIENCE_MS); /* the victim had not come yet, or is found to be dead */
		if (rc < 0 && rc != CREW_EBROKEN)
			complain(s, "a dead party was waited for", rc);
	} else if (!s->sleeper) {
		rc = crew_barrier_wait(s->barrier, crew_barrier_waiting(s->barrier) ? PATIENCE_MS : 0);
		if (rc >= 0)
			complain(s, "a dead party was met", rc);
		if (rc == -ETIMEDOUT && crew_barrier_waiting(s->barrier))
			complain(s, "a dead party was waited for", rc);
	}
	if (s->sleeper && !ends(s->sleeper))
		complain(s, "who waited at the barrier waits on", 0);
	crew_barrier_reset(s->barrier);
	s->sleeper = child_of(meet, s);
	rc = crew_barrier_wait(s->barrier, PATIENCE_MS);
	if (!ends(s->sleeper) || rc < 0)
		complain(s, "the barrier does not work any more", rc);
}

#if !FAULTY || defined(CREW_FAULT_NO_BURIAL)
TEST_WITHIN(a_process_may_die_after_any_instruction_as_the_first_at_a_barrier, 600)
{
	kill_each_step(&(struct part){ .victim = meet, .judge = judge_barrier });
}
#endif
#if !FAULTY
TEST_WITHIN(a_process_may_die_after_any_instruction_of_leaving_a_barrier, 600)
{
	kill_each_step(&(struct part){ .victim = meet, .rouse = come, .judge = judge_barrier });
}
TEST_WITHIN(a_process_may_die_after_any_instruction_as_the_last_at_a_barrier, 600)
{
	kill_each_step(&(struct part){ .victim = meet, .sleeper = meet, .judge = judge_barrier });
}
#endif

/* ---- readers and writers ---- */

static void use_reader(struct scene *s)
{
	if (crew_acquire(crew_reading(s->rwlock)) == 0)
		crew_release(s->rwlock);
}
static void use_writer(struct scene *s)
{
	CREW_WITH (s->rwlock)
		change_inside(s);
}
static void judge_rwlock(struct scene *s)
{
	int rc = crew_acquire_within(s->rwlock, PATIENCE_MS);

	look_inside(s, rc);
	crew_handle_recover(s->rwlock);
	if (crew_release(s->rwlock) || crew_acquire_within(crew_reading(s->rwlock), PATIENCE_MS) || crew_release(s->rwlock))
		complain(s, "the rwlock does not work any more", 0);
}

#if !FAULTY || defined(CREW_FAULT_DEAD_READERS)
TEST_WITHIN(a_process_may_die_after_any_instruction_of_reading, 600)
{
	kill_each_step(&(struct part){ .victim = use_reader, .judge = judge_rwlock });
}
#endif
#if !FAULTY
TEST_WITHIN(a_process_may_die_after_any_instruction_of_writing, 600)
{
	kill_each_step(&(struct part){ .victim = use_writer, .judge = judge_rwlock, .length = 150 });
}

/* ---- what they stand on ---- */

static void use_family(struct scene *s)
{
	uint64_t small, large;

	(void)s;
	if (crew__family_alloc(100, &small) == 0 && crew__family_alloc(70000, &large) == 0) {
		crew__family_free(small);
		crew__family_free(large);
	}
}
static void judge_family(struct scene *s)
{
	uint64_t block[4] = { 0 };

	for (int i = 0; i < 4; i++) {
		size_t n = i % 2 ? 70000 : 100;
		unsigned char *p;

		if (crew__family_alloc(n, &block[i]) || crew__family_size(block[i]) != n) {
			complain(s, "the family has no memory any more", i);
			return;
		}
		p = crew__family_at(block[i]);
		for (size_t k = 0; k < n; k++)
			if (p[k])
				complain(s, "a block is not zeroes", i);
		memset(p, 1, n);
	}
	for (int i = 0; i < 4; i++)
		crew__family_free(block[i]);
}
TEST_WITHIN(a_process_may_die_after_any_instruction_of_the_allocator, 600)
{
	kill_each_step(&(struct part){ .victim = use_family, .judge = judge_family, .length = 5 });
}
#endif
