/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ranges.c: crew_for() and crew_reduce().
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(void, mark, (size_t, begin), (size_t, end), (crew_bytes, marks), (int, by))
{
	unsigned char *m = marks.data;

	for (size_t i = begin; i < end; i++)
		m[i] = (unsigned char)(m[i] + by);
}
CREW_TASK(void, fails_on_77, (size_t, begin), (size_t, end))
{
	if (begin <= 77 && 77 < end)
		crew_raise(ERANGE, "77 is in it");
}
CREW_TASK(double, sum_of_inverses, (size_t, begin), (size_t, end))
{
	double sum = 0;

	for (size_t i = begin; i < end; i++)
		sum += 1.0 / (double)(i + 1);
	return sum;
}
CREW_TASK(long, sum_times, (size_t, begin), (size_t, end), (long, factor))
{
	long sum = 0;

	for (size_t i = begin; i < end; i++)
		sum += (long)i * factor;
	return sum;
}
struct span {
	size_t begin, end;
	bool torn;
};
CREW_TASK(struct span, span_of, (size_t, begin), (size_t, end))
{
	return (struct span){ begin, end, false };
}
CREW_TASK(long, fails_late, (size_t, begin), (size_t, end))
{
	return begin >= 500 || end > 500 ? crew_raise(EIO, "late") : 1;
}

CREW_TASK(void, fails_everywhere, (size_t, begin), (size_t, end))
{
	crew_raise(1000 + (int)begin, "%zu to %zu", begin, end);
}

static double add(double a, double b)
{
	return a + b;
}
static long add_long(long a, long b)
{
	return a + b;
}
static struct span join(struct span a, struct span b)
{
	return (struct span){ a.begin, b.end, a.torn || b.torn || a.end != b.begin };
}

/* The ranges cover 0 … n-1, each index once. */
TEST_EACH(for_covers_each_index_once, ex)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 7, 100, 4096, 100000 };
	crew_bytes marks = crew_shared_alloc(ex, 100001);
	unsigned char *m = marks.data;

	for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		memset(m, 0, 100001);
		CHECK_EQ(crew_for(ex, sizes[s], mark, .marks = marks, .by = 3), 0);
		for (size_t i = 0; i < sizes[s]; i++)
			CHECK_EQ(m[i], 3);
		CHECK_EQ(m[sizes[s]], 0);
	}
	crew_shared_free(ex, marks);
}

/* Values that are not given are 0. */
TEST_EACH(values_of_for_that_are_not_given_are_0, ex)
{
	long sum = 5;

	CHECK_EQ(crew_reduce(ex, 10, &sum, add_long, sum_times), 0);
	CHECK_EQ(sum, 5);
}

TEST_EACH(a_failing_range_fails_the_for, ex)
{
	CHECK_EQ(crew_for(ex, 1000, fails_on_77), -ERANGE);
	CHECK_EQ(crew_for(ex, 77, fails_on_77), 0);
}

/* Of several failures it is the first one, by index. */
TEST_EACH(the_first_failing_range_is_told, ex)
{
	for (int i = 0; i < 20; i++)
		CHECK_EQ(crew_for(ex, 1000, fails_everywhere), -1000);
}

/* acc is where it starts. */
TEST_EACH(reduce_adds_to_what_is_there, ex)
{
	long sum = 1000;

	CHECK_EQ(crew_reduce(ex, 100001, &sum, add_long, sum_times, .factor = 2), 0);
	CHECK_EQ(sum, 1000 + 100000L * 100001);
}

/* Parts are combined in the order of their ranges, and the ranges abut. */
TEST_EACH(reduce_combines_in_order, ex)
{
	struct span all = { 0, 0, false };

	CHECK_EQ(crew_reduce(ex, 54321, &all, join, span_of), 0);
	CHECK(all.begin == 0 && all.end == 54321 && !all.torn);
}

/* Floating point gives the same answer every time, to the bit. */
TEST_EACH(reduce_gives_the_same_answer_every_time, ex)
{
	double first = 0, again;

	CHECK_EQ(crew_reduce(ex, 100000, &first, add, sum_of_inverses), 0);
	for (int round = 0; round < 20; round++) {
		again = 0;
		CHECK_EQ(crew_reduce(ex, 100000, &again, add, sum_of_inverses), 0);
		CHECK(memcmp(&first, &again, sizeof first) == 0);
	}
	CHECK(first > 12.09 && first < 12.1);
}

TEST_EACH(reduce_of_nothing_leaves_acc, ex)
{
	double acc = 2.5;

	CHECK_EQ(crew_reduce(ex, 0, &acc, add, sum_of_inverses), 0);
	CHECK_EQ(acc, 2.5);
}

/* On failure acc is untouched. */
TEST_EACH(a_failing_reduce_leaves_acc, ex)
{
	long acc = 77;

	CHECK_EQ(crew_reduce(ex, 1000, &acc, add_long, fails_late), -EIO);
	CHECK_EQ(acc, 77);
}

/* The type of acc is checked. */
TEST_EACH(reduce_into_another_type_is_refused, ex)
{
	int acc = 5;
	void *parts = NULL;
	size_t count = 0;

	CHECK_EQ(crew_executor_reduce(ex, 10, CREW_TASK_OF(sum_times), &(CREW_ARGS(sum_times)){ .factor = 1 },
				      CREW_TYPE_OF(int), &parts, &count), CREW_ETYPE);
	crew_parts_free(parts);
	CHECK_EQ(acc, 5);
}

/* grain is the least number of indexes to a range, but for the last. */
CREW_TASK(void, note_short, (size_t, begin), (size_t, end), (crew_bytes, gate))
{
	gate_add(gate.data, 0);
	if (end - begin < 100)
		gate_add(gate.data, 1);
}
TEST_EACH(grain_is_the_least_size_of_a_range, ex)
{
	GATE (g, ex);
	const struct crew_for_options o = { .grain = 100 };

	CHECK_EQ(crew_executor_for(ex, 1050, CREW_TASK_OF(note_short), &(CREW_ARGS(note_short)){ .gate = g.bytes }, &o,
				   sizeof o), 0);
	CHECK(gate_count(g.at, 0) <= 11);
	CHECK(gate_count(g.at, 1) <= 1);
}

/* A task may use both inside. */
CREW_TASK(long, reduces_inside, (int, n))
{
	long sum = 0;

	return crew_reduce(crew_task_executor(), (size_t)n, &sum, add_long, sum_times, .factor = 1) ? -1 : sum;
}
TEST_EACH(a_task_may_reduce, ex)
{
	crew_future *fs[5];
	long y;

	for (int i = 0; i < 5; i++)
		fs[i] = crew_submit(ex, reduces_inside, 1000);
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(crew_result(fs[i], &y), 0);
		CHECK_EQ(y, 499500);
	}
}

/* Tasks that obey: the loop ends when its time is up, though nobody has reached its end. */
CREW_TASK(void, until_asked, (size_t, begin), (size_t, end))
{
	while (begin < end && !crew_task_cancelled())
		sched_yield();
}
TEST_EACH(a_for_out_of_time_is_etimedout, ex)
{
	CHECK_EQ(crew_executor_for(ex, 1000000, CREW_TASK_OF(until_asked), &(CREW_ARGS(until_asked)){ 0 }, &(struct crew_for_options){ .timeout_ms = 20 },
				   sizeof(struct crew_for_options)), -ETIMEDOUT);
}

/* So it does when no worker has come to it. */
static const struct crew_for_options soon = { .timeout_ms = 20 }, late = { .timeout_ms = 3600000 };
TEST_EACH(a_for_that_nobody_began_is_etimedout, ex)
{
	GATE (g, ex);

	NOT_WHERE(IMMEDIATE, "the caller begins it");
	gate_occupy(&g);
	CHECK_EQ(crew_executor_for(ex, 10, CREW_TASK_OF(fails_everywhere), &(CREW_ARGS(fails_everywhere)){ 0 }, &soon, sizeof soon), -ETIMEDOUT);
	gate_open(g.at);
}

/* Cancelled by others with all that waits, it says so; in time or without any. */
struct loop {
	crew_executor *ex;
	const struct crew_for_options *options;
	int code;
	bool ended;
};
static void *loops(void *arg)
{
	struct loop *l = arg;

	l->code = crew_executor_for(l->ex, 10, CREW_TASK_OF(fails_everywhere), &(CREW_ARGS(fails_everywhere)){ 0 }, l->options, sizeof *l->options);
	__atomic_store_n(&l->ended, true, __ATOMIC_SEQ_CST);
	return NULL;
}
TEST_EACH(a_for_that_is_cancelled_is_ecanceled, ex)
{
	GATE (g, ex);
	pthread_t thread;

	NOT_WHERE(IMMEDIATE, "nothing waits");
	gate_occupy(&g);
	for (int i = 0; i < 2; i++) {
		struct loop l = { ex, i ? &late : NULL, 0, false };

		CHECK_EQ(pthread_create(&thread, NULL, loops, &l), 0);
		while (!__atomic_load_n(&l.ended, __ATOMIC_SEQ_CST) && crew_executor_cancel(ex, NULL) >= 0)
			sched_yield();
		CHECK_EQ(pthread_join(thread, NULL), 0);
		CHECK_EQ(l.code, -ECANCELED);
	}
	gate_open(g.at);
}
