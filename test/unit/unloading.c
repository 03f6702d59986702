/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * unloading.c: a module whose tasks ran in this process, on threads, inline, in a group, is unloaded when they are over.
 *
 * What is promised: it must stay loaded while its tasks are under way; when their futures are done and given back, or were awaited by their executor,
 * nothing of the library's refers to it any more, neither to its code nor to a name in it. So it goes at once, while the workers that ran it go on, and another module
 * may take its place: the two here differ in one constant, and land at the same address as a rule. Stale code would multiply by the wrong factor, or crash.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

#include <crew/crew.h>

#include "../runner.h"

enum { ITEMS = 8, ROUNDS = 200 };

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

static const char *const modules[] = { LATE_2, LATE_3 };

/* Two tasks of a module: one multiplies, one fails with what it is given. */
struct late {
	void *module;
	const crew_task *multiply, *fail;
	long factor;
};

static const crew_task *task_of(void *module, const char *symbol)
{
	const crew_task *const *task = dlsym(module, symbol);

	CHECK(task != NULL);
	return *task;
}

static struct late load(size_t i)
{
	struct late late = { .module = dlopen(modules[i % 2], RTLD_NOW), .factor = 2 + (long)(i % 2) };

	CHECK(late.module != NULL);
	late.multiply = task_of(late.module, "late_task");
	late.fail = task_of(late.module, "late_failure");
	return late;
}

static void unload(const struct late *late, size_t i)
{
	CHECK_EQ(dlclose(late->module), 0);
	CHECK(dlopen(modules[i % 2], RTLD_NOW | RTLD_NOLOAD) == NULL);
}

static crew_future *submit(crew_executor *ex, const crew_task *task, long x)
{
	return crew_executor_submit(ex, task, &x, NULL, 0);
}

/* ---- what a module's tasks may do ---- */

static void give_results(crew_executor *ex, const struct late *late)
{
	crew_future *fs[ITEMS];
	long y;

	for (long i = 0; i < ITEMS; i++)
		fs[i] = submit(ex, late->multiply, i);
	for (long i = 0; i < ITEMS; i++) {
		CHECK_EQ(crew_take(fs[i], &y, NULL), 0);
		CHECK_EQ(y, late->factor * i);
	}
}

static void fail(crew_executor *ex, const struct late *late, crew_error *ret)
{
	long y;

	CHECK_EQ(crew_take(submit(ex, late->fail, 7), &y, ret), CREW_ERAISED);
}

/* Cancelled before they began, if they have not: their records wait in a queue for some worker to find them stale. */
static void be_cancelled(crew_executor *ex, const struct late *late)
{
	crew_future *fs[ITEMS];

	for (long i = 0; i < ITEMS; i++)
		fs[i] = submit(ex, late->multiply, i);
	for (long i = 0; i < ITEMS; i++)
		crew_future_cancel(fs[ITEMS - 1 - i], "not wanted");
	for (long i = 0; i < ITEMS; i++) {
		CHECK_EQ(crew_future_wait(fs[i], CREW_FOREVER) == -ETIMEDOUT, false);
		crew_future_free(fs[i]);
	}
}

static void be_mapped(crew_executor *ex, const struct late *late)
{
	long in[ITEMS], out[ITEMS];
	const void *columns[] = { in };

	for (long i = 0; i < ITEMS; i++)
		in[i] = i;
	CHECK_EQ(crew_executor_map(ex, late->multiply, columns, out, ITEMS, NULL, 0), 0);
	for (long i = 0; i < ITEMS; i++)
		CHECK_EQ(out[i], late->factor * i);
}

static void be_posted(crew_executor *ex, const struct late *late)
{
	for (long i = 0; i < ITEMS; i++)
		crew_future_free(submit(ex, late->multiply, i));
	CHECK_NE(crew_executor_wait(ex, CREW_FOREVER), -ETIMEDOUT); /* it may tell of what failed before */
}

/* ---- without it ---- */

/* The executor goes on, and what it says of the past is its own. */
static void check_alone(crew_executor *ex, const crew_error *error)
{
	struct crew_stats stats;
	struct crew_unfinished unfinished[4];
	long y;

	CHECK_EQ(error->code, 7);
	CHECK_STR(error->task, "give_up");
	CHECK_STR(error->message, "no use");
	CHECK_EQ(crew_executor_stats(ex, &stats, sizeof stats), 0);
	CHECK_EQ(crew_executor_unfinished(ex, unfinished, 4), 0);
	CHECK_EQ(crew_run(ex, &y, square, 5L), 0);
	CHECK_EQ(y, 25);
}

static void come_and_go(crew_executor *ex, size_t rounds)
{
	for (size_t i = 0; i < rounds; i++) {
		struct late late = load(i);
		crew_error error;

		give_results(ex, &late);
		fail(ex, &late, &error);
		be_mapped(ex, &late);
		be_posted(ex, &late);
		be_cancelled(ex, &late);
		unload(&late, i);
		check_alone(ex, &error);
	}
}

TEST_WITHIN(a_module_may_go_when_its_tasks_on_threads_are_over, 60)
{
	CREW_SCOPE (ex, crew_threads(3))
		come_and_go(ex, test_scaled(ROUNDS));
}

TEST_WITHIN(a_module_may_go_when_its_inline_tasks_are_over, 60)
{
	CREW_SCOPE (ex, crew_inline())
		come_and_go(ex, test_scaled(ROUNDS));
}

/* A group that never fails, as one that has failed starts nothing any more; a new one each time, so that each is closed without the module. */
TEST_WITHIN(a_module_may_go_when_its_tasks_in_a_group_are_over, 60)
{
	size_t rounds = test_scaled(ROUNDS);

	CREW_SCOPE (base, crew_threads(3))
		for (size_t i = 0; i < rounds; i++)
			CREW_SCOPE (ex, crew_group(base)) {
				struct late late = load(i);

				give_results(ex, &late);
				be_mapped(ex, &late);
				be_posted(ex, &late);
				unload(&late, i);
			}
}

/* The executor is closed, and opened again, when the module has gone. */
TEST_WITHIN(an_executor_is_closed_without_the_modules_it_ran, 60)
{
	size_t rounds = test_scaled(ROUNDS);

	for (size_t i = 0; i < rounds; i++)
		CREW_SCOPE (ex, crew_threads(2)) {
			struct late late = load(i);
			crew_error error;

			give_results(ex, &late);
			fail(ex, &late, &error);
			be_cancelled(ex, &late);
			unload(&late, i);
		}
}
