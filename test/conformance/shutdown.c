/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shutdown.c: taking no more work, waiting for what there is, and the end of the program.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, answer)
{
	return 42;
}
CREW_TASK(int, shuts_down)
{
	return crew_executor_shutdown(crew_task_executor(), 0, CREW_FOREVER);
}
CREW_TASK(int, closes)
{
	crew_executor *ex = crew_task_executor();

	return crew_executor_close(ex) == ex;
}

/* With time, what was submitted is finished: 0 unfinished. */
TEST_EACH(shutdown_waits_for_what_there_is, ex)
{
	GATE (g, ex);

	for (int i = 0; i < 300; i++)
		crew_submit(ex, counted, g.bytes, 0);
	CHECK_EQ(crew_executor_shutdown(ex, 0, CREW_FOREVER), 0);
	CHECK_EQ(gate_count(g.at, 0), 300u);
}

/* Afterwards every way to submit says CREW_ESHUTDOWN; none hangs or crashes. */
TEST_EACH(after_shutdown_no_work_is_taken, ex)
{
	int in = 1, out = 7, y = 5;
	crew_future *f;

	CHECK_EQ(crew_executor_shutdown(ex, 0, CREW_FOREVER), 0);
	f = crew_submit(ex, answer);
	CHECK(f != NULL && crew_future_done(f) && !crew_future_cancelled(f));
	CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, CREW_ESHUTDOWN);
	CHECK(crew_future_error(f)->message[0] != 0);
	CHECK_EQ(crew_post(ex, answer), CREW_ESHUTDOWN);
	CHECK(crew_run(ex, &y, answer) < 0);
	CHECK(crew_map(ex, held, &(crew_bytes){ NULL, 0 }, &in, &out, 1) < 0);
	CHECK(y == 5 && out == 7);
	CHECK_EQ(crew_executor_wait(ex, 0) == -ETIMEDOUT, false);
}

/* Futures of before can still be read. */
TEST_EACH(results_can_be_read_after_shutdown, ex)
{
	crew_future *f = crew_submit(ex, answer);
	int y = 0;

	CHECK_EQ(crew_executor_shutdown(ex, 0, CREW_FOREVER), 0);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 42);
}

/* Idempotent. */
TEST_EACH(shutdown_may_be_called_again, ex)
{
	for (int i = 0; i < 3; i++)
		CHECK_EQ(crew_executor_shutdown(ex, i == 1 ? CREW_CANCEL_PENDING : 0, i == 2 ? 0 : CREW_FOREVER), 0);
}

/* Time 0: do not wait; it goes on being worked off. */
TEST_EACH(shutdown_without_time_lets_the_work_go_on, ex)
{
	GATE (g, ex);
	crew_future *f = NULL;
	int y = 0;

	for (int i = 0; i < 10; i++)
		f = crew_submit(ex, held, g.bytes, i);
	CHECK_EQ(crew_executor_shutdown(ex, 0, 0), kind->traits & IMMEDIATE ? 0 : 10);
	gate_open(g.at);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 9);
	CHECK_EQ(crew_executor_shutdown(ex, 0, CREW_FOREVER), 0);
}

/* CREW_CANCEL_PENDING: what has not started never will; what runs is finished. */
TEST_EACH(shutdown_can_cancel_what_waits, ex)
{
	GATE (g, ex);
	crew_future *fs[20];
	int y;

	NOT_WHERE(IMMEDIATE, "nothing waits");
	for (int i = 0; i < kind->workers; i++)
		fs[i] = crew_submit(ex, held, g.bytes, i);
	gate_await(g.at, (uint32_t)kind->workers);
	for (int i = kind->workers; i < 20; i++)
		fs[i] = crew_submit(ex, counted, g.bytes, 0);
	CHECK_EQ(crew_executor_shutdown(ex, CREW_CANCEL_PENDING, 0), kind->workers);
	for (int i = kind->workers; i < 20; i++)
		CHECK_EQ(crew_result(fs[i], &y), -ECANCELED);
	gate_open(g.at);
	for (int i = 0; i < kind->workers; i++)
		CHECK_EQ(crew_result(fs[i], &y), 0);
	CHECK_EQ(gate_count(g.at, 0), 0u);
}

/* A deadline: how many are unfinished, then which; running ones are marked. */
TEST_EACH(shutdown_tells_what_is_unfinished, ex)
{
	struct crew_unfinished left[10];
	GATE (g, ex);
	crew_future *fs[5];
	int running = 0, n = kind->workers + 2;
	int64_t start = test_now_ms();

	NOT_WHERE(IMMEDIATE, "all is done");
	for (int i = 0; i < n; i++)
		fs[i] = crew_submit(ex, held, g.bytes, i);
	gate_await(g.at, (uint32_t)kind->workers);
	CHECK_EQ(crew_executor_shutdown(ex, 0, 50), n);
	CHECK_GE(test_now_ms() - start, 50);
	CHECK_EQ(crew_executor_unfinished(ex, left, 10), n);
	for (int i = 0; i < n; i++) {
		CHECK_STR(left[i].task, "held");
		CHECK_HAS(left[i].where, "gate.c:");
		CHECK(left[i].future == NULL || !crew_future_done(left[i].future));
		running += left[i].running;
	}
	CHECK_EQ(running, kind->workers);
	CHECK_EQ(crew_executor_unfinished(ex, left, 1), n);
	CHECK_EQ(crew_executor_unfinished(ex, NULL, 0), n);
	(void)fs;
}

/* CREW_KILL_RUNNING: first they are asked. */
TEST_EACH(shutdown_can_ask_what_runs_to_stop, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, stoppable, g.bytes);
	int y = 0;

	NOT_WHERE(IMMEDIATE, "nothing runs outside of a submit");
	gate_await(g.at, 1);
	CHECK_EQ(crew_executor_shutdown(ex, CREW_KILL_RUNNING, CREW_FOREVER), 0);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 1);
}

/* … and when the time is up killed, where that can be done. */
TEST_EACH(shutdown_kills_what_does_not_stop_where_it_can, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 1);

	NOT_WHERE(IMMEDIATE, "nothing runs outside of a submit");
	gate_await(g.at, 1);
	CHECK_EQ(crew_executor_shutdown(ex, CREW_CANCEL_PENDING | CREW_KILL_RUNNING, 50), kind->traits & SEPARATE ? 0 : 1);
	if (kind->traits & SEPARATE) {
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), -ECANCELED);
		CHECK_HAS(crew_future_error(f)->message, "shut down");
	}
	gate_open(g.at);
}

/* From a task or callback of its own: -EDEADLK, and nothing happened. */
TEST_EACH(a_task_cannot_shut_its_executor_down, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, shuts_down), &y), 0);
	CHECK_EQ(y, -EDEADLK);
	CHECK_EQ(crew_result(crew_submit(ex, answer), &y), 0);
}

TEST_EACH(a_task_cannot_close_its_executor, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, closes), &y), 0);
	CHECK_EQ(y, 1);
	CHECK_EQ(crew_result(crew_submit(ex, answer), &y), 0);
}

/* close waits for detached work too. */
TEST_KIND(close_waits_for_posted_work)
{
	crew_executor *ex = kind_open();
	struct shared_gate g = gate_make(ex);
	uint32_t ran = 0;

	for (int i = 0; i < 50; i++)
		crew_post(ex, counted, g.bytes, 0);
	CHECK_EQ(crew_executor_shutdown(ex, 0, CREW_FOREVER), 0);
	ran = gate_count(g.at, 0);
	gate_fini(&g);
	CHECK(crew_executor_close(ex) == NULL);
	CHECK_EQ(ran, 50u);
}

/* Submits of other threads during a shutdown are taken or refused, and none is lost. */
static crew_executor *racing;
static void *submits_1000(void *argument)
{
	int *good = argument, y;

	for (int i = 0; i < 1000; i++) {
		crew_error e = { 0 };
		int rc = crew_take(crew_submit(racing, answer), &y, &e);

		CHECK(rc == 0 || (rc == CREW_ERAISED && e.code == CREW_ESHUTDOWN));
		*good += rc == 0;
	}
	return NULL;
}
TEST_EACH(a_submit_during_shutdown_is_taken_or_refused, ex)
{
	pthread_t threads[3];
	int good[3] = { 0 };

	racing = ex;
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, submits_1000, &good[i]), 0);
	CHECK_EQ(crew_future_wait(crew_submit(ex, answer), CREW_FOREVER), 0);
	CHECK_EQ(crew_executor_shutdown(ex, 0, CREW_FOREVER), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

/* ---- the end of the program ---- */

/* LeakSanitizer cannot follow the tagged pointers of queues in use; what an exit leaves behind there is no leak. */
void __lsan_disable(void) __attribute__((__weak__));

/* The exit status of a program that runs `body` and exits 7; its orphans come to us and must end too. */
static int status_of_program(void (*body)(void))
{
	int status, orphan;
	pid_t pid, ended;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = fork();
	if (pid == 0) {
		if (__lsan_disable)
			__lsan_disable();
		body();
		exit(7);
	}
	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	while ((ended = waitpid(-1, &orphan, __WALL)) > 0)
		; /* a worker that outlived its program would hold us here */
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void leaves_it_open(void)
{
	crew_executor *ex = kind_open();

	CHECK_EQ(crew_future_wait(crew_submit(ex, answer), CREW_FOREVER), 0);
}
static void leaves_it_unused(void)
{
	CHECK_EQ(crew_executor_error(kind_open(), NULL), 0);
}
static void leaves_tasks_running(void)
{
	crew_executor *ex = kind_open();
	struct shared_gate g = gate_make(ex);

	for (int i = 0; i < 10; i++)
		crew_submit(ex, held, g.bytes, i);
	gate_await(g.at, (uint32_t)kind->workers);
}
static void leaves_tasks_waiting(void)
{
	crew_executor *ex = kind_open();

	for (int i = 0; i < 10000; i++)
		crew_submit(ex, answer);
}
/* A program may exit with an executor open: idle, unused, in the middle of tasks that never end. It exits at once, as it meant to. */
TEST_KIND(a_program_may_exit_with_an_open_executor)
{
	CHECK_EQ(status_of_program(leaves_it_open), 7);
	CHECK_EQ(status_of_program(leaves_it_unused), 7);
	CHECK_EQ(status_of_program(leaves_tasks_waiting), 7);
}
TEST_KIND(a_program_may_exit_with_running_tasks)
{
	NOT_WHERE(IMMEDIATE, "nothing runs outside of a submit");
	CHECK_EQ(status_of_program(leaves_tasks_running), 7);
}

/* exit() from another thread, while this one waits. */
static void *exits(void *argument)
{
	(void)argument;
	exit(7);
}
static void exits_while_waiting(void)
{
	crew_executor *ex = kind_open();
	struct shared_gate g = gate_make(ex);
	pthread_t thread;

	crew_submit(ex, held, g.bytes, 1);
	gate_await(g.at, 1);
	CHECK_EQ(pthread_create(&thread, NULL, exits, NULL), 0);
	crew_executor_wait(ex, CREW_FOREVER);
}
TEST_KIND(a_program_may_exit_while_another_thread_waits)
{
	NOT_WHERE(IMMEDIATE, "nobody can wait");
	CHECK_EQ(status_of_program(exits_while_waiting), 7);
}
