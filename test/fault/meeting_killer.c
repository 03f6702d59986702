/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meeting_killer.c: lock_killer.c's other half: barriers, readers and writers, and the memory that all of it lies in.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/types.h>

#include "ipc/family.h"
#include "scene.h"

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

/* An action that sleeps elsewhere. */
static int notified(void *arg)
{
	struct scene *s = arg;
	int rc = crew_acquire(s->condition);

	if (rc == 0)
		rc = crew_condition_wait(s->condition, CREW_FOREVER);
	crew_release(s->condition);
	return rc == 0 ? 0 : -EIO;
}
static void meet_and_act(struct scene *s)
{
	crew_barrier_wait_with(s->barrier, notified, s, CREW_FOREVER);
}

static void meet_three(struct scene *s)
{
	crew_barrier_wait(s->three, CREW_FOREVER);
}
static pid_t party_of(struct scene *s, int n)
{
	pid_t pid = child_of(meet_three, s);

	while (crew_barrier_waiting(s->three) < n || stepper_state(pid) != 'S')
		sched_yield();
	return pid;
}
/* Two wait for a third; one of them is dead, and the other has not seen it yet: he is stopped. */
static void kill_a_party(struct scene *s)
{
	pid_t dead;

	s->sleeper = party_of(s, 1);
	dead = party_of(s, 2);
	kill(s->sleeper, SIGSTOP);
	while (stepper_state(s->sleeper) != 'T')
		sched_yield();
	stepper_kill(dead);
}
static void reset_three(struct scene *s)
{
	crew_barrier_reset(s->three);
}
static void judge_reset(struct scene *s)
{
	kill(s->sleeper, SIGCONT);
	if (!ends(s->sleeper))
		complain(s, "who waited with one who died waits on, after a reset", 0);
	if (crew_barrier_reset(s->three) || crew_barrier_broken(s->three) || crew_barrier_waiting(s->three))
		complain(s, "the barrier is not new", 0);
}

#if !FAULTY || defined(CREW_FAULT_NAMELESS_ACTION)
TEST_VICTIM(a_process_may_die_after_any_instruction_of_a_barriers_action)
{
	kill_each_step(&(struct part){ .victim = meet_and_act, .sleeper = meet, .rouse = notify_condition, .judge = judge_barrier });
}
#endif
#if !FAULTY || defined(CREW_FAULT_FORGOTTEN_DEATH)
TEST_VICTIM(a_process_may_die_after_any_instruction_of_a_reset)
{
	kill_each_step(&(struct part){ .setup = kill_a_party, .victim = reset_three, .judge = judge_reset });
}
#endif
#if !FAULTY || defined(CREW_FAULT_NO_BURIAL)
TEST_VICTIM(a_process_may_die_after_any_instruction_as_the_first_at_a_barrier)
{
	kill_each_step(&(struct part){ .victim = meet, .judge = judge_barrier });
}
#endif
#if !FAULTY
TEST_VICTIM(a_process_may_die_after_any_instruction_of_leaving_a_barrier)
{
	kill_each_step(&(struct part){ .victim = meet, .rouse = come, .judge = judge_barrier });
}
TEST_VICTIM(a_process_may_die_after_any_instruction_as_the_last_at_a_barrier)
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
	if (crew_acquire(s->rwlock))
		return;
	change_inside(s);
	crew_release(s->rwlock);
}
static void read_here(struct scene *s)
{
	CHECK_EQ(crew_acquire(crew_reading(s->rwlock)), 0);
}
static void write_here(struct scene *s)
{
	CHECK_EQ(crew_acquire(s->rwlock), 0);
}
static void leave_here(struct scene *s)
{
	crew_release(s->rwlock);
}
static void judge_rwlock(struct scene *s)
{
	int rc;

	crew_release(s->rwlock); /* if it is ours */
	rc = crew_acquire_within(s->rwlock, PATIENCE_MS);
	look_inside(s, rc);
	crew_handle_recover(s->rwlock);
	if (crew_release(s->rwlock) || crew_acquire_within(crew_reading(s->rwlock), PATIENCE_MS) || crew_release(s->rwlock))
		complain(s, "the rwlock does not work any more", 0);
}

/* A reader leaves nothing behind, wherever it dies. */
static void judge_reader(struct scene *s)
{
	int rc;

	crew_release(s->rwlock); /* if it is ours */
	rc = crew_acquire_within(s->rwlock, PATIENCE_MS);
	if (rc)
		complain(s, "a dead reader is noticed", rc);
	crew_release(s->rwlock);
	judge_rwlock(s);
}

#if !FAULTY || defined(CREW_FAULT_DEAD_READERS)
TEST_VICTIM(a_process_may_die_after_any_instruction_of_reading)
{
	kill_each_step(&(struct part){ .victim = use_reader, .judge = judge_reader });
}
#endif
#if !FAULTY
TEST_VICTIM(a_process_may_die_after_any_instruction_of_waiting_to_read)
{
	kill_each_step(&(struct part){ .setup = write_here, .victim = use_reader, .rouse = leave_here, .judge = judge_reader });
}
TEST_VICTIM(a_process_may_die_after_any_instruction_of_writing)
{
	kill_each_step(&(struct part){ .victim = use_writer, .judge = judge_rwlock });
}
TEST_VICTIM(a_process_may_die_after_any_instruction_of_waiting_for_a_reader)
{
	kill_each_step(&(struct part){ .setup = read_here, .victim = use_writer, .rouse = leave_here, .judge = judge_rwlock });
}
TEST_VICTIM(a_process_may_die_after_any_instruction_of_waiting_for_a_writer)
{
	kill_each_step(&(struct part){ .setup = write_here, .victim = use_writer, .rouse = leave_here, .judge = judge_rwlock });
}
#endif

/* ---- what they stand on ---- */

static void use_family(struct scene *s)
{
	uint64_t small, large;

	(void)s;
	if (crew__family_alloc(100, &small) == 0 && crew__family_alloc(70000, &large) == 0) {
		((unsigned char *)crew__family_at(small))[50] = 1;
		((unsigned char *)crew__family_at(large))[69999] = 1;
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
static uint64_t had[2];

static void have_blocks(struct scene *s)
{
	(void)s;
	CHECK_EQ(crew__family_alloc(100, &had[0]), 0);
	CHECK_EQ(crew__family_alloc(70000, &had[1]), 0);
	((unsigned char *)crew__family_at(had[0]))[50] = 1;
	((unsigned char *)crew__family_at(had[1]))[69999] = 1;
}
static void free_blocks(struct scene *s)
{
	(void)s;
	crew__family_free(had[0]);
	crew__family_free(had[1]);
}

#if !FAULTY
TEST_VICTIM(a_process_may_die_after_any_instruction_of_the_allocator)
{
	kill_each_step(&(struct part){ .victim = use_family, .judge = judge_family });
}
#endif
#if !FAULTY || defined(CREW_FAULT_DIRTY_CELL) || defined(CREW_FAULT_DIRTY_EXTENT)
TEST_VICTIM(a_process_may_die_after_any_instruction_of_giving_memory_back)
{
	kill_each_step(&(struct part){ .before = have_blocks, .victim = free_blocks, .judge = judge_family });
}
#endif
