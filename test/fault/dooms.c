/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dooms.c: tasks that are ended by force: at their deadline, by crew_future_kill(), at a shutdown. Theirs are the only futures that fail; everything
 * else runs once, and the pool is at full strength again. Runs are counted in memory that outlives workers.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dooms.h"

/* ---- deadlines ---- */

/* On a busy machine its time may be up before it has begun, or when it was taken by a worker that has not come to its first line yet. Then it ends all the same;
   and another is given more time. */
static void ends_at_its_deadline(int how)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .grace_ms = 100)) {
		enum { TRIES = 10 };
		crew_bytes runs = crew_shared_alloc(ex, 64);
		crew_future *others[20];
		int tries = 0;
		long y;

		for (int ms = 50; !tries || runs_of(runs, 20 + tries) == 0; ms *= 2) {
			int64_t begin = test_now_ms();
			crew_future *f = crew_submit_with(ex, (.timeout_ms = ms), endless, runs, 21 + tries, how);
			const crew_error *e;

			for (int i = 0; i < 20 && !tries; i++)
				others[i] = crew_submit(ex, honest, runs, i + 1);
			CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
			CHECK_GE(test_now_ms() - begin, ms);
			e = crew_future_error(f);
			CHECK_EQ(e->code, CREW_EDEADLINE);
			CHECK_EQ(e->worker > 0, e->attempts == 1);
			CHECK_LE(runs_of(runs, 21 + tries), e->attempts);
			CHECK_STR(e->task, "endless");
			CHECK_HAS(e->where, "dooms.h:");
			CHECK_LE(++tries, TRIES);
		}
		for (int i = 0; i < 20; i++) {
			CHECK_EQ(crew_result(others[i], &y), 0);
			CHECK_EQ(y, (i + 1) * 3l + 1);
			CHECK_EQ(runs_of(runs, i + 1), 1);
		}
		check_strength(ex, 2);
		for (int i = 1; i < tries; i++)
			CHECK_LE(runs_of(runs, 20 + i), 1);
		CHECK_EQ(runs_of(runs, 20 + tries), 1);
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

		own = crew_submit_with(ex, (.timeout_ms = 60000), endless, runs, 1, PATIENT);
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EDEADLINE);
		CHECK_EQ(crew_future_wait(own, 120), -ETIMEDOUT);
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
		while (!crew_future_running(other))
			sched_yield();
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

/* The earliest of several kills is carried out, and one for ever never. False: it was so before the last of them was asked for. */
static bool kills_early(crew_executor *ex, crew_bytes runs, int i, int early_ms)
{
	crew_future *f = crew_submit(ex, endless, runs, i, PATIENT);
	int rc;

	await_run(runs, i);
	CHECK_EQ(crew_future_kill(f, "never", CREW_FOREVER), 0);
	CHECK_EQ(crew_future_kill(f, "late", 600000), 0);
	CHECK_EQ(crew_future_wait(f, 50), -ETIMEDOUT);
	CHECK_EQ(crew_future_kill(f, "early", early_ms), 0);
	rc = crew_future_kill(f, "later", 500000);
	CHECK(rc == 0 || (rc == 1 && crew_future_cancelled(f)));
	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), -ECANCELED);
	CHECK_STR(crew_future_error(f)->message, "early");
	return rc == 0;
}

TEST(the_earliest_of_several_kills_counts)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		enum { TRIES = 14 };
		crew_bytes runs = crew_shared_alloc(ex, TRIES);
		int tries = 0;

		while (!kills_early(ex, runs, tries, 1 << tries))
			CHECK_LE(++tries, TRIES - 1);
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
		crew_bytes runs = crew_shared_alloc(ex, 32);
		crew_future *f;
		int n = 2;

		for (int ms = 30; n == 2 || runs_of(runs, n - 1) == 0; ms *= 2) { /* on a busy machine its time may be up before it has begun */
			f = crew_submit_with(ex, (.timeout_ms = ms), endless, runs, n++, PATIENT);
			CHECK_EQ(crew_future_error(f)->code, CREW_EDEADLINE);
		}
		f = crew_submit(ex, endless, runs, 0, PATIENT);
		await_run(runs, 0);
		CHECK_EQ(crew_future_kill(f, NULL, 0), 0);
		CHECK_EQ(crew_future_error(f)->code, -ECANCELED);
		f = crew_submit(ex, endless, runs, 1, PATIENT);
		await_run(runs, 1);
		CHECK_EQ(crew_future_cancel(f, NULL), 0);
		CHECK_GE(crew_executor_kill(ex, SIGKILL), 1);
		CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
		check_strength(ex, 2);
		CHECK_EQ(runs_of(runs, 0), 1);
		CHECK_EQ(runs_of(runs, 1), 1);
		for (int i = 2; i < n - 1; i++)
			CHECK_LE(runs_of(runs, i), 1);
		CHECK_EQ(runs_of(runs, n - 1), 1);
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
