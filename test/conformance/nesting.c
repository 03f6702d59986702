/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nesting.c: tasks that submit to the executor that runs them, crew_task_executor(): their children run on all its workers, and a task may wait for
 * them, cancel them, be told of them and map over them as anybody else may.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gate.h"
#include "kinds.h"

#define HERE crew_task_executor()

/* CHECK_ANSWER(1, ex, T, A…): T (A…) gives that, and of that type. */
#define CHECK_ANSWER(value_, ex_, ...)                                            \
	do {                                                                      \
		__typeof__(value_) answer_ = 0;                                   \
		CHECK_EQ(crew_result(crew_submit(ex_, __VA_ARGS__), &answer_), 0); \
		CHECK_EQ(answer_, value_);                                        \
	} while (0)

CREW_TASK(int, twice, (int, x))
{
	return 2 * x;
}
CREW_TASK(int, fails_with, (int, code))
{
	crew_raise(code, "child number %d", code);
	return 0;
}

/* ---- where children run ---- */

/* Two that wait for each other must run at the same time; so their submitter, which waits for both, can run at most one of them itself. */
CREW_TASK(long, meets, (crew_bytes, gate))
{
	gate_arrive(gate.data);
	gate_await(gate.data, 2);
	return syscall(SYS_gettid);
}
CREW_TASK(int, sends_two, (crew_bytes, gate))
{
	crew_future *fs[2];
	long a = 0, b = 0;

	for (int i = 0; i < 2; i++)
		fs[i] = crew_submit(HERE, meets, gate);
	if (crew_wait(fs, 2, CREW_ALL_COMPLETED, CREW_FOREVER) != 2 || crew_take(fs[0], &a, NULL) || crew_take(fs[1], &b, NULL))
		return -1;
	return a != b;
}
TEST_EACH(children_run_on_other_workers, ex)
{
	GATE (g, ex);

	NOT_WHERE(SINGLE, "there is one worker");
	CHECK_ANSWER(1, ex, sends_two, g.bytes);
}

CREW_TASK(void, arrives, (crew_bytes, gate))
{
	gate_arrive(gate.data);
}

/* Nobody waits for it: an idle worker runs it while its submitter goes on. */
CREW_TASK(int, sends_one_off, (crew_bytes, gate))
{
	crew_post(HERE, arrives, gate);
	gate_await(gate.data, 1);
	return 1;
}
TEST_EACH(an_idle_worker_runs_what_nobody_waits_for, ex)
{
	GATE (g, ex);

	NOT_WHERE(SINGLE, "there is no other worker");
	CHECK_ANSWER(1, ex, sends_one_off, g.bytes);
}

/* What a task submits and does not wait for is done when the executor has been waited for. */
CREW_TASK(int, sends_many_off, (crew_bytes, gate))
{
	for (int i = 0; i < 100; i++)
		crew_post(HERE, counted, gate, i % 10);
	return 1;
}
TEST_EACH(children_that_nobody_waits_for_run_once, ex)
{
	GATE (g, ex);
	int y = 0;

	NOT_WHERE(GROUPED, "a task's children are the executor's below, not the group's");
	CHECK_EQ(crew_result(crew_submit(ex, sends_many_off, g.bytes), &y), 0);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(gate_count(g.at, i), 10u);
}

/* A tree of several thousand tasks, each of which waits for its children. */
CREW_TASK(long, tree, (int, depth))
{
	crew_future *fs[3];
	long y, total = 1;

	if (depth == 0)
		return 1;
	for (int i = 0; i < 3; i++)
		fs[i] = crew_submit(HERE, tree, depth - 1);
	for (int i = 0; i < 3; i++)
		total += crew_take(fs[i], &y, NULL) == 0 ? y : -1000000;
	return total;
}
TEST_EACH(a_tree_of_tasks_adds_up, ex)
{
	for (int i = 0; i < 3; i++)
		CHECK_ANSWER(3280L, ex, tree, 7);
}

/* A chain so deep that no stack holds it ends in an answer or in an error, not in a crash. */
CREW_TASK(long, chain, (long, left))
{
	char frame[5000];
	long y = 0;

	memset(frame, 1, sizeof frame);
	__asm__ volatile("" : : "r"(frame) : "memory");
	if (left == 0)
		return 0;
	return crew_run(HERE, &y, chain, left - 1) == 0 && y >= 0 ? y + frame[left % 5000] : -1;
}
TEST_EACH(a_chain_too_deep_for_the_stack_is_an_error, ex)
{
	long y = 0;

	if (!(kind->traits & SEPARATE))
		SKIP("a chain of calls there, or one that fills the stacks of all threads");
	CHECK_EQ(crew_result(crew_submit(ex, chain, 5000), &y), 0);
	CHECK(y == -1 || y == 5000);
	CHECK_ANSWER(200L, ex, chain, 200);
}

/* ---- what travels ---- */

struct wide {
	long v[9];
};
CREW_TASK(struct wide, widen, (crew_bytes, gate), (long, v))
{
	gate_arrive(gate.data);
	return (struct wide){ { v, v, v, v, v, v, v, v, v } };
}
CREW_TASK(const char *, name_of, (crew_bytes, gate), (const char *, text), (int, n))
{
	crew_bytes out = crew_result_printf("%s-%d", text, n);

	gate_arrive(gate.data);
	return out.data;
}
CREW_TASK(crew_bytes, reverse, (crew_bytes, gate), (crew_bytes, in))
{
	crew_bytes out = crew_result_alloc(in.len);

	gate_arrive(gate.data);
	for (size_t i = 0; i < in.len; i++)
		((unsigned char *)out.data)[i] = ((const unsigned char *)in.data)[in.len - 1 - i];
	return out;
}

static bool reversed(crew_bytes out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (((unsigned char *)out.data)[i] != (unsigned char)((n - 1 - i) * 7))
			return false;
	return out.len == n;
}

/* `apart`: the n-th child must have arrived before it is asked for. It did so elsewhere: who waits here runs nothing. */
static bool is_begun(crew_bytes gate, int apart, uint32_t n)
{
	if (apart)
		gate_await(gate.data, n);
	return true;
}

CREW_TASK(int, tries_all_types, (crew_bytes, gate), (int, apart))
{
	size_t sizes[] = { 0, 1, 40, 80, 5000, 300000, 3000000 };
	const char *text;
	struct wide wide;
	crew_future *f = crew_submit(HERE, widen, gate, 5);
	int good = 0;

	good += is_begun(gate, apart, 1) && crew_result(f, &wide) == 0 && wide.v[0] == 5 && wide.v[8] == 5;
	f = crew_submit(HERE, name_of, gate, "a name that is longer than any slot of anything is, at least if the slots are small enough, which they are", 7);
	good += is_begun(gate, apart, 2) && crew_result(f, &text) == 0 && strlen(text) > 100 && strcmp(text + strlen(text) - 2, "-7") == 0;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		crew_bytes in = { malloc(sizes[i] + 1), sizes[i] }, out = { NULL, 0 };

		for (size_t k = 0; k < sizes[i]; k++)
			((unsigned char *)in.data)[k] = (unsigned char)(k * 7);
		f = crew_submit(HERE, reverse, gate, in);
		free(in.data);
		good += is_begun(gate, apart, 3 + (uint32_t)i) && crew_result(f, &out) == 0 && reversed(out, sizes[i]);
		crew_future_free(f);
	}
	return good;
}
TEST_EACH(arguments_and_results_of_children_have_any_size, ex)
{
	GATE (g, ex);

	CHECK_ANSWER(9, ex, tries_all_types, g.bytes, 0);
}
TEST_EACH(they_travel_to_other_workers_and_back, ex)
{
	NOT_WHERE(SINGLE, "there is no other worker");
	for (int i = 0; i < 3; i++) {
		GATE (g, ex);

		CHECK_ANSWER(9, ex, tries_all_types, g.bytes, 1);
	}
}

/* A block of crew_shared_alloc() is the same memory for a child of a child. */
CREW_TASK(int, passes_gate_on, (crew_bytes, gate), (int, depth))
{
	int y = 0;

	if (depth == 0)
		gate_add(gate.data, 5);
	else if (crew_run(HERE, &y, passes_gate_on, gate, depth - 1))
		return -1;
	return depth;
}
TEST_EACH(shared_memory_is_shared_with_children, ex)
{
	GATE (g, ex);
	int y = 0;

	for (int i = 0; i < 10; i++)
		CHECK_EQ(crew_result(crew_submit(ex, passes_gate_on, g.bytes, 3), &y), 0);
	CHECK_EQ(gate_count(g.at, 5), 10u);
}

/* ---- how children end ---- */

CREW_TASK(int, arrives_and_fails, (crew_bytes, gate), (int, code))
{
	gate_arrive(gate.data);
	return fails_with(code);
}
CREW_TASK(int, reports_failure, (crew_bytes, gate), (int, apart))
{
	crew_future *f = crew_submit(HERE, arrives_and_fails, gate, 77);
	const crew_error *e;
	int y;

	is_begun(gate, apart, 2);
	if (crew_result(f, &y) != CREW_ERAISED)
		return -1;
	e = crew_future_error(f);
	return e->code == 77 && strcmp(e->message, "child number 77") == 0 && strcmp(e->task, "arrives_and_fails") == 0 && e->worker > 0;
}
TEST_EACH(the_error_of_a_child_reaches_its_parent, ex)
{
	GATE (g, ex);

	CHECK_ANSWER(1, ex, reports_failure, g.bytes, 0);
	if (!(kind->traits & SINGLE))
		CHECK_ANSWER(1, ex, reports_failure, g.bytes, 1);
}

/* A child that kills its worker is its parent's failure to deal with; the parent's worker lives. */
CREW_TASK(int, kills_another, (crew_bytes, gate), (int, not_this))
{
	gate_arrive(gate.data);
	if (getpid() != not_this)
		raise(SIGKILL);
	return 1;
}
CREW_TASK(int, survives_its_child, (crew_bytes, gate))
{
	crew_future *f = crew_submit(HERE, kills_another, gate, (int)getpid());
	const crew_error *e;

	gate_await(gate.data, 1);
	if (crew_future_wait(f, CREW_FOREVER) != CREW_ERAISED)
		return -1;
	e = crew_future_error(f);
	return e->code == CREW_EWORKER && e->signal == SIGKILL && e->worker > 0 && e->worker != getpid();
}
TEST_EACH(a_task_survives_the_death_of_its_child, ex)
{
	GATE (g, ex);

	if (!(kind->traits & SEPARATE))
		SKIP("a worker cannot die alone there");
	NOT_WHERE(SINGLE, "there is no other worker");
	CHECK_ANSWER(1, ex, survives_its_child, g.bytes);
}

/* A child with a second chance takes it, also when the first one killed its worker. */
CREW_TASK(int, dies_once, (crew_bytes, gate), (int, not_this))
{
	gate_add(gate.data, 0);
	gate_arrive(gate.data);
	if (getpid() != not_this && gate_count(gate.data, 0) == 1)
		raise(SIGKILL);
	return 1;
}
CREW_TASK(int, insists, (crew_bytes, gate))
{
	crew_future *f = crew_submit_with(HERE, (.retries = 2), dies_once, gate, (int)getpid());
	int y = 0;

	gate_await(gate.data, 1);
	return crew_result(f, &y) == 0 && y == 1 && gate_count(gate.data, 0) == 2;
}
TEST_EACH(a_child_may_be_tried_again, ex)
{
	GATE (g, ex);

	if (!(kind->traits & SEPARATE))
		SKIP("a worker cannot die alone there");
	NOT_WHERE(SINGLE, "there is no other worker");
	CHECK_ANSWER(1, ex, insists, g.bytes);
}

/* ---- what a task does with its children ---- */

CREW_TASK(int, cancels_a_child, (crew_bytes, gate))
{
	crew_future *f = crew_submit(HERE, stoppable, gate);
	int rc = crew_future_cancel(f, "not needed"), y = 0;

	if (rc == 1)
		return crew_future_cancelled(f) && crew_result(f, &y) == -ECANCELED;
	return rc == 0 && crew_result(f, &y) == 0 && y == 1;
}
TEST_EACH(a_task_may_cancel_its_child, ex)
{
	GATE (g, ex);

	NOT_WHERE(IMMEDIATE, "it has run before anybody could cancel it");
	for (int i = 0; i < 20; i++)
		CHECK_ANSWER(1, ex, cancels_a_child, g.bytes);
}

/* Has been asked to stop, and waits until that was looked at. */
CREW_TASK(int, heeds, (crew_bytes, gate))
{
	gate_arrive(gate.data);
	while (!crew_task_cancelled())
		sched_yield();
	gate_wait(gate.data);
	return 1;
}
CREW_TASK(int, stops_a_running_child, (crew_bytes, gate))
{
	crew_future *f = crew_submit(HERE, heeds, gate);
	int y = 0;
	bool asked;

	gate_await(gate.data, 1);
	asked = crew_future_cancel(f, NULL) == 0 && crew_future_running(f);
	gate_open(gate.data);
	return asked && crew_result(f, &y) == 0 && y == 1;
}
TEST_EACH(a_task_may_ask_its_running_child_to_stop, ex)
{
	GATE (g, ex);

	NOT_WHERE(SINGLE, "there is no other worker");
	CHECK_ANSWER(1, ex, stops_a_running_child, g.bytes);
}

CREW_TASK(int, loses_patience, (crew_bytes, gate))
{
	crew_future *f = crew_submit(HERE, held, gate, 7), *fs[1] = { f };
	int first, second, y = 0;

	gate_await(gate.data, 1);
	first = crew_future_wait(f, 20);
	second = crew_wait(fs, 1, CREW_FIRST_COMPLETED, 20);
	gate_open(gate.data);
	return first == -ETIMEDOUT && second == 0 && crew_result(f, &y) == 0 && y == 7;
}
TEST_EACH(a_wait_in_a_task_may_run_out_of_time, ex)
{
	GATE (g, ex);

	NOT_WHERE(SINGLE, "there is no other worker");
	CHECK_ANSWER(1, ex, loses_patience, g.bytes);
}

static void count_call(crew_future *f, void *arg)
{
	(void)f;
	++*(int *)arg;
}
CREW_TASK(int, is_told, (int, n))
{
	crew_future *fs[20];
	int calls = 0;

	for (int i = 0; i < n; i++) {
		fs[i] = crew_submit(HERE, twice, i);
		crew_future_on_done(fs[i], count_call, &calls);
	}
	for (int i = 0; i < n; i++)
		crew_future_wait(fs[i], CREW_FOREVER);
	crew_wait(fs, (size_t)n, CREW_ALL_COMPLETED, CREW_FOREVER);
	return __atomic_load_n(&calls, __ATOMIC_ACQUIRE);
}
TEST_EACH(a_task_is_told_of_its_children, ex)
{
	NOT_WHERE(GROUPED, "the same as the executor below");
	if (kind->traits & (SEPARATE | IMMEDIATE)) { /* where callbacks run in the task's own thread they have run when the wait ends */
		CHECK_ANSWER(20, ex, is_told, 20);
	}
}

CREW_TASK(int, opens_a_scope, (crew_bytes, gate))
{
	crew_future *f = NULL, *g = NULL;
	int rc = 0;

	CREW_SCOPE (group, crew_group(HERE, .on_error = CREW_CANCEL_SIBLINGS, .max_running = 2)) {
		f = crew_future_ref(crew_submit(group, fails_with, 5));
		g = crew_future_ref(crew_submit(group, twice, 4));
		for (int i = 0; i < 10; i++)
			crew_submit(group, counted, gate, 0);
		rc = crew_executor_wait(group, CREW_FOREVER);
	}
	rc = rc == -5 && crew_future_error(f)->code == 5 && crew_future_done(g);
	crew_future_unref(f);
	crew_future_unref(g);
	return rc;
}
TEST_EACH(a_scope_in_a_task_ends_with_its_children, ex)
{
	GATE (g, ex);

	for (int i = 0; i < 10; i++)
		CHECK_ANSWER(1, ex, opens_a_scope, g.bytes);
}

CREW_TASK(long, sum_of, (size_t, begin), (size_t, end))
{
	long total = 0;

	for (size_t i = begin; i < end; i++)
		total += (long)i;
	return total;
}
static long add_long(long a, long b)
{
	return a + b;
}
CREW_TASK(int, maps_and_reduces, (int, n))
{
	int *in = malloc(sizeof(int) * (size_t)n), *out = malloc(sizeof(int) * (size_t)n), good = 0;
	long total = 0;

	for (int i = 0; i < n; i++)
		in[i] = i;
	if (crew_map(HERE, twice, in, out, (size_t)n) == 0)
		for (int i = 0; i < n; i++)
			good += out[i] == 2 * i;
	if (crew_reduce(HERE, (size_t)n, &total, add_long, sum_of) == 0)
		good += total == (long)n * (n - 1) / 2;
	free(in);
	free(out);
	return good;
}
TEST_EACH(a_task_may_map_and_reduce, ex)
{
	CHECK_ANSWER(20001, ex, maps_and_reduces, 20000);
}

/* ---- waits that cannot end ---- */

/* b was submitted by a, and gets at a's future through what its worker knows: each waits for the other. The last to wait is told. */
static crew_future *the_first;
CREW_TASK(int, waits_for_the_first, (crew_bytes, gate))
{
	int rc;

	gate_arrive(gate.data);
	rc = crew_future_wait(the_first, CREW_FOREVER);
	if (rc == -EDEADLK)
		gate_add(gate.data, 0);
	return rc;
}
CREW_TASK(int, waits_for_the_second, (crew_bytes, gate))
{
	crew_future *f = crew_submit(HERE, waits_for_the_first, gate);
	int y = 0;

	gate_arrive(gate.data);
	gate_await(gate.data, 2);
	if (crew_result(f, &y) == -EDEADLK)
		gate_add(gate.data, 0);
	return y;
}
/* An item of a map, or a range of a loop, that is run by another worker gets at the future of the task that maps, which cannot end before: it is told,
   and whoever maps never leaves while one of them runs. */
static crew_future *the_caller;
static crew_executor *the_pool, *the_group;
CREW_TASK(int, waits_for_the_caller, (crew_bytes, gate), (int, how))
{
	gate_arrive(gate.data);
	gate_await(gate.data, 2); /* there are two of them */
	if (crew_future_wait(the_caller, how ? 20000 : CREW_FOREVER) == -EDEADLK)
		gate_add(gate.data, 0);
	return how;
}
CREW_TASK(void, waits_in_a_range, (size_t, begin), (size_t, end), (crew_bytes, gate))
{
	gate_arrive(gate.data);
	gate_await(gate.data, 16 + 2);
	if (crew_executor_wait(the_group, CREW_FOREVER) == -EDEADLK)
		gate_add(gate.data, 1);
	gate_add(gate.data, begin < end ? 2 : 3);
}
CREW_TASK(int, maps_for_its_own, (crew_bytes, gate))
{
	crew_bytes gates[16];
	int how[16], out[16] = { 0 }, rc;

	for (int i = 0; i < 16; i++) {
		gates[i] = gate;
		how[i] = i % 2;
	}
	gate_wait(gate.data);
	rc = crew_map_with(the_pool, (.chunk = 1), waits_for_the_caller, gates, how, out, 16);
	for (int i = 0; i < 16 && rc == 0; i++)
		rc = out[i] == i % 2 ? 0 : -1;
	if (rc == 0)
		rc = crew_for(the_pool, 16, waits_in_a_range, gate);
	return rc;
}
TEST_KIND(what_is_done_for_a_task_cannot_wait_for_it)
{
	NOT_WHERE(SEPARATE, "pieces of a map are copies there, and nobody is waited for by them");
	NOT_WHERE(IMMEDIATE | SINGLE, "there is no other worker");
	NOT_WHERE(GROUPED, "the same as the executor below");
	CREW_SCOPE (ex, kind_open(.workers = 4)) {
		GATE (g, ex);
		int y = -1;

		the_pool = ex;
		CREW_SCOPE (group, crew_group(ex)) {
			the_group = group;
			the_caller = crew_submit(group, maps_for_its_own, g.bytes);
			gate_open(g.at);
			CHECK_EQ(crew_result_within(the_caller, &y, 20000), 0);
			CHECK_EQ(y, 0);
		}
		CHECK_EQ(gate_count(g.at, 0), 16u);
		CHECK_EQ(gate_count(g.at, 1), gate_count(g.at, 2));
	}
}

CREW_TASK(int, plants, (crew_bytes, gate))
{
	the_first = crew_future_ref(crew_submit(HERE, waits_for_the_second, gate));
	gate_await(gate.data, 1);
	return 1;
}
TEST_KIND(tasks_that_wait_for_each_other_are_told)
{
	NOT_WHERE(SINGLE, "there is no other worker");
	NOT_WHERE(GROUPED, "the same as the executor below");
	CREW_SCOPE (ex, kind_open(.workers = 2)) {
		GATE (g, ex);

		CHECK_ANSWER(1, ex, plants, g.bytes);
		CHECK_EQ(crew_executor_wait(ex, 20000), 0);
		CHECK(gate_count(g.at, 0) >= 1);
	}
}
