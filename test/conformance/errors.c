/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * errors.c: how a task fails, and what its future says about it.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate.h"
#include "kinds.h"

struct wide {
	long v[10];
};

CREW_TASK(double, root, (double, x))
{
	return x < 0 ? crew_raise(EDOM, "no real root of %g", x) : sqrt(x);
}
CREW_TASK(int, raise_line)
{
	return crew_raise(EINVAL, "x") + __LINE__;
}
CREW_TASK(int, raise_int, (int, code))
{
	return crew_raise(code, "code %d", code);
}
CREW_TASK(unsigned char, raise_char)
{
	return (unsigned char)crew_raise(1, "char");
}
CREW_TASK(long double, raise_long_double)
{
	return crew_raise(2, "long double");
}
CREW_TASK(void, raise_void)
{
	crew_raise(3, "void");
}
CREW_TASK(struct wide, raise_struct)
{
	return crew_raise_as(struct wide, 4, "struct");
}
CREW_TASK(crew_bytes, raise_bytes)
{
	crew_result_alloc(1000); /* freed with the failure */
	return crew_raise_as(crew_bytes, 5, "bytes");
}
CREW_TASK(const char *, raise_string)
{
	return crew_raise_as(const char *, 6, "string");
}
CREW_TASK(int, raise_twice)
{
	crew_raise(7, "first");
	return crew_raise(8, "second");
}
CREW_TASK(int, raise_and_return)
{
	crew_raise(9, "but a value");
	return 42;
}
CREW_TASK(int, raise_long_text)
{
	char text[2000];

	memset(text, 'm', sizeof text - 1);
	text[sizeof text - 1] = 0;
	return crew_raise(10, "%s", text);
}
CREW_TASK(int, catches)
{
	crew_error e = { 0 };

	root(-4);
	return crew_caught(&e) && e.code == EDOM && !crew_caught(NULL) ? 1 : 0;
}
CREW_TASK(double, raises_in_a_helper)
{
	return root(-9) + 1;
}
CREW_TASK(double, reraises)
{
	double y = 0;

	CREW_SCOPE (ex, crew_inline()) {
		crew_future *f = crew_submit(ex, root, -25.0);

		if (crew_result(f, &y) == CREW_ERAISED)
			y = crew_reraise(f);
	}
	return y;
}
CREW_TASK(crew_bytes, reraises_as)
{
	CREW_SCOPE (ex, crew_inline())
		return crew_reraise_as(crew_bytes, crew_submit(ex, root, -36.0));
	return crew_bytes_make(NULL, 0);
}
CREW_TASK(int, reraises_nothing)
{
	CREW_SCOPE (ex, crew_inline())
		crew_reraise(crew_submit(ex, root, 36.0));
	return 5;
}

/* A task that raised: CREW_ERAISED from the call, all else in the error, the caller's variable untouched. */
TEST_EACH(a_raise_is_told_by_the_future, ex)
{
	crew_future *f = crew_submit(ex, root, -1.0);
	const crew_error *e;
	double y = 2.5;

	CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
	CHECK_EQ(y, 2.5);
	e = crew_future_error(f);
	CHECK_EQ(e->code, EDOM);
	CHECK_STR(e->message, "no real root of -1");
	CHECK_STR(e->task, "root");
	CHECK_HAS(e->where, "errors.c:");
	CHECK_EQ(e->signal, 0);
	CHECK_EQ(e->attempts, 1);
	CHECK_EQ(e->worker == getpid(), !(kind->traits & SEPARATE));
	CHECK(e->worker > 0);
}

/* where is the line of the raise. */
TEST_EACH(where_is_the_line_of_the_raise, ex)
{
	char expected[32];
	crew_future *f = crew_submit(ex, raise_line);

	snprintf(expected, sizeof expected, "errors.c:%d", raise_line());
	CHECK(crew_caught(NULL));
	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
	CHECK_HAS(crew_future_error(f)->where, expected);
}

/* The future of a task that did not fail has an error with code 0, never NULL. */
TEST_EACH(the_error_of_a_task_that_is_well_has_code_0, ex)
{
	crew_future *f = crew_submit(ex, root, 16.0);

	CHECK(crew_future_error(f) != NULL);
	CHECK_EQ(crew_future_error(f)->code, 0);
}

/* crew_future_error waits, as Python's exception() does. */
TEST_EACH(asking_for_the_error_waits, ex)
{
	GATE (g, ex);
	crew_future *f = crew_submit(ex, held_failure, g.bytes, 33);

	gate_open(g.at);
	CHECK_EQ(crew_future_error(f)->code, 33);
	CHECK(crew_future_done(f));
}

/* A task of every result class can fail. */
TEST_EACH(a_task_of_any_result_class_can_fail, ex)
{
	crew_future *fs[] = { crew_submit(ex, raise_char), crew_submit(ex, raise_long_double),
			      crew_submit(ex, raise_void), crew_submit(ex, raise_struct),
			      crew_submit(ex, raise_bytes), crew_submit(ex, raise_string) };

	for (int i = 0; i < 6; i++) {
		CHECK_EQ(crew_future_wait(fs[i], CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(fs[i])->code, i + 1);
		CHECK(!crew_future_cancelled(fs[i]));
	}
	CHECK_STR(crew_future_error(fs[4])->message, "bytes");
}

/* Codes are kept as they were raised, of either sign and any size; only 0 becomes CREW_ERAISED. */
TEST_EACH(codes_are_kept_as_raised, ex)
{
	static const int codes[] = { 1, -1, -EINVAL, EINVAL, 1000000, INT32_MAX, INT32_MIN, CREW_ETYPE };

	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
		CHECK_EQ(crew_future_error(crew_submit(ex, raise_int, codes[i]))->code, codes[i]);
	CHECK_EQ(crew_future_error(crew_submit(ex, raise_int, 0))->code, CREW_ERAISED);
}

TEST_EACH(the_first_raise_wins, ex)
{
	crew_future *f = crew_submit(ex, raise_twice);

	CHECK_EQ(crew_future_error(f)->code, 7);
	CHECK_STR(crew_future_error(f)->message, "first");
}

/* A task that raised has failed, whatever it returns. */
TEST_EACH(a_value_returned_after_a_raise_is_dropped, ex)
{
	int y = 1;

	CHECK_EQ(crew_result(crew_submit(ex, raise_and_return), &y), CREW_ERAISED);
	CHECK_EQ(y, 1);
}

/* A message that is too long is cut, not lost. */
TEST_EACH(a_long_message_is_cut, ex)
{
	const crew_error *e = crew_future_error(crew_submit(ex, raise_long_text));

	CHECK_EQ(e->code, 10);
	CHECK_EQ(strlen(e->message), sizeof e->message - 1);
}

/* A raise marks the innermost submitted task, however deep the call; crew_caught takes it back. */
TEST_EACH(a_raise_in_a_helper_fails_the_task_unless_caught, ex)
{
	int caught = 0;

	CHECK_EQ(crew_future_error(crew_submit(ex, raises_in_a_helper))->code, EDOM);
	CHECK_EQ(crew_result(crew_submit(ex, catches), &caught), 0);
	CHECK_EQ(caught, 1);
}

/* Outside a task a raise is kept for crew_caught on the same thread. */
TEST(a_raise_outside_a_task_is_kept_for_caught)
{
	crew_error e = { 0 };

	CHECK(!crew_caught(&e));
	CHECK_EQ(root(-1), 0.0);
	CHECK(crew_caught(&e));
	CHECK_EQ(e.code, EDOM);
	CHECK_STR(e.message, "no real root of -1");
	CHECK(!crew_caught(&e));
}

/* crew_reraise: the cause, its place and its message are kept. */
TEST_EACH(reraise_keeps_the_cause, ex)
{
	crew_future *f = crew_submit(ex, reraises), *g = crew_submit(ex, reraises_as);

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, EDOM);
	CHECK_STR(crew_future_error(f)->message, "no real root of -25");
	CHECK_HAS(crew_future_error(f)->where, "errors.c:");
	CHECK_EQ(crew_future_error(g)->code, EDOM);
}

TEST_EACH(reraise_of_a_task_that_is_well_does_nothing, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, reraises_nothing), &y), 0);
	CHECK_EQ(y, 5);
}

/* A failure harms nobody but its own future, and not the next task of the worker. */
TEST_EACH(failures_are_isolated, ex)
{
	enum { N = 200 };
	static crew_future *fs[N];
	double y;

	for (int i = 0; i < N; i++)
		fs[i] = crew_submit(ex, root, i % 2 ? -1.0 : 4.0);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(crew_result(fs[i], &y), i % 2 ? CREW_ERAISED : 0);
		CHECK(i % 2 || y == 2.0);
	}
}

/* take and run give the error by value: it outlives its future. */
TEST_EACH(take_gives_the_error_by_value, ex)
{
	crew_error e = { 0 };
	double y = 2.5;

	CHECK_EQ(crew_take(crew_submit(ex, root, -1.0), &y, &e), CREW_ERAISED);
	CHECK_EQ(e.code, EDOM);
	CHECK_STR(e.message, "no real root of -1");
	CHECK_EQ(crew_take(crew_submit(ex, root, 9.0), &y, &e), 0);
	CHECK_EQ(e.code, 0);
	CHECK_EQ(y, 3.0);
	CHECK_EQ(crew_run(ex, &y, root, -1.0), CREW_ERAISED);
}

/* Every code has a sentence and a name, system codes too, unknown ones as well. */
TEST(every_code_has_a_sentence_and_a_name)
{
	static const int codes[] = { 0, EINVAL, -EINVAL, -ETIMEDOUT, 123456, -123456, INT32_MIN };

#define NAMED(name_, value_, text_)                       \
	CHECK_EQ(name_, value_);                          \
	CHECK_STR(crew_errname(name_), #name_);           \
	CHECK_STR(crew_strerror(name_), text_);
	CREW_CODES(NAMED)
#undef NAMED
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
		CHECK(crew_strerror(codes[i]) && *crew_strerror(codes[i]));
		CHECK(crew_errname(codes[i]) && *crew_errname(codes[i]));
	}
	CHECK_STR(crew_errname(-EINVAL), "EINVAL");
	CHECK_STR(crew_errname(EINVAL), "EINVAL");
}

TEST(the_library_tells_its_version)
{
	CHECK_STR(crew_version(), CREW_VERSION);
	CHECK_GE(crew_cpu_count(), 1);
}

/* crew_must() hands on what is well, and ends a program of which something is not: the only sentence that the library prints. */
TEST(must_ends_the_program_with_a_sentence)
{
	char text[300] = "", expected[40];
	int ends[2], status, line;
	ssize_t n;
	pid_t pid;

	CHECK_EQ(crew_must(7), 7);
	CHECK_EQ(pipe(ends), 0);
	pid = fork();
	line = __LINE__ + 3;
	if (pid == 0) {
		dup2(ends[1], 2);
		crew_must(-EDOM);
		_exit(77);
	}
	CHECK(pid > 0);
	close(ends[1]);
	n = read(ends[0], text, sizeof text - 1);
	CHECK(n > 0);
	close(ends[0]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	snprintf(expected, sizeof expected, "errors.c:%d: -EDOM: ", line);
	CHECK_HAS(text, expected);
	CHECK_HAS(text, "(EDOM)");
}
