/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * runner.h: tests that are sentences.
 *
 *	TEST(a_cancelled_future_is_done)
 *	{
 *		CHECK(crew_future_done(f));
 *		CHECK_EQ(crew_result(f, &y), -ECANCELED);
 *	}
 *
 * Each test registers itself and runs in a forked process of its own, with a time limit: it may crash, hang, exit or leak
 * without harm to the others, and fails for each of these. A failed check ends the test at once, in whatever thread or worker process it stands.
 * After a test that passed, no file descriptor, thread, child process or shared mapping may be left that was not there before.
 *
 * Command line: substrings of test names to run; --list; --verbose (each test, its time, and what it printed); --repeat N; --jobs N; --seed N;
 * --sample N: N of them, as many times more or fewer as STRESS says, drawn anew each time; --noise N: beside N processes that spin and N that wake each other.
 * Environment: TEST_LIMIT multiplies every time limit (0.1 is possible), STRESS the sizes that go through test_scaled().
 */
#ifndef CREW_TEST_RUNNER_H
#define CREW_TEST_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#endif
#ifndef TEST_TSAN
#define TEST_TSAN 0
#endif
#ifndef TEST_ASAN
#define TEST_ASAN 0
#endif

/* A test as it registers itself. `variant`, unless NULL, follows the name after a slash; `argument` is for run. */
struct test {
	const char *name, *variant, *file;
	int line;
	int seconds; /* its time limit, before any factor */
	void (*run)(const void *argument);
	const void *argument;
};
void test_register(const struct test *test);

#define TEST(name_) TEST_WITHIN(name_, 30)
#define TEST_WITHIN(name_, seconds_)                                                                         \
	static void name_(const void *test_argument_);                                                       \
	__attribute__((__constructor__)) static void name_##_register(void)                                  \
	{                                                                                                    \
		test_register(&(struct test){ #name_, NULL, __FILE__, __LINE__, seconds_, name_, NULL });    \
	}                                                                                                    \
	static void name_(const void *test_argument_ __attribute__((__unused__)))

/* End the test: it does not apply here, and why. */
#define SKIP(why_) test_skip(why_)
_Noreturn void test_skip(const char *why);

#define CHECK(condition_)                                                                                    \
	do {                                                                                                 \
		if (!(condition_))                                                                           \
			test_fail(__FILE__, __LINE__, "%s", #condition_);                                    \
	} while (0)

/* Numbers and pointers of any type. Both are shown when they differ. */
#define CHECK_EQ(a_, b_) TEST_COMPARE(a_, ==, b_, #a_ " == " #b_)
#define CHECK_NE(a_, b_) TEST_COMPARE(a_, !=, b_, #a_ " != " #b_)
#define CHECK_LE(a_, b_) TEST_COMPARE(a_, <=, b_, #a_ " <= " #b_)
#define CHECK_GE(a_, b_) TEST_COMPARE(a_, >=, b_, #a_ " >= " #b_)

/* Strings, either of which may be NULL; and that the first contains the second. */
#define CHECK_STR(a_, b_) test_same_string((a_), (b_), #a_, __FILE__, __LINE__)
#define CHECK_HAS(a_, b_) test_has_string((a_), (b_), #a_, __FILE__, __LINE__)

_Noreturn void test_fail(const char *file, int line, const char *format, ...) __attribute__((__format__(printf, 3, 4)));
void test_same_string(const char *a, const char *b, const char *text, const char *file, int line);
void test_has_string(const char *a, const char *b, const char *text, const char *file, int line);

#define TEST_COMPARE(a_, op_, b_, text_)                                                                      \
	do {                                                                                                 \
		__typeof__(a_) test_a_ = (a_);                                                               \
		__typeof__(b_) test_b_ = (b_);                                                               \
		char test_text_[2][48];                                                                      \
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wsign-compare\"")          \
		if (!(test_a_ op_ test_b_))                                                                  \
			test_fail(__FILE__, __LINE__, "%s: %s and %s", text_,                                \
				  test_show(test_text_[0], TEST_KIND_OF(test_a_), &test_a_, sizeof test_a_), \
				  test_show(test_text_[1], TEST_KIND_OF(test_b_), &test_b_, sizeof test_b_)); \
		_Pragma("GCC diagnostic pop")                                                                \
	} while (0)
#define TEST_KIND_OF(x_)                                                                                     \
	_Generic((x_), bool: 'u', char: 'i', signed char: 'i', short: 'i', int: 'i', long: 'i', long long: 'i', \
		unsigned char: 'u', unsigned short: 'u', unsigned: 'u', unsigned long: 'u',                  \
		unsigned long long: 'u', float: 'f', double: 'f', long double: 'f', default: 'p')
const char *test_show(char text[48], int kind, const void *value, size_t size);

/* A number that differs from run to run; --seed repeats it. The seed is printed when a test fails. */
uint64_t test_random(void);

/* How many of n things a stress test does: n × STRESS / 100, fewer under sanitizers; at least one. */
size_t test_scaled(size_t n);

/* Monotonic milliseconds, for tests of time limits. */
int64_t test_now_ms(void);

/* The first CPU that this process may run on; after the second call this thread, and whatever it starts, has no other. It skips where that is refused. */
int test_first_cpu(void);
void test_have_one_cpu(void);

#endif
