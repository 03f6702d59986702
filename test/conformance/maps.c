/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mapping.c: crew_map() and crew_map_with().
 */
#include <errno.h>
#include <sched.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(double, power, (double, base), (int, exp))
{
	return exp == 0 ? 1 : base * power(base, exp - 1);
}
CREW_TASK(int, odd_fails, (int, n))
{
	return n % 2 ? crew_raise(n, "%d is odd", n) : n * 10;
}
CREW_TASK(long, length, (const char *, text))
{
	return text ? (long)strlen(text) : -1;
}
CREW_TASK(const char *, doubled, (const char *, text))
{
	return crew_result_printf("%s%s", text, text).data;
}
CREW_TASK(crew_bytes, ramp, (size_t, n))
{
	crew_bytes out = crew_result_alloc(n);

	memset(out.data, (int)(n & 0x7f), out.len);
	return out;
}
CREW_TASK(size_t, measure, (crew_bytes, in))
{
	return in.len;
}
CREW_TASK(void, count_one, (crew_bytes, gate), (int, i))
{
	gate_add(gate.data, i);
}
/* Item 0 fails when each other worker has an item, which it keeps until the gate is opened. */
CREW_TASK(int, first_fails, (crew_bytes, gate), (int, i), (int, workers))
{
	gate_add(gate.data, 0);
	if (i == 0) {
		gate_await(gate.data, (uint32_t)workers - 1);
		return crew_raise(EIO, "item %d", i);
	}
	if (i < workers)
		gate_pass(gate.data);
	return i;
}
CREW_TASK(void, opens, (crew_bytes, gate))
{
	gate_open(gate.data);
}
struct wide {
	long v[9];
};
CREW_TASK(struct wide, widen, (long, v))
{
	return (struct wide){ { v, v, v, v, v, v, v, v, v } };
}
CREW_TASK(int, held_item, (crew_bytes, gate), (int, i))
{
	gate_pass(gate.data);
	return i;
}
CREW_TASK(int, maps_inside, (int, n))
{
	double base[50], y[50];
	int exp[50], good = 0;

	for (int i = 0; i < n; i++) {
		base[i] = i;
		exp[i] = 2;
	}
	if (crew_map(crew_task_executor(), power, base, exp, y, (size_t)n) != 0)
		return -1;
	for (int i = 0; i < n; i++)
		good += y[i] == i * i;
	return good;
}

/* The n first numbers, as a column. */
static int *numbers(int n)
{
	int *column = malloc(sizeof(int) * (size_t)(n ? n : 1));

	for (int i = 0; i < n; i++)
		column[i] = i;
	return column;
}

/* api.md's first program. */
TEST_EACH(the_first_program_maps_three_powers, ex)
{
	double base[] = { 1, 2, 3 }, y[3];
	int exp[] = { 9, 9, 9 };

	CHECK_EQ(crew_map(ex, power, base, exp, y, 3), 0);
	CHECK(y[0] == 1 && y[1] == 512 && y[2] == 19683);
}

/* Results stand in the order of the input, whatever the order of the work. */
TEST_EACH(map_keeps_the_order, ex)
{
	enum { N = 20000 };
	static double base[N], y[N];
	static int exp[N];

	for (int i = 0; i < N; i++) {
		base[i] = i;
		exp[i] = i % 5;
	}
	CHECK_EQ(crew_map(ex, power, base, exp, y, N), 0);
	for (int i = 0; i < N; i++)
		CHECK_EQ(y[i], power(i, i % 5));
}

TEST_EACH(map_of_nothing_is_well, ex)
{
	int out = 5;

	CHECK_EQ(crew_map(ex, odd_fails, &out, &out, 0), 0);
	CHECK_EQ(crew_map(ex, odd_fails, NULL, NULL, 0), 0);
	CHECK_EQ(crew_map_with(ex, (.chunk = 7), odd_fails, NULL, NULL, 0), 0);
	CHECK_EQ(out, 5);
}

/* Whatever the chunks: 1, some, more than there are items. */
TEST_EACH(map_gives_the_same_with_any_chunk, ex)
{
	static const size_t chunks[] = { 0, 1, 2, 3, 99, 100, 101, 100000, SIZE_MAX };
	double base[100], y[100];
	int exp[100];

	for (int i = 0; i < 100; i++) {
		base[i] = i;
		exp[i] = 3;
	}
	for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
		memset(y, 0, sizeof y);
		CHECK_EQ(crew_map_with(ex, (.chunk = chunks[c]), power, base, exp, y, 100), 0);
		for (int i = 0; i < 100; i++)
			CHECK_EQ(y[i], (double)i * i * i);
	}
}

TEST_EACH(map_of_one_item, ex)
{
	int two = 2, y = 0;

	CHECK_EQ(crew_map(ex, odd_fails, &two, &y, 1), 0);
	CHECK_EQ(y, 20);
}

/* Each item runs exactly once. */
TEST_EACH(map_runs_each_item_once, ex)
{
	GATE (g, ex);
	crew_bytes gates[64];
	int items[64];

	for (int i = 0; i < 64; i++) {
		gates[i] = g.bytes;
		items[i] = i;
	}
	CHECK_EQ(crew_map(ex, count_one, gates, items, NULL, 64), 0); /* void: no out */
	for (int i = 0; i < 64; i++)
		CHECK_EQ(gate_count(g.at, i), 1u);
}

/* Failed items: the rest is finished, their out is untouched, the answer is the first failing item's code, by index and negated. */
TEST_EACH(map_finishes_and_tells_the_first_failing_item, ex)
{
	enum { N = 1000 };
	int *in = numbers(N), *out = numbers(N), *errors = numbers(N);
	crew_error e = { 0 };

	for (int i = 0; i < N; i++)
		out[i] = -7;
	CHECK_EQ(crew_map_with(ex, (.errors = errors, .error = &e), odd_fails, in, out, N), -1);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(out[i], i % 2 ? -7 : i * 10);
		CHECK_EQ(errors[i], i % 2 ? i : 0);
	}
	CHECK_EQ(e.code, 1);
	CHECK_STR(e.message, "1 is odd");
	CHECK_STR(e.task, "odd_fails");
	free(in);
	free(out);
	free(errors);
}

/* "First" is by index, also when a later item fails earlier. */
TEST_EACH(the_first_failing_item_is_by_index, ex)
{
	int in[100];
	int out[100];

	for (int i = 0; i < 100; i++)
		in[i] = i < 60 ? 2 * i : 200 - (i | 1);
	CHECK_EQ(crew_map_with(ex, (.chunk = 1), odd_fails, in, out, 100), -in[60]);
}

/* When all is well errors are zeros and the error's code is 0. */
TEST_EACH(errors_of_a_map_that_is_well_are_0, ex)
{
	int in[] = { 0, 2, 4 }, out[3], errors[] = { 9, 9, 9 };
	crew_error e = { .code = 9 };

	CHECK_EQ(crew_map_with(ex, (.errors = errors, .error = &e), odd_fails, in, out, 3), 0);
	CHECK(errors[0] == 0 && errors[1] == 0 && errors[2] == 0);
	CHECK_EQ(e.code, 0);
}

/* stop_on_error: no more chunks are started after a failure; what never started is cancelled. The only worker that is free to open the gate is the one of
   item 0, after that has failed. */
static void *posts_opens(void *arg)
{
	struct shared_gate *g = arg;

	gate_await(g->at, (uint32_t)kind->workers - 1);
	CHECK_EQ(crew_post(g->ex, opens, g->bytes), 0);
	return NULL;
}
TEST_EACH(stop_on_error_starts_no_more_chunks, ex)
{
	enum { N = 20000 };
	GATE (g, ex);
	static crew_bytes gates[N];
	static int out[N], errors[N], workers[N];
	int *in = numbers(N), code;
	pthread_t thread;

	for (int i = 0; i < N; i++) {
		gates[i] = g.bytes;
		workers[i] = kind->workers;
	}
	CHECK_EQ(pthread_create(&thread, NULL, posts_opens, &g), 0);
	code = crew_map_with(ex, (.stop_on_error = true, .chunk = 1, .errors = errors), first_fails, gates, in, workers, out, N);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(code, -EIO);
	CHECK_EQ(errors[0], EIO);
	CHECK(gate_count(g.at, 0) < N);
	CHECK_EQ(errors[N - 1], -ECANCELED);
	free(in);
}

/* The time of a map is for the whole; items that have not started never do. */
TEST_EACH(a_map_out_of_time_is_etimedout, ex)
{
	GATE (g, ex);
	crew_bytes gates[20];
	int in[20] = { 0 }, out[20], errors[20] = { 0 };
	int64_t start = test_now_ms();

	NOT_WHERE(IMMEDIATE, "a task cannot be left behind in the caller");
	NOT_WHERE(SEPARATE, "a task that does not end holds the map until it is killed, which is another contract");
	for (int i = 0; i < 20; i++)
		gates[i] = g.bytes;
	gate_occupy(&g);
	CHECK_EQ(crew_map_with(ex, (.timeout_ms = 50, .errors = errors, .chunk = 1), held_item, gates, in, out, 20), -ETIMEDOUT);
	CHECK_GE(test_now_ms() - start, 50);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(errors[i], -ECANCELED);
	CHECK_EQ(g.at->arrived, (uint32_t)kind->workers);
}

/* Strings in: char ** as it comes. Strings out: the caller's, to free(). */
TEST_EACH(map_takes_and_gives_strings, ex)
{
	char a[] = "a", b[] = "bcd", c[] = "";
	char *in[] = { a, b, c };
	const char *out[3];
	long lengths[3];

	CHECK_EQ(crew_map(ex, length, in, lengths, 3), 0);
	CHECK(lengths[0] == 1 && lengths[1] == 3 && lengths[2] == 0);
	CHECK_EQ(crew_map(ex, doubled, in, out, 3), 0);
	CHECK_STR(out[0], "aa");
	CHECK_STR(out[1], "bcdbcd");
	CHECK_STR(out[2], "");
	for (int i = 0; i < 3; i++)
		free((void *)out[i]);
}

/* Bytes in and out: the caller's, to crew_bytes_free(). */
TEST_EACH(map_takes_and_gives_bytes, ex)
{
	enum { N = 200 };
	static size_t in[N], lengths[N];
	static crew_bytes out[N];

	for (size_t i = 0; i < N; i++)
		in[i] = i * 37;
	CHECK_EQ(crew_map(ex, ramp, in, out, N), 0);
	CHECK_EQ(crew_map(ex, measure, out, lengths, N), 0);
	for (size_t i = 0; i < N; i++) {
		CHECK_EQ(out[i].len, i * 37);
		CHECK_EQ(lengths[i], i * 37);
		CHECK(i == 0 || ((char *)out[i].data)[i * 37 - 1] == (char)(i * 37 & 0x7f));
		crew_bytes_free(out[i]);
	}
}

TEST_EACH(map_gives_structs, ex)
{
	enum { N = 300 };
	static long in[N];
	static struct wide out[N];

	for (long i = 0; i < N; i++)
		in[i] = i;
	CHECK_EQ(crew_map(ex, widen, in, out, N), 0);
	for (long i = 0; i < N; i++)
		CHECK(out[i].v[0] == i && out[i].v[8] == i);
}

/* A task may map on its own executor: the caller works along, so a pool of one does not deadlock. */
TEST_EACH(a_task_may_map, ex)
{
	crew_future *fs[6];
	int y;

	for (int i = 0; i < 6; i++)
		fs[i] = crew_submit(ex, maps_inside, 50);
	for (int i = 0; i < 6; i++) {
		CHECK_EQ(crew_result(fs[i], &y), 0);
		CHECK_EQ(y, 50);
	}
}

/* Two maps at once, by two threads. */
static crew_executor *shared_executor;
static void *maps_1000(void *argument)
{
	int *in = numbers(1000), *out = numbers(1000), *wrong = argument;

	*wrong = crew_map(shared_executor, odd_fails, in, out, 1000) != -1;
	for (int i = 0; i < 1000; i += 2)
		*wrong += out[i] != i * 10;
	free(in);
	free(out);
	return NULL;
}
TEST_EACH(two_threads_may_map_at_once, ex)
{
	pthread_t threads[2];
	int wrong[2];

	shared_executor = ex;
	for (int i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, maps_1000, &wrong[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK(wrong[0] == 0 && wrong[1] == 0);
}

/* More text than goes into one piece of a map. */
TEST_EACH(items_of_many_bytes_go_in_several_pieces, ex)
{
	enum { N = 24, SIZE = 200000 };
	static char text[SIZE];
	crew_bytes in[N];
	size_t out[N] = { 0 };

	for (int i = 0; i < N; i++)
		in[i] = crew_bytes_make(text, SIZE - (size_t)i);
	CHECK_EQ(crew_map_with(ex, (.chunk = N), measure, in, out, N), 0);
	for (size_t i = 0; i < N; i++)
		CHECK_EQ(out[i], SIZE - i);
}

/* Threads that are more than a few go over a map together, too. */
TEST(a_map_has_as_many_hands_as_there_are_threads)
{
	enum { N = 300 };
	int in[N], out[N], errors[N];

	for (int i = 0; i < N; i++)
		in[i] = 2 * i;
	CREW_SCOPE (ex, crew_threads(40)) {
		CHECK_EQ(crew_map(ex, odd_fails, in, out, N), 0);
		for (int i = 0; i < N; i++)
			CHECK_EQ(out[i], 20 * i);
		in[N - 1] = 7;
		CHECK_NE(crew_map_with(ex, (.errors = errors, .chunk = 1), odd_fails, in, out, N), 0);
		CHECK_EQ(errors[N - 1], 7);
	}
}

/* The time of tasks is no time of the pieces of a map, which are of many items. */
TEST(a_time_for_tasks_is_not_for_pieces_of_maps)
{
	int in[100], out[100], y = 0;

	for (int i = 0; i < 100; i++)
		in[i] = 2 * i;
	CREW_SCOPE (ex, crew_processes(.workers = 2, .task_timeout_ms = 20000)) {
		CHECK_EQ(crew_map(ex, odd_fails, in, out, 100), 0);
		CHECK_EQ(out[99], 1980);
		CHECK_EQ(crew_run(ex, &y, odd_fails, 4), 0);
		CHECK_EQ(y, 40);
	}
}

/* Cancelled by others with all that waits, a map says so. */
struct mapper {
	crew_executor *ex;
	int code;
	bool ended;
};
static void *maps_three(void *arg)
{
	struct mapper *m = arg;
	int in[] = { 0, 2, 4 }, out[3];

	m->code = crew_map(m->ex, odd_fails, in, out, 3);
	__atomic_store_n(&m->ended, true, __ATOMIC_SEQ_CST);
	return NULL;
}
TEST_EACH(a_map_that_is_cancelled_is_ecanceled, ex)
{
	GATE (g, ex);
	struct mapper m = { ex, 0, false };
	pthread_t thread;

	NOT_WHERE(IMMEDIATE, "nothing waits");
	gate_occupy(&g);
	CHECK_EQ(pthread_create(&thread, NULL, maps_three, &m), 0);
	while (!__atomic_load_n(&m.ended, __ATOMIC_SEQ_CST) && crew_executor_cancel(ex, NULL) >= 0)
		sched_yield();
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(m.code, -ECANCELED);
	gate_open(g.at);
}

/* Items that obey end with the time of their map; one with enough of it is as one without. */
CREW_TASK(int, until_asked, (int, n))
{
	while (n % 2 && !crew_task_cancelled())
		sched_yield();
	return n;
}
TEST_EACH(a_map_of_tasks_that_obey_ends_in_time, ex)
{
	int in[100], out[100];

	for (int i = 0; i < 100; i++)
		in[i] = 2 * i;
	CHECK_EQ(crew_map_with(ex, (.timeout_ms = 3600000), until_asked, in, out, 100), 0);
	CHECK_EQ(out[99], 198);
	for (int i = 0; i < 100; i++)
		in[i] = 1;
	CHECK_EQ(crew_map_with(ex, (.timeout_ms = 20, .chunk = 1), until_asked, in, out, 100), -ETIMEDOUT);
}

/* Strings and bytes that are none come out as none. */
CREW_TASK(const char *, no_text, (int, n))
{
	return n % 2 ? "odd" : NULL;
}
CREW_TASK(crew_bytes, no_bytes, (int, n))
{
	return n % 2 ? crew_result_copy("odd", 3) : crew_bytes_make(NULL, 0);
}
TEST_EACH(map_gives_strings_and_bytes_that_are_none, ex)
{
	int in[] = { 1, 2, 3, 4 };
	crew_bytes bytes[4];
	const char *text[4];

	CHECK_EQ(crew_map(ex, no_text, in, text, 4), 0);
	CHECK_EQ(crew_map(ex, no_bytes, in, bytes, 4), 0);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(text[i] == NULL, i % 2 == 1);
		CHECK_EQ(bytes[i].len, i % 2 ? 0u : 3u);
		CHECK_EQ(bytes[i].data == NULL, i % 2 == 1);
		free((void *)text[i]);
		crew_bytes_free(bytes[i]);
	}
}

/* A raw task is mapped like any other. */
static int doubles_raw(crew_call *call)
{
	crew_bytes in = crew_call_args(call);

	return in.len == 3 ? crew_call_raise(call, -EDOM, "not three") : crew_call_return(call, in.data, in.len);
}
CREW_RAW_TASK(raw, doubles_raw);
TEST_EACH(a_raw_task_is_mapped, ex)
{
	crew_bytes in[] = { crew_bytes_str("one!"), crew_bytes_str("two") }, out[2] = { { NULL, 0 }, { NULL, 0 } };
	int errors[2] = { 9, 9 };

	CHECK_EQ(crew_map_with(ex, (.errors = errors), raw, in, out, 2), -EDOM);
	CHECK(errors[0] == 0 && errors[1] == -EDOM);
	CHECK(out[0].len == 4 && memcmp(out[0].data, "one!", 4) == 0 && out[1].data == NULL);
	crew_bytes_free(out[0]);
}

/* What cannot be sent fails its item alone; a task that has no name elsewhere, each of them. */
TEST_EACH(an_item_that_cannot_be_sent_fails_alone, ex)
{
	crew_bytes in[] = { crew_bytes_str("a"), { in, SIZE_MAX }, crew_bytes_str("bc"), { in, SIZE_MAX / 4 }, crew_bytes_str("def") };
	const void *columns[] = { in };
	crew_task *copy = malloc(sizeof *copy);
	int errors[5] = { 0 };
	size_t out[5] = { 0 };

	memcpy(copy, CREW_TASK_OF(measure), sizeof *copy);
	if (!(kind->traits & SEPARATE)) { /* nothing is copied: the task may make of it what it likes */
		CHECK_EQ(crew_map(ex, measure, in, out, 5), 0);
		CHECK_EQ(out[1], SIZE_MAX);
	} else {
		CHECK_EQ(crew_map_with(ex, (.errors = errors, .chunk = 5), measure, in, out, 5), -E2BIG);
		CHECK(errors[0] == 0 && errors[1] == -E2BIG && errors[2] == 0 && errors[3] == -ENOMEM && errors[4] == 0);
		CHECK(out[0] == 1 && out[2] == 2 && out[4] == 3);
		in[1] = in[3] = in[0];
		CHECK_EQ(crew_executor_map(ex, copy, columns, out, 5, NULL, 0), CREW_ENOTASK);
	}
	free(copy);
}
