/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cancelling.c: before the start it is certain, afterwards it is a request.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, answer)
{
	return 42;
}
CREW_TASK(int, asked)
{
	return crew_task_cancelled();
}

/* PENDING: cancel answers 1, the task never runs, every question says so. */
TEST_EACH(a_pending_task_that_is_cancelled_never_runs, ex)
{
	GATE (g, ex);
	crew_future *f;
	int y = 5;

	NOT_WHERE(IMMEDIATE, "the task has run before anybody could cancel it");
	gate_occupy(&g);
	f = crew_submit(ex, counted, g.bytes, 0);
	CHECK_EQ(crew_future_cancel(f, "no need any more"), 1);
	CHECK(crew_future_done(f) && crew_future_cancelled(f) && !crew_future_running(f));
	CHECK_EQ(crew_result(f, &y), -ECANCELED);
	CHECK_EQ(crew_future_wait(f, 0), -ECANCELED);
	CHECK_EQ(y, 5);
	CHECK_EQ(crew_future_error(f)->code, -ECANCELED);
	CHECK_STR(crew_future_error(f)->message, "no need any more");
	gate_open(g.at);
	crew_executor_wait(ex, CREW_FOREVER);
	CHECK_EQ(gate_count(g.at, 0), 0u);
}

/* The reason may be NULL; the message is a sentence all the same. And it is copied. */
TEST_EACH(the_reason_is_copied_and_may_be_null, ex)
{
	GATE (g, ex);
	char reason[] = "because";
	crew_future *a, *b;

	NOT_WHERE(IMMEDIATE, "nothing is pending");
	gate_occupy(&g);
	a = crew_submit(ex, counted, g.bytes, 0);
	b = crew_submit(ex, counted, g.bytes, 0);
	CHECK_EQ(crew_future_cancel(a, reason), 1);
	memset(reason, 'x', sizeof reason - 1);
	CHECK_STR(crew_future_error(a)->message, "because");
	CHECK_EQ(crew_future_cancel(b, NULL), 1);
	CHECK(crew_future_error(b)->message[0] != 0);
	CHECK_EQ(crew_future_error(b)->worker, 0);
}

/* Cancelled again the answer is the same, as in Python; the first reason stays. */
TEST_EACH(cancelling_twice_is_cancelling_once, ex)
{
	GATE (g, ex);
	crew_future *f;

	NOT_WHERE(IMMEDIATE, "nothing is pending");
	gate_occupy(&g);
	f = crew_submit(ex, answer);
	CHECK_EQ(crew_future_cancel(f, "first"), 1);
	CHECK_EQ(crew_future_cancel(f, "second"), 1);
	CHECK_STR(crew_future_error(f)->message, "first");
}

/* RUNNING: cancel answers 0 and crew_task_cancelled() says true in the task; what it does then is its own affair. */
TEST_EACH(a_running_task_is_asked_to_stop, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, stoppable, g.bytes);
	int y = 0;

	NOT_WHERE(IMMEDIATE, "the task is done when its submit returns");
	gate_await(g.at, 1);
	CHECK(crew_future_running(f) && !crew_future_done(f));
	CHECK_EQ(crew_future_cancel(f, NULL), 0);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 1);
	CHECK(!crew_future_cancelled(f));
}

/* The state is unchanged by a cancel that came too late. */
TEST_EACH(a_running_task_may_ignore_the_cancel, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 9);
	int y = 0;

	NOT_WHERE(IMMEDIATE, "the task is done when its submit returns");
	gate_await(g.at, 1);
	CHECK_EQ(crew_future_cancel(f, NULL), 0);
	CHECK(crew_future_running(f));
	gate_open(g.at);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 9);
}

/* A cancel of one task is not told to the next one on the same worker. */
TEST_KIND(the_request_is_not_told_to_the_next_task)
{
	int y = 1;

	CREW_SCOPE (ex, kind_open(.workers = 1)) {
		GATE (g, ex);
		crew_future *f = crew_submit(ex, stoppable, g.bytes), *next = crew_submit(ex, asked);

		gate_await(g.at, 1);
		crew_future_cancel(f, NULL);
		CHECK_EQ(crew_result(next, &y), 0);
		CHECK_EQ(y, 0);
	}
}

/* DONE: too late, nothing changes. */
TEST_EACH(cancelling_what_is_done_is_ealready, ex)
{
	crew_future *f = crew_submit(ex, answer);
	int y = 0;

	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(crew_future_cancel(f, "late"), -EALREADY);
	CHECK(!crew_future_cancelled(f));
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 42);
	CHECK_EQ(crew_future_error(f)->code, 0);
}

/* crew_cancel: all of them; how many never start. NULL entries are skipped. */
TEST_EACH(cancel_of_many_counts_those_that_never_start, ex)
{
	GATE (g, ex);
	crew_future *fs[10];

	NOT_WHERE(IMMEDIATE, "nothing is pending");
	gate_occupy(&g);
	for (int i = 0; i < 10; i++)
		fs[i] = i == 4 ? NULL : crew_submit(ex, counted, g.bytes, 0);
	CHECK_EQ(crew_cancel(fs, 10), 9);
	gate_open(g.at);
	crew_executor_wait(ex, CREW_FOREVER);
	CHECK_EQ(gate_count(g.at, 0), 0u);
}

/* Those behind a cancelled task run as if it had never been there. */
TEST_EACH(neighbours_of_a_cancelled_task_run, ex)
{
	enum { N = 60 };
	GATE (g, ex);
	crew_future *fs[N];
	int y;

	NOT_WHERE(IMMEDIATE, "nothing is pending");
	gate_occupy(&g);
	for (int i = 0; i < N; i++)
		fs[i] = crew_submit(ex, counted, g.bytes, i);
	for (int i = 0; i < N; i += 2)
		CHECK_EQ(crew_future_cancel(fs[i], NULL), 1);
	gate_open(g.at);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(crew_result(fs[i], &y), i % 2 ? 0 : -ECANCELED);
		CHECK_EQ(gate_count(g.at, i), (uint32_t)(i % 2));
	}
}

/* A waiter is woken by the cancel, not by the worker that meets the cancelled task later (gh-136655). */
static void *cancel_it(void *f)
{
	crew_future_cancel(f, "by another thread");
	return NULL;
}
TEST_EACH(a_cancel_wakes_those_who_wait, ex)
{
	GATE (g, ex);
	crew_future *f;
	pthread_t thread;

	NOT_WHERE(IMMEDIATE, "nothing is pending");
	gate_occupy(&g);
	f = crew_submit(ex, answer);
	CHECK_EQ(pthread_create(&thread, NULL, cancel_it, f), 0);
	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), -ECANCELED);
	pthread_join(thread, NULL);
}

/* Many cancel the same future at once: it is cancelled once. */
static uint32_t callbacks;
static void count_callback(crew_future *f, void *arg)
{
	(void)f, (void)arg;
	__atomic_add_fetch(&callbacks, 1, __ATOMIC_SEQ_CST);
}
static void *cancel_for_count(void *f)
{
	return (void *)(intptr_t)(crew_future_cancel(f, NULL) == 1);
}
TEST_EACH(many_may_cancel_at_once, ex)
{
	GATE (g, ex);
	pthread_t threads[4];
	void *won;
	int winners = 0;
	crew_future *f;

	NOT_WHERE(IMMEDIATE, "nothing is pending");
	gate_occupy(&g);
	f = crew_submit(ex, answer);
	crew_future_on_done(f, count_callback, NULL);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, cancel_for_count, f), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &won);
		winners += won != NULL;
	}
	CHECK_EQ(winners, 4);
	CHECK_EQ(callbacks, 1u);
}

/* Of cancels that meet, each answers 1, and the future is done when it does. */
enum { MANY = 300 };
static void *cancel_each(void *fs)
{
	uintptr_t wrong = 0;

	for (int i = 0; i < MANY; i++)
		wrong += crew_future_cancel(((crew_future **)fs)[i], "not needed") != 1 || !crew_future_cancelled(((crew_future **)fs)[i]);
	return (void *)wrong;
}
TEST_EACH(cancels_that_meet_agree, ex)
{
	GATE (g, ex);
	crew_future *fs[MANY];
	pthread_t threads[3];
	void *wrong;

	NOT_WHERE(IMMEDIATE, "nothing is pending");
	gate_occupy(&g);
	for (int i = 0; i < MANY; i++)
		fs[i] = crew_submit(ex, answer);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, cancel_each, fs), 0);
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], &wrong);
		CHECK_EQ((uintptr_t)wrong, 0u);
	}
}

/* crew_executor_cancel: what waits never starts, and its error has the reason; what runs is asked. */
TEST_EACH(executor_cancel_cancels_what_waits_and_asks_what_runs, ex)
{
	GATE (g, ex);
	crew_future *running[3], *waiting[5];
	int y;

	NOT_WHERE(IMMEDIATE, "nothing waits or runs outside a submit");
	for (int i = 0; i < kind->workers; i++)
		running[i] = crew_submit(ex, stoppable, g.bytes);
	gate_await(g.at, (uint32_t)kind->workers);
	for (int i = 0; i < 5; i++)
		waiting[i] = crew_submit(ex, counted, g.bytes, 0);
	CHECK_EQ(crew_executor_cancel(ex, "the user left"), 5);
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(crew_future_wait(waiting[i], CREW_FOREVER), -ECANCELED);
		CHECK_STR(crew_future_error(waiting[i])->message, "the user left");
	}
	for (int i = 0; i < kind->workers; i++) {
		CHECK_EQ(crew_result(running[i], &y), 0);
		CHECK_EQ(y, 1);
	}
	CHECK_EQ(gate_count(g.at, 0), 0u);
}

/* The executor itself goes on. */
TEST_EACH(after_executor_cancel_it_takes_new_work, ex)
{
	int y = 0;

	CHECK_EQ(crew_executor_cancel(ex, NULL), 0);
	CHECK_EQ(crew_result(crew_submit(ex, answer), &y), 0);
	CHECK_EQ(y, 42);
}

/* A running task whose deadline passes is told so. */
CREW_TASK(int, until_late, (crew_bytes, gate))
{
	int left = crew_task_time_left();

	if (left < 0 || left > 50)
		return -1;
	while (!crew_task_cancelled() && gate_count(gate.data, 1) == 0)
		;
	return crew_task_time_left();
}
TEST_EACH(a_running_task_sees_its_deadline_pass, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit_with(ex, (.timeout_ms = 50), until_late, g.bytes);
	int y = -2, code = crew_result(f, &y);

	CHECK(code == 0 || (code == CREW_ERAISED && crew_future_error(f)->code == CREW_EDEADLINE));
	if (code == 0)
		CHECK_EQ(y, 0);
}
