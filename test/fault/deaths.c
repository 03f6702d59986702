/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * deaths.c: workers that die, one at a time. The task that ran fails with how and who; every other task is right; the pool is at full strength again.
 */
#include <crew/crew.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

enum { SEGFAULT, ABORT, UNDERSCORE_EXIT_0, UNDERSCORE_EXIT_3, EXIT_0, EXIT_5, KILL_9, FLOATING_POINT };

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

CREW_TASK(int, die, (int, how), (crew_bytes, pid))
{
	*(pid_t *)pid.data = getpid();
	switch (how) {
	case SEGFAULT:
		raise(SIGSEGV);
		break;
	case ABORT:
		abort();
	case UNDERSCORE_EXIT_0:
		_exit(0);
	case UNDERSCORE_EXIT_3:
		_exit(3);
	case EXIT_0:
		exit(0);
	case EXIT_5:
		exit(5);
	case KILL_9:
		kill(getpid(), SIGKILL);
		break;
	case FLOATING_POINT:
		raise(SIGFPE);
		break;
	}
	return 0;
}

CREW_TASK(pid_t, worker_pid)
{
	return getpid();
}

/* How one of a hundred tasks dies, and what its error says. */
static void dies(int how, int signal, int exit_status, const char *words)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes pid = crew_shared_alloc(ex, sizeof(pid_t));
		crew_future *fs[100], *bad = NULL;
		const crew_error *e;
		long y;

		for (int i = 0; i < 100; i++) {
			if (i == 50)
				bad = crew_submit(ex, die, how, pid);
			fs[i] = crew_submit(ex, square, i);
		}
		for (int i = 0; i < 100; i++) {
			CHECK_EQ(crew_result(fs[i], &y), 0);
			CHECK_EQ(y, (long)i * i);
		}
		CHECK_EQ(crew_future_wait(bad, CREW_FOREVER), CREW_ERAISED);
		e = crew_future_error(bad);
		CHECK_EQ(e->code, CREW_EWORKER);
		CHECK_EQ(e->signal, signal);
		CHECK_EQ(e->exit_status, exit_status);
		CHECK_EQ(e->worker, *(pid_t *)pid.data);
		CHECK_EQ(e->attempts, 1);
		CHECK_STR(e->task, "die");
		CHECK_HAS(e->where, "deaths.c:");
		CHECK_HAS(e->message, words);
		CHECK_HAS(e->message, "while it ran 'die'");
		crew_shared_free(ex, pid);
	}
}

TEST(a_segfault_fails_its_task_alone)
{
	dies(SEGFAULT, SIGSEGV, -1, "was killed by signal 11 (SIGSEGV)");
}

TEST(an_abort_fails_its_task_alone)
{
	dies(ABORT, SIGABRT, -1, "was killed by signal 6 (SIGABRT)");
}

TEST(a_division_by_zero_fails_its_task_alone)
{
	dies(FLOATING_POINT, SIGFPE, -1, "was killed by signal 8 (SIGFPE)");
}

TEST(a_kill_fails_its_task_alone)
{
	dies(KILL_9, SIGKILL, -1, "was killed by signal 9 (SIGKILL)");
}

TEST(an_exit_with_0_is_a_death_too)
{
	dies(EXIT_0, 0, 0, "exited with status 0");
	dies(UNDERSCORE_EXIT_0, 0, 0, "exited with status 0");
}

TEST(an_exit_status_is_told)
{
	dies(EXIT_5, 0, 5, "exited with status 5");
	dies(UNDERSCORE_EXIT_3, 0, 3, "exited with status 3");
}

/* A worker is replaced when it died: as many pids as before, none of them the dead one's. */
TEST(the_pool_is_at_full_strength_again)
{
	CREW_SCOPE (ex, crew_processes(3)) {
		struct crew_stats stats;
		pid_t before = crew_executor_worker_pid(ex, 1);
		int64_t limit = test_now_ms() + 10000;

		CHECK(before > 0);
		kill(before, SIGKILL);
		while (crew_executor_worker_pid(ex, 1) == before || crew_executor_worker_pid(ex, 1) == 0)
			CHECK(test_now_ms() < limit);
		CHECK_EQ(crew_executor_stats(ex, &stats, sizeof stats), 0);
		CHECK_EQ(stats.workers, 3);
		CHECK_EQ(stats.workers_lost, 1u);
		CHECK_EQ(stats.lost, 0u);
		CHECK_EQ(crew_executor_worker_pid(ex, 3), -EINVAL);
		CHECK_EQ(crew_executor_worker_pid(ex, -1), -EINVAL);
	}
}

/* A poisoned task kills whoever touches it, and nobody else's future. */
TEST(a_pool_survives_a_hundred_deaths_in_a_row)
{
	size_t n = test_scaled(100);

	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes pid = crew_shared_alloc(ex, sizeof(pid_t));
		long y;

		for (size_t i = 0; i < n; i++) {
			crew_future *bad = crew_submit(ex, die, (int)(i % 8), pid), *good = crew_submit(ex, square, (long)i);

			CHECK_EQ(crew_result(good, &y), 0);
			CHECK_EQ(y, (long)(i * i));
			CHECK_EQ(crew_future_error(bad)->code, CREW_EWORKER);
			crew_future_free(bad);
			crew_future_free(good);
		}
		crew_shared_free(ex, pid);
	}
}

CREW_TASK(int, die_twice, (crew_bytes, count))
{
	if (__atomic_add_fetch((int *)count.data, 1, __ATOMIC_SEQ_CST) <= 2)
		raise(SIGKILL);
	return 42;
}

/* .retries runs it again on another worker, as often as it says and no more. */
TEST(a_task_that_may_be_tried_again_is)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes count = crew_shared_alloc(ex, sizeof(int));
		crew_future *f = crew_submit_with(ex, (.retries = 2), die_twice, count);
		int y;

		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, 42);
		*(int *)count.data = 0;
		f = crew_submit_with(ex, (.retries = 1), die_twice, count);
		CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
		CHECK_EQ(crew_future_error(f)->attempts, 2);
		CHECK_EQ(*(int *)count.data, 2);
		crew_shared_free(ex, count);
	}
}

/* max_tasks_per_child: a fresh process after so many, nothing lost on the way, nobody counted as lost. */
TEST(workers_that_retire_strand_nothing)
{
	int n = (int)test_scaled(200);

	CREW_SCOPE (ex, crew_processes(.workers = 2, .max_tasks_per_child = 3)) {
		crew_future *fs[200];
		struct crew_stats stats;
		pid_t seen[200], y;
		int pids = 0;

		for (int i = 0; i < n; i++)
			fs[i] = crew_submit(ex, worker_pid);
		for (int i = 0; i < n; i++) {
			int k = 0;

			CHECK_EQ(crew_result(fs[i], &y), 0);
			while (k < pids && seen[k] != y)
				k++;
			seen[k] = y;
			pids += k == pids;
		}
		CHECK_GE(pids, n / 3);
		CHECK_EQ(crew_executor_stats(ex, &stats, sizeof stats), 0);
		CHECK_EQ(stats.workers_lost, 0u);
		CHECK_EQ(stats.failed, 0u);
	}
}

/* Nor does one take more than its share when there is much to be taken at once, of tasks that take no time. */
TEST(no_worker_takes_more_than_its_share)
{
	enum { SHARE = 100, N = 4 * SHARE };
	crew_future *fs[N];
	pid_t y, last = 0;
	int of_one = 0;

	CREW_SCOPE (ex, crew_processes(.workers = 1, .max_tasks_per_child = SHARE)) {
		for (int i = 0; i < N; i++)
			fs[i] = crew_submit(ex, worker_pid);
		for (int i = 0; i < N; i++) {
			CHECK_EQ(crew_result(fs[i], &y), 0);
			of_one = y == last ? of_one + 1 : 1;
			last = y;
			CHECK_LE(of_one, SHARE);
		}
	}
}

static int refuse(void *arg, int worker)
{
	(void)arg, (void)worker;
	return -EACCES;
}

static int crash(void *arg, int worker)
{
	(void)arg, (void)worker;
	raise(SIGSEGV);
	return 0;
}

/* An initializer that fails, or dies, three times in a row breaks the executor: what waits fails and says why. No fork bomb. */
TEST(an_initializer_that_fails_breaks_the_executor)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .initializer = refuse)) {
		crew_future *f = crew_submit(ex, square, 3);

		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
		CHECK_HAS(crew_future_error(f)->message, "initializer failed with -13");
		f = crew_submit(ex, square, 4);
		CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
		CHECK_EQ(crew_executor_error(ex, NULL), CREW_EBROKEN);
	}
}

TEST(an_initializer_that_crashes_breaks_the_executor)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .initializer = crash)) {
		crew_future *f = crew_submit(ex, square, 3);

		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
		CHECK_HAS(crew_future_error(f)->message, "SIGSEGV");
	}
}

CREW_TASK(int, fork_and_return)
{
	pid_t child = fork();

	return child < 0 ? -1 : child > 0 ? 1 : 0;
}

/* A task's own child that returns from the task ends there: it is not a second worker of the same number. */
TEST(a_child_of_a_task_does_not_become_a_worker)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		int y;
		long z;

		for (int i = 0; i < 20; i++) {
			CHECK_EQ(crew_run(ex, &y, fork_and_return), 0);
			CHECK_EQ(y, 1);
			CHECK_EQ(crew_run(ex, &z, square, i), 0);
			CHECK_EQ(z, (long)i * i);
		}
	}
}
