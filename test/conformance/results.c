/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * results.c: a result of every class comes back as it was returned.
 */
#include <complex.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "gate.h"
#include "kinds.h"
#include "tasks.h"

struct small {
	char c;
	int i;
};
struct exact {
	long a, b;
};
struct odd {
	char text[17];
};
struct large {
	long first;
	char text[5000];
	long last;
};
union either {
	int i;
	double d;
};
enum colour { RED, GREEN, BLUE = 1000 };

/* A task that returns its argument, and the sentence that it does. */
#define ECHO(name_, type_, ...)                                                       \
	CREW_TASK(type_, echo_##name_, (type_, v))                                    \
	{                                                                             \
		return v;                                                             \
	}                                                                             \
	TEST_EACH(a_result_of_type_##name_##_comes_back, ex)                          \
	{                                                                             \
		static const type_ values[] = { __VA_ARGS__ };                        \
		type_ y;                                                              \
                                                                                      \
		for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {       \
			memset(&y, 0xa5, sizeof y);                                   \
			CHECK_EQ(crew_result(crew_submit(ex, echo_##name_, values[i]), &y), 0); \
			CHECK(same_##name_(y, values[i]));                            \
		}                                                                     \
	}
#define SAME_VALUE(name_, type_)                                                      \
	static bool same_##name_(type_ a, type_ b)                                    \
	{                                                                             \
		return a == b;                                                        \
	}
#define SAME_BYTES(name_, type_)                                                      \
	static bool same_##name_(type_ a, type_ b)                                    \
	{                                                                             \
		return memcmp(&a, &b, sizeof a) == 0;                                 \
	}
#define NUMBER(name_, type_, ...)                                                     \
	SAME_VALUE(name_, type_)                                                      \
	ECHO(name_, type_, __VA_ARGS__)

NUMBER(bool, bool, false, true)
NUMBER(char, char, 0, 'a', 127)
NUMBER(signed_char, signed char, 0, -128, 127)
NUMBER(unsigned_char, unsigned char, 0, 255)
NUMBER(short, short, 0, -32768, 32767)
NUMBER(unsigned_short, unsigned short, 0, 65535)
NUMBER(int, int, 0, INT32_MIN, INT32_MAX)
NUMBER(unsigned, unsigned, 0, UINT32_MAX)
NUMBER(long, long, 0, INT64_MIN, INT64_MAX)
NUMBER(unsigned_long, unsigned long, 0, UINT64_MAX)
NUMBER(long_long, long long, 0, INT64_MIN, INT64_MAX)
NUMBER(size_t, size_t, 0, SIZE_MAX)
NUMBER(enum, enum colour, RED, GREEN, BLUE)
NUMBER(float, float, 0, -1.5f, 3.4e38f, INFINITY)
NUMBER(double, double, 0, -1.5, 1.7e308, -INFINITY)
NUMBER(long_double, long double, 0, -1.5L, 1.1e4900L)
NUMBER(float_complex, float complex, 0, 1.5f - 2.5f * I)
NUMBER(double_complex, double complex, 0, 1.5 - 2.5 * I)
NUMBER(long_double_complex, long double complex, 0, 1.5L - 2.5L * I)
SAME_BYTES(small_struct, struct small)
ECHO(small_struct, struct small, { 'a', 7 })
SAME_BYTES(struct_of_16, struct exact)
ECHO(struct_of_16, struct exact, { 1, -1 })
SAME_BYTES(struct_of_17, struct odd)
ECHO(struct_of_17, struct odd, { "sixteen chars..." })
SAME_BYTES(large_struct, struct large)
ECHO(large_struct, struct large, { 1, "text", 2 }, { -1, "", -2 })
SAME_BYTES(union, union either)
ECHO(union, union either, { .d = 2.5 })

CREW_TASK(double, not_a_number)
{
	return NAN;
}
CREW_TASK(void, nothing, (crew_bytes, gate))
{
	gate_add(gate.data, 0);
}
CREW_TASK(void, nothing_at_all)
{
}
CREW_TASK(const char *, echo_text, (const char *, text))
{
	return text;
}
CREW_TASK(const char *, greeting)
{
	return "hello";
}
CREW_TASK(const char *, made_text, (int, n))
{
	return crew_result_printf("%0*d", n, 1).data;
}
CREW_TASK(crew_bytes, ramp, (size_t, n))
{
	crew_bytes out = crew_result_alloc(n);

	for (size_t i = 0; i < out.len; i++)
		((unsigned char *)out.data)[i] = (unsigned char)(i * 7 + (i >> 8));
	return out;
}
CREW_TASK(crew_bytes, same_bytes, (crew_bytes, in))
{
	return in;
}
CREW_TASK(crew_bytes, tail, (crew_bytes, in))
{
	return crew_bytes_make((char *)in.data + in.len / 2, in.len - in.len / 2);
}
CREW_TASK(crew_bytes, constant)
{
	static const char text[] = "constant";

	return crew_bytes_make(text, 8);
}
CREW_TASK(crew_bytes, copied)
{
	char text[] = "from the stack";

	return crew_result_copy(text, strlen(text));
}
CREW_TASK(crew_bytes, printed, (int, n))
{
	return crew_result_printf("%d little piggies", n);
}
CREW_TASK(crew_bytes, resized, (size_t, n))
{
	crew_bytes out = crew_result_alloc(3);

	memcpy(out.data, "abc", 3);
	out = crew_result_resize(out, n);
	if (n > 3)
		memset((char *)out.data + 3, 'z', n - 3);
	return out;
}
CREW_TASK(int, wasteful)
{
	int ok = 0;

	for (size_t i = 0; i < 100; i++)
		ok += crew_result_alloc(i * 100).len == i * 100;
	return ok;
}
CREW_TASK(crew_bytes, second_of_two)
{
	crew_result_copy("first", 5);
	return crew_result_copy("second", 6);
}
CREW_TASK(crew_bytes, monstrous)
{
	return crew_result_alloc(SIZE_MAX / 2);
}
CREW_TASK(crew_bytes, too_large)
{
	return crew_result_alloc((size_t)1 << 50);
}

static bool is_ramp(crew_bytes y, size_t n)
{
	for (size_t i = 0; i < y.len; i++)
		if (((unsigned char *)y.data)[i] != (unsigned char)(i * 7 + (i >> 8)))
			return false;
	return y.len == n;
}

TEST_EACH(a_nan_comes_back, ex)
{
	double y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, not_a_number), &y), 0);
	CHECK(isnan(y));
}

/* A task may return nothing: crew_future_wait() says how it went. */
TEST_EACH(a_task_may_return_void, ex)
{
	GATE (g, ex);

	CHECK_EQ(crew_future_wait(crew_submit(ex, nothing, g.bytes), CREW_FOREVER), 0);
	CHECK_EQ(crew_future_wait(crew_submit(ex, nothing_at_all), CREW_FOREVER), 0);
	CHECK_EQ(gate_count(g.at, 0), 1u);
}

/* A string result is copied: text, empty, large, static, NULL. */
TEST_EACH(a_string_comes_back, ex)
{
	static char large[100001];
	const char *y = NULL;

	memset(large, 'x', sizeof large - 1);
	CHECK_EQ(crew_result(crew_submit(ex, echo_text, "some text"), &y), 0);
	CHECK_STR(y, "some text");
	CHECK_EQ(crew_result(crew_submit(ex, echo_text, ""), &y), 0);
	CHECK_STR(y, "");
	CHECK_EQ(crew_result(crew_submit(ex, echo_text, large), &y), 0);
	CHECK_EQ(strlen(y), 100000);
	CHECK_EQ(crew_result(crew_submit(ex, greeting), &y), 0);
	CHECK_STR(y, "hello");
	CHECK_EQ(crew_result(crew_submit(ex, echo_text, NULL), &y), 0);
	CHECK(y == NULL);
}

/* A string may be made in memory for results. */
TEST_EACH(a_string_made_by_result_printf_comes_back, ex)
{
	const char *y = NULL;

	CHECK_EQ(crew_result(crew_submit(ex, made_text, 5), &y), 0);
	CHECK_STR(y, "00001");
	CHECK_EQ(crew_result(crew_submit(ex, made_text, 5000), &y), 0);
	CHECK_EQ(strlen(y), 5000);
}

/* Bytes of every size come back whole, from 0 to 4 MiB. */
TEST_EACH(bytes_of_any_size_come_back, ex)
{
	static const size_t sizes[] = { 0, 1, 7, 8, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097, 65536, 1 << 20, 4 << 20 };
	crew_bytes y;

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		CHECK_EQ(crew_result(crew_submit(ex, ramp, sizes[i]), &y), 0);
		CHECK(is_ramp(y, sizes[i]));
	}
}

/* A bytes result may lie in the task's arguments, whole or in part, in static storage, or be nothing. */
TEST_EACH(bytes_come_back_from_wherever_they_may_lie, ex)
{
	crew_bytes y;

	CHECK_EQ(crew_result(crew_submit(ex, same_bytes, crew_bytes_str("input")), &y), 0);
	CHECK(y.len == 5 && memcmp(y.data, "input", 5) == 0);
	CHECK_EQ(crew_result(crew_submit(ex, tail, crew_bytes_str("abcdefgh")), &y), 0);
	CHECK(y.len == 4 && memcmp(y.data, "efgh", 4) == 0);
	CHECK_EQ(crew_result(crew_submit(ex, constant), &y), 0);
	CHECK(y.len == 8 && memcmp(y.data, "constant", 8) == 0);
	CHECK_EQ(crew_result(crew_submit(ex, copied), &y), 0);
	CHECK(y.len == 14 && memcmp(y.data, "from the stack", 14) == 0);
	CHECK_EQ(crew_result(crew_submit(ex, printed, 3), &y), 0);
	CHECK(y.len == 16 && memcmp(y.data, "3 little piggies", 16) == 0);
	CHECK_EQ(crew_result(crew_submit(ex, no_bytes), &y), 0);
	CHECK_EQ(y.len, 0);
}

/* resize keeps the content, growing and shrinking. */
TEST_EACH(resized_bytes_keep_their_content, ex)
{
	crew_bytes y;

	CHECK_EQ(crew_result(crew_submit(ex, resized, (size_t)2), &y), 0);
	CHECK(y.len == 2 && memcmp(y.data, "ab", 2) == 0);
	CHECK_EQ(crew_result(crew_submit(ex, resized, (size_t)100000), &y), 0);
	CHECK(y.len == 100000 && memcmp(y.data, "abczz", 5) == 0 && ((char *)y.data)[99999] == 'z');
}

/* What a task allocates and does not return is freed (LeakSanitizer watches). */
TEST_EACH(result_memory_that_is_not_returned_is_freed, ex)
{
	crew_bytes y;
	int ok = 0;

	CHECK_EQ(crew_result(crew_submit(ex, wasteful), &ok), 0);
	CHECK_EQ(ok, 100);
	CHECK_EQ(crew_result(crew_submit(ex, second_of_two), &y), 0);
	CHECK(y.len == 6 && memcmp(y.data, "second", 6) == 0);
}

/* A result that does not fit into memory fails its task with -ENOMEM; the pool goes on. */
TEST_EACH(a_result_larger_than_memory_fails_its_task_only, ex)
{
	crew_future *f = crew_submit(ex, monstrous), *g = crew_submit(ex, too_large);
	double y = 0;

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, -ENOMEM);
	CHECK_EQ(crew_future_wait(g, CREW_FOREVER), CREW_ERAISED);
	CHECK_EQ(crew_future_error(g)->code, -ENOMEM);
	CHECK_EQ(crew_result(crew_submit(ex, echo_double, 2.0), &y), 0);
	CHECK_EQ(y, 2.0);
}

/* A result may be read as often as one likes, also by value. */
TEST_EACH(a_result_can_be_read_again, ex)
{
	crew_future *f = crew_submit(ex, echo_large_struct, (struct large){ 1, "text", 2 });
	struct large y;

	for (int i = 0; i < 3; i++) {
		memset(&y, 0, sizeof y);
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y.last, 2);
	}
}

/* A bytes result is borrowed: it points into the future and stays there. */
TEST_EACH(borrowed_bytes_stay_in_the_future, ex)
{
	crew_future *f = crew_submit(ex, ramp, (size_t)5000);
	crew_bytes a, b;

	CHECK_EQ(crew_result(f, &a), 0);
	CHECK_EQ(crew_result(f, &b), 0);
	CHECK_EQ(a.data, b.data);
	CHECK(is_ramp(a, 5000));
}

/* crew_take: bytes and strings become the caller's, whatever their size. */
TEST_EACH(taken_bytes_and_strings_are_ours, ex)
{
	static const size_t sizes[] = { 0, 5, 16, 100, 100000, 3 << 20 };
	crew_bytes y;
	const char *text;

	for (int i = 0; i < 6; i++) {
		CHECK_EQ(crew_take(crew_submit(ex, ramp, sizes[i]), &y, NULL), 0);
		CHECK(is_ramp(y, sizes[i]));
		memset(y.data, 1, y.len ? 1 : 0);
		crew_bytes_free(y);
	}
	CHECK_EQ(crew_take(crew_submit(ex, greeting), &text, NULL), 0);
	CHECK_STR(text, "hello");
	free((void *)text);
}

/* They outlive the executor. */
TEST_KIND(taken_bytes_outlive_the_executor)
{
	crew_bytes y = { NULL, 0 }, input = { NULL, 0 }, fixed = { NULL, 0 };

	CREW_SCOPE (ex, kind_open()) {
		CHECK_EQ(crew_take(crew_submit(ex, ramp, (size_t)100000), &y, NULL), 0);
		CHECK_EQ(crew_take(crew_submit(ex, same_bytes, crew_bytes_str("in")), &input, NULL), 0);
		CHECK_EQ(crew_run(ex, &fixed, constant), 0);
	}
	CHECK(is_ramp(y, 100000));
	CHECK(input.len == 2 && memcmp(input.data, "in", 2) == 0);
	CHECK(fixed.len == 8 && memcmp(fixed.data, "constant", 8) == 0);
	crew_bytes_free(y);
	crew_bytes_free(input);
	crew_bytes_free(fixed);
}

/* Outside any executor, bytes of a task called directly belong to the caller. */
TEST(bytes_of_a_direct_call_are_the_callers)
{
	crew_bytes y = ramp(1000), z = resized(100), none = crew_bytes_make(NULL, 0);

	CHECK(is_ramp(y, 1000));
	CHECK_EQ(z.len, 100);
	crew_bytes_free(y);
	crew_bytes_free(z);
	crew_bytes_free(none);
}

/* result_within gives up, the task does not. */
TEST_EACH(result_within_gives_up_and_the_task_goes_on, ex)
{
	GATE (g, ex);
	crew_future *f;
	int64_t start = test_now_ms();
	int y = -1;

	NOT_WHERE(IMMEDIATE, "a future is never seen unfinished");
	f = crew_submit(ex, held, g.bytes, 5);
	CHECK_EQ(crew_result_within(f, &y, 0), -ETIMEDOUT);
	CHECK_EQ(crew_result_within(f, &y, 50), -ETIMEDOUT);
	CHECK_GE(test_now_ms() - start, 50);
	CHECK_EQ(y, -1);
	CHECK(!crew_future_done(f));
	gate_open(g.at);
	CHECK_EQ(crew_result_within(f, &y, 60000), 0);
	CHECK_EQ(y, 5);
}

/* Time 0 polls: what is done is delivered. */
TEST_EACH(result_within_0_delivers_what_is_done, ex)
{
	crew_future *f = crew_submit(ex, echo_int, 3);
	int y = 0;

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
	CHECK_EQ(crew_result_within(f, &y, 0), 0);
	CHECK_EQ(y, 3);
}

/* Several threads may wait for one future. */
struct reader {
	crew_future *f;
	int y, code;
};
static void *read_result(void *argument)
{
	struct reader *r = argument;

	r->code = crew_result(r->f, &r->y);
	return NULL;
}
TEST_EACH(several_threads_wait_for_one_future, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held, g.bytes, 11);
	struct reader readers[4];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++) {
		readers[i] = (struct reader){ f, 0, -1 };
		CHECK_EQ(pthread_create(&threads[i], NULL, read_result, &readers[i]), 0);
	}
	gate_open(g.at);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		CHECK_EQ(readers[i].code, 0);
		CHECK_EQ(readers[i].y, 11);
	}
}

/* A string, or bytes, that are none are taken as none. */
TEST_EACH(what_is_none_is_taken_as_none, ex)
{
	crew_bytes bytes = crew_bytes_make("x", 1);
	const char *text = "x";

	CHECK_EQ(crew_run(ex, &text, no_text), 0);
	CHECK_EQ(text, NULL);
	CHECK_EQ(crew_run(ex, &bytes, no_bytes), 0);
	CHECK(bytes.data == NULL && bytes.len == 0);
	CHECK_EQ(crew_bytes_str(NULL).len, 0u);
}

/* A place that is too small for what is taken there. */
TEST_EACH(a_take_into_too_little_is_etype, ex)
{
	crew_future *f = crew_submit(ex, echo_double, 2.0);
	double y = 7;

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
	CHECK_EQ(crew_future_take(f, &y, 2, CREW_TYPE_OF(double), NULL), CREW_ETYPE);
	CHECK_EQ(y, 7.0);
}

/* In a task and outside: what is resized may be memory that is not the task's to move, and may not become larger than memory. */
CREW_TASK(int, resizes, (crew_bytes, in))
{
	crew_bytes copy = crew_result_resize(in, in.len + 100), more;
	bool same = copy.data != in.data && copy.len == in.len + 100 && memcmp(copy.data, in.data, in.len) == 0;

	more = crew_result_resize(in, SIZE_MAX);
	return same && more.data == NULL && crew_caught(NULL);
}
TEST_EACH(a_resize_moves_what_is_not_its_own, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, resizes, crew_bytes_str("some text")), &y), 0);
	CHECK_EQ(y, 1);
}
TEST(a_resize_beyond_memory_leaves_what_there_was)
{
	crew_bytes bytes = crew_result_copy("text", 5);
	crew_error e;

	CHECK_STR(bytes.data, "text");
	CHECK_EQ(crew_result_resize(bytes, SIZE_MAX).data, NULL);
	CHECK(crew_caught(&e) && e.code == -ENOMEM);
	CHECK_STR(bytes.data, "text");
	crew_bytes_free(bytes);
}

/* What cannot be printed says so: a character that is none. */
TEST(what_cannot_be_printed_raises)
{
	crew_error e;

	CHECK_EQ(crew_result_printf("%lc", (wint_t)0xd800).data, NULL);
	CHECK(crew_caught(&e) && e.code == -EILSEQ);
}

/* A raw task that gives back more than there is memory for fails; so does one that raises, with any code. */
static int gives_too_much(crew_call *call)
{
	return crew_call_return(call, "", SIZE_MAX);
}
CREW_RAW_TASK(too_much, gives_too_much);
static int raises_of_any_sign(crew_call *call)
{
	return crew_call_raise(call, *(int *)crew_call_args(call).data, "raw");
}
CREW_RAW_TASK(of_any_sign, raises_of_any_sign);
TEST_EACH(a_raw_task_fails_with_the_code_that_it_gives, ex)
{
	static int codes[] = { EDOM, -EDOM };

	CHECK_EQ(crew_future_error(crew_submit(ex, too_much, crew_bytes_make(NULL, 0)))->code, -ENOMEM);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(crew_future_error(crew_submit(ex, of_any_sign, crew_bytes_make(&codes[i], sizeof codes[i])))->code, codes[i]);
}

/* Nothing is a result, too, and is taken as one. */
CREW_TASK(void, gives_nothing)
{
}
TEST_EACH(nothing_is_taken_as_such, ex)
{
	crew_future *f = crew_submit(ex, gives_nothing);
	char y = 'y';

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
	CHECK_EQ(crew_future_take(f, &y, 0, CREW_TYPE_OF(void), NULL), 0);
	CHECK_EQ(y, 'y');
}
