/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spawning.c: crew_spawn() and crew_sync() in tasks: stolen on threads, plain calls anywhere else, the same answer everywhere.
 */
#include <errno.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(long, fib, (int, n))
{
	if (n < 2)
		return n;
	crew_spawn(fib, a, n - 1);
	long b = fib(n - 2);
	return crew_sync(fib, a) + b;
}
CREW_TASK(void, add_at, (crew_bytes, gate), (int, i))
{
	gate_add(gate.data, i);
}
CREW_TASK(int, leaves_early, (crew_bytes, gate), (bool, early))
{
	crew_spawn(add_at, a, gate, 0);
	crew_spawn(add_at, b, gate, 1);
	if (early)
		return 1;
	crew_sync(add_at, b);
	crew_sync(add_at, a);
	return 2;
}
CREW_TASK(int, in_any_order)
{
	crew_spawn(fib, a, 10);
	crew_spawn(fib, b, 11);
	crew_spawn(fib, c, 12);
	long first = crew_sync(fib, a), third = crew_sync(fib, c), second = crew_sync(fib, b);

	return first == 55 && second == 89 && third == 144 && crew_sync(fib, a) == 55;
}
CREW_TASK(int, fails, (int, code))
{
	return crew_raise(code, "spawned");
}
CREW_TASK(int, spawns_failure)
{
	crew_spawn(fails, a, 77);
	crew_sync(fails, a);
	return 1;
}
CREW_TASK(int, catches_failure)
{
	crew_error e = { 0 };
	crew_spawn(fails, a, 77);
	crew_sync(fails, a);
	return crew_caught(&e) ? e.code : 0;
}
struct big {
	long v[30];
};
CREW_TASK(struct big, make_big, (long, v))
{
	return (struct big){ { [29] = v } };
}
CREW_TASK(long, spawns_big)
{
	crew_spawn(make_big, a, 5L);
	crew_spawn(make_big, b, 6L);
	long y = crew_sync(make_big, b).v[29];

	return 10 * y + crew_sync(make_big, a).v[29];
}

/* The classic: the right answer. */
TEST_EACH(spawn_and_sync_give_the_right_answer, ex)
{
	long y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, fib, 20), &y), 0);
	CHECK_EQ(y, 6765);
}

/* Several at once, so that frames are stolen. */
TEST_EACH(many_spawning_tasks_run_side_by_side, ex)
{
	crew_future *fs[12];
	long y;

	for (int i = 0; i < 12; i++)
		fs[i] = crew_submit(ex, fib, 16 + i % 3);
	for (int i = 0; i < 12; i++) {
		CHECK_EQ(crew_result(fs[i], &y), 0);
		CHECK_EQ(y, i % 3 == 0 ? 987 : i % 3 == 1 ? 1597 : 2584);
	}
}

/* Outside of any executor it is a plain call. */
TEST(spawn_outside_of_a_task_is_a_plain_call)
{
	CHECK_EQ(fib(15), 610);
	CHECK_EQ(in_any_order(), 1);
	CHECK_EQ(spawns_big(), 65);
}

/* What is not synced is joined at the end of its block, on every way out; each runs once. */
TEST_EACH(what_is_not_synced_is_joined, ex)
{
	GATE (g, ex);
	int y = 0;

	for (int i = 0; i < 200; i++) {
		CHECK_EQ(crew_run(ex, &y, leaves_early, g.bytes, i % 2 == 0), 0);
		CHECK_EQ(y, i % 2 ? 2 : 1);
	}
	CHECK_EQ(gate_count(g.at, 0), 200u);
	CHECK_EQ(gate_count(g.at, 1), 200u);
}

/* Syncs may come in any order, and again. */
TEST_EACH(syncs_may_come_in_any_order, ex)
{
	int y = 0;

	for (int i = 0; i < 100; i++) {
		CHECK_EQ(crew_run(ex, &y, in_any_order), 0);
		CHECK_EQ(y, 1);
	}
}

TEST_EACH(spawned_calls_may_return_structs, ex)
{
	long y = 0;

	CHECK_EQ(crew_run(ex, &y, spawns_big), 0);
	CHECK_EQ(y, 65);
}

/* A raise in a spawned call marks the enclosing task, unless it is caught. */
TEST_EACH(a_raise_in_a_spawned_call_fails_the_task, ex)
{
	int y = 0;

	for (int i = 0; i < 50; i++) {
		CHECK_EQ(crew_future_error(crew_submit(ex, spawns_failure))->code, 77);
		CHECK_EQ(crew_run(ex, &y, catches_failure), 0);
		CHECK_EQ(y, 77);
	}
}
