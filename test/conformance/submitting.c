/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * submitting.c: what happens between crew_submit() and the first line of the task.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gate.h"
#include "kinds.h"
#include "tasks.h"

CREW_TASK(double, power, (double, base), (int, exp))
{
	return exp == 0 ? 1 : base * power(base, exp - 1);
}
CREW_TASK(int, seven)
{
	return 7;
}
CREW_TASK(long, eight, (char, a), (short, b), (int, c), (long, d), (float, e), (double, f), (unsigned, g), (bool, h))
{
	return a + b + c + d + (long)e + (long)f + (long)g + h;
}
CREW_TASK(long, text_length, (const char *, text))
{
	return text ? (long)strlen(text) : -1;
}
CREW_TASK(unsigned, sum, (crew_bytes, in))
{
	unsigned total = 0;

	for (size_t i = 0; i < in.len; i++)
		total = total * 31 + ((unsigned char *)in.data)[i];
	return total;
}
CREW_TASK(int, held_first_byte, (crew_bytes, gate), (crew_bytes, in), (const char *, text))
{
	gate_pass(gate.data);
	return ((char *)in.data)[0] * 1000 + text[0];
}

struct point {
	int x, y;
	char name[20];
};
CREW_TASK(int, area, (struct point, p), (const int, factor))
{
	return p.x * p.y * factor + p.name[0];
}
typedef int triple[3];
CREW_TASK(int, triple_sum, (triple, t))
{
	return t[0] + t[1] + t[2];
}
CREW_TASK(int, increment, (int *, p))
{
	return ++*p;
}
CREW_TASK(long, process_id)
{
	return getpid();
}
CREW_TASK(long, mixed, (const char *, a), (crew_bytes, b), (const char *, c), (int, d))
{
	return (long)(strlen(a) + 10 * b.len + 100 * strlen(c)) + 1000 * d;
}

/* A task runs with the arguments it was given. */
TEST_EACH(a_task_runs_with_its_arguments, ex)
{
	double y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, power, 2.0, 8), &y), 0);
	CHECK_EQ(y, 256.0);
}

/* Submit never gives NULL, and the future is a live one. */
TEST_EACH(submit_gives_a_future, ex)
{
	crew_future *f = crew_submit(ex, seven);

	CHECK(f != NULL);
	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
	CHECK(crew_future_done(f));
}

TEST_EACH(a_task_may_have_no_parameters, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, seven), &y), 0);
	CHECK_EQ(y, 7);
}

TEST_EACH(a_task_may_have_eight_parameters, ex)
{
	long y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, eight, 1, 20, 300, 4000L, 50000.f, 600000., 7000000u, true), &y), 0);
	CHECK_EQ(y, 7654322L);
}

/* A task is an ordinary function too. */
TEST(a_task_may_be_called_directly)
{
	CHECK_EQ(power(2, 3), 8.0);
	CHECK_EQ(seven(), 7);
}

/* A struct, an array and a const parameter travel by value. */
TEST_EACH(structs_and_arrays_travel_by_value, ex)
{
	struct point p = { 3, 4, "A" };
	triple t = { 1, 2, 3 };
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, area, p, 2), &y), 0);
	CHECK_EQ(y, 24 + 'A');
	CHECK_EQ(crew_result(crew_submit(ex, triple_sum, t), &y), 0);
	CHECK_EQ(y, 6);
}

/* const char * is copied with its text: empty, short, long. NULL stays NULL. */
TEST_EACH(strings_travel_with_their_text, ex)
{
	long y = 0;
	char *large = malloc(300001);

	memset(large, 'x', 300000);
	large[300000] = 0;
	CHECK_EQ(crew_result(crew_submit(ex, text_length, "hello"), &y), 0);
	CHECK_EQ(y, 5);
	CHECK_EQ(crew_result(crew_submit(ex, text_length, ""), &y), 0);
	CHECK_EQ(y, 0);
	CHECK_EQ(crew_result(crew_submit(ex, text_length, large), &y), 0);
	CHECK_EQ(y, 300000);
	CHECK_EQ(crew_result(crew_submit(ex, text_length, NULL), &y), 0);
	CHECK_EQ(y, -1);
	free(large);
}

/* Bytes of every size travel whole. */
TEST_EACH(bytes_of_any_size_travel, ex)
{
	static const size_t sizes[] = { 0, 1, 7, 8, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097, 65536, 1 << 20, 4 << 20 };
	unsigned char *data = malloc(4 << 20);
	unsigned y = 0;

	for (size_t i = 0; i < 4 << 20; i++)
		data[i] = (unsigned char)(i * 7 + (i >> 8));
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		CHECK_EQ(crew_result(crew_submit(ex, sum, crew_bytes_make(data, sizes[i])), &y), 0);
		CHECK_EQ(y, sum(crew_bytes_make(data, sizes[i])));
	}
	free(data);
}

TEST_EACH(several_strings_and_bytes_travel_together, ex)
{
	long y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, mixed, "abc", crew_bytes_str("defg"), "hello", 6), &y), 0);
	CHECK_EQ(y, 6543);
}

/* Arguments are copied when they are submitted, on every executor: what happens to the original later is nobody's concern. */
TEST_EACH(arguments_are_copied_at_submit, ex)
{
	GATE (g, ex);
	char data[] = "a", text[] = "b";
	crew_future *f = crew_submit(ex, held_first_byte, g.bytes, crew_bytes_make(data, 1), text);
	int y = 0;

	data[0] = text[0] = 'z';
	gate_open(g.at);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 'a' * 1000 + 'b');
}

/* A pointer reaches the task as it is, where the worker shares our memory. */
TEST_EACH(a_pointer_works_where_memory_is_shared, ex)
{
	int n = 41, y = 0;

	NOT_WHERE(SEPARATE, "another process cannot follow a pointer; misuse.c has what it says");
	CHECK_EQ(crew_result(crew_submit(ex, increment, &n), &y), 0);
	CHECK_EQ(y, 42);
	CHECK_EQ(n, 42);
}

/* The one-word swap: on processes the task runs in another process, elsewhere in this one. */
TEST_EACH(a_task_runs_where_its_executor_says, ex)
{
	long pid = 0;

	CHECK_EQ(crew_result(crew_submit(ex, process_id), &pid), 0);
	CHECK_EQ(pid != getpid(), (kind->traits & SEPARATE) != 0);
}

/* Each of many futures has the result of its own arguments. */
TEST_EACH(many_futures_have_their_own_results, ex)
{
	enum { N = 2000 };
	static crew_future *fs[N];
	double y;

	for (int i = 0; i < N; i++)
		fs[i] = crew_submit(ex, power, (double)i, 2);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(crew_result(fs[i], &y), 0);
		CHECK_EQ(y, (double)i * i);
	}
}

/* Every submitted task runs once. */
TEST_EACH(each_task_runs_exactly_once, ex)
{
	GATE (g, ex);

	for (int i = 0; i < 64 * 20; i++)
		crew_submit(ex, counted, g.bytes, i % 64);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	for (int i = 0; i < 64; i++)
		CHECK_EQ(gate_count(g.at, i), 20u);
}

/* Submitting to busy workers does not block. */
TEST_EACH(submit_does_not_block, ex)
{
	GATE (g, ex);
	int y = 0;
	crew_future *f = NULL;

	gate_occupy(&g);
	for (int i = 0; i < 5000; i++)
		f = crew_submit(ex, held, g.bytes, i);
	gate_open(g.at);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 4999);
}

/* Only started tasks are RUNNING (Python's process pool marks queued ones too). */
TEST_EACH(only_as_many_run_as_there_are_workers, ex)
{
	GATE (g, ex);
	crew_future *fs[12];
	int running = 0;

	NOT_WHERE(IMMEDIATE, "a task is done when its submit returns");
	for (int i = 0; i < 12; i++)
		fs[i] = crew_submit(ex, held, g.bytes, i);
	gate_await(g.at, (uint32_t)kind->workers);
	for (int i = 0; i < 12; i++)
		running += crew_future_running(fs[i]);
	CHECK_EQ(running, kind->workers);
	CHECK_EQ(g.at->arrived, (uint32_t)kind->workers);
}

/* k workers run k tasks at a time. */
TEST_EACH(workers_run_side_by_side, ex)
{
	GATE (g, ex);

	NOT_WHERE(SINGLE, "one worker runs one task at a time");
	for (int i = 0; i < kind->workers; i++)
		crew_submit(ex, held, g.bytes, i);
	gate_await(g.at, (uint32_t)kind->workers); /* would never return if they took turns */
}

/* crew_post: no future, but the task runs. */
TEST_EACH(a_posted_task_runs, ex)
{
	GATE (g, ex);

	for (int i = 0; i < 100; i++)
		CHECK_EQ(crew_post(ex, counted, g.bytes, 0), 0);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	CHECK_EQ(gate_count(g.at, 0), 100u);
}

TEST_EACH(run_submits_and_takes, ex)
{
	double y = 0;

	CHECK_EQ(crew_run(ex, &y, power, 3.0, 4), 0);
	CHECK_EQ(y, 81.0);
}

/* crew_submit_each: one call, a future for each row of the columns. */
TEST_EACH(submit_each_gives_a_future_for_each_row, ex)
{
	enum { N = 300 };
	static crew_future *fs[N];
	static double base[N];
	static int exp[N];
	double y;

	for (int i = 0; i < N; i++) {
		base[i] = i;
		exp[i] = i % 3;
	}
	CHECK_EQ(crew_submit_each(ex, power, base, exp, fs, N), N);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(crew_result(fs[i], &y), 0);
		CHECK_EQ(y, power(i, i % 3));
	}
}

/* Columns of strings are taken as they come: char ** and const char ** alike. */
TEST_EACH(submit_each_takes_columns_of_strings, ex)
{
	char one[] = "a", two[] = "bb";
	char *texts[] = { one, two, NULL };
	crew_future *fs[3];
	long y;

	CHECK_EQ(crew_submit_each(ex, text_length, texts, fs, 3), 3);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(crew_result(fs[i], &y), 0);
		CHECK_EQ(y, i == 2 ? -1 : i + 1);
	}
}

TEST_EACH(submit_each_of_nothing_is_nothing, ex)
{
	CHECK_EQ(crew_submit_each(ex, text_length, NULL, NULL, 0), 0);
}

/* Higher priority first among what waits; equal ones in the order of their submit. They are so far apart that no pause between two submits, which raises what
   waits, makes up for it; what one step of waiting is worth is in unit/lanes.c. */
TEST_KIND(what_waits_starts_by_priority)
{
	NOT_WHERE(IMMEDIATE, "nothing waits");
	CREW_SCOPE (ex, kind_open(.workers = 1)) {
		GATE (g, ex);

		crew_submit(ex, held, g.bytes, 0);
		gate_await(g.at, 1);
		crew_submit_with(ex, (.priority = 1), logged, g.bytes, 1);
		crew_submit_with(ex, (.priority = 60), logged, g.bytes, 2);
		crew_submit_with(ex, (.priority = 60), logged, g.bytes, 3);
		crew_submit_with(ex, (.priority = 120), logged, g.bytes, 4);
		gate_open(g.at);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
		CHECK_EQ(g.at->log_count, 4u);
		CHECK_EQ(g.at->log[0], 4);
		CHECK_EQ(g.at->log[1], 2);
		CHECK_EQ(g.at->log[2], 3);
		CHECK_EQ(g.at->log[3], 1);
	}
}

/* Also before what a worker has taken with others at once and not begun. */
CREW_TASK(int, urges, (crew_bytes, gate))
{
	gate_write(gate.data, 1);
	crew_submit_with(crew_task_executor(), (.priority = 5), logged, gate, 9);
	return 0;
}
TEST_KIND(an_urgent_task_overtakes_a_batch)
{
	NOT_WHERE(IMMEDIATE, "nothing waits");
	NOT_WHERE(SEPARATE, "what a worker process has taken is not overtaken");
	NOT_WHERE(GROUPED, "a task submits to the executor below");
	CREW_SCOPE (ex, kind_open(.workers = 1)) {
		GATE (g, ex);

		crew_submit(ex, held, g.bytes, 0);
		gate_await(g.at, 1);
		crew_submit(ex, urges, g.bytes);
		for (int i = 2; i < 5; i++)
			crew_submit(ex, logged, g.bytes, i);
		gate_open(g.at);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
		CHECK_EQ(g.at->log_count, 5u);
		CHECK_EQ(g.at->log[0], 1);
		CHECK_EQ(g.at->log[1], 9);
		CHECK_EQ(g.at->log[2], 2);
	}
}

/* A negative priority stands behind the default. */
TEST_KIND(negative_priority_waits_behind_the_default)
{
	NOT_WHERE(IMMEDIATE, "nothing waits");
	CREW_SCOPE (ex, kind_open(.workers = 1)) {
		GATE (g, ex);

		crew_submit(ex, held, g.bytes, 0);
		gate_await(g.at, 1);
		crew_submit_with(ex, (.priority = -1), logged, g.bytes, 1);
		crew_submit(ex, logged, g.bytes, 2);
		gate_open(g.at);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
		CHECK_EQ(g.at->log[0], 2);
		CHECK_EQ(g.at->log[1], 1);
	}
}

/* Two tasks from one submitter to one worker start in the order of their submit. */
TEST_KIND(one_worker_keeps_the_order_of_submits)
{
	CREW_SCOPE (ex, kind_open(.workers = 1)) {
		GATE (g, ex);

		for (int i = 0; i < 500; i++)
			crew_submit(ex, logged, g.bytes, i);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
		for (int i = 0; i < 500; i++)
			CHECK_EQ(g.at->log[i], i);
	}
}

CREW_RAW_TASK(reverse, raw_reverse);

static int raw_failing(crew_call *call)
{
	(void)call;
	return -EXDEV;
}
CREW_RAW_TASK(failing, raw_failing);

/* Raw tasks: bytes in, bytes out. */
TEST_EACH(a_raw_task_turns_bytes_into_bytes, ex)
{
	crew_bytes y = { NULL, 0 };

	CHECK_EQ(crew_result(crew_submit(ex, reverse, crew_bytes_str("stressed")), &y), 0);
	CHECK_EQ(y.len, 8);
	CHECK(memcmp(y.data, "desserts", 8) == 0);
	CHECK_EQ(crew_result(crew_submit(ex, reverse, crew_bytes_make(NULL, 0)), &y), 0);
	CHECK_EQ(y.len, 0);
}

/* A raw task fails by its return value, or with a sentence by crew_call_raise(). */
TEST_EACH(a_raw_task_fails_by_its_return_value, ex)
{
	static const char large[100];
	crew_future *plain = crew_submit(ex, failing, crew_bytes_str("")),
		    *worded = crew_submit(ex, reverse, crew_bytes_make(large, 100));

	CHECK_EQ(crew_future_wait(plain, CREW_FOREVER), CREW_ERAISED);
	CHECK_EQ(crew_future_error(plain)->code, -EXDEV);
	CHECK_EQ(crew_future_wait(worded, CREW_FOREVER), CREW_ERAISED);
	CHECK_EQ(crew_future_error(worded)->code, E2BIG);
	CHECK_STR(crew_future_error(worded)->message, "100 bytes");
}

/* CREW_TASK_OF: tasks in a table, for who needs them as values. */
TEST_EACH(a_task_can_be_submitted_by_its_descriptor, ex)
{
	const crew_task *table[] = { CREW_TASK_OF(seven), CREW_TASK_OF(process_id) };
	crew_future *f = crew_executor_submit(ex, table[0], &(CREW_ARGS(seven)){ 0 }, NULL, 0);
	int y = 0;

	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 7);
	CHECK_STR(crew_future_task(f), "seven");
}

/* .data travels with the future from its submit on. */
TEST_EACH(data_is_there_from_submit_on, ex)
{
	int mark;
	crew_future *f = crew_submit_with(ex, (.data = &mark), seven);

	CHECK_EQ(crew_future_data(f), (void *)&mark);
}

/* Options may be empty. */
TEST_EACH(submit_with_no_options_is_submit, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit_with(ex, (), seven), &y), 0);
	CHECK_EQ(y, 7);
}

/* A task whose time is up before it starts never starts. */
TEST_EACH(a_task_too_late_to_start_fails_with_its_deadline, ex)
{
	GATE (g, ex);
	crew_future *late;

	NOT_WHERE(IMMEDIATE, "nothing waits to start");
	gate_occupy(&g);
	late = crew_submit_with(ex, (.timeout_ms = 1), counted, g.bytes, 0);
	crew_future_wait(late, 30);
	gate_open(g.at);
	CHECK_EQ(crew_future_wait(late, CREW_FOREVER), CREW_ERAISED);
	CHECK_EQ(crew_future_error(late)->code, CREW_EDEADLINE);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), CREW_EDEADLINE);
	CHECK_EQ(gate_count(g.at, 0), 0u);
}

/* A deadline that is far enough away does nothing. */
TEST_EACH(a_task_in_time_is_not_disturbed_by_its_deadline, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit_with(ex, (.timeout_ms = 60000), seven), &y), 0);
	CHECK_EQ(y, 7);
}

/* A length that no memory has is refused before anybody looks there. */
TEST_EACH(arguments_longer_than_memory_are_e2big, ex)
{
	crew_bytes block = crew_shared_alloc(ex, 100);
	char text[300];

	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	CHECK_EQ(crew_future_error(crew_submit(ex, sum, crew_bytes_make(block.data, SIZE_MAX)))->code, -E2BIG); /* nor does a block go that far */
	crew_shared_free(ex, block);
	CHECK_EQ(crew_future_error(crew_submit(ex, sum, crew_bytes_make(text, SIZE_MAX)))->code, -E2BIG);
	CHECK_EQ(crew_future_error(crew_submit(ex, mixed, "a", crew_bytes_make(text, INT64_MAX - 300), text, 1))->code, -E2BIG);
	CHECK_EQ(crew_future_error(crew_submit(ex, sum, crew_bytes_make(text, SIZE_MAX / 4)))->code, -ENOMEM);
}

/* Nor need a task be one of the macros', that have eight parameters at most. */
struct nine {
	crew_bytes bytes;
	long number[8];
};
static void run_nine(void *arguments, void *result)
{
	const struct nine *nine = arguments;
	long total = ((unsigned char *)nine->bytes.data)[0];

	for (int i = 0; i < 8; i++)
		total += nine->number[i];
	*(long *)result = total;
}
#define NUMBER(i_) { CREW_TYPE_OF(long), offsetof(struct nine, number) + (i_) * sizeof(long), "number" }
static const struct crew_parameter nine_parameters[] = { { CREW_TYPE_OF(crew_bytes), 0, "bytes" }, NUMBER(0), NUMBER(1), NUMBER(2), NUMBER(3),
							 NUMBER(4), NUMBER(5), NUMBER(6), NUMBER(7) };
static const crew_task nine_task = { .size = sizeof(crew_task), .flags = CREW_TASK_DEEP, .result = CREW_TYPE_OF(long), .arguments = sizeof(struct nine),
				     .parameter_count = 9, .parameters = nine_parameters, .name = "nine", .where = "here", .run = run_nine };
TEST_EACH(a_task_may_have_more_parameters_than_the_macros_make, ex)
{
	crew_bytes block = crew_shared_alloc(ex, 10);
	struct nine nine = { block, { 1, 2, 3, 4, 5, 6, 7, 8 } };
	long y = 0;

	CHECK(block.data != NULL);
	((char *)block.data)[0] = 64;
	CHECK_EQ(crew_executor_run(ex, &nine_task, &nine, &y, sizeof y, CREW_TYPE_OF(long), NULL), 0);
	CHECK_EQ(y, 100);
	crew_shared_free(ex, block);
}
