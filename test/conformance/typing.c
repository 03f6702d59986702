/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * typing.c: a result can only be read as what it is.
 */
#include <complex.h>
#include <errno.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

struct pair {
	long a, b;
};
struct triple {
	long a, b, c;
};

CREW_TASK(int, an_int)
{
	return 7;
}
CREW_TASK(long, a_long)
{
	return 8;
}
CREW_TASK(double, a_double)
{
	return 1.5;
}
CREW_TASK(double complex, a_complex)
{
	return 1;
}
CREW_TASK(const char *, a_string)
{
	return "text";
}
CREW_TASK(crew_bytes, some_bytes)
{
	return crew_result_copy("bytes", 5);
}
CREW_TASK(struct pair, a_pair)
{
	return (struct pair){ 1, 2 };
}
CREW_TASK(void, no_value)
{
}

/* The wrong type is CREW_ETYPE and leaves the caller's variable alone; the right one still reads. */
#define REFUSES(name_, task_, wrong_, right_)                                   \
	TEST_EACH(reading_##name_##_is_refused, ex)                             \
	{                                                                       \
		crew_future *f = crew_submit(ex, task_);                        \
		wrong_ y;                                                       \
		wrong_ before;                                                  \
		right_ z;                                                       \
                                                                                \
		memset(&y, 0x5a, sizeof y);                                     \
		memset(&before, 0x5a, sizeof before);                           \
		CHECK_EQ(crew_result(f, &y), CREW_ETYPE);                       \
		CHECK(memcmp(&y, &before, sizeof y) == 0);                      \
		CHECK_EQ(crew_result_within(f, &y, 0), CREW_ETYPE);             \
		CHECK_EQ(crew_result(f, &z), 0);                                \
	}
REFUSES(an_int_into_a_double, an_int, double, int)
REFUSES(an_int_into_a_long, an_int, long, int)
REFUSES(a_long_into_an_int, a_long, int, long)
REFUSES(a_long_into_a_double, a_long, double, long)
REFUSES(a_double_into_a_float, a_double, float, double)
REFUSES(a_double_into_a_long, a_double, long, double)
REFUSES(a_complex_into_a_pair, a_complex, struct pair, double complex)
REFUSES(a_string_into_bytes, a_string, crew_bytes, const char *)
REFUSES(a_string_into_a_char_pointer, a_string, char *, const char *)
REFUSES(bytes_into_a_string, some_bytes, const char *, crew_bytes)
REFUSES(bytes_into_a_pair, some_bytes, struct pair, crew_bytes)
REFUSES(a_pair_into_a_triple, a_pair, struct triple, struct pair)

/* There is nothing to read from a void task. */
TEST_EACH(reading_a_value_from_a_void_task_is_refused, ex)
{
	crew_future *f = crew_submit(ex, no_value);
	int y = 5;

	CHECK_EQ(crew_result(f, &y), CREW_ETYPE);
	CHECK_EQ(y, 5);
	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
}

/* Class and size count, not the name: int64_t reads long and long long, unsigned reads int, an enum too. */
TEST_EACH(types_of_one_class_and_size_are_one_type, ex)
{
	enum number { ONE, SEVEN = 7 } e = ONE;
	crew_future *f = crew_submit(ex, an_int), *g = crew_submit(ex, a_long);
	unsigned u = 0;
	int64_t i64 = 0;
	long long ll = 0;
	size_t z = 0;

	CHECK_EQ(crew_result(f, &u), 0);
	CHECK_EQ(crew_result(f, &e), 0);
	CHECK(u == 7 && e == SEVEN);
	CHECK_EQ(crew_result(g, &i64), 0);
	CHECK_EQ(crew_result(g, &ll), 0);
	CHECK_EQ(crew_result(g, &z), 0);
	CHECK(i64 == 8 && ll == 8 && z == 8);
}

/* Structs are compared by size. */
TEST_EACH(structs_are_compared_by_size, ex)
{
	struct other {
		double x, y;
	} y;

	CHECK_EQ(crew_result(crew_submit(ex, a_pair), &y), 0);
}

/* take and run check as result does; the future goes back all the same. */
TEST_EACH(take_and_run_check_types_too, ex)
{
	double y = 2.5;
	crew_bytes bytes = { NULL, 3 };

	CHECK_EQ(crew_take(crew_submit(ex, an_int), &y, NULL), CREW_ETYPE);
	CHECK_EQ(crew_run(ex, &y, an_int), CREW_ETYPE);
	CHECK_EQ(y, 2.5);
	CHECK_EQ(crew_take(crew_submit(ex, a_string), &bytes, NULL), CREW_ETYPE);
	CHECK_EQ(bytes.len, 3);
}

/* The type of a promise is checked on both sides. */
TEST(a_promise_checks_its_type_on_both_sides)
{
	crew_future *f = crew_future_new(CREW_TYPE_OF(double));
	int i = 3;
	double d = 2.5, y = 0;

	CHECK_EQ(crew_future_set_result(f, &i, CREW_TYPE_OF(int)), CREW_ETYPE);
	CHECK(!crew_future_done(f));
	CHECK_EQ(crew_future_set_result(f, &d, CREW_TYPE_OF(double)), 0);
	CHECK_EQ(crew_result(f, &i), CREW_ETYPE);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 2.5);
	crew_future_free(f);
}

/* The classes themselves. */
TEST(types_are_told_apart_by_class_and_size)
{
	typedef int array[3];

	CHECK_EQ(CREW_TYPE_CLASS(CREW_TYPE_OF(void)), CREW_VOID);
	CHECK_EQ(CREW_TYPE_SIZE(CREW_TYPE_OF(void)), 0);
	CHECK_EQ(CREW_TYPE_CLASS(CREW_TYPE_OF(bool)), CREW_INTEGER);
	CHECK_EQ(CREW_TYPE_CLASS(CREW_TYPE_OF(float)), CREW_REAL);
	CHECK_EQ(CREW_TYPE_CLASS(CREW_TYPE_OF(float complex)), CREW_COMPLEX);
	CHECK_EQ(CREW_TYPE_CLASS(CREW_TYPE_OF(const char *)), CREW_STRING);
	CHECK_EQ(CREW_TYPE_CLASS(CREW_TYPE_OF(char *)), CREW_POINTER);
	CHECK_EQ(CREW_TYPE_CLASS(CREW_TYPE_OF(void *)), CREW_POINTER);
	CHECK_EQ(CREW_TYPE_CLASS(CREW_TYPE_OF(crew_bytes)), CREW_BYTES);
	CHECK_EQ(CREW_TYPE_CLASS(CREW_TYPE_OF(struct pair)), CREW_STRUCT);
	CHECK_EQ(CREW_TYPE_CLASS(CREW_TYPE_OF(array)), CREW_STRUCT);
	CHECK_EQ(CREW_TYPE_SIZE(CREW_TYPE_OF(array)), sizeof(array));
}
