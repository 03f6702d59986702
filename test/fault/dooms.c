/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dooms.c: tasks that are ended by force: at their deadline, by crew_future_kill(), at a shutdown. Theirs are the only futures that fail; everything
 * else runs once, and the pool is at full strength again. Runs are counted in memory that outlives workers.
 */
#include <crew/crew.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runner.h"

enum { PATIENT, IGNORES_TERM, BLOCKS_ALL, STOPPED, SPINS };

static void count(crew_bytes runs, int i)
{
	__atomic_add_fetch((unsigned char *)runs.data + i, 1, __ATOMIC_SEQ_CST);
}

static int runs_of(crew_bytes runs, int i)
{
	return __atomic_load_n((unsigned char *)runs.data + i, __ATOMIC_SEQ_CST);
}

CREW_TASK(long, honest, (crew_bytes, runs), (int, i))
{
	count(runs, i);
	for (volatile int k = 0; k < i * 7919 % 300; k++)
		;
	return (long)i * 3 + 1;
}

/* Never ends by itself. */
CREW_TASK(int, endless, (crew_bytes, runs), (int, i), (int, how))
{
	sigset_t all;

	count(runs, i);
	sigfillset(&all);
	if (how == IGNORES_TERM)
		signal(SIGTERM, SIG_IGN);
	if (how == BLOCKS_ALL)
		sigprocmask(SIG_SETMASK, &all, NULL);
	if (how == STOPPED)
		raise(SIGSTOP);
	for (;;)
		if (how != SPINS)
			pause();
	return 0;
}

CREW_TASK(pid_t, worker_pid)
{
	return getpid();
}

static void await_run(crew_bytes runs, int i)
{
	while (runs_of(runs, i) == 0)
		sched_yield();
}

/* Every place has a worker again, and every worker works. */
static void check_strength(crew_executor *ex, int workers)
{
	int64_t limit = test_now_ms() + 20000;
	int there = 0;
	pid_t y;

	while (there < workers) {
		CHECK(test_now_ms() < limit);
		there = 0;
		for (int i = 0; i < workers; i++)
			there += crew_executor_worker_pid(ex, i) > 0;
		sched_yield();
	}
	for (int i = 0; i < 4 * workers; i++)
		CHECK_EQ(crew_run(ex, &y, worker_pid), 0);
}

/* ---- deadlines ---- */

static void ends_at_its_deadline(int how)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .grace_ms = 100)) {
		crew_bytes runs = crew_shared_alloc(ex, 64);
		int64_t begin = test_now_ms();
		crew_future *f = crew_submit_with(ex, (.timeout_ms = 50), endless, runs, 0, how), *others[20];
		const crew_error *e;
		long y;

		for (int i = 0; i < 20; i++)
			others[i] = crew_submit(ex, honest, runs, i + 1);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_GE(test_now_ms() - begin, 50);
		e = crew_future_error(f);
		CHECK_EQ(e->code, CREW_EDEADLINE);
		CHECK_EQ(e->worker > 0, runs_of(runs, 0) == 1); /* on a busy machine it may not have begun */
		CHECK_EQ(e->attempts, runs_of(runs, 0));
		CHECK_STR(e->task, "endless");
		CHECK_HAS(e->where, "dooms.c:");
		for (int i = 0; i < 20; i++) {
			CHECK_EQ(crew_result(others[i], &y), 0);
			CHECK_EQ(y, (i + 1) * 3l + 1);
			CHECK_EQ(runs_of(runs, i + 1), 1);
		}
		CHECK_LE(runs_of(runs, 0), 1);
		check_strength(ex, 2);
	}
}

TEST(a_task_that_sleeps_for_ever_ends_at_its_deadline)
{
	ends_at_its_deadline(PATIENT);
}

TEST(a_task_that_spins_for_ever_ends_at_its_deadline)
{
	ends_at_its_deadline(SPINS);
}

TEST(a_task_that_ignores_sigterm_ends_at_its_deadline)
{
	ends_at_its_deadline(IGNORES_TERM);
}

TEST(a_task_that_blocks_all_signals_ends_at_its_deadline)
{
	ends_at_its_deadline(BLOCKS_ALL);
}

TEST(a_stopped_worker_is_replaced_at_the_deadline_of_its_task)
{
	ends_at_its_deadline(STOPPED);
}

CREW_TASK(pid_t, obedient)
{
	while (!crew_task_cancelled())
		sched_yield();
	return getpid();
}

/* Told by the clock it may end by itself; then nobody is killed and its result counts. (How long it has for that is not measured here.) */
TEST(a_task_that_looks_at_the_clock_may_end_by_itself)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		pid_t before, y;
		int well = 0;

		for (int i = 0; i < 10; i++) {
			CHECK_EQ(crew_run(ex, &before, worker_pid), 0);
			if (crew_result(crew_submit_with(ex, (.timeout_ms = 20), obedient), &y))
				continue;
			well++;
			CHECK_EQ(y, before);
			CHECK_EQ(crew_run(ex, &y, worker_pid), 0);
			CHECK_EQ(y, before);
		}
		printf("%d of 10 ended by themselves\n", well);
	}
}

static void note_time(crew_future *f, void *arg)
{
	(void)f;
	__atomic_store_n((int64_t *)arg, test_now_ms(), __ATOMIC_RELEASE);
}

/* Nobody waits for it, nobody will run it: the engine tells. In the ring, and in the backlog behind it. */
TEST(a_queued_task_fails_at_its_deadline_without_waiting_for_its_turn)
{
	enum { MANY = 20000 };

	CREW_SCOPE (ex, crew_processes(1)) {
		crew_bytes runs = crew_shared_alloc(ex, MANY + 3);
		crew_future *held = crew_submit(ex, endless, runs, 0, PATIENT), *f;
		int64_t first = 0, last = 0;

		await_run(runs, 0);
		CHECK_EQ(crew_future_on_done(crew_submit_with(ex, (.timeout_ms = 30), honest, runs, 1), note_time, &first), 0);
		for (int i = 0; i < MANY; i++)
			crew_submit(ex, honest, runs, i + 2);
		f = crew_submit_with(ex, (.timeout_ms = 30), honest, runs, MANY + 2);
		CHECK_EQ(crew_future_on_done(f, note_time, &last), 0);
		while (!__atomic_load_n(&first, __ATOMIC_ACQUIRE) || !__atomic_load_n(&last, __ATOMIC_ACQUIRE))
			sched_yield();
		CHECK_EQ(crew_future_error(f)->code, CREW_EDEADLINE);
		CHECK_EQ(crew_future_error(f)->worker, 0);
		CHECK_EQ(runs_of(runs, 1) + runs_of(runs, MANY + 2), 0);
		CHECK(crew_future_running(held));
		CHECK_EQ(crew_future_kill(held, NULL, 0), 0);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), CREW_EDEADLINE);
		for (int i = 0; i < MANY; i++)
			CHECK_EQ(runs_of(runs, i + 2), 1);
	}
}

TEST(an_executor_may_have_a_deadline_for_every_task)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .task_timeout_ms = 50)) {
		crew_bytes runs = crew_shared_alloc(ex, 16);
		crew_future *f = crew_submit(ex, endless, runs, 0, PATIENT), *own;
		struct timespec longer = { 0, 120000000 };

		own = crew_submit_with(ex, (.timeout_ms = 60000), endless, runs, 1, PATIENT);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EDEADLINE);
		nanosleep(&longer, NULL);
		CHECK(!crew_future_done(own));
		CHECK_EQ(crew_future_kill(own, NULL, 0), 0);
	}
}

/* What belongs to a doomed task stays as it is until its worker is gone: it may go on reading. */
CREW_TASK(int, reads_on, (crew_bytes, state), (crew_bytes, data))
{
	const unsigned char *bytes = data.data;

	signal(SIGTERM, SIG_IGN);
	for (;;) {
		for (size_t i = 0; i < data.len; i++)
			if (bytes[i] != 7)
				__atomic_store_n((int *)state.data, 1, __ATOMIC_SEQ_CST);
		__atomic_add_fetch((int *)state.data + 1, 1, __ATOMIC_SEQ_CST);
	}
	return 0;
}

CREW_TASK(long, sum, (crew_bytes, data))
{
	long y = 0;

	for (size_t i = 0; i < data.len; i++)
		y += ((unsigned char *)data.data)[i];
	return y;
}

TEST(memory_of_a_doomed_task_is_not_used_again_while_its_worker_lives)
{
	static unsigned char sevens[200000], others[200000];

	memset(sevens, 7, sizeof sevens);
	memset(others, 1, sizeof others);
	CREW_SCOPE (ex, crew_processes(.workers = 2, .grace_ms = 400)) {
		crew_bytes state = crew_shared_alloc(ex, 2 * sizeof(int)), block = crew_shared_alloc(ex, sizeof sevens);
		crew_future *packed, *shared;
		long y;

		memcpy(block.data, sevens, sizeof sevens);
		packed = crew_submit_with(ex, (.timeout_ms = 30), reads_on, state, crew_bytes_make(sevens, sizeof sevens));
		CHECK_EQ(crew_future_error(packed)->code, CREW_EDEADLINE);
		shared = crew_submit_with(ex, (.timeout_ms = 30), reads_on, state, block);
		CHECK_EQ(crew_future_error(shared)->code, CREW_EDEADLINE);
		crew_future_free(packed);
		crew_future_free(shared);
		crew_shared_free(ex, block);
		for (int i = 0; i < 50; i++) {
			crew_bytes again = crew_shared_alloc(ex, sizeof others);

			memset(again.data, 1, again.len);
			CHECK_EQ(crew_run(ex, &y, sum, crew_bytes_make(others, sizeof others)), 0);
			CHECK_EQ(y, (long)sizeof others);
			crew_shared_free(ex, again);
		}
		CHECK_EQ(__atomic_load_n((int *)state.data, __ATOMIC_SEQ_CST), 0);
	}
}

/* ---- kills ---- */

TEST(a_killed_task_is_cancelled_and_says_why)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes runs = crew_shared_alloc(ex, 16);
		crew_future *f = crew_submit(ex, endless, runs, 0, PATIENT), *other = crew_submit(ex, obedient);
		struct crew_stats stats;
		pid_t y;

		await_run(runs, 0);
		CHECK_EQ(crew_future_kill(f, "nobody wants it", 10), 0);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), -ECANCELED);
		CHECK(crew_future_cancelled(f));
		CHECK_EQ(crew_future_error(f)->code, -ECANCELED);
		CHECK_STR(crew_future_error(f)->message, "nobody wants it");
		CHECK(crew_future_error(f)->worker > 0);
		CHECK_EQ(crew_future_kill(f, NULL, 0), 1);
		CHECK_EQ(crew_future_cancel(other, NULL), 0);
		CHECK_EQ(crew_result(other, &y), 0);
		CHECK_EQ(crew_future_kill(other, NULL, 0), -EALREADY);
		check_strength(ex, 2);
		CHECK_EQ(crew_executor_stats(ex, &stats, sizeof stats), 0);
		CHECK_EQ(stats.workers_lost, 0u);
		CHECK_EQ(stats.lost, 0u);
		CHECK_EQ(stats.cancelled, 1u);
		CHECK_EQ(stats.failed, 0u);
	}
}

/* The earliest of several kills is carried out, and one for ever never. */
TEST(the_earliest_of_several_kills_counts)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		crew_bytes runs = crew_shared_alloc(ex, 16);
		crew_future *f = crew_submit(ex, endless, runs, 0, PATIENT);

		await_run(runs, 0);
		CHECK_EQ(crew_future_kill(f, "never", CREW_FOREVER), 0);
		CHECK_EQ(crew_future_kill(f, "late", 600000), 0);
		CHECK_EQ(crew_future_wait(f, 50), -ETIMEDOUT);
		CHECK_EQ(crew_future_kill(f, "early", 1), 0);
		CHECK_EQ(crew_future_kill(f, "later", 500000), 0);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), -ECANCELED);
		CHECK_STR(crew_future_error(f)->message, "early");
	}
}

TEST(a_group_over_processes_kills_its_own)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes runs = crew_shared_alloc(ex, 16);
		crew_future *f, *other = crew_submit(ex, endless, runs, 1, PATIENT);

		CREW_SCOPE (group, crew_group(ex)) {
			f = crew_submit(group, endless, runs, 0, IGNORES_TERM);
			await_run(runs, 0);
			await_run(runs, 1);
			CHECK_EQ(crew_executor_shutdown(group, CREW_KILL_RUNNING, 10), 0);
			CHECK_EQ(crew_future_error(f)->code, -ECANCELED);
		}
		CHECK(!crew_future_done(other));
		CHECK_EQ(crew_future_kill(other, NULL, 0), 0);
	}
}

/* A worker that is killed while it is doomed is only buried once, and tells nobody. */
TEST(a_doomed_worker_may_die_of_anything)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .grace_ms = 60000)) {
		crew_bytes runs = crew_shared_alloc(ex, 100);
		crew_future *f;
		int n = (int)test_scaled(20);

		for (int i = 0; i < n; i++) {
			f = crew_submit(ex, endless, runs, i, IGNORES_TERM);
			await_run(runs, i);
			CHECK_EQ(crew_future_kill(f, NULL, 0), 0);
			CHECK_EQ(crew_future_error(f)->code, -ECANCELED);
			CHECK_EQ(kill(crew_future_error(f)->worker, i % 2 ? SIGKILL : SIGSEGV), 0);
			crew_future_free(f);
		}
		check_strength(ex, 2);
		for (int i = 0; i < n; i++)
			CHECK_EQ(runs_of(runs, i), 1);
	}
}

/* ---- never twice ---- */

CREW_TASK(int, dies, (crew_bytes, runs), (int, i), (int, times))
{
	count(runs, i);
	if (runs_of(runs, i) <= times)
		raise(SIGKILL);
	return 42;
}

TEST(an_executor_may_try_every_task_again)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .retries = 2)) {
		crew_bytes runs = crew_shared_alloc(ex, 16);
		int y;

		CHECK_EQ(crew_result(crew_submit(ex, dies, runs, 0, 2), &y), 0);
		CHECK_EQ(runs_of(runs, 0), 3);
		CHECK_EQ(crew_future_error(crew_submit(ex, dies, runs, 1, 9))->attempts, 3);
		CHECK_EQ(runs_of(runs, 1), 3);
		CHECK_EQ(crew_future_error(crew_submit_with(ex, (.retries = 1), dies, runs, 2, 9))->attempts, 2);
		CHECK_EQ(runs_of(runs, 2), 2);
	}
}

TEST(nothing_runs_twice_unasked)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes runs = crew_shared_alloc(ex, 16);

		CHECK_EQ(crew_future_error(crew_submit(ex, dies, runs, 0, 1))->code, CREW_EWORKER);
		check_strength(ex, 2);
		CHECK_EQ(runs_of(runs, 0), 1);
	}
}

/* A deadline and a kill are no deaths to try again after; a death of a task that was asked to stop is none either. */
TEST(what_was_ended_by_force_is_not_tried_again)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .retries = 5)) {
		crew_bytes runs = crew_shared_alloc(ex, 16);
		crew_future *late = crew_submit_with(ex, (.timeout_ms = 30), endless, runs, 0, PATIENT), *f;

		CHECK_EQ(crew_future_error(late)->code, CREW_EDEADLINE);
		f = crew_submit(ex, endless, runs, 1, PATIENT);
		await_run(runs, 1);
		CHECK_EQ(crew_future_kill(f, NULL, 0), 0);
		CHECK_EQ(crew_future_error(f)->code, -ECANCELED);
		f = crew_submit(ex, endless, runs, 2, PATIENT);
		await_run(runs, 2);
		CHECK_EQ(crew_future_cancel(f, NULL), 0);
		CHECK_GE(crew_executor_kill(ex, SIGKILL), 1);
		CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
		check_strength(ex, 2);
		for (int i = 0; i < 3; i++)
			CHECK_EQ(runs_of(runs, i), 1);
	}
}

/* ---- ends ---- */

TEST(a_shutdown_ends_tasks_that_refuse_to_stop)
{
	CREW_SCOPE (ex, crew_processes(.workers = 3, .grace_ms = 50)) {
		crew_bytes runs = crew_shared_alloc(ex, 100);
		crew_future *fs[3], *queued;
		struct crew_unfinished left[8];

		for (int i = 0; i < 3; i++)
			fs[i] = crew_submit(ex, endless, runs, i, i == 0 ? PATIENT : i == 1 ? BLOCKS_ALL : IGNORES_TERM);
		queued = crew_submit(ex, honest, runs, 50);
		for (int i = 0; i < 3; i++)
			await_run(runs, i);
		CHECK_EQ(crew_executor_shutdown(ex, CREW_CANCEL_PENDING, 10), 3);
		CHECK_EQ(crew_executor_unfinished(ex, left, 8), 3);
		CHECK_EQ(crew_executor_shutdown(ex, CREW_KILL_RUNNING, 10), 0);
		for (int i = 0; i < 3; i++)
			CHECK_EQ(crew_future_wait(fs[i], 0), -ECANCELED);
		CHECK_EQ(crew_future_wait(queued, 0), -ECANCELED);
	}
}

/* A doomed worker that does not go is no reason for a close to wait for longer than the grace. */
TEST(close_does_not_wait_for_a_doomed_worker)
{
	for (int how = PATIENT; how <= STOPPED; how++) {
		crew_executor *ex = crew_processes(.workers = 2, .grace_ms = 50);
		crew_bytes runs = crew_shared_alloc(ex, 16);
		crew_future *f = crew_submit(ex, endless, runs, 0, how);

		await_run(runs, 0);
		CHECK_EQ(crew_future_kill(f, NULL, 0), 0);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), -ECANCELED);
		CHECK(crew_executor_close(ex) == NULL);
	}
}

TEST(all_workers_may_be_signalled)
{
	CREW_SCOPE (ex, crew_processes(3)) {
		check_strength(ex, 3);
		CHECK_EQ(crew_executor_kill(ex, 0), 3);
		CHECK_EQ(crew_executor_kill(ex, -1), -EINVAL);
		CHECK_EQ(crew_executor_kill(ex, 1000), -EINVAL);
		for (int i = 0; i < 10; i++) { /* also those that are only just being born */
			CHECK_GE(crew_executor_kill(ex, SIGKILL), 0);
			sched_yield();
		}
		check_strength(ex, 3);
	}
}

/* ---- storms ---- */

struct sleeper {
	crew_future *f;
	int64_t submitted, done;
};

static int by_number(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void print_times(const struct sleeper *s, size_t n)
{
	int64_t *ms = calloc(n, sizeof *ms);
	size_t late = 0;

	for (size_t i = 0; i < n; i++) {
		ms[i] = s[i].done - s[i].submitted;
		late += ms[i] > 100;
	}
	qsort(ms, n, sizeof *ms, by_number);
	printf("%zu deadlines of 50 ms: failed after %ld ms in the middle, 99%% %ld, at most %ld; %zu after more than 100 ms\n", n,
	       (long)ms[n / 2], (long)ms[n * 99 / 100], (long)ms[n - 1], late);
	free(ms);
}

/* Each hundredth task sleeps for ever. `at_once` of them may be under way; 0: all. */
static void among_honest_ones(size_t n, size_t at_once)
{
	struct sleeper *sleepers = calloc(n, sizeof *sleepers);
	crew_future **fs = calloc(100 * n, sizeof *fs);
	struct crew_stats stats;
	size_t started = 0;
	long y;

	CREW_SCOPE (ex, crew_processes(4)) {
		crew_bytes runs = crew_shared_alloc(ex, 101 * n);

		for (size_t i = 0; i < n; i++) {
			struct sleeper *s = &sleepers[i];

			for (size_t k = 100 * i; k < 100 * i + 100; k++)
				fs[k] = crew_submit(ex, honest, runs, (int)k);
			s->submitted = test_now_ms();
			s->f = crew_submit_with(ex, (.timeout_ms = 50), endless, runs, (int)(100 * n + i), i % 4 == 3 ? SPINS : PATIENT);
			CHECK_EQ(crew_future_on_done(s->f, note_time, &s->done), 0);
			if (at_once && i >= at_once)
				(void)crew_future_wait(sleepers[i - at_once].f, CREW_FOREVER);
		}
		for (size_t i = 0; i < 100 * n; i++) {
			CHECK_EQ(crew_result(fs[i], &y), 0);
			CHECK_EQ(y, (long)i * 3 + 1);
			CHECK_EQ(runs_of(runs, (int)i), 1);
		}
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), CREW_EDEADLINE);
		for (size_t i = 0; i < n; i++) {
			CHECK_EQ(crew_future_error(sleepers[i].f)->code, CREW_EDEADLINE);
			CHECK_LE(runs_of(runs, (int)(100 * n + i)), 1);
			started += (size_t)runs_of(runs, (int)(100 * n + i));
		}
		check_strength(ex, 4);
		CHECK_EQ(crew_executor_stats(ex, &stats, sizeof stats), 0);
		CHECK_EQ(stats.failed, n);
		CHECK_EQ(stats.lost, 0u);
		CHECK_EQ(stats.workers_lost, 0u);
	}
	print_times(sleepers, n);
	printf("%zu of %zu had been started, each of %zu others ran once\n", started, n, 100 * n);
	free(sleepers);
	free(fs);
}

TEST_WITHIN(a_thousand_that_never_end_do_no_harm_to_a_hundred_thousand, 300)
{
	among_honest_ones(test_scaled(1000), 3);
}

TEST_WITHIN(a_thousand_that_never_end_may_come_all_at_once, 120)
{
	among_honest_ones(test_scaled(1000), 0);
}

/* About as long as it takes to have somebody killed. */
CREW_TASK(long, brief, (crew_bytes, runs), (int, i), (int, spin))
{
	count(runs, i);
	for (volatile int k = 0; k < spin; k++)
		;
	return i;
}

/* The kill and the end of the task meet, again and again: one of the two it is, and the task behind it is not hit. */
TEST_WITHIN(a_kill_and_the_end_of_its_task_may_meet, 300)
{
	enum { ROUND = 250 };
	size_t rounds = test_scaled(400), killed = 0, spin = 20000;

	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes runs = crew_shared_alloc(ex, 2 * ROUND);
		crew_future *f[ROUND], *behind[ROUND];
		long y;

		for (size_t r = 0; r < rounds; r++) {
			size_t now = 0;

			memset(runs.data, 0, runs.len);
			for (int i = 0; i < ROUND; i++) {
				f[i] = crew_submit(ex, brief, runs, i, (int)(test_random() % spin));
				behind[i] = crew_submit(ex, brief, runs, ROUND + i, 0);
				while (!runs_of(runs, i) && !crew_future_done(f[i]))
					;
				(void)crew_future_kill(f[i], NULL, 0);
			}
			for (int i = 0; i < ROUND; i++) {
				int rc = crew_result(f[i], &y);

				CHECK(rc == -ECANCELED || (rc == 0 && y == i));
				now += rc != 0;
				CHECK_EQ(runs_of(runs, i), 1);
				CHECK_EQ(crew_result(behind[i], &y), 0);
				CHECK_EQ(y, ROUND + i);
				CHECK_EQ(runs_of(runs, ROUND + i), 1);
				crew_future_free(f[i]);
				crew_future_free(behind[i]);
			}
			killed += now;
			spin = now > 10 ? spin - spin / 8 : spin + spin / 8; /* most of them end just before */
		}
		check_strength(ex, 2);
	}
	printf("%zu of %zu were killed in time\n", killed, rounds * ROUND);
}

/* Deadlines, kills and deaths from outside, all at once, also of workers that are just being born. */
static void *kill_all(void *arg)
{
	const struct timespec pause = { 0, 15000000 };
	crew_executor *ex = arg;

	for (int i = 0; i < 20; i++) {
		crew_executor_kill(ex, i % 3 ? SIGKILL : SIGTERM);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

TEST_WITHIN(kills_may_meet_recoveries, 120)
{
	size_t n = test_scaled(4000);
	crew_future **fs = calloc(n, sizeof *fs);
	pthread_t killer;

	CREW_SCOPE (ex, crew_processes(.workers = 3, .grace_ms = 20)) {
		crew_bytes runs = crew_shared_alloc(ex, n);

		CHECK_EQ(pthread_create(&killer, NULL, kill_all, ex), 0);
		for (size_t i = 0; i < n; i++) {
			if (i % 20 == 0)
				fs[i] = crew_submit_with(ex, (.timeout_ms = 5), endless, runs, (int)i, (int)(i / 20 % 4));
			else
				fs[i] = crew_submit(ex, honest, runs, (int)i);
			if (i % 50 == 0)
				crew_future_kill(fs[i], NULL, (int)(test_random() % 5));
		}
		for (size_t i = 0; i < n; i++) {
			int code;

			CHECK_NE(crew_future_wait(fs[i], 100000), -ETIMEDOUT);
			code = crew_future_error(fs[i])->code;
			CHECK(code == CREW_EWORKER || (code == -ECANCELED && i % 50 == 0) || (i % 20 ? code == 0 : code == CREW_EDEADLINE));
			CHECK_LE(runs_of(runs, (int)i), 1);
			CHECK(code || runs_of(runs, (int)i) == 1);
		}
		pthread_join(killer, NULL);
		check_strength(ex, 3);
	}
	free(fs);
}
