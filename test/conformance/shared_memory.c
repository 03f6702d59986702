/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared_memory.c: crew_shared_alloc(): memory that every worker sees, at no copy.
 */
#include <errno.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, fill, (crew_bytes, at), (int, value))
{
	memset(at.data, value, at.len);
	return (int)at.len;
}
CREW_TASK(long, add_up, (crew_bytes, at))
{
	long sum = 0;

	for (size_t i = 0; i < at.len; i++)
		sum += ((unsigned char *)at.data)[i];
	return sum;
}
CREW_TASK(crew_bytes, give_back, (crew_bytes, at))
{
	return crew_bytes_make((char *)at.data + 10, 20);
}
CREW_TASK(int, held_fill, (crew_bytes, gate), (crew_bytes, at))
{
	gate_pass(gate.data);
	memset(at.data, 7, at.len);
	return 1;
}
CREW_TASK(int, both, (crew_bytes, a), (crew_bytes, own), (crew_bytes, b))
{
	((char *)a.data)[0] = ((char *)own.data)[0];
	((char *)b.data)[0] = ((char *)own.data)[1];
	return 1;
}

/* What a task writes there, the caller sees. */
TEST_EACH(the_caller_sees_what_a_task_wrote, ex)
{
	crew_bytes at = crew_shared_alloc(ex, 1000);
	int y = 0;

	CHECK(at.data != NULL && at.len == 1000);
	CHECK_EQ(crew_result(crew_submit(ex, fill, at, 'x'), &y), 0);
	CHECK_EQ(y, 1000);
	CHECK(((char *)at.data)[0] == 'x' && ((char *)at.data)[999] == 'x');
	crew_shared_free(ex, at);
}

/* What the caller writes, also after the open, a task sees; at any size, aligned for anything. */
TEST_EACH(a_task_sees_what_the_caller_wrote, ex)
{
	static const size_t sizes[] = { 1, 8, 100, 4096, 100000, 8 << 20 };
	long sum;

	for (int i = 0; i < 6; i++) {
		crew_bytes at = crew_shared_alloc(ex, sizes[i]);

		CHECK_EQ((uintptr_t)at.data % 16, 0u);
		memset(at.data, 2, at.len);
		CHECK_EQ(crew_result(crew_submit(ex, add_up, at), &sum), 0);
		CHECK_EQ(sum, 2 * (long)sizes[i]);
		crew_shared_free(ex, at);
	}
}

/* A part of it travels uncopied too. */
TEST_EACH(a_part_of_shared_memory_is_not_copied_either, ex)
{
	crew_bytes at = crew_shared_alloc(ex, 1000);
	int y;

	memset(at.data, 0, 1000);
	CHECK_EQ(crew_result(crew_submit(ex, fill, crew_bytes_make((char *)at.data + 100, 50), 'y'), &y), 0);
	CHECK(((char *)at.data)[99] == 0 && ((char *)at.data)[100] == 'y' && ((char *)at.data)[149] == 'y' &&
	      ((char *)at.data)[150] == 0);
	crew_shared_free(ex, at);
}

/* Shared and ordinary bytes may be mixed in one call. */
TEST_EACH(shared_and_copied_bytes_may_be_mixed, ex)
{
	crew_bytes a = crew_shared_alloc(ex, 10), b = crew_shared_alloc(ex, 10);
	int y;

	CHECK_EQ(crew_result(crew_submit(ex, both, a, crew_bytes_make("pq", 2), b), &y), 0);
	CHECK(((char *)a.data)[0] == 'p' && ((char *)b.data)[0] == 'q');
	crew_shared_free(ex, b);
	crew_shared_free(ex, a);
}

/* Several blocks do not overlap. */
TEST_EACH(blocks_do_not_overlap, ex)
{
	crew_bytes at[20];
	int y;

	for (int i = 0; i < 20; i++) {
		at[i] = crew_shared_alloc(ex, 500);
		CHECK_EQ(crew_result(crew_submit(ex, fill, at[i], i), &y), 0);
	}
	for (int i = 0; i < 20; i++) {
		for (int k = 0; k < 500; k++)
			CHECK_EQ(((unsigned char *)at[i].data)[k], i);
		crew_shared_free(ex, at[i]);
	}
}

/* A result may lie in it: it comes back as bytes. */
TEST_EACH(a_result_may_lie_in_shared_memory, ex)
{
	crew_bytes at = crew_shared_alloc(ex, 100), y;

	memset(at.data, 'q', 100);
	CHECK_EQ(crew_take(crew_submit(ex, give_back, at), &y, NULL), 0);
	CHECK(y.len == 20 && ((char *)y.data)[19] == 'q');
	crew_bytes_free(y);
	crew_shared_free(ex, at);
}

/* Given back while a task still uses it, it stays until that has ended. */
TEST_EACH(memory_given_back_lives_as_long_as_its_tasks, ex)
{
	GATE (g, ex);
	crew_bytes at = crew_shared_alloc(ex, 100000);
	crew_future *f = crew_submit(ex, held_fill, g.bytes, at);
	int y = 0;

	crew_shared_free(ex, at);
	gate_open(g.at);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 1);
}

/* It is used again: an endless loop of alloc and free does not run out. */
TEST_EACH(blocks_can_be_taken_and_given_back_for_ever, ex)
{
	int y;

	for (int i = 0; i < 300; i++) {
		crew_bytes at = crew_shared_alloc(ex, 1 << 20);

		CHECK(at.data != NULL);
		((char *)at.data)[i] = 1;
		if (i % 10 == 0)
			CHECK_EQ(crew_run(ex, &y, fill, crew_bytes_make(at.data, 10), 1), 0);
		crew_shared_free(ex, at);
	}
}

/* More than there can be is {NULL, 0} with errno, and harms nobody. */
TEST_EACH(too_much_shared_memory_is_refused, ex)
{
	crew_bytes at = crew_shared_alloc(ex, SIZE_MAX / 2);
	long y;

	CHECK(at.data == NULL && at.len == 0);
	CHECK(errno == ENOMEM || errno == EFBIG || errno == EINVAL || errno == EOVERFLOW);
	CHECK_EQ(crew_run(ex, &y, add_up, crew_bytes_make("ab", 2)), 0);
	crew_shared_free(ex, at); /* nothing */
}

/* What was not given back goes with the executor. */
TEST_KIND(shared_memory_goes_with_the_executor)
{
	CREW_SCOPE (ex, kind_open()) {
		for (int i = 0; i < 10; i++)
			CHECK(crew_shared_alloc(ex, 100000).data != NULL);
		for (int i = 0; i < 50; i++)
			CHECK(crew_shared_alloc(ex, 20000).data != NULL);
	}
}

CREW_TASK(crew_bytes, second_of, (crew_bytes, a), (crew_bytes, b))
{
	return crew_bytes_make((char *)b.data + 1, a.len + b.len - 11);
}
/* A result in the second of two blocks, and one that lies in none of them. */
CREW_TASK(crew_bytes, neither_of, (crew_bytes, a), (crew_bytes, b))
{
	return crew_result_copy((char *)b.data, a.len);
}
TEST_EACH(a_result_may_lie_in_any_block_of_the_arguments, ex)
{
	crew_bytes a = crew_shared_alloc(ex, 10), b = crew_shared_alloc(ex, 300), y;

	memset(b.data, 'b', 300);
	CHECK_EQ(crew_take(crew_submit(ex, second_of, a, b), &y, NULL), 0);
	CHECK(y.len == 299 && ((char *)y.data)[298] == 'b');
	crew_bytes_free(y);
	CHECK_EQ(crew_take(crew_submit(ex, neither_of, a, b), &y, NULL), 0);
	CHECK(y.len == 10 && ((char *)y.data)[9] == 'b');
	crew_bytes_free(y);
	crew_shared_free(ex, b);
	crew_shared_free(ex, a);
}

/* The bytes need not be the first argument. */
CREW_TASK(crew_bytes, rest_of, (int, from), (crew_bytes, at))
{
	return crew_bytes_make((char *)at.data + from, at.len - (size_t)from);
}

TEST_EACH(a_result_may_lie_in_a_later_argument, ex)
{
	crew_bytes at = crew_shared_alloc(ex, 5000), y = { NULL, 0 };
	crew_future *f;

	CHECK(at.data != NULL);
	memset(at.data, 'a', 2000);
	memset((char *)at.data + 2000, 'b', 3000);
	f = crew_submit(ex, rest_of, 2000, at);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y.len, 3000);
	CHECK(((char *)y.data)[0] == 'b' && ((char *)y.data)[2999] == 'b');
	crew_future_free(f);
	crew_shared_free(ex, at);
}

/* What is no block of this executor is not given back, and what was given back is so once, though a task still has it. */
TEST_EACH(only_blocks_are_given_back_and_once, ex)
{
	GATE (g, ex);
	static char own[100];
	crew_bytes at = crew_shared_alloc(ex, 1000), other = crew_shared_alloc(ex, 1000), nothing = { NULL, 0 };
	crew_future *f = crew_submit(ex, held_fill, g.bytes, at);
	int y = 0;
	long sum = -1;

	crew_shared_free(ex, crew_bytes_make(own, sizeof own));
	crew_shared_free(ex, at);
	crew_shared_free(ex, at);
	gate_open(g.at);
	CHECK_EQ(crew_run(ex, &sum, add_up, nothing), 0); /* no bytes, while there are blocks */
	CHECK_EQ(sum, 0);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(crew_run(ex, &y, fill, other, 3), 0);
	CHECK_EQ(((char *)other.data)[999], 3);
	crew_shared_free(ex, other);
}

/* Nothing is no block. */
TEST_EACH(a_block_of_nothing_is_einval, ex)
{
	errno = 0;
	CHECK(crew_shared_alloc(ex, 0).data == NULL);
	CHECK_EQ(errno, EINVAL);
}
