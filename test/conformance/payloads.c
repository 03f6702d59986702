/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * payloads.c: arguments and results of every size, around each size at which some executor does something else.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kinds.h"

static const size_t sizes[] = { 0,    1,     8,	    9,	   16,	  17,	 47,	48,	49,	63,	 64,	  65,
				95,   96,    97,    255,   256,	  257,	 4095,	4096,	4097,	32767,	 32768,	  32769,
				65535, 65536, 65537, 131072, 262145, 1 << 20, (4 << 20) - 1, 4 << 20, (4 << 20) + 1 };
enum { SIZES = sizeof sizes / sizeof sizes[0], MIB = 1 << 20 };

static void fill(void *at, size_t n, unsigned seed)
{
	unsigned char *p = at;

	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(i * 7 + (i >> 8) * 3 + seed);
}

static bool is_filled(crew_bytes y, size_t n, unsigned seed)
{
	const unsigned char *p = y.data;

	for (size_t i = 0; i < y.len; i++)
		if (p[i] != (unsigned char)(i * 7 + (i >> 8) * 3 + seed))
			return false;
	return y.len == n && y.data;
}

CREW_TASK(crew_bytes, copy_of, (crew_bytes, in))
{
	return crew_result_copy(in.data, in.len);
}
CREW_TASK(crew_bytes, itself, (crew_bytes, in))
{
	return in;
}
CREW_TASK(crew_bytes, filled, (size_t, n), (unsigned, seed))
{
	crew_bytes out = crew_result_alloc(n);

	fill(out.data, out.len, seed);
	return out;
}
CREW_TASK(size_t, length, (crew_bytes, in), (const char *, text))
{
	return is_filled(in, in.len, 5) ? in.len + strlen(text) : 0;
}

/* Bytes go there and back whole: copied by the task, returned as they came, made by it. */
TEST_EACH_WITHIN(bytes_around_every_limit_go_there_and_back, 60, ex)
{
	crew_bytes y, in = { malloc(sizes[SIZES - 1]), 0 };

	fill(in.data, sizes[SIZES - 1], 5);
	for (size_t i = 0; i < SIZES; i++) {
		in.len = sizes[i];
		CHECK_EQ(crew_result(crew_submit(ex, copy_of, in), &y), 0);
		CHECK(is_filled(y, in.len, 5));
		CHECK_EQ(crew_result(crew_submit(ex, itself, in), &y), 0);
		CHECK(is_filled(y, in.len, 5));
		CHECK_EQ(crew_take(crew_submit(ex, filled, in.len, 9u), &y, NULL), 0);
		CHECK(is_filled(y, in.len, 9));
		crew_bytes_free(y);
	}
	free(in.data);
}

TEST_EACH_WITHIN(arguments_around_every_limit_arrive, 60, ex)
{
	crew_bytes in = { malloc(16 * MIB), 0 };
	char *text = malloc(MIB + 1);
	size_t y;

	fill(in.data, 16 * MIB, 5);
	memset(text, 'x', MIB);
	for (size_t i = 0; i < SIZES; i++) {
		size_t n = sizes[i] < MIB ? sizes[i] : MIB;

		in.len = sizes[i];
		text[n] = '\0';
		CHECK_EQ(crew_result(crew_submit(ex, length, in, text), &y), 0);
		CHECK_EQ(y, in.len + n);
		text[n] = 'x';
	}
	in.len = 16 * MIB;
	CHECK_EQ(crew_result(crew_submit(ex, length, in, ""), &y), 0);
	CHECK_EQ(y, in.len);
	free(in.data);
	free(text);
}

CREW_TASK(const char *, line, (size_t, n))
{
	crew_bytes out = crew_result_alloc(n + 1);

	memset(out.data, 'l', n);
	((char *)out.data)[n] = '\0';
	return out.data;
}
CREW_TASK(const char *, same_text, (const char *, text))
{
	return text;
}

TEST_EACH_WITHIN(strings_around_every_limit_come_back, 60, ex)
{
	const char *y = NULL, *again;

	for (size_t i = 1; i < SIZES; i++) {
		CHECK_EQ(crew_take(crew_submit(ex, line, sizes[i] - 1), &y, NULL), 0);
		CHECK_EQ(strlen(y), sizes[i] - 1);
		CHECK_EQ(crew_result(crew_submit(ex, same_text, y), &again), 0);
		CHECK_STR(again, y);
		free((void *)y);
	}
}

/* A struct of each size, by value there and back. */
#define BLOCK(n_)                                                                \
	struct block_##n_ {                                                      \
		unsigned char at[n_];                                            \
	};                                                                       \
	CREW_TASK(struct block_##n_, twice_##n_, (struct block_##n_, b), (int, by)) \
	{                                                                        \
		for (size_t i = 0; i < sizeof b; i++)                            \
			b.at[i] = (unsigned char)(b.at[i] * by);                 \
		return b;                                                        \
	}                                                                        \
	static void check_##n_(crew_executor *ex)                                \
	{                                                                        \
		static struct block_##n_ b, y;                                   \
                                                                                 \
		fill(b.at, sizeof b, 1);                                         \
		CHECK_EQ(crew_result(crew_submit(ex, twice_##n_, b, 3), &y), 0); \
		for (size_t i = 0; i < sizeof b; i++)                            \
			CHECK_EQ(y.at[i], (unsigned char)(b.at[i] * 3));         \
	}
BLOCK(1)
BLOCK(15)
BLOCK(16)
BLOCK(17)
BLOCK(47)
BLOCK(48)
BLOCK(49)
BLOCK(63)
BLOCK(64)
BLOCK(65)
BLOCK(4095)
BLOCK(4096)
BLOCK(4097)
BLOCK(32768)
BLOCK(32769)
BLOCK(65535)
BLOCK(65536)
BLOCK(65537)
BLOCK(1048576)

TEST_EACH(structs_around_every_limit_go_there_and_back, ex)
{
	static void (*const check[])(crew_executor *) = {
		check_1,    check_15,	 check_16,    check_17,	   check_47,	check_48,    check_49,
		check_63,   check_64,	 check_65,    check_4095,  check_4096,	check_4097,  check_32768,
		check_32769, check_65535, check_65536, check_65537, check_1048576,
	};

	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < sizeof check / sizeof check[0]; i++)
			check[i](ex);
}

/* A task may return a part of what it allocated: from the middle, large of large, small of large. */
CREW_TASK(crew_bytes, middle, (size_t, n), (size_t, from), (size_t, len))
{
	crew_bytes out = crew_result_alloc(n);

	memset(out.data, 0, n);
	fill((char *)out.data + from, len, 3);
	return crew_bytes_make((char *)out.data + from, len);
}
TEST_EACH(a_part_of_what_was_allocated_comes_back, ex)
{
	static const size_t parts[][3] = { { 1000, 10, 900 },	       { 100000, 7, 99000 },	     { 100000, 50, 100 },
					   { 500000, 200001, 150000 }, { 5 * MIB, 2 * MIB, 100 },   { 5 * MIB, 70000, 70000 },
					   { 9 * MIB, 1 * MIB, 5 * MIB }, { 40000, 39990, 10 }, { 300000, 299999, 1 } };
	crew_bytes y;

	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
			CHECK_EQ(crew_take(crew_submit(ex, middle, parts[i][0], parts[i][1], parts[i][2]), &y, NULL), 0);
			CHECK(is_filled(y, parts[i][2], 3));
			crew_bytes_free(y);
		}
}

/* Growing step by step, by any factor, keeps what is there; so does shrinking. */
CREW_TASK(crew_bytes, grown, (size_t, n), (size_t, percent))
{
	crew_bytes out = crew_result_alloc(1);

	fill(out.data, 1, 4);
	while (out.len < n) {
		size_t more = out.len + 1 + out.len * percent / 100;

		out = crew_result_resize(out, more < n ? more : n);
		if (!out.data)
			return out;
		fill(out.data, out.len, 4);
	}
	return crew_result_resize(out, n - n / 4);
}
TEST_EACH_WITHIN(results_grow_and_shrink_in_any_steps, 60, ex)
{
	static const size_t ends[] = { 100, 5000, 40000, 70000, 300000, 3 * MIB, 6 * MIB };
	crew_bytes y;

	for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
		CHECK_EQ(crew_result(crew_submit(ex, grown, ends[i], (size_t)100), &y), 0);
		CHECK(is_filled(y, ends[i] - ends[i] / 4, 4));
		CHECK_EQ(crew_result(crew_submit(ex, grown, ends[i], (size_t)900), &y), 0);
		CHECK(is_filled(y, ends[i] - ends[i] / 4, 4));
	}
}

/* A task may allocate much and return little of it, or the other way round. */
CREW_TASK(crew_bytes, one_of_many, (size_t, n), (int, count), (int, which))
{
	crew_bytes out[12], chosen = { NULL, 0 };

	for (int i = 0; i < count; i++) {
		out[i] = crew_result_alloc(n + (size_t)i);
		fill(out[i].data, out[i].len, (unsigned)i);
	}
	for (int i = 0; i < count; i++)
		if (!is_filled(out[i], n + (size_t)i, (unsigned)i))
			return chosen;
	return which < count ? out[which] : crew_result_copy("little", 6);
}
TEST_EACH_WITHIN(one_of_many_allocations_comes_back, 60, ex)
{
	static const struct {
		size_t each;
		int count;
	} many[] = { { 10, 12 }, { 3000, 12 }, { 30000, 12 }, { 40000, 12 }, { 500000, 12 }, { 5 * MIB, 4 } };
	crew_bytes y;

	for (size_t i = 0; i < (TEST_TSAN ? 4 : 6); i++)
		for (int which = 0; which <= many[i].count; which += many[i].count / 2) {
			CHECK_EQ(crew_take(crew_submit(ex, one_of_many, many[i].each, many[i].count, which), &y, NULL), 0);
			CHECK(which < many[i].count ? is_filled(y, many[i].each + (size_t)which, (unsigned)which) :
						      y.len == 6 && memcmp(y.data, "little", 6) == 0);
			crew_bytes_free(y);
		}
}

/* What was taken or is held is nobody else's: hundreds of results at a time, given back in any order, over and over. */
TEST_EACH_WITHIN(results_that_are_held_at_once_do_not_touch_each_other, 60, ex)
{
	enum { HELD = 150 };
	crew_bytes held[HELD] = { { NULL, 0 } };
	size_t turns = test_scaled(600);

	for (size_t turn = 0; turn < turns; turn++) {
		size_t k = test_random() % HELD, n = 1 + test_random() % (turn % 20 == 0 ? MIB : 100000);

		if (held[k].data)
			CHECK(is_filled(held[k], held[k].len, (unsigned)k));
		crew_bytes_free(held[k]);
		CHECK_EQ(crew_take(crew_submit(ex, filled, n, (unsigned)k), &held[k], NULL), 0);
		CHECK_EQ(held[k].len, n);
	}
	for (size_t k = 0; k < HELD; k++) {
		CHECK(!held[k].data || is_filled(held[k], held[k].len, (unsigned)k));
		crew_bytes_free(held[k]);
	}
}

static void *give_back(void *argument)
{
	crew_bytes_free(*(crew_bytes *)argument);
	return NULL;
}

/* What was taken is ours: to write, to give back from any thread, before the executor is closed and after. */
TEST_KIND(large_bytes_that_were_taken_outlive_the_executor)
{
	crew_bytes y[4];
	pthread_t thread;

	CREW_SCOPE (ex, kind_open())
		for (unsigned i = 0; i < 4; i++) {
			CHECK_EQ(crew_take(crew_submit(ex, filled, 300000 * (size_t)(i * i + 1), i), &y[i], NULL), 0);
			memset(y[i].data, 1, 10);
		}
	for (unsigned i = 0; i < 4; i++) {
		fill(y[i].data, 10, i);
		CHECK(is_filled(y[i], 300000 * (size_t)(i * i + 1), i));
		CHECK_EQ(pthread_create(&thread, NULL, give_back, &y[i]), 0);
		pthread_join(thread, NULL);
	}
}

/* A future that is kept beyond its executor keeps its result. */
TEST_KIND(a_large_result_outlives_the_executor_with_its_future)
{
	crew_future *f = NULL;
	crew_bytes y;

	CREW_SCOPE (ex, kind_open()) {
		f = crew_future_ref(crew_submit(ex, filled, (size_t)500000, 1u));
		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), 0);
	}
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK(is_filled(y, 500000, 1));
	crew_future_unref(f);
}

/* Outside a task, bytes that were taken may be resized like those of a direct call. */
TEST_EACH(large_bytes_that_were_taken_can_be_resized, ex)
{
	crew_bytes y;

	CHECK_EQ(crew_take(crew_submit(ex, filled, (size_t)200000, 2u), &y, NULL), 0);
	y = crew_result_resize(y, 100000);
	CHECK(is_filled(y, 100000, 2));
	y = crew_result_resize(y, 400000);
	y.len = 100000;
	CHECK(is_filled(y, 100000, 2));
	crew_bytes_free(y);
}

/* Taken bytes are memory like any other: a forked child has them, and what either of the two does to them is its own business. */
TEST_EACH(bytes_that_were_taken_are_in_a_forked_child_too, ex)
{
	crew_bytes y[2], z;
	int status, pipes[2];
	char byte;
	pid_t child;

	for (unsigned i = 0; i < 2; i++)
		CHECK_EQ(crew_take(crew_submit(ex, filled, i ? 6 * (size_t)MIB : 200000, i), &y[i], NULL), 0);
	CHECK_EQ(pipe(pipes), 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		close(pipes[1]);
		memset(y[0].data, 7, 100);
		(void)!read(pipes[0], &byte, 1); /* the parent has given its own back and made others there */
		for (unsigned i = 0; i < 2; i++) {
			fill(y[i].data, 100, i);
			if (!is_filled(y[i], i ? 6 * (size_t)MIB : 200000, i))
				_exit(1);
			crew_bytes_free(y[i]);
		}
		_exit(0);
	}
	close(pipes[0]);
	for (unsigned i = 0; i < 2; i++) {
		CHECK(is_filled(y[i], i ? 6 * (size_t)MIB : 200000, i));
		memset(y[i].data, 0, y[i].len);
		crew_bytes_free(y[i]);
		CHECK_EQ(crew_take(crew_submit(ex, filled, i ? 6 * (size_t)MIB : 200000, 8u), &z, NULL), 0);
		CHECK(is_filled(z, i ? 6 * (size_t)MIB : 200000, 8));
		crew_bytes_free(z);
	}
	close(pipes[1]);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
}

/* A bytes result that lies in an argument that lies in shared memory stays there. */
CREW_TASK(crew_bytes, tail_of, (crew_bytes, at), (size_t, from))
{
	((char *)at.data)[from] = 'w';
	return crew_bytes_make((char *)at.data + from, at.len - from);
}
TEST_EACH(a_result_in_shared_memory_stays_there, ex)
{
	crew_bytes at = crew_shared_alloc(ex, 200000), part = crew_bytes_make((char *)at.data + 1000, 150000), y;

	CHECK_EQ(crew_result(crew_submit(ex, tail_of, part, (size_t)500), &y), 0);
	CHECK_EQ(y.data, (void *)((char *)at.data + 1500));
	CHECK_EQ(y.len, 149500u);
	CHECK_EQ(((char *)at.data)[1500], 'w');
	CHECK_EQ(crew_take(crew_submit(ex, tail_of, part, (size_t)100), &y, NULL), 0);
	CHECK_EQ(y.len, 149900u);
	((char *)at.data)[1100] = 'x';
	CHECK_EQ(((char *)y.data)[0], 'w'); /* what is taken is a copy */
	crew_bytes_free(y);
	crew_shared_free(ex, at);
}

/* Arguments or results for which there is no memory fail their own task, and leave the executor as it was. */
CREW_TASK(crew_bytes, as_much_as, (size_t, n))
{
	return crew_result_alloc(n);
}
TEST_EACH(what_does_not_fit_into_memory_fails_its_task_alone, ex)
{
	static const size_t large[] = { (size_t)1 << 44, (size_t)1 << 50, SIZE_MAX / 2, SIZE_MAX - 100 };
	crew_bytes y;

	for (size_t i = 0; i < 4; i++) {
		crew_future *f = crew_submit(ex, as_much_as, large[i]);

		CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, -ENOMEM);
		CHECK_EQ(crew_result(crew_submit(ex, filled, (size_t)100000, 1u), &y), 0);
		CHECK(is_filled(y, 100000, 1));
	}
}
