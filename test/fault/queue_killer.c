/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue_killer.c: kill -9 a process after each single instruction of a put, a get, a task_done and the waits, with somebody asleep on the other side.
 *
 * The victim is a child that we step (ptrace). After k steps it is dead, and then
 *
 *	what it had counted (an item put, taken, done) has woken who slept for it, by itself; what it had not, is as if it had never begun
 *	everybody else goes on: who sleeps ends when there is what he waits for
 *	no item is there twice, none but the victim's own is gone
 *
 * Compiled with CREW_FAULT_LOST_WAKE, where counting and waking are two steps, the same killer must find it.
 */
#include <crew/crew.h>
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "ipc/queue_memory.h"
#include "runner.h"
#include "stepper.h"

#ifdef CREW_FAULT_LOST_WAKE
enum { FAULTY = 1, PATIENCE_MS = 500 };
#else
enum { FAULTY = 0, PATIENCE_MS = 10000 };
#endif

/* ---- who sleeps on the other side ---- */

static pid_t start_sleeper(int (*act)(crew_queue q), crew_queue q)
{
	struct queue *m = queue_at(q);
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0)
		_exit(act(q) == 0 ? 0 : 1);
	while (stepper_state(pid) != 'S' || ck_pr_load_32(&m->crowd) == 0)
		sched_yield();
	return pid;
}

static void expect_end(pid_t pid, long k, const char *what)
{
	if (!stepper_ends(pid, PATIENCE_MS))
		stepper_complain(k, what, 0);
}

/* ---- the acts ---- */

static void put_one(void *q)
{
	long x = 1;

	(void)!crew_put(*(crew_queue *)q, &x);
}
static void get_one(void *q)
{
	long x;

	(void)!crew_get(*(crew_queue *)q, &x);
}
static void done_one(void *q)
{
	crew_queue_task_done(*(crew_queue *)q);
}
static void join_all(void *q)
{
	(void)crew_queue_join(*(crew_queue *)q, CREW_FOREVER);
}
static void put_large(void *q)
{
	static char large[5000];

	(void)!crew_queue_put_bytes(*(crew_queue *)q, crew_bytes_make(large, sizeof large), CREW_FOREVER);
}
static void get_large(void *q)
{
	crew_bytes got;

	(void)!crew_queue_get_bytes(*(crew_queue *)q, &got, CREW_FOREVER);
}
static int sleep_for_item(crew_queue q)
{
	long x;

	return crew_get(q, &x);
}
static int sleep_for_room(crew_queue q)
{
	long x = 2;

	return crew_put(q, &x);
}
static int sleep_for_all(crew_queue q)
{
	return crew_queue_join(q, CREW_FOREVER);
}
static int sleep_for_message(crew_queue q)
{
	crew_bytes got;

	return crew_queue_get_bytes(q, &got, CREW_FOREVER);
}

/* What a first call of all finds out and keeps: once for all forks, and in each victim that is none. */
static void warm_up(void *q)
{
	crew_queue own = crew_queue_make(.item = sizeof(long));
	long x;

	(void)q;
	CHECK_EQ(crew_get_within(own, &x, 1), -ETIMEDOUT);
	crew_queue_drop(own);
}

static bool kill_victim(void (*act)(void *q), crew_queue q, long k)
{
	return stepper_kill_after(stepper_start(stepper_victims->start ? warm_up : NULL, act, &q, sizeof q), k, true);
}

/* ---- rounds: false: the victim was through before k ---- */

static crew_queue longs(size_t capacity)
{
	return crew_queue_make(.item = sizeof(long), .capacity = capacity);
}

static bool round_put(long k)
{
	crew_queue q = longs(4);
	pid_t sleeper = start_sleeper(sleep_for_item, q);
	bool more = kill_victim(put_one, q, k);
	long x = 5;

	if (queue_at(q)->strand.put == 0) /* as if it had not begun */
		CHECK_EQ(crew_put(q, &x), 0);
	expect_end(sleeper, k, "an item came, and who slept for it sleeps on");
	if (crew_get_within(q, &x, 0) != -EAGAIN)
		stepper_complain(k, "an item is there twice", 0);
	CHECK_EQ(crew_put_within(q, &x, 0), 0);
	CHECK_EQ(crew_get_within(q, &x, 0), 0);
	crew_queue_drop(q);
	return more;
}

static bool round_get(long k)
{
	crew_queue q = longs(1);
	bool more;
	pid_t sleeper;
	long x = 1;

	CHECK_EQ(crew_put(q, &x), 0);
	sleeper = start_sleeper(sleep_for_room, q);
	more = kill_victim(get_one, q, k);
	if (queue_at(q)->strand.got == 0)
		CHECK_EQ(crew_get(q, &x), 0); /* still there, and the first */
	if (x != 1)
		stepper_complain(k, "the wrong item came", 0);
	expect_end(sleeper, k, "there was room, and who slept for it sleeps on");
	if (crew_get_within(q, &x, 0) || x != 2 || crew_queue_len(q) != 0)
		stepper_complain(k, "the sleeper's item is not what is there", 0);
	crew_queue_drop(q);
	return more;
}

static bool round_done(long k)
{
	crew_queue q = longs(0);
	bool more;
	pid_t sleeper;
	long x = 1;

	CHECK_EQ(crew_put(q, &x), 0);
	sleeper = start_sleeper(sleep_for_all, q);
	more = kill_victim(done_one, q, k);
	if (queue_at(q)->done_count == 0)
		CHECK_EQ(crew_queue_task_done(q), 0);
	expect_end(sleeper, k, "all was done, and who waited for it waits on");
	if (crew_queue_task_done(q) != -EINVAL)
		stepper_complain(k, "it was done twice", 0);
	crew_queue_drop(q);
	return more;
}

/* The victim is on its way to sleep; another waits behind it. */
static bool round_wait(long k)
{
	crew_queue q = longs(1);
	bool more = kill_victim(get_one, q, k);
	pid_t second;
	long x = 1;

	second = start_sleeper(sleep_for_item, q);
	CHECK_EQ(crew_put(q, &x), 0);
	expect_end(second, k, "the turn of a dead one was not handed on");
	crew_queue_drop(q);
	return more;
}

/* The victim is on its way to wait until all is done; another waits behind it. */
static bool round_join(long k)
{
	crew_queue q = longs(1);
	bool more;
	pid_t second;
	long x = 1;

	CHECK_EQ(crew_put(q, &x), 0);
	more = kill_victim(join_all, q, k);
	second = start_sleeper(sleep_for_all, q);
	CHECK_EQ(crew_get(q, &x), 0);
	CHECK_EQ(crew_queue_task_done(q), 0);
	expect_end(second, k, "all was done, and who waited behind a dead one waits on");
	crew_queue_drop(q);
	return more;
}

/* Messages that each need a segment of their own, so one is found, or given back, under the killer's eyes. */
static bool round_large(void (*act)(void *q), size_t fill, long k)
{
	crew_queue q = crew_queue_make(.item = 0, .bytes = 8000);
	static char large[5000];
	crew_bytes got;
	bool more;
	pid_t sleeper;

	for (size_t i = 0; i < fill; i++)
		CHECK_EQ(crew_queue_put_bytes(q, crew_bytes_make(large, sizeof large), 0), 0);
	more = kill_victim(act, q, k);
	while (crew_queue_get_bytes(q, &got, 0) == 0) {
		if (got.len != sizeof large)
			stepper_complain(k, "a message is not what it was", 0);
		crew_bytes_free(got);
	}
	for (int i = 0; i < 3; i++) {
		sleeper = start_sleeper(sleep_for_message, q);
		CHECK_EQ(crew_queue_put_bytes(q, crew_bytes_make(large, sizeof large), CREW_FOREVER), 0);
		expect_end(sleeper, k, "a message came, and who slept for it sleeps on");
	}
	crew_queue_drop(q);
	return more;
}

static bool round_put_large(long k)
{
	return round_large(put_large, 0, k);
}
static bool round_get_large(long k)
{
	return round_large(get_large, 1, k);
}

/* ---- sweeps ---- */

enum { KILLS = 40 };

static void kill_each_step(bool (*round)(long k))
{
	warm_up(NULL);
	stepper_judge(round, KILLS, FAULTY);
}

TEST_VICTIM(a_putter_may_die_after_any_instruction)
{
	kill_each_step(round_put);
}
#if !defined(CREW_FAULT_LOST_WAKE)
TEST_VICTIM(a_getter_may_die_after_any_instruction)
{
	kill_each_step(round_get);
}
TEST_VICTIM(who_has_done_one_may_die_after_any_instruction)
{
	kill_each_step(round_done);
}
TEST_VICTIM(who_is_about_to_sleep_may_die_after_any_instruction)
{
	kill_each_step(round_wait);
}
TEST_VICTIM(who_is_about_to_wait_for_all_may_die_after_any_instruction)
{
	kill_each_step(round_join);
}
TEST_VICTIM(a_putter_of_large_messages_may_die_after_any_instruction)
{
	kill_each_step(round_put_large);
}
TEST_VICTIM(a_getter_of_large_messages_may_die_after_any_instruction)
{
	kill_each_step(round_get_large);
}
#endif
