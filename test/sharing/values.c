/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * values.c: values and arrays.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "sharers.h"
#include "ipc/family.h"

struct point {
	double x, y;
	char name[40];
};

TEST(a_value_has_its_type_and_what_it_began_with)
{
	crew_value i = crew_value_make(int, -7), d = crew_value_make(double, 1.5), p = crew_value_make(struct point, { 1, 2, "here" });
	crew_error error;

	CHECK_EQ(crew_value_as(int, i), -7);
	CHECK(crew_value_as(double, d) > 1.4);
	CHECK_STR(crew_value_as(struct point, p).name, "here");
	crew_value_as(struct point, p).y = 9;
	CHECK(((struct point *)crew_value_at(p))->y > 8);
	CHECK(!crew_caught(&error));
	CHECK_EQ((int)crew_value_as(long, i), 0);
	CHECK(crew_caught(&error) && error.code == CREW_ETYPE);
	crew_value_as(double, i) = 4; /* nobody's */
	CHECK(crew_caught(&error) && error.code == CREW_ETYPE);
	CHECK_HAS(error.where, "values.c");
	CHECK_EQ(crew_value_as(int, i), -7);
	CHECK_EQ(crew_drop(i), 0);
	CHECK_EQ(crew_value_as(int, i), 0);
	CHECK(crew_caught(&error) && error.code == CREW_EHANDLE);
	CHECK(crew_value_at(i) == NULL);
	CHECK_EQ(crew_drop(i), CREW_EHANDLE);
	CHECK_EQ(crew_drop(d), 0);
	CHECK_EQ(crew_drop(p), 0);
}

struct counts {
	crew_value of8, of16, of32, of64;
	crew_value plain;
	size_t times;
};
static void count(int i, void *arg)
{
	struct counts *c = arg;

	(void)i;
	for (size_t k = 0; k < c->times; k++) {
		crew_value_add(c->of8, 1);
		crew_value_add(c->of16, -1);
		crew_value_add(c->of32, 3);
		for (int64_t was = crew_value_load(c->of64); !crew_value_cas(c->of64, was, was + 2); was = crew_value_load(c->of64))
			;
		CREW_WITH (c->plain)
			crew_value_as(long, c->plain) += 1;
	}
}
TEST_CARRIED(no_atomic_count_is_lost)
{
	struct counts c = { crew_value_make(char, 0), crew_value_make(short, 0), crew_value_make(unsigned, 0), crew_value_make(long, 0),
			    crew_value_make(long, 0), test_scaled(10000) };
	int64_t n = 4 * (int64_t)c.times;

	crowd_start(4, count, &c);
	crowd_join();
	CHECK_EQ(crew_value_load(c.of8), (int8_t)n);
	CHECK_EQ(crew_value_load(c.of16), (int16_t)-n);
	CHECK_EQ(crew_value_load(c.of32), 3 * n);
	CHECK_EQ(crew_value_load(c.of64), 2 * n);
	CHECK_EQ(crew_value_as(long, c.plain), n);
	CHECK_EQ(crew_value_exchange(c.of64, INT64_MIN), 2 * n);
	crew_value_store(c.of32, -1);
	CHECK_EQ(crew_value_load(c.of32), -1);
	CHECK_EQ(crew_value_as(unsigned, c.of32), 0xffffffffu);
	CHECK_EQ(crew_value_add(c.of64, -1), INT64_MIN);
	CHECK_EQ(crew_value_load(c.of64), INT64_MAX);
}

/* Atomics are for integers. */
TEST(atomics_on_something_else_raise)
{
	crew_value d = crew_value_make(double, 1), none = { { 0, 0 } };
	crew_error error;

	CHECK_EQ(crew_value_add(d, 1), 0);
	CHECK(crew_caught(&error) && error.code == CREW_ETYPE);
	CHECK_EQ(crew_value_load(none), 0);
	CHECK(crew_caught(&error) && error.code == CREW_EHANDLE);
	CHECK_EQ(crew_drop(d), 0);
}

/* Arrays are zeroes, also where others have been, and have their length. */
TEST(arrays_are_zero_filled_also_on_reuse)
{
	static const size_t sizes[] = { 0, 1, 10, 1000, 1 << 20 };
	size_t n = 99;

	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 5; i++) {
			crew_array a = crew_array_make(int, sizes[i]);
			int *at = crew_array_as(int, a);

			CHECK_EQ(crew_handle_error(a), 0);
			CHECK(at != NULL && crew_array_at(a, &n) == at);
			CHECK_EQ(n, sizes[i]);
			for (size_t k = 0; k < n; k++) {
				CHECK_EQ(at[k], 0);
				at[k] = -1;
			}
			CHECK_EQ(crew_drop(a), 0);
		}
	CHECK_EQ(crew__family_used(), 0u);
}

TEST(arrays_can_begin_as_copies_and_are_checked)
{
	const double from[] = { 1, 2, 3 };
	crew_array a = crew_array_of(double, 3, from);
	crew_error error;

	CHECK(crew_array_as(double, a)[2] > 2.9);
	CHECK(crew_array_as(float, a) == NULL);
	CHECK(crew_caught(&error) && error.code == CREW_ETYPE);
	CHECK_EQ(crew_drop(a), 0);
	CHECK(crew_array_as(double, a) == NULL);
	CHECK(crew_caught(&error) && error.code == CREW_EHANDLE);
	CHECK(crew_array_at(a, NULL) == NULL);
	CHECK_EQ(crew_handle_error(crew_array_make(double, SIZE_MAX)), -E2BIG);
	CHECK_EQ(crew_handle_error(crew_array_make(char, (size_t)1 << 40)), -ENOMEM);
	CHECK_EQ(crew_acquire(crew_array_make(char, (size_t)1 << 40)), -ENOMEM);
}

CREW_TASK(double, sum_of, (crew_array, a), (crew_value, done))
{
	size_t n;
	const double *p = crew_array_at(a, &n);
	double sum = 0;

	CREW_WITH (a)
		for (size_t i = 0; i < n; i++)
			sum += p[i];
	crew_value_add(done, 1);
	return sum;
}
CREW_TASK(int, asks_wrongly, (crew_value, v))
{
	return (int)crew_value_as(double, v);
}
static void sums_through(crew_executor *ex)
{
	crew_array a = crew_array_make(double, 5000);
	crew_value done = crew_value_make(int, 0);
	crew_future *wrong;
	double sum = 0;

	for (int i = 0; i < 5000; i++)
		crew_array_as(double, a)[i] = i;
	for (int i = 0; i < 10; i++) {
		CHECK_EQ(crew_run(ex, &sum, sum_of, a, done), 0);
		CHECK_EQ((long)sum, 4999L * 5000 / 2);
	}
	CHECK_EQ(crew_value_load(done), 10);
	wrong = crew_submit(ex, asks_wrongly, done);
	CHECK_EQ(crew_future_wait(wrong, CREW_FOREVER), CREW_ERAISED);
	CHECK_EQ(crew_future_error(wrong)->code, CREW_ETYPE);
	CHECK_EQ(crew_drop(a), 0);
	CHECK_EQ(crew_drop(done), 0);
}
/* As arguments of tasks; a task that asks for the wrong type fails. */
TEST(values_and_arrays_pass_as_arguments_on_every_executor)
{
	CREW_SCOPE (ex, crew_threads(3))
		sums_through(ex);
	CREW_SCOPE (ex, crew_processes(3))
		sums_through(ex);
	CREW_SCOPE (ex, crew_inline())
		sums_through(ex);
}

/* An array's lock is robust, as any. */
struct held_array {
	crew_array array;
	crew_event taken;
};
static void take_array_and_stay(void *arg)
{
	struct held_array *h = arg;

	CHECK_EQ(crew_acquire(h->array), 0);
	crew_event_set(h->taken);
	pause();
}
TEST(a_dead_owners_array_can_be_repaired)
{
	struct held_array h = { crew_array_make(int, 4), crew_event_make() };
	pid_t pid = child_start(take_array_and_stay, &h);

	CHECK_EQ(crew_event_wait(h.taken, CREW_FOREVER), 0);
	CHECK_EQ(crew_try_acquire(h.array), -EBUSY);
	child_kill(pid);
	CHECK_EQ(crew_acquire(h.array), -EOWNERDEAD);
	CHECK_EQ(crew_handle_recover(h.array), 0);
	CHECK_EQ(crew_release(h.array), 0);
	CHECK_EQ(crew_acquire(h.array), 0);
	CHECK_EQ(crew_release(h.array), 0);
	CHECK_EQ(crew_drop(h.array), 0);
	CHECK_EQ(crew_drop(h.taken), 0);
}

/* A thing of no size is none; an array may have no things. */
TEST(things_of_no_size_are_refused)
{
	const int from[] = { 1 };
	crew_array empty = crew_array_of(int, 0, from);
	size_t n = 9;

	CHECK_EQ(crew_handle_error(empty), 0);
	CHECK(crew_array_at(empty, &n) != NULL && n == 0);
	CHECK_EQ(crew_drop(empty), 0);
	CHECK_EQ(crew_handle_error(crew_array_new(NULL, 3, 0, CREW_TYPE_OF(int))), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_value_new(from, 0, CREW_TYPE_OF(int))), -EINVAL);
}

/* Nor is one larger than a value may be, and to look for such a one harms nobody. */
TEST(values_have_a_greatest_size)
{
	crew_value none = crew_value_new(NULL, 70000, CREW_TYPE(CREW_STRUCT, 70000));
	crew_error error;

	CHECK_EQ(crew_handle_error(none), -E2BIG);
	CHECK(crew_value_cast(none, CREW_TYPE(CREW_STRUCT, 70000), __FILE__, __LINE__) != NULL);
	CHECK(crew_caught(&error) && error.code == -E2BIG);
}
