/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * callbacks.c: crew_future_on_done().
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

/* What callbacks saw. Guarded by its mutex: they run in whatever thread completes the future. */
static struct {
	pthread_mutex_t mutex;
	int calls, order[2000];
	crew_future *f;
	pthread_t thread;
	bool done;
} seen = { .mutex = PTHREAD_MUTEX_INITIALIZER };
static struct gate finished; /* for callbacks to arrive at */

static void note(crew_future *f, void *arg)
{
	pthread_mutex_lock(&seen.mutex);
	seen.order[seen.calls++] = (int)(intptr_t)arg;
	seen.f = f;
	seen.thread = pthread_self();
	seen.done = crew_future_done(f);
	pthread_mutex_unlock(&seen.mutex);
	gate_arrive(&finished);
}

static int calls(void)
{
	int n;

	pthread_mutex_lock(&seen.mutex);
	n = seen.calls;
	pthread_mutex_unlock(&seen.mutex);
	return n;
}

#define NUMBER(i_) ((void *)(intptr_t)(i_))

CREW_TASK(int, answer)
{
	return 42;
}
CREW_TASK(int, fails)
{
	return crew_raise(EIO, "it fails");
}

/* A callback runs once, with its future, which is done. */
TEST_EACH(a_callback_runs_once_when_its_future_is_done, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 1);

	CHECK_EQ(crew_future_on_done(f, note, NUMBER(3)), 0);
	gate_open(g.at);
	gate_await(&finished, 1);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	CHECK_EQ(calls(), 1);
	CHECK(seen.f == f && seen.done && seen.order[0] == 3);
}

/* It runs in the background: nobody needs to wait for the future. */
TEST_EACH(a_callback_needs_nobody_who_waits, ex)
{
	GATE (g, ex);

	CHECK_EQ(crew_future_on_done(crew_submit(ex, held, g.bytes, 1), note, NULL), 0);
	gate_open(g.at);
	gate_await(&finished, 1);
}

/* Callbacks run in the order of their registration; the same one registered twice runs twice. */
TEST_EACH(callbacks_run_in_the_order_of_registration, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 1);

	for (int i = 0; i < 100; i++)
		CHECK_EQ(crew_future_on_done(f, note, NUMBER(i / 2)), 0);
	gate_open(g.at);
	gate_await(&finished, 100);
	CHECK_EQ(calls(), 100);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(seen.order[i], i / 2);
}

/* Registered after the fact it runs at once, in the caller. */
TEST_EACH(a_callback_after_the_fact_runs_at_once_in_the_caller, ex)
{
	crew_future *f = crew_submit(ex, answer);

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
	CHECK_EQ(crew_future_on_done(f, note, NULL), 0);
	CHECK_EQ(calls(), 1);
	CHECK(pthread_equal(seen.thread, pthread_self()));
}

/* Also while its completer is still busy: here with the callbacks of siblings, which the failure cancels. */
static void stand_at_gate(crew_future *f, void *arg)
{
	(void)f;
	gate_pass(arg);
}
TEST_EACH(a_callback_after_the_fact_does_not_wait_for_the_completer, ex)
{
	GATE (g, ex);
	GATE (busy, ex);
	crew_future *bad, *sibling;

	NOT_WHERE(IMMEDIATE, "nothing waits");
	CREW_SCOPE (group, crew_group(ex, .on_error = CREW_CANCEL_SIBLINGS, .max_running = 1)) {
		bad = crew_submit(group, held_failure, g.bytes, EIO);
		sibling = crew_submit(group, answer);
		CHECK_EQ(crew_future_on_done(sibling, stand_at_gate, busy.at), 0);
		gate_open(g.at);
		gate_await(busy.at, 1);
		CHECK_EQ(crew_future_wait(bad, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_on_done(bad, note, NULL), 0);
		CHECK_EQ(calls(), 1);
		CHECK(pthread_equal(seen.thread, pthread_self()));
		gate_open(busy.at);
	}
	CHECK_EQ(calls(), 1);
}

/* Failed and cancelled futures call back too; a cancel does it in the thread that cancels. */
TEST_EACH(callbacks_of_failed_and_cancelled_futures_run, ex)
{
	GATE (g, ex);
	crew_future *bad = crew_submit(ex, fails), *cancelled;

	crew_future_on_done(bad, note, NULL);
	gate_await(&finished, 1);
	NOT_WHERE(IMMEDIATE, "nothing can be cancelled");
	gate_occupy(&g);
	cancelled = crew_submit(ex, answer);
	crew_future_on_done(cancelled, note, NULL);
	CHECK_EQ(crew_future_cancel(cancelled, NULL), 1);
	CHECK_EQ(calls(), 2);
	CHECK(seen.f == cancelled && pthread_equal(seen.thread, pthread_self()));
}

/* Registered from within a callback of the same future it runs nested, before the next. */
static void register_another(crew_future *f, void *arg)
{
	note(f, arg);
	crew_future_on_done(f, note, NUMBER(2));
}
TEST_EACH(a_callback_registered_in_a_callback_runs_nested, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 1);

	crew_future_on_done(f, register_another, NUMBER(1));
	crew_future_on_done(f, note, NUMBER(3));
	gate_open(g.at);
	gate_await(&finished, 3);
	CHECK_EQ(calls(), 3);
	if (!(kind->traits & IMMEDIATE))
		CHECK(seen.order[0] == 1 && seen.order[1] == 2 && seen.order[2] == 3);
}

/* A raise in a callback is dropped: the next one runs, the future is what it was, the worker goes on. */
static void raising(crew_future *f, void *arg)
{
	(void)crew_raise(EPERM, "from a callback");
	note(f, arg);
}
TEST_EACH(a_raising_callback_harms_nobody, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 6), *next;
	int y = 0;

	crew_future_on_done(f, raising, NUMBER(1));
	crew_future_on_done(f, note, NUMBER(2));
	gate_open(g.at);
	gate_await(&finished, 2);
	next = crew_submit(ex, answer);
	CHECK_EQ(crew_result(next, &y), 0);
	CHECK_EQ(y, 42);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 6);
	CHECK(!crew_caught(NULL));
}

/* Those who wait are woken before the callbacks run: this one does not end before the waiter has its result. */
static struct gate waiter_is_back;
static void waits_for_the_waiter(crew_future *f, void *arg)
{
	gate_wait(&waiter_is_back);
	note(f, arg);
}
TEST_EACH(waiters_are_woken_before_callbacks, ex)
{
	GATE (g, ex);
	crew_future *f;
	int y = 0;

	NOT_WHERE(IMMEDIATE, "a callback is registered after the fact and runs in the caller");
	f = crew_submit(ex, held, g.bytes, 6);
	gate_await(g.at, 1);
	crew_future_on_done(f, waits_for_the_waiter, NULL);
	gate_open(g.at);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(calls(), 0);
	gate_open(&waiter_is_back);
	gate_await(&finished, 1);
}

/* A callback may read its future, submit, and wait for what is done. */
static crew_executor *executor_of_test;
static void reads_and_submits(crew_future *f, void *arg)
{
	int y = 0;

	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 6);
	CHECK_EQ(crew_future_on_done(crew_submit(executor_of_test, answer), note, arg), 0);
}
TEST_EACH(a_callback_may_read_and_submit, ex)
{
	GATE (g, ex);

	executor_of_test = ex;
	crew_future_on_done(crew_submit(ex, held, g.bytes, 6), reads_and_submits, NULL);
	gate_open(g.at);
	gate_await(&finished, 1);
}

/* A callback of a future may not close the executor: -EDEADLK by name, no hang. */
static void tries_to_shut_down(crew_future *f, void *arg)
{
	seen.order[0] = crew_executor_shutdown(executor_of_test, 0, CREW_FOREVER);
	(void)f, (void)arg;
	gate_arrive(&finished);
}
TEST_EACH(a_callback_cannot_shut_its_executor_down, ex)
{
	GATE (g, ex);

	NOT_WHERE(IMMEDIATE, "the callback is called by the test itself, outside any task");
	executor_of_test = ex;
	crew_future_on_done(crew_submit(ex, held, g.bytes, 6), tries_to_shut_down, NULL);
	gate_open(g.at);
	gate_await(&finished, 1);
	CHECK_EQ(seen.order[0], -EDEADLK);
}

/* The future may be given back while its callbacks are due: they run all the same, with a future that can be read. */
static void reads(crew_future *f, void *arg)
{
	int y = 0;

	CHECK_EQ(crew_result_within(f, &y, 0), 0);
	CHECK_EQ(y, 6);
	note(f, arg);
}
TEST_EACH(callbacks_of_a_future_given_back_run, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 6);

	crew_future_on_done(f, reads, NULL);
	crew_future_free(f);
	gate_open(g.at);
	gate_await(&finished, 1);
	CHECK_EQ(calls(), 1);
}

/* A callback may give its own future back when that is its own. */
static void gives_back(crew_future *f, void *arg)
{
	note(f, arg);
	crew_future_free(f);
}
TEST_EACH(a_callback_may_give_its_future_back, ex)
{
	GATE (g, ex);

	crew_future_on_done(crew_submit(ex, held, g.bytes, 6), gives_back, NULL);
	gate_open(g.at);
	gate_await(&finished, 1);
}

/* At the executor's close all callbacks that were due have run. */
TEST_KIND(close_runs_the_callbacks_that_are_due)
{
	CREW_SCOPE (ex, kind_open()) {
		for (int i = 0; i < 300; i++)
			crew_future_on_done(crew_submit(ex, answer), note, NULL);
	}
	CHECK_EQ(calls(), 300);
}

/* Several threads register while the task ends: each callback runs exactly once. */
static void *registers_100(void *f)
{
	for (int i = 0; i < 100; i++)
		CHECK_EQ(crew_future_on_done(f, note, NULL), 0);
	return NULL;
}
TEST_EACH(callbacks_registered_by_many_threads_run_exactly_once, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 6);
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, registers_100, f), 0);
	gate_open(g.at);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	gate_await(&finished, 400);
	CHECK_EQ(calls(), 400);
}

/* A callback is no task, whatever thread it is called in; of other executors it is no insider. */
static struct asked {
	crew_executor *other;
	int worker, left, waited, mapped, out[2];
	bool cancelled, here;
} asked;
CREW_TASK(int, doubled_there, (int, n))
{
	return 2 * n;
}
static void asks(crew_future *f, void *arg)
{
	struct asked *a = arg;
	int in[] = { 1, 2 };

	(void)f;
	a->worker = crew_task_worker();
	a->left = crew_task_time_left();
	a->cancelled = crew_task_cancelled();
	a->here = crew_task_executor() != NULL;
	a->waited = crew_executor_wait(a->other, CREW_FOREVER);
	a->mapped = crew_map(a->other, doubled_there, in, a->out, 2);
}
TEST_EACH(a_callback_is_no_task, ex)
{
	asked = (struct asked){ .worker = 7, .here = true };
	CREW_SCOPE (other, crew_inline()) {
		asked.other = other;
		CHECK_EQ(crew_future_on_done(crew_submit(ex, doubled_there, 1), asks, &asked), 0);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	}
	CHECK(asked.worker == -1 && asked.left == CREW_FOREVER && !asked.cancelled && !asked.here);
	CHECK(asked.waited == 0 && asked.mapped == 0 && asked.out[1] == 4);
}

/* It may map over the executor that runs in place, whose callback it is. */
TEST(a_callback_may_map)
{
	asked = (struct asked){ .worker = 7 };
	CREW_SCOPE (ex, crew_inline()) {
		asked.other = ex;
		CHECK_EQ(crew_future_on_done(crew_submit(ex, doubled_there, 1), asks, &asked), 0);
		CHECK_EQ(asked.waited, -EDEADLK);
		CHECK(asked.mapped == 0 && asked.out[0] == 2 && asked.out[1] == 4);
	}
}
