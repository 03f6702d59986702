/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * groups.c: crew_group(), an executor over each executor.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, twice, (int, n))
{
	return 2 * n;
}
CREW_TASK(int, fails)
{
	return crew_raise(EIO, "it fails");
}
/* Counts how many are inside at once; count[1] keeps the most. */
CREW_TASK(int, crowd, (crew_bytes, gate))
{
	struct gate *g = gate.data;
	uint32_t now = __atomic_add_fetch(&g->count[0], 1, __ATOMIC_SEQ_CST), most = gate_count(g, 1);

	while (now > most && !__atomic_compare_exchange_n(&g->count[1], &most, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	for (int i = 0; i < 2000; i++)
		gate_count(g, 0);
	__atomic_sub_fetch(&g->count[0], 1, __ATOMIC_SEQ_CST);
	return 1;
}

/* What an executor does, a group does, on the other's workers. */
TEST_EACH(a_group_runs_tasks, ex)
{
	int y = 0, in[] = { 1, 2, 3 }, out[3];

	CREW_SCOPE (g, crew_group(ex)) {
		CHECK_EQ(crew_executor_error(g, NULL), 0);
		CHECK_EQ(crew_result(crew_submit(g, twice, 4), &y), 0);
		CHECK_EQ(y, 8);
		CHECK_EQ(crew_map(g, twice, in, out, 3), 0);
		CHECK_EQ(out[2], 6);
	}
}

/* Its end waits for its own tasks, and for no others. */
TEST_EACH(the_end_of_a_group_waits_for_its_tasks_only, ex)
{
	GATE (outside, ex);
	GATE (inside, ex);

	NOT_WHERE(SINGLE, "the other task would hold the only worker");
	crew_submit(ex, held, outside.bytes, 0);
	CREW_SCOPE (g, crew_group(ex))
		for (int i = 0; i < 20; i++)
			crew_submit(g, counted, inside.bytes, 0);
	CHECK_EQ(gate_count(inside.at, 0), 20u);
}

/* Nor is it held up by a callback of others, however its own tasks end. */
static struct gate callback_may_end;
static void waits(crew_future *f, void *arg)
{
	(void)f;
	gate_arrive(arg);
	gate_wait(&callback_may_end);
}
TEST_EACH(the_end_of_a_group_does_not_wait_for_callbacks_of_others, ex)
{
	GATE (g, ex);
	struct gate in_callback = { 0 };

	NOT_WHERE(SINGLE, "the callback may hold the only worker");
	crew_future_on_done(crew_submit(ex, held, g.bytes, 0), waits, &in_callback);
	gate_open(g.at);
	gate_await(&in_callback, 1);
	CREW_SCOPE (group, crew_group(ex)) {
		for (int i = 0; i < 20; i++) {
			crew_submit(group, twice, i);
			crew_submit(group, fails);
		}
		CHECK_EQ(crew_executor_wait(group, CREW_FOREVER), -EIO);
	}
	gate_open(&callback_may_end);
}

/* Each group waits for its own, and learns of its own failures. */
TEST_EACH(groups_have_barriers_of_their_own, ex)
{
	GATE (g, ex);

	CREW_SCOPE (a, crew_group(ex)) {
		CREW_SCOPE (b, crew_group(ex)) {
			crew_submit(a, counted, g.bytes, 0);
			crew_submit(b, fails);
			CHECK_EQ(crew_executor_wait(a, CREW_FOREVER), 0);
			CHECK_EQ(gate_count(g.at, 0), 1u);
			CHECK_EQ(crew_executor_wait(b, CREW_FOREVER), -EIO);
		}
	}
}

/* CARRY_ON, the default: a failure harms nobody. */
TEST_EACH(siblings_carry_on_by_default, ex)
{
	GATE (g, ex);

	CREW_SCOPE (group, crew_group(ex)) {
		crew_submit(group, fails);
		for (int i = 0; i < 10; i++)
			crew_submit(group, counted, g.bytes, 0);
	}
	CHECK_EQ(gate_count(g.at, 0), 10u);
}

/* CANCEL_SIBLINGS: the first failure asks what runs to stop … */
TEST_EACH(a_failure_asks_running_siblings_to_stop, ex)
{
	GATE (g, ex);
	int y = 0;

	NOT_WHERE(SINGLE, "needs a task that runs while another fails");
	CREW_SCOPE (group, crew_group(ex, .on_error = CREW_CANCEL_SIBLINGS)) {
		crew_future *running = crew_submit(group, stoppable, g.bytes);

		gate_await(g.at, 1);
		crew_submit(group, fails);
		CHECK_EQ(crew_result(running, &y), 0); /* the gate is never opened */
		CHECK_EQ(y, 1);
	}
}

/* … and cancels what waits. */
TEST_EACH(a_failure_cancels_waiting_siblings, ex)
{
	GATE (g, ex);
	crew_future *bad, *waiting[10];

	NOT_WHERE(IMMEDIATE, "nothing waits");
	CREW_SCOPE (group, crew_group(ex, .on_error = CREW_CANCEL_SIBLINGS, .max_running = 1)) {
		bad = crew_submit(group, held_failure, g.bytes, EIO);
		for (int i = 0; i < 10; i++)
			waiting[i] = crew_submit(group, counted, g.bytes, 0);
		gate_open(g.at);
		CHECK_EQ(crew_future_error(bad)->code, EIO);
		for (int i = 0; i < 10; i++)
			CHECK_EQ(crew_future_wait(waiting[i], CREW_FOREVER), -ECANCELED);
		CHECK_EQ(gate_count(g.at, 0), 0u);
	}
}

/* max_running: no more of the group's tasks are under way at a time. */
TEST_EACH(max_running_limits_what_runs, ex)
{
	GATE (g, ex);

	for (int limit = 1; limit <= 2; limit++)
		CREW_SCOPE (group, crew_group(ex, .max_running = limit)) {
			for (int i = 0; i < 200; i++)
				crew_submit(group, crowd, g.bytes);
			CHECK_EQ(crew_executor_wait(group, CREW_FOREVER), 0);
			CHECK_LE(gate_count(g.at, 1), (uint32_t)limit);
			CHECK_GE(gate_count(g.at, 1), 1u);
		}
}

/* Those beyond the limit wait, in order, and do not hold up others. */
TEST_EACH(what_is_beyond_max_running_waits_in_order, ex)
{
	GATE (g, ex);

	CREW_SCOPE (group, crew_group(ex, .max_running = 1)) {
		for (int i = 0; i < 100; i++)
			crew_submit(group, logged, g.bytes, i);
		CHECK_EQ(crew_executor_wait(group, CREW_FOREVER), 0);
		for (int i = 0; i < 100; i++)
			CHECK_EQ(g.at->log[i], i);
	}
}

/* REJECT: what does not fit has failed with -EAGAIN. */
TEST_EACH(a_full_group_rejects, ex)
{
	GATE (g, ex);
	crew_future *fs[6];

	NOT_WHERE(IMMEDIATE, "a group over it is never full");
	CREW_SCOPE (group, crew_group(ex, .max_running = 1, .max_queued = 2, .when_full = CREW_REJECT)) {
		for (int i = 0; i < 6; i++)
			fs[i] = crew_submit(group, held, g.bytes, i);
		for (int i = 3; i < 6; i++) {
			CHECK(crew_future_done(fs[i]));
			CHECK_EQ(crew_future_error(fs[i])->code, -EAGAIN);
		}
		gate_open(g.at);
		for (int i = 0; i < 3; i++)
			CHECK_EQ(crew_future_wait(fs[i], CREW_FOREVER), 0);
		CHECK_EQ(crew_future_wait(crew_submit(group, twice, 1), CREW_FOREVER), 0);
	}
}

/* DROP_OLDEST: the oldest that waits is cancelled. */
TEST_EACH(a_full_group_drops_the_oldest, ex)
{
	GATE (g, ex);
	crew_future *fs[5];

	NOT_WHERE(IMMEDIATE, "a group over it is never full");
	CREW_SCOPE (group, crew_group(ex, .max_running = 1, .max_queued = 2, .when_full = CREW_DROP_OLDEST)) {
		for (int i = 0; i < 5; i++)
			fs[i] = crew_submit(group, held, g.bytes, i);
		CHECK(crew_future_cancelled(fs[1]) && crew_future_cancelled(fs[2]));
		gate_open(g.at);
		CHECK_EQ(crew_future_wait(fs[0], CREW_FOREVER), 0);
		CHECK_EQ(crew_future_wait(fs[3], CREW_FOREVER), 0);
		CHECK_EQ(crew_future_wait(fs[4], CREW_FOREVER), 0);
	}
}

/* CALLER_RUNS: submit comes back with a future that is done. */
CREW_TASK(int, on_thread, (crew_bytes, gate), (uintptr_t, caller))
{
	gate_add(gate.data, 0);
	return (uintptr_t)pthread_self() == caller;
}
TEST_EACH(a_full_group_has_the_caller_run_it, ex)
{
	GATE (g, ex);
	crew_future *f;
	int y = 0;

	NOT_WHERE(IMMEDIATE, "a group over it is never full");
	CREW_SCOPE (group, crew_group(ex, .max_running = 1, .max_queued = 1, .when_full = CREW_CALLER_RUNS)) {
		crew_submit(group, held, g.bytes, 0);
		crew_submit(group, held, g.bytes, 1);
		f = crew_submit(group, on_thread, g.bytes, (uintptr_t)pthread_self());
		CHECK(crew_future_done(f));
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, 1);
		gate_open(g.at);
	}
}

/* BLOCK: the submitter waits until there is room; no future is lost. */
static void *opens_when_one_arrived(void *gate)
{
	gate_await(gate, 1);
	gate_open(gate);
	return NULL;
}
TEST_EACH(a_full_group_blocks_the_submitter, ex)
{
	GATE (g, ex);
	pthread_t thread;
	crew_future *fs[50];
	int y;

	CHECK_EQ(pthread_create(&thread, NULL, opens_when_one_arrived, g.at), 0);
	CREW_SCOPE (group, crew_group(ex, .max_running = 1, .max_queued = 1)) {
		for (int i = 0; i < 50; i++)
			fs[i] = crew_submit(group, held, g.bytes, i);
		for (int i = 0; i < 50; i++) {
			CHECK_EQ(crew_result(fs[i], &y), 0);
			CHECK_EQ(y, i);
		}
	}
	pthread_join(thread, NULL);
}

/* A submitter who waits for room in a group that is cancelled goes on: with a future that is cancelled, too. */
struct submitter {
	crew_executor *group;
	crew_bytes gate;
	crew_future *f;
};
static void *submits(void *arg)
{
	struct submitter *s = arg;

	s->f = crew_submit(s->group, held, s->gate, 3);
	return NULL;
}
TEST_EACH(a_submitter_to_a_full_group_goes_on_when_it_is_cancelled, ex)
{
	GATE (g, ex);
	struct submitter s = { NULL, g.bytes, NULL };
	pthread_t thread;
	crew_future *waits;
	int y;

	NOT_WHERE(IMMEDIATE, "a group is never full");
	CREW_SCOPE (group, crew_group(ex, .max_running = 1, .max_queued = 1)) {
		s.group = group;
		crew_submit(group, held, g.bytes, 1);
		gate_await(g.at, 1);
		waits = crew_submit(group, held, g.bytes, 2);
		CHECK_EQ(pthread_create(&thread, NULL, submits, &s), 0);
		while (crew_executor_unfinished(group, NULL, 0) < 3 && !crew_future_done(waits)) /* counted before it waits for room */
			sched_yield();
		CHECK_GE(crew_executor_cancel(group, NULL), 1);
		CHECK_EQ(pthread_join(thread, NULL), 0);
		CHECK_EQ(crew_result(waits, &y), -ECANCELED);
		CHECK_EQ(crew_result(s.f, &y), -ECANCELED);
		gate_open(g.at);
		CHECK_EQ(crew_result(crew_submit(group, twice, 4), &y), 0); /* who never ran takes nobody's place */
		CHECK_EQ(y, 8);
	}
}

/* What was cancelled does not wait, and leaves its place to others. */
TEST_EACH(what_was_cancelled_makes_room_in_a_group, ex)
{
	GATE (g, ex);
	crew_future *fs[5];

	NOT_WHERE(IMMEDIATE, "a group over it is never full");
	CREW_SCOPE (group, crew_group(ex, .max_running = 1, .max_queued = 4, .when_full = CREW_REJECT)) {
		fs[0] = crew_submit(group, held, g.bytes, 0);
		gate_await(g.at, 1);
		for (int i = 1; i < 5; i++)
			fs[i] = crew_submit(group, logged, g.bytes, i);
		CHECK_EQ(crew_future_error(crew_submit(group, twice, 1))->code, -EAGAIN);
		for (int i = 0; i < 3; i++) { /* one in the middle; the last and that behind it; the first */
			static const int which[] = { 2, 4, 1 };

			CHECK_EQ(crew_future_cancel(fs[which[i]], NULL), 1);
			while (crew_future_done(fs[which[i]] = crew_submit(group, logged, g.bytes, 10 + i))) /* until the group knows */
				CHECK_EQ(crew_future_error(fs[which[i]])->code, -EAGAIN);
			CHECK_EQ(crew_future_error(crew_submit(group, twice, 1))->code, -EAGAIN);
		}
		gate_open(g.at);
		for (int i = 0; i < 5; i++)
			CHECK_EQ(crew_future_wait(fs[i], CREW_FOREVER), 0);
		CHECK_EQ(g.at->log_count, 4u);
		CHECK(g.at->log[0] == 3 && g.at->log[1] == 10 && g.at->log[2] == 11 && g.at->log[3] == 12);
	}
}

/* Blocked inside a worker it works along: a pool of one does not deadlock. */
CREW_TASK(int, fills_a_group)
{
	int y, total = 0;
	crew_future *fs[20];

	CREW_SCOPE (group, crew_group(crew_task_executor(), .max_running = 1, .max_queued = 1)) {
		for (int i = 0; i < 20; i++)
			fs[i] = crew_submit(group, twice, 1);
		for (int i = 0; i < 20; i++)
			total += crew_result(fs[i], &y) == 0 ? y : -1000;
	}
	return total;
}
TEST_EACH(a_task_may_fill_a_group, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, fills_a_group), &y), 0);
	CHECK_EQ(y, 40);
}

/* timeout_ms: for the whole group, from its opening; then it is cancelled. */
TEST_EACH(a_group_out_of_time_is_cancelled, ex)
{
	GATE (g, ex);
	crew_future *running, *waiting;
	int y = 0;

	NOT_WHERE(IMMEDIATE, "nothing is left running");
	CREW_SCOPE (group, crew_group(ex, .timeout_ms = 50, .max_running = 1)) {
		running = crew_submit(group, stoppable, g.bytes);
		waiting = crew_submit(group, counted, g.bytes, 0);
		crew_future_wait(running, CREW_FOREVER);
		CHECK_NE(crew_future_wait(waiting, CREW_FOREVER), 0);
		if (crew_result(running, &y) == 0)
			CHECK_EQ(y, 1);
	}
	CHECK_EQ(gate_count(g.at, 0), 0u);
}

/* A group in a group. */
TEST_EACH(groups_nest, ex)
{
	int y = 0;

	CREW_SCOPE (outer, crew_group(ex, .max_running = 2))
		CREW_SCOPE (inner, crew_group(outer, .max_running = 1)) {
			CHECK_EQ(crew_result(crew_submit(inner, twice, 21), &y), 0);
			CHECK_EQ(y, 42);
		}
}

/* A group's futures go with the group; the executor lives on. */
TEST_EACH(many_groups_come_and_go, ex)
{
	int y = 0;

	for (int round = 0; round < 100; round++)
		CREW_SCOPE (group, crew_group(ex))
			for (int i = 0; i < 10; i++)
				crew_submit(group, twice, i);
	CHECK_EQ(crew_result(crew_submit(ex, twice, 3), &y), 0);
	CHECK_EQ(y, 6);
}

/* A cancel or a shutdown of a group is the group's alone. */
TEST_EACH(shutting_a_group_down_leaves_the_executor, ex)
{
	int y = 0;

	CREW_SCOPE (group, crew_group(ex)) {
		CHECK_EQ(crew_executor_shutdown(group, CREW_CANCEL_PENDING, CREW_FOREVER), 0);
		CHECK_EQ(crew_future_error(crew_submit(group, twice, 1))->code, CREW_ESHUTDOWN);
		CHECK_EQ(crew_result(crew_submit(ex, twice, 3), &y), 0);
		CHECK_EQ(y, 6);
	}
}

/* A task of a group that submits to its own executor. */
CREW_TASK(int, submits_inside)
{
	int y = 0;

	return crew_run(crew_task_executor(), &y, twice, 5) == 0 ? y : -1;
}
TEST_EACH(a_task_of_a_group_may_submit, ex)
{
	int y = 0;

	CREW_SCOPE (group, crew_group(ex)) {
		CHECK_EQ(crew_result(crew_submit(group, submits_inside), &y), 0);
		CHECK_EQ(y, 10);
	}
}

/* The callback may be called, and have given it back, before its registering has returned. */
static void count_and_give_back(crew_future *f, void *arg)
{
	__atomic_add_fetch((uint32_t *)arg, 1, __ATOMIC_SEQ_CST);
	crew_future_free(f);
}
TEST_EACH(a_callback_may_give_back_what_it_is_registered_for, ex)
{
	uint32_t calls = 0;

	CREW_SCOPE (group, crew_group(ex))
		for (int i = 0; i < 200; i++)
			CHECK_EQ(crew_future_on_done(crew_submit(group, twice, i), count_and_give_back, &calls), 0);
	CHECK_EQ(calls, 200u);
}

/* A submitter waits for room no longer than the group has time. */
TEST_EACH(a_submitter_waits_no_longer_than_its_group, ex)
{
	GATE (g, ex);
	crew_future *fs[3];

	NOT_WHERE(IMMEDIATE, "a group is never full");
	CREW_SCOPE (group, crew_group(ex, .max_running = 1, .max_queued = 1, .timeout_ms = 30)) {
		fs[0] = crew_submit(group, stoppable, g.bytes);
		for (int i = 1; i < 3; i++)
			fs[i] = crew_submit(group, counted, g.bytes, 0);
		for (int i = 1; i < 3; i++)
			CHECK_NE(crew_future_wait(fs[i], CREW_FOREVER), 0);
	}
	CHECK_EQ(gate_count(g.at, 0), 0u);
}

/* Who runs a task in place of a worker that has no room for it is inside of the executor meanwhile; who runs one of another is not. */
CREW_TASK(int, waits_for_all)
{
	return crew_executor_wait(crew_task_executor(), CREW_FOREVER);
}
CREW_TASK(int, waits_for_all_of, (crew_executor *, ex))
{
	return crew_executor_wait(ex, CREW_FOREVER);
}
TEST_EACH(a_caller_that_runs_a_task_is_inside_of_the_executor, ex)
{
	GATE (g, ex);
	crew_future *f;
	int y = 0;

	NOT_WHERE(IMMEDIATE | GROUPED, "a group over it is never full, or its tasks are told of the other");
	NOT_WHERE(SEPARATE, "a pointer to an executor cannot go there");
	CREW_SCOPE (group, crew_group(ex, .max_running = 1, .max_queued = 1, .when_full = CREW_CALLER_RUNS)) {
		for (int i = 0; i < 2; i++)
			crew_submit(group, held, g.bytes, i);
		f = crew_submit(group, waits_for_all);
		CHECK(crew_future_done(f));
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, -EDEADLK);
		gate_open(g.at);
	}
	CREW_SCOPE (other, crew_inline())
		CHECK_EQ(crew_run(other, &y, waits_for_all_of, ex), 0);
	CHECK_EQ(y, 0);
}

/* A wait for a group that has a time of its own ends with that of the wait. */
TEST_EACH(a_wait_for_a_group_runs_out_of_time, ex)
{
	GATE (g, ex);

	NOT_WHERE(IMMEDIATE, "nothing is left running");
	CREW_SCOPE (group, crew_group(ex, .timeout_ms = 3600000)) {
		for (int i = 0; i < 2; i++)
			crew_submit(group, held, g.bytes, i);
		CHECK_EQ(crew_executor_wait(group, 10), -ETIMEDOUT);
		gate_open(g.at);
		CHECK_EQ(crew_executor_wait(group, CREW_FOREVER), 0);
	}
}
