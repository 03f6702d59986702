/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meeting.c: barriers, and locks for readers and writers.
 */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sharers.h"

enum { PARTIES = 5 };

struct meeting {
	crew_barrier barrier;
	crew_array arrived, rounds; /* int[PARTIES] */
	crew_value count, broken;   /* int */
	crew_rwlock rwlock;
	crew_event event, ready;
	size_t times;
};

static struct meeting open_meeting(int parties)
{
	struct meeting m = { crew_barrier_make(parties), crew_array_make(int, PARTIES), crew_array_make(int, PARTIES), crew_value_make(int, 0),
			     crew_value_make(int, 0), crew_rwlock_make(), crew_event_make(), crew_event_make(), test_scaled(400) };

	CHECK_EQ(crew_handle_error(m.barrier), 0);
	CHECK_EQ(crew_handle_error(m.rwlock), 0);
	return m;
}

static void close_meeting(struct meeting *m)
{
	CHECK_EQ(crew_drop(m->barrier), 0);
	CHECK_EQ(crew_drop(m->arrived), 0);
	CHECK_EQ(crew_drop(m->rounds), 0);
	CHECK_EQ(crew_drop(m->count), 0);
	CHECK_EQ(crew_drop(m->broken), 0);
	CHECK_EQ(crew_drop(m->rwlock), 0);
	CHECK_EQ(crew_drop(m->event), 0);
	CHECK_EQ(crew_drop(m->ready), 0);
}

/* ---- barriers ---- */

static void meet(int i, void *arg)
{
	struct meeting *m = arg;
	int *arrived = crew_array_as(int, m->arrived), *rounds = crew_array_as(int, m->rounds);

	for (int round = 1; round <= (int)m->times; round++) {
		int place;

		__atomic_store_n(&rounds[i], round, __ATOMIC_RELAXED);
		place = crew_barrier_wait(m->barrier, CREW_FOREVER);
		CHECK(place >= 0 && place < PARTIES);
		for (int k = 0; k < PARTIES; k++) /* nobody is a round behind */
			CHECK_GE(__atomic_load_n(&rounds[k], __ATOMIC_RELAXED), round);
		__atomic_add_fetch(&arrived[place], 1, __ATOMIC_RELAXED);
	}
}
/* Nobody passes before all are there; their numbers are 0 … n-1, each once a round. */
TEST_CARRIED(nobody_passes_a_barrier_before_all_are_there)
{
	struct meeting m = open_meeting(PARTIES);

	CHECK_EQ(crew_barrier_parties(m.barrier), PARTIES);
	crowd_start(PARTIES, meet, &m);
	crowd_join();
	for (int i = 0; i < PARTIES; i++)
		CHECK_EQ(crew_array_as(int, m.arrived)[i], (int)m.times);
	CHECK_EQ(crew_barrier_waiting(m.barrier), 0);
	CHECK(!crew_barrier_broken(m.barrier));
	close_meeting(&m);
}

TEST(a_barrier_of_one_never_blocks_and_of_none_is_einval)
{
	struct meeting m = open_meeting(1);

	CHECK_EQ(crew_barrier_wait(m.barrier, 0), 0);
	CHECK_EQ(crew_barrier_wait(m.barrier, CREW_FOREVER), 0);
	CHECK_EQ(crew_handle_error(crew_barrier_make(0)), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_barrier_make(40000)), -EINVAL);
	close_meeting(&m);
	CHECK_EQ(crew_barrier_wait(m.barrier, CREW_FOREVER), CREW_EHANDLE);
}

static int note_action(void *arg)
{
	struct meeting *m = arg;

	CHECK_EQ(crew_barrier_waiting(m->barrier), PARTIES);
	return (int)crew_value_add(m->count, 1);
}
static int fail_action(void *arg)
{
	(void)arg;
	return -EDOM;
}
static void act(int i, void *arg)
{
	struct meeting *m = arg;

	for (int round = 0; round < 20; round++) {
		CHECK_GE(crew_barrier_wait_with(m->barrier, note_action, m, CREW_FOREVER), 0);
		CHECK_GE(crew_value_load(m->count), round + 1);
	}
	if (i == 0) {
		while (crew_barrier_waiting(m->barrier) < PARTIES - 1)
			sched_yield();
		CHECK_EQ(crew_barrier_wait_with(m->barrier, fail_action, m, CREW_FOREVER), -EDOM);
	} else {
		CHECK_EQ(crew_barrier_wait(m->barrier, CREW_FOREVER), CREW_EBROKEN);
	}
}
/* Once a round, before anybody passes; one that fails breaks the barrier for the others. */
TEST_CARRIED(the_last_to_come_runs_the_action)
{
	struct meeting m = open_meeting(PARTIES);

	crowd_start(PARTIES, act, &m);
	crowd_join();
	CHECK_EQ(crew_value_load(m.count), 20);
	CHECK(crew_barrier_broken(m.barrier));
	close_meeting(&m);
}

static void wait_broken(int i, void *arg)
{
	struct meeting *m = arg;

	(void)i;
	CHECK_EQ(crew_barrier_wait(m->barrier, CREW_FOREVER), CREW_EBROKEN);
	crew_value_add(m->broken, 1);
}
/* Abort, a time that is over, reset: all who wait are sent away; only a reset makes it good. */
TEST_CARRIED(a_broken_barrier_holds_nobody_until_it_is_reset)
{
	struct meeting m = open_meeting(PARTIES);

	for (int how = 0; how < 2; how++) {
		crowd_start(PARTIES - 1, wait_broken, &m);
		while (crew_barrier_waiting(m.barrier) < PARTIES - 1)
			sched_yield();
		if (how == 0)
			CHECK_EQ(crew_barrier_abort(m.barrier), 0);
		else
			CHECK_EQ(crew_barrier_reset(m.barrier), 0);
		crowd_join();
		if (how == 0) {
			CHECK(crew_barrier_broken(m.barrier));
			CHECK_EQ(crew_barrier_wait(m.barrier, CREW_FOREVER), CREW_EBROKEN);
			CHECK_EQ(crew_barrier_reset(m.barrier), 0);
		}
		CHECK(!crew_barrier_broken(m.barrier));
		CHECK_EQ(crew_barrier_waiting(m.barrier), 0);
	}
	CHECK_EQ(crew_barrier_wait(m.barrier, 20), -ETIMEDOUT);
	CHECK(crew_barrier_broken(m.barrier));
	CHECK_EQ(crew_barrier_wait(m.barrier, 20), CREW_EBROKEN);
	CHECK_EQ(crew_barrier_reset(m.barrier), 0);
	m.times = 20;
	crowd_start(PARTIES, meet, &m);
	crowd_join();
	close_meeting(&m);
}

/* The last to come acts; who comes meanwhile waits for the end of that, as long as he likes, and breaks nothing. */
static int act_slowly(void *arg)
{
	struct meeting *m = arg;

	CHECK_EQ(crew_event_set(m->ready), 0);
	return crew_event_wait(m->event, CREW_FOREVER);
}
static void act_alone(int i, void *arg)
{
	struct meeting *m = arg;

	(void)i;
	CHECK_EQ(crew_barrier_wait_with(m->barrier, act_slowly, m, CREW_FOREVER), 0);
}
TEST_CARRIED(who_comes_during_the_action_may_give_up_and_breaks_nothing)
{
	struct meeting m = open_meeting(1);

	crowd_start(1, act_alone, &m);
	CHECK_EQ(crew_event_wait(m.ready, CREW_FOREVER), 0);
	CHECK_EQ(crew_barrier_wait(m.barrier, 20), -ETIMEDOUT);
	CHECK(!crew_barrier_broken(m.barrier));
	CHECK_EQ(crew_event_set(m.event), 0);
	crowd_join();
	CHECK_EQ(crew_barrier_wait(m.barrier, CREW_FOREVER), 0);
	close_meeting(&m);
}

static int act_elsewhere(void *arg)
{
	struct meeting *m = arg;

	CHECK_EQ(crew_event_set(m->ready), 0);
	return crew_barrier_wait(crew_barrier_make(2), CREW_FOREVER);
}
static void act_to_die(void *arg)
{
	struct meeting *m = arg;

	crew_barrier_wait_with(m->barrier, act_elsewhere, m, CREW_FOREVER);
	CHECK(false);
}
/* Killed in the action, asleep in another barrier: those who wait for its end are told. */
TEST_CARRIED(a_party_that_dies_in_the_action_breaks_the_barrier)
{
	struct meeting m = open_meeting(2);
	pid_t pid;

	crowd_start(1, wait_broken, &m);
	while (crew_barrier_waiting(m.barrier) < 1)
		sched_yield();
	pid = child_start(act_to_die, &m);
	CHECK_EQ(crew_event_wait(m.ready, CREW_FOREVER), 0);
	child_await_sleep(pid);
	child_kill(pid);
	crowd_join();
	CHECK_EQ(crew_value_load(m.broken), 1);
	CHECK(crew_barrier_broken(m.barrier));
	close_meeting(&m);
}

static void wait_to_die(void *arg)
{
	struct meeting *m = arg;

	crew_barrier_wait(m->barrier, CREW_FOREVER);
	CHECK(false);
}
/* A party killed while it waits: the others are not kept for ever, and nobody passes as if it were there. */
TEST_CARRIED(a_party_that_dies_in_a_barrier_breaks_it)
{
	struct meeting m = open_meeting(PARTIES);
	pid_t pid = child_start(wait_to_die, &m);

	while (crew_barrier_waiting(m.barrier) < 1)
		sched_yield();
	crowd_start(PARTIES - 2, wait_broken, &m);
	while (crew_barrier_waiting(m.barrier) < PARTIES - 1)
		sched_yield();
	child_kill(pid);
	CHECK_EQ(crew_barrier_wait(m.barrier, CREW_FOREVER), CREW_EBROKEN);
	crowd_join();
	CHECK_EQ(crew_barrier_reset(m.barrier), 0);
	m.times = 10;
	crowd_start(PARTIES, meet, &m);
	crowd_join();
	close_meeting(&m);
}

/* ---- readers and writers ---- */

static void read_or_write(int i, void *arg)
{
	struct meeting *m = arg;
	int *pair = crew_array_as(int, m->arrived);

	for (size_t k = 0; k < 20 * m->times; k++) {
		if (i < 2 && k % 4 == 0)
			CREW_WITH (m->rwlock) {
				pair[0]++;
				pair[1]++;
			}
		else
			CREW_WITH (crew_reading(m->rwlock))
				CHECK_EQ(pair[0], pair[1]);
	}
}
TEST_CARRIED(readers_never_see_a_write_half_done)
{
	struct meeting m = open_meeting(1);

	crowd_start(5, read_or_write, &m);
	crowd_join();
	CHECK_EQ(crew_array_as(int, m.arrived)[0], 2 * (int)((20 * m.times + 3) / 4));
	close_meeting(&m);
}

static void read_beside(int i, void *arg)
{
	struct meeting *m = arg;

	(void)i;
	CHECK_EQ(crew_acquire(crew_reading(m->rwlock)), 0);
	CHECK_EQ(crew_acquire(m->rwlock), -EDEADLK);
	CHECK_GE(crew_barrier_wait(m->barrier, 20000), 0); /* all of us read */
	CHECK_EQ(crew_release(m->rwlock), 0);
	CHECK_EQ(crew_release(m->rwlock), -EPERM);
}
TEST_CARRIED(many_read_at_once)
{
	struct meeting m = open_meeting(PARTIES);

	crowd_start(PARTIES, read_beside, &m);
	crowd_join();
	CHECK_EQ(crew_try_acquire(m.rwlock), 0);
	CHECK_EQ(crew_acquire(m.rwlock), -EDEADLK);
	CHECK_EQ(crew_acquire(crew_reading(m.rwlock)), -EDEADLK);
	CHECK_EQ(crew_release(m.rwlock), 0);
	close_meeting(&m);
}

static void contend(int i, void *arg)
{
	struct meeting *m = arg;

	(void)i;
	CHECK_EQ(crew_try_acquire(m->rwlock), -EBUSY);
	CHECK_EQ(crew_acquire_within(m->rwlock, 20), -ETIMEDOUT);
	CHECK_EQ(crew_try_acquire(crew_reading(m->rwlock)), 0);
	CHECK_EQ(crew_release(crew_reading(m->rwlock)), 0);
	crew_event_set(m->ready);
	CHECK_EQ(crew_acquire(m->rwlock), 0);
	crew_value_add(m->count, 1);
	CHECK_EQ(crew_release(m->rwlock), 0);
}
/* A writer waits for readers, who may read again meanwhile; new readers wait for the writer. */
TEST_CARRIED(a_writer_waits_for_those_who_read)
{
	struct meeting m = open_meeting(1);

	CHECK_EQ(crew_acquire(crew_reading(m.rwlock)), 0);
	crowd_start(1, contend, &m);
	CHECK_EQ(crew_event_wait(m.ready, CREW_FOREVER), 0);
	for (int i = 0; i < 100; i++) {
		CHECK_EQ(crew_acquire(crew_reading(m.rwlock)), 0);
		CHECK_EQ(crew_release(m.rwlock), 0);
	}
	CHECK_EQ(crew_value_load(m.count), 0);
	CHECK_EQ(crew_release(m.rwlock), 0);
	crowd_join();
	CHECK_EQ(crew_value_load(m.count), 1);
	close_meeting(&m);
}

static void read_and_stay(void *arg)
{
	struct meeting *m = arg;

	CHECK_EQ(crew_acquire(crew_reading(m->rwlock)), 0);
	crew_event_set(m->ready);
	pause();
}
static void write_and_stay(void *arg)
{
	struct meeting *m = arg;

	CHECK_EQ(crew_acquire(m->rwlock), 0);
	crew_event_set(m->ready);
	pause();
}
/* A dead reader leaves nothing; after a dead writer the next has it alone, and is told. */
TEST(dead_readers_leave_nothing_and_dead_writers_eownerdead)
{
	struct meeting m = open_meeting(1);
	pid_t pid = child_start(read_and_stay, &m);

	CHECK_EQ(crew_event_wait(m.ready, CREW_FOREVER), 0);
	CHECK_EQ(crew_acquire_within(m.rwlock, 20), -ETIMEDOUT);
	child_kill(pid);
	CHECK_EQ(crew_acquire_within(m.rwlock, 10000), 0);
	CHECK_EQ(crew_release(m.rwlock), 0);
	CHECK_EQ(crew_event_clear(m.ready), 0);
	pid = child_start(write_and_stay, &m);
	CHECK_EQ(crew_event_wait(m.ready, CREW_FOREVER), 0);
	CHECK_EQ(crew_acquire_within(crew_reading(m.rwlock), 20), -ETIMEDOUT);
	child_kill(pid);
	CHECK_EQ(crew_acquire_within(crew_reading(m.rwlock), 10000), -EOWNERDEAD);
	CHECK_EQ(crew_handle_recover(m.rwlock), 0);
	CHECK_EQ(crew_release(m.rwlock), 0);
	CHECK_EQ(crew_acquire(crew_reading(m.rwlock)), 0);
	CHECK_EQ(crew_release(m.rwlock), 0);
	close_meeting(&m);
}

static void write_and_leave(void *arg)
{
	struct meeting *m = arg;

	CHECK_EQ(crew_acquire(m->rwlock), 0);
	_exit(0);
}
/* After a writer who died the next writer has it alone, too, and is told. */
TEST(a_writer_after_a_dead_one_is_told)
{
	struct meeting m = open_meeting(1);

	child_join(child_start(write_and_leave, &m));
	CHECK_EQ(crew_acquire_within(m.rwlock, 20000), -EOWNERDEAD);
	CHECK_EQ(crew_handle_recover(m.rwlock), 0);
	CHECK_EQ(crew_release(m.rwlock), 0);
	CHECK_EQ(crew_acquire(m.rwlock), 0);
	CHECK_EQ(crew_release(m.rwlock), 0);
	close_meeting(&m);
}

static void find_it_taken(int i, void *arg)
{
	struct meeting *m = arg;

	(void)i;
	CHECK_EQ(crew_release(m->rwlock), -EPERM); /* he has had nothing yet */
	CHECK_EQ(crew_try_acquire(m->rwlock), -EBUSY);
	CHECK_EQ(crew_acquire_within(m->rwlock, 10), -ETIMEDOUT);
	CHECK_EQ(crew_try_acquire(crew_reading(m->rwlock)), -EBUSY);
	CHECK_EQ(crew_acquire_within(crew_reading(m->rwlock), 10), -ETIMEDOUT);
}
TEST_CARRIED(whoever_comes_while_somebody_writes_may_give_up)
{
	struct meeting m = open_meeting(1);

	CHECK_EQ(crew_acquire(m.rwlock), 0);
	crowd_start(1, find_it_taken, &m);
	crowd_join();
	CHECK_EQ(crew_release(m.rwlock), 0);
	close_meeting(&m);
}

static void read_when_there_is_room(void *arg)
{
	struct meeting *m = arg;

	CHECK_EQ(crew_acquire(crew_reading(m->rwlock)), 0);
	CHECK_EQ(crew_release(m->rwlock), 0);
}
static void wait_for_room_in_vain(void *arg)
{
	struct meeting *m = arg;

	CHECK_EQ(crew_acquire(crew_reading(m->rwlock)), CREW_EHANDLE);
}
/* 960 read at once, here one thread so many times; more wait. */
TEST(more_readers_than_there_is_room_for_wait)
{
	struct meeting m = open_meeting(1);
	pid_t pid;

	for (int i = 0; i < 960; i++)
		CHECK_EQ(crew_acquire(crew_reading(m.rwlock)), 0);
	CHECK_EQ(crew_try_acquire(crew_reading(m.rwlock)), -EBUSY);
	CHECK_EQ(crew_acquire_within(crew_reading(m.rwlock), 30), -ETIMEDOUT);
	pid = child_start(read_when_there_is_room, &m);
	child_await_sleep(pid);
	CHECK_EQ(crew_release(m.rwlock), 0);
	child_join(pid);
	CHECK_EQ(crew_try_acquire(crew_reading(m.rwlock)), 0);
	for (int i = 0; i < 960; i++)
		CHECK_EQ(crew_release(m.rwlock), 0);
	CHECK_EQ(crew_release(m.rwlock), -EPERM);
	for (int i = 0; i < 960; i++)
		CHECK_EQ(crew_acquire(crew_reading(m.rwlock)), 0);
	pid = child_start(wait_for_room_in_vain, &m);
	child_await_sleep(pid);
	CHECK_EQ(crew_drop(m.rwlock), 0);
	child_join(pid);
	m.rwlock = crew_rwlock_make();
	close_meeting(&m);
}

static void wait_sent_away(int i, void *arg)
{
	struct meeting *m = arg;

	CHECK_EQ(i == 0 ? crew_barrier_wait(m->barrier, CREW_FOREVER) : i == 1 ? crew_acquire(m->rwlock) : crew_event_wait(m->event, CREW_FOREVER),
		 CREW_EHANDLE);
}
static void wait_at_barrier(void *arg)
{
	wait_sent_away(0, arg);
}
static void wait_to_write(void *arg)
{
	wait_sent_away(1, arg);
}
static void wait_for_event(void *arg)
{
	wait_sent_away(2, arg);
}
/* Whoever sleeps in what is dropped is sent away. */
TEST(a_drop_sends_away_whoever_sleeps_there)
{
	static void (*const waits[])(void *arg) = { wait_at_barrier, wait_to_write, wait_for_event };
	struct meeting m = open_meeting(2);
	pid_t pid[3];

	CHECK_EQ(crew_acquire(crew_reading(m.rwlock)), 0);
	for (int i = 0; i < 3; i++) {
		pid[i] = child_start(waits[i], &m);
		child_await_sleep(pid[i]);
	}
	while (crew_barrier_waiting(m.barrier) == 0 || crew_owner_of(m.rwlock).whose == CREW_NOBODYS)
		sched_yield();
	CHECK_EQ(crew_drop(m.barrier), 0);
	CHECK_EQ(crew_drop(m.rwlock), 0);
	CHECK_EQ(crew_drop(m.event), 0);
	for (int i = 0; i < 3; i++)
		child_join(pid[i]);
}

static void pass_once(void *arg)
{
	struct meeting *m = arg;

	CHECK_GE(crew_barrier_wait(m->barrier, CREW_FOREVER), 0);
}
static void pass_often(void *arg)
{
	struct meeting *m = arg;

	for (int round = 0; round < 20; round++)
		CHECK_GE(crew_barrier_wait(m->barrier, CREW_FOREVER), 0);
}
/* Whoever sleeps through many rounds of others has passed in his own. */
TEST(a_sleeper_of_many_rounds_has_passed_in_his_own)
{
	struct meeting m = open_meeting(2);
	pid_t pid = child_start(pass_once, &m), other;
	int status;

	while (crew_barrier_waiting(m.barrier) < 1)
		sched_yield();
	CHECK_EQ(kill(pid, SIGSTOP), 0);
	CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
	pass_once(&m);
	other = child_start(pass_often, &m);
	pass_often(&m);
	child_join(other);
	CHECK_EQ(kill(pid, SIGCONT), 0);
	child_join(pid);
	close_meeting(&m);
}

TEST(nobody_waits_at_a_broken_barrier)
{
	struct meeting m = open_meeting(2);

	CHECK_EQ(crew_barrier_abort(m.barrier), 0);
	CHECK_EQ(crew_barrier_waiting(m.barrier), 0);
	CHECK(crew_barrier_broken(m.barrier));
	close_meeting(&m);
}
