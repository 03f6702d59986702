/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * completions.c: CREW_AS_COMPLETED.
 */
#include <errno.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, twice, (int, n))
{
	return 2 * n;
}

/* Each future once. */
TEST_EACH(as_completed_gives_each_future_once, ex)
{
	enum { N = 500 };
	static crew_future *fs[N];
	static int times[N];
	int y, turns = 0;

	for (int i = 0; i < N; i++)
		fs[i] = crew_submit(ex, twice, i);
	CREW_AS_COMPLETED (f, fs, N) {
		CHECK(crew_future_done(f));
		CHECK_EQ(crew_result(f, &y), 0);
		times[y / 2]++;
		turns++;
	}
	CHECK_EQ(turns, N);
	for (int i = 0; i < N; i++)
		CHECK_EQ(times[i], 1);
}

/* A repeated one once, NULL never. */
TEST_EACH(as_completed_gives_a_repeated_future_once, ex)
{
	crew_future *a = crew_submit(ex, twice, 1), *b = crew_submit(ex, twice, 2);
	crew_future *fs[] = { a, a, NULL, b, a, b };
	int turns = 0;

	CREW_AS_COMPLETED (f, fs, 6) {
		CHECK(f == a || f == b);
		turns++;
	}
	CHECK_EQ(turns, 2);
}

TEST(as_completed_of_nothing_is_no_turn)
{
	crew_future *none[1] = { NULL };

	CREW_AS_COMPLETED (f, none, 1)
		CHECK(f == NULL);
	CREW_AS_COMPLETED (f, none, 0)
		CHECK(f == NULL);
}

/* Those that are done come first, then in the order of completion. */
TEST_EACH(as_completed_follows_the_order_of_completion, ex)
{
	GATE (a, ex);
	GATE (b, ex);
	crew_future *fs[3], *order[3];
	int n = 0;

	NOT_WHERE(SINGLE, "needs two tasks held at once");
	fs[0] = crew_submit(ex, held, a.bytes, 0);
	fs[1] = crew_submit(ex, held, b.bytes, 1);
	gate_await(a.at, 1);
	gate_await(b.at, 1);
	fs[2] = crew_submit(ex, twice, 2);
	crew_future_wait(fs[2], CREW_FOREVER);
	CREW_AS_COMPLETED (f, fs, 3) {
		order[n++] = f;
		gate_open(n == 1 ? b.at : a.at);
	}
	CHECK(n == 3 && order[0] == fs[2] && order[1] == fs[1] && order[2] == fs[0]);
}

/* break and continue mean this loop. */
TEST_EACH(as_completed_can_be_left_by_break, ex)
{
	crew_future *fs[20];
	int turns = 0;

	for (int i = 0; i < 20; i++)
		fs[i] = crew_submit(ex, twice, i);
	CREW_AS_COMPLETED (f, fs, 20) {
		if (++turns < 3)
			continue;
		CHECK(crew_future_done(f));
		break;
	}
	CHECK_EQ(turns, 3);
}

static crew_future *first_of(crew_future **fs, size_t n)
{
	CREW_AS_COMPLETED (f, fs, n)
		return f;
	return NULL;
}
/* return and goto leave it too, with tasks still on their way (LeakSanitizer watches). */
TEST_EACH(as_completed_can_be_left_by_return_and_goto, ex)
{
	GATE (g, ex);
	crew_future *fs[2] = { crew_submit(ex, twice, 1), NULL };

	crew_future_wait(fs[0], CREW_FOREVER);
	fs[1] = crew_submit(ex, held, g.bytes, 1);
	CHECK(first_of(fs, 2) != NULL);
	CREW_AS_COMPLETED (f, fs, 2) {
		CHECK(crew_future_done(f));
		goto out;
	}
	CHECK(0);
out:
	gate_open(g.at);
	CHECK_EQ(crew_wait(fs, 2, CREW_ALL_COMPLETED, CREW_FOREVER), 2);
}

/* The time of the _WITHIN form is the total; *left says how many were not done. */
TEST_EACH(as_completed_within_stops_when_the_time_is_up, ex)
{
	GATE (g, ex);
	crew_future *fs[5];
	size_t left = 99;
	int turns = 0;
	int64_t start;

	NOT_WHERE(IMMEDIATE, "all are done");
	fs[0] = crew_submit(ex, twice, 1);
	crew_future_wait(fs[0], CREW_FOREVER);
	for (int i = 1; i < 5; i++)
		fs[i] = crew_submit(ex, held, g.bytes, i);
	start = test_now_ms();
	CREW_AS_COMPLETED_WITHIN (f, fs, 5, 50, &left)
		turns++;
	CHECK_GE(test_now_ms() - start, 50);
	CHECK_EQ(turns, 1);
	CHECK_EQ(left, 4);
}

TEST_EACH(as_completed_in_time_leaves_none, ex)
{
	crew_future *fs[5];
	size_t left = 99;
	int turns = 0;

	for (int i = 0; i < 5; i++)
		fs[i] = crew_submit(ex, twice, i);
	CREW_AS_COMPLETED_WITHIN (f, fs, 5, 60000, &left)
		turns++;
	CHECK_EQ(turns, 5);
	CHECK_EQ(left, 0);
}

/* 0 milliseconds: those that are done. */
TEST_EACH(as_completed_within_0_gives_what_is_done, ex)
{
	GATE (g, ex);
	crew_future *fs[2] = { crew_submit(ex, twice, 1), NULL };
	size_t left = 0;
	int turns = 0;

	NOT_WHERE(IMMEDIATE, "all are done");
	crew_future_wait(fs[0], CREW_FOREVER);
	fs[1] = crew_submit(ex, held, g.bytes, 1);
	CREW_AS_COMPLETED_WITHIN (f, fs, 2, 0, &left)
		turns++;
	CHECK_EQ(turns, 1);
	CHECK_EQ(left, 1);
}

/* A future cancelled before it was ever popped counts as done (in Python it hangs: gh-136655). */
TEST_EACH(as_completed_gives_cancelled_futures, ex)
{
	GATE (g, ex);
	crew_future *fs[3];
	int turns = 0;

	NOT_WHERE(IMMEDIATE, "nothing can be cancelled");
	gate_occupy(&g);
	for (int i = 0; i < 3; i++)
		fs[i] = crew_submit(ex, twice, i);
	crew_cancel(fs, 3);
	CREW_AS_COMPLETED (f, fs, 3)
		turns += crew_future_cancelled(f);
	CHECK_EQ(turns, 3);
}

/* The body may give back the future it was handed: a server's loop. */
TEST_EACH(the_body_may_take_each_future, ex)
{
	crew_future *fs[100];
	int y, total = 0;

	for (int i = 0; i < 100; i++)
		fs[i] = crew_submit(ex, twice, i);
	CREW_AS_COMPLETED (f, fs, 100) {
		CHECK_EQ(crew_take(f, &y, NULL), 0);
		total += y;
	}
	CHECK_EQ(total, 9900);
}

/* Two loops over the same futures see all of them, each. */
TEST_EACH(two_loops_may_run_over_the_same_futures, ex)
{
	crew_future *fs[10];
	int inner = 0, outer = 0;

	for (int i = 0; i < 10; i++)
		fs[i] = crew_submit(ex, twice, i);
	CREW_AS_COMPLETED (f, fs, 10) {
		if (outer++ == 0)
			CREW_AS_COMPLETED (g, fs, 10)
				inner++;
	}
	CHECK(inner == 10 && outer == 10);
}

/* A task may loop over what it submitted, on a pool of one too. */
CREW_TASK(int, loops_inside)
{
	crew_future *fs[8];
	int y, total = 0;

	for (int i = 0; i < 8; i++)
		fs[i] = crew_submit(crew_task_executor(), twice, i);
	CREW_AS_COMPLETED (f, fs, 8)
		total += crew_take(f, &y, NULL) == 0 ? y : -1000;
	return total;
}
TEST_EACH(a_task_may_loop_over_its_own_submits, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, loops_inside), &y), 0);
	CHECK_EQ(y, 56);
}

/* Whoever ends such a loop takes back his own calls only: another one over the same futures goes on. */
TEST_EACH(one_of_two_loops_over_the_same_futures_may_end_first, ex)
{
	GATE (g, ex);
	crew_future *f;
	crew_completions *first, *second, *third;

	NOT_WHERE(IMMEDIATE, "all are done");
	f = crew_submit(ex, held, g.bytes, 7);
	first = crew_completions_open(&f, 1, CREW_FOREVER, NULL);
	second = crew_completions_open(&f, 1, CREW_FOREVER, NULL);
	third = crew_completions_open(&f, 1, CREW_FOREVER, NULL);
	CHECK_EQ(crew_completions_close(first), NULL);
	CHECK_EQ(crew_completions_close(third), NULL);
	gate_open(g.at);
	CHECK(crew_completions_next(second) == f);
	CHECK(crew_completions_next(second) == NULL);
	CHECK_EQ(crew_completions_close(second), NULL);
}

/* Where no memory can be had for what a loop needs (here: for as many futures as there are numbers), it goes over them in the order given, and does without. */
TEST_EACH(as_completed_does_without_memory, ex)
{
	GATE (g, ex);
	crew_future *fs[5] = { NULL };
	crew_completions *set, *second;
	size_t left = 0;

	fs[0] = fs[2] = crew_submit(ex, twice, 1);
	fs[3] = crew_submit(ex, twice, 2);
	fs[4] = crew_submit(ex, held, g.bytes, 0);
	CHECK_EQ(crew_future_wait(fs[0], CREW_FOREVER), 0);
	CHECK_EQ(crew_future_wait(fs[3], CREW_FOREVER), 0);
	set = crew_completions_open(fs, SIZE_MAX, 0, &left);
	CHECK(set != NULL);
	CHECK_EQ(left, SIZE_MAX);
	second = crew_completions_open(fs, SIZE_MAX, 0, NULL); /* and one of them at a time */
	CHECK_EQ(second, NULL);
	CHECK_EQ(crew_completions_close(second), NULL);
	CHECK_EQ(crew_completions_next(set), fs[0]);
	CHECK_EQ(left, SIZE_MAX - 1);
	CHECK_EQ(crew_completions_next(set), fs[3]);
	CHECK_EQ(left, SIZE_MAX - 4);
	if (!(kind->traits & IMMEDIATE))
		CHECK_EQ(crew_completions_next(set), NULL); /* not in time */
	CHECK_EQ(crew_completions_close(set), NULL);
	set = crew_completions_open(NULL, 3, 0, &left);
	CHECK_EQ(left, 0u);
	CHECK_EQ(crew_completions_next(set), NULL);
	CHECK_EQ(crew_completions_close(set), NULL);
	gate_open(g.at);
}
