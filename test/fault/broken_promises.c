/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * broken_promises.c: processes that die while they share futures. Whoever waits learns it; nobody waits for ever, and nobody is told too early.
 */
#include <crew/crew.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

enum { HANG_MS = 20000 };

static crew_future *promise_of_int(void)
{
	return crew_future_new(CREW_TYPE_OF(int));
}

static int keep(crew_future *f, int value)
{
	return crew_future_set_result(f, &value, CREW_TYPE_OF(int));
}

CREW_TASK(int, die_with, (crew_promise, p))
{
	crew_promise_future(p);
	raise(SIGKILL);
	return 0;
}

CREW_TASK(int, die_before, (crew_promise, p))
{
	(void)p;
	raise(SIGKILL);
	return 0;
}

CREW_TASK(int, look_and_leave, (crew_promise, p), (int, find))
{
	crew_future *f = crew_promise_future(p);

	if (find)
		(void)keep(f, find);
	crew_future_free(f);
	return 0;
}

static void check_broken(crew_future *f)
{
	int y;

	CHECK_EQ(crew_result_within(f, &y, HANG_MS), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
}

static void put_down(pid_t child)
{
	int status;

	kill(child, SIGKILL);
	CHECK_EQ(waitpid(child, &status, 0), child);
}

TEST(a_promise_is_broken_when_the_worker_that_had_it_dies)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		crew_future *f = promise_of_int();

		crew_submit(ex, die_with, crew_future_share(f));
		check_broken(f);
		crew_future_free(f);
	}
}

/* The task's own future tells that; the handle is still on its way, for all that anybody knows. */
TEST(a_promise_whose_handle_was_lost_waits)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		crew_future *f = promise_of_int(), *t = crew_submit(ex, die_before, crew_future_share(f)), *both[] = { f, t };

		CHECK_EQ(crew_wait(both, 2, CREW_FIRST_EXCEPTION, HANG_MS), 1);
		CHECK(!crew_future_done(f));
		crew_future_free(f);
	}
}

/* Eight look, one of them finds; those that leave before the others came do not break it. */
TEST(who_leaves_does_not_break_what_others_may_keep)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		for (int round = 0; round < (int)test_scaled(50); round++) {
			crew_future *f = promise_of_int();
			int y = 0;

			for (int i = 0; i < 8; i++)
				crew_submit(ex, look_and_leave, crew_future_share(f), i == 7 ? 5 : 0);
			CHECK_EQ(crew_result_within(f, &y, HANG_MS), 0);
			CHECK_EQ(y, 5);
			crew_future_free(f);
		}
	}
}

/* None finds: the last that leaves breaks it. */
TEST(when_all_have_left_it_is_broken)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_future *f = promise_of_int();

		for (int i = 0; i < 8; i++)
			crew_submit(ex, look_and_leave, crew_future_share(f), 0);
		check_broken(f);
		crew_future_free(f);
	}
}

/* A second reference says that somebody here means to keep it. */
TEST(a_reference_of_its_own_keeps_a_promise)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		crew_future *f = crew_future_ref(promise_of_int());
		int y = 0;

		crew_submit(ex, look_and_leave, crew_future_share(f), 0);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
		CHECK_EQ(crew_result_within(f, &y, 300), -ETIMEDOUT);
		crew_future_unref(f);
		check_broken(f);
		crew_future_free(f);
	}
}

static void count(crew_future *f, void *arg)
{
	(void)f;
	__atomic_add_fetch((int *)arg, 1, __ATOMIC_SEQ_CST);
}

/* Nobody waits: it was given back, and is only watched. */
TEST(who_watches_is_told_of_a_broken_promise)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		crew_future *f = promise_of_int();
		int told = 0;

		CHECK_EQ(crew_future_on_done(f, count, &told), 0);
		crew_submit(ex, die_with, crew_future_share(f));
		crew_future_free(f);
		while (!__atomic_load_n(&told, __ATOMIC_SEQ_CST))
			sched_yield();
		CHECK_EQ(__atomic_load_n(&told, __ATOMIC_SEQ_CST), 1);
	}
}

TEST(a_loop_over_shared_futures_ends_when_their_keepers_die)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_future *fs[6];
		int n = 0;

		for (int i = 0; i < 6; i++) {
			fs[i] = promise_of_int();
			crew_submit(ex, die_with, crew_future_share(fs[i]));
		}
		CREW_AS_COMPLETED (f, fs, 6) {
			check_broken(f);
			n++;
		}
		CHECK_EQ(n, 6);
		for (int i = 0; i < 6; i++)
			crew_future_free(fs[i]);
	}
}

/* One that waits is no keeper, wherever it is: two wait for each other, and the one who could have kept it dies. */
TEST(those_who_only_wait_do_not_keep_each_other_waiting)
{
	uint32_t *kept = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	crew_future *f = promise_of_int();
	crew_promise p = crew_future_share(f), q = crew_future_share(f);
	pid_t waiter = fork(), keeper;
	int status;

	if (waiter == 0)
		_exit(crew_future_error(crew_promise_future(p))->code == CREW_EBROKEN ? 0 : 1);
	keeper = fork();
	if (keeper == 0) {
		crew_promise_future(q);
		__atomic_store_n(kept, 1, __ATOMIC_RELEASE);
		for (;;)
			pause();
	}
	while (!__atomic_load_n(kept, __ATOMIC_ACQUIRE)) /* a handle that is lost on its way breaks nothing */
		sched_yield();
	CHECK_EQ(crew_future_wait(f, 200), -ETIMEDOUT);
	put_down(keeper);
	check_broken(f);
	CHECK_EQ(waitpid(waiter, &status, 0), waiter);
	CHECK_EQ(status, 0);
	crew_future_free(f);
	munmap(kept, 4096);
}

CREW_TASK(int, for_ever, (int, unused))
{
	(void)unused;
	for (;;)
		pause();
	return 0;
}

/* The future of a task ends for those elsewhere when the process that submitted it does. */
TEST(a_task_is_broken_elsewhere_when_its_owner_dies)
{
	crew_promise *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	crew_future *ready = promise_of_int(), *f;
	crew_promise r = crew_future_share(ready);
	pid_t owner = fork();
	int y;

	if (owner == 0) {
		crew_executor *ex = crew_threads(1);

		*place = crew_future_share(crew_submit(ex, for_ever, 0));
		(void)keep(crew_promise_future(r), 1);
		for (;;)
			pause();
	}
	CHECK_EQ(crew_result_within(ready, &y, HANG_MS), 0);
	f = crew_promise_future(*place);
	CHECK_EQ(crew_result_within(f, &y, 50), -ETIMEDOUT);
	put_down(owner);
	check_broken(f);
	crew_future_free(f);
	crew_future_free(ready);
	munmap(place, 4096);
}

/* Children set, wait, cancel and give back, and are killed at any moment; each promise ends once, and as everybody sees it. */
TEST_WITHIN(a_storm_of_deaths_leaves_each_promise_with_one_end, 120)
{
	enum { CHILDREN = 4 };

	for (int round = 0; round < (int)test_scaled(200); round++) {
		crew_future *f = promise_of_int();
		pid_t child[CHILDREN];
		int status, y = 0, rc;

		for (int i = 0; i < CHILDREN; i++) {
			crew_promise p = crew_future_share(f);

			child[i] = fork();
			if (child[i] == 0) {
				crew_future *g = crew_promise_future(p);

				if (i == 0)
					(void)crew_future_wait(g, CREW_FOREVER);
				else if (i == 3)
					(void)crew_future_cancel(g, NULL);
				else
					(void)keep(g, i);
				(void)crew_future_wait(g, HANG_MS);
				_exit(0);
			}
		}
		for (uint64_t spin = test_random() % 200000; spin > 0; spin--)
			__asm__ __volatile__("" ::: "memory");
		for (int i = 1; i < CHILDREN; i++)
			kill(child[i], SIGKILL);
		rc = crew_result_within(f, &y, 300);
		if (rc == -ETIMEDOUT) { /* a handle died on its way, or the news of its end is late */
			int kept = keep(f, 9);

			CHECK(kept == 0 || kept == -EALREADY || kept == -ECANCELED);
			rc = crew_result_within(f, &y, HANG_MS);
			CHECK_EQ(rc == 0 && y == 9, kept == 0);
		}
		CHECK(rc == -ECANCELED || (rc == 0 && y > 0) || (rc == CREW_ERAISED && crew_future_error(f)->code == CREW_EBROKEN));
		for (int i = 0; i < CHILDREN; i++)
			CHECK_EQ(waitpid(child[i], &status, 0), child[i]);
		CHECK_EQ(status & 0x7f ? SIGKILL : 0, status & 0x7f);
		crew_future_free(f);
	}
}

CREW_TASK(int, await_handle_in, (crew_bytes, place), (int, i))
{
	const crew_promise *p = place.data;
	crew_future *f;
	int rc;

	while (__atomic_load_n(&p[i].id_, __ATOMIC_ACQUIRE) == 0)
		sched_yield();
	f = crew_promise_future(p[i]);
	rc = crew_future_wait(f, HANG_MS);
	crew_future_free(f);
	return rc;
}

CREW_TASK(int, seven, (int, unused))
{
	(void)unused;
	return 7;
}

static void put_handle(crew_promise *place, crew_future *f)
{
	crew_promise p = crew_future_share(f);

	place->type_ = p.type_;
	__atomic_store_n(&place->id_, p.id_, __ATOMIC_RELEASE);
}

/* Both workers wait for what is queued behind them: one is told, the rest goes on. */
TEST(a_pool_that_waits_for_itself_is_told)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes place = crew_shared_alloc(ex, 2 * sizeof(crew_promise));
		crew_future *waits[2], *queued[2];
		int rc[2], y;

		memset(place.data, 0, place.len);
		for (int i = 0; i < 2; i++)
			waits[i] = crew_submit(ex, await_handle_in, place, i);
		while (!crew_future_running(waits[0]) || !crew_future_running(waits[1]))
			sched_yield();
		for (int i = 0; i < 2; i++)
			queued[i] = crew_submit(ex, seven, 0);
		for (int i = 0; i < 2; i++)
			put_handle((crew_promise *)place.data + i, queued[i]);
		for (int i = 0; i < 2; i++) {
			CHECK_EQ(crew_result(waits[i], &rc[i]), 0);
			CHECK_EQ(crew_result(queued[i], &y), 0);
		}
		CHECK(rc[0] == -EDEADLK || rc[1] == -EDEADLK);
		CHECK(rc[0] == 0 || rc[0] == -EDEADLK);
		CHECK(rc[1] == 0 || rc[1] == -EDEADLK);
		crew_shared_free(ex, place);
	}
}

CREW_TASK(int, rest_until, (crew_bytes, gate))
{
	while (!__atomic_load_n((uint32_t *)gate.data, __ATOMIC_ACQUIRE))
		usleep(1000);
	return 0;
}

/* One of two waits for what is queued, the other is busy for a while: it will come. */
TEST(a_pool_that_can_move_is_left_alone)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes place = crew_shared_alloc(ex, sizeof(crew_promise)), gate = crew_shared_alloc(ex, sizeof(uint32_t));
		crew_future *waits, *busy;
		int rc;

		memset(place.data, 0, place.len);
		memset(gate.data, 0, gate.len);
		waits = crew_submit(ex, await_handle_in, place, 0);
		busy = crew_submit(ex, rest_until, gate);
		while (!crew_future_running(waits) || !crew_future_running(busy))
			sched_yield();
		put_handle(place.data, crew_submit(ex, seven, 0));
		CHECK_EQ(crew_future_wait(waits, 400), -ETIMEDOUT);
		__atomic_store_n((uint32_t *)gate.data, 1, __ATOMIC_RELEASE);
		CHECK_EQ(crew_result(waits, &rc), 0);
		CHECK_EQ(rc, 0);
		crew_shared_free(ex, gate);
		crew_shared_free(ex, place);
	}
}
