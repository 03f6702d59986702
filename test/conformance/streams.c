/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * streams.c: crew_imap(): results pulled one by one from an input that may never end.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, twice, (int, n))
{
	return 2 * n;
}
CREW_TASK(int, sevens_fail, (int, n))
{
	return n % 7 == 0 ? crew_raise(1000 + n, "%d is a seven", n) : n;
}
CREW_TASK(int, held_if, (crew_bytes, gate), (int, n), (bool, hold))
{
	if (hold)
		gate_pass(gate.data);
	return n;
}
CREW_TASK(crew_bytes, upper, (const char *, text))
{
	crew_bytes out = crew_result_copy(text, strlen(text));

	for (size_t i = 0; i < out.len; i++)
		((char *)out.data)[i] = (char)(text[i] - 'a' + 'A');
	return out;
}

/* The numbers below `end`. */
struct counter {
	int next, end;
	crew_bytes gate;
};
static int feed_twice(void *state, CREW_ARGS(twice) *args)
{
	struct counter *c = state;

	args->n = c->next;
	return c->next++ < c->end;
}
static int feed_sevens(void *state, CREW_ARGS(sevens_fail) *args)
{
	struct counter *c = state;

	args->n = c->next;
	return c->next++ < c->end;
}
static int feed_held_first(void *state, CREW_ARGS(held_if) *args)
{
	struct counter *c = state;

	*args = (CREW_ARGS(held_if)){ c->gate, c->next, c->next == 0 };
	return c->next++ < c->end;
}
static int feed_with_gaps(void *state, CREW_ARGS(twice) *args)
{
	struct counter *c = state;

	args->n = c->next++;
	return args->n >= c->end ? 0 : args->n == 3 ? -EBADF : 1;
}
/* The same buffer for every item: it must be copied before the next call. */
static int feed_text(void *state, CREW_ARGS(upper) *args)
{
	static char buffer[8];
	struct counter *c = state;

	memset(buffer, 'a' + c->next, 4);
	args->text = buffer;
	return c->next++ < c->end;
}

/* All items, in order, then 0. */
TEST_EACH(a_stream_gives_all_in_order, ex)
{
	struct counter c = { 0, 1000, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, twice, feed_twice, &c);
	int y;

	for (int i = 0; i < 1000; i++) {
		CHECK_EQ(crew_next(s, &y), 1);
		CHECK_EQ(y, 2 * i);
	}
	CHECK_EQ(crew_next(s, &y), 0);
	CHECK_EQ(crew_next(s, &y), 0);
	CHECK(crew_stream_close(s) == NULL);
}

TEST_EACH(a_stream_of_nothing_ends_at_once, ex)
{
	struct counter c = { 0, 0, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, twice, feed_twice, &c, .window = 4);
	int y = 3;

	CHECK_EQ(crew_next(s, &y), 0);
	CHECK_EQ(y, 3);
	crew_stream_close(s);
}

/* Any window, any chunk. */
TEST_EACH(a_stream_gives_the_same_with_any_window_and_chunk, ex)
{
	static const size_t windows[] = { 1, 2, 7, 1000 }, chunks[] = { 0, 1, 3, 50 };
	int y;

	for (int w = 0; w < 16; w++) {
		struct counter c = { 0, 100, { NULL, 0 } };
		crew_stream *s = crew_imap(ex, twice, feed_twice, &c, .window = windows[w % 4], .chunk = chunks[w / 4]);

		for (int i = 0; i < 100; i++) {
			CHECK_EQ(crew_next(s, &y), 1);
			CHECK_EQ(y, 2 * i);
		}
		CHECK_EQ(crew_next(s, &y), 0);
		crew_stream_close(s);
	}
}

/* At most `window` items are on their way: the input is read no further. */
TEST_EACH(a_stream_reads_no_further_than_its_window, ex)
{
	struct counter c = { 0, INT_MAX, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, twice, feed_twice, &c, .window = 10);
	int y;

	for (int i = 0; i < 200; i++) {
		CHECK_EQ(crew_next(s, &y), 1);
		CHECK_EQ(y, 2 * i);
		CHECK(c.next <= i + 1 + 10);
	}
	crew_stream_close(s); /* the input never ends: an early close */
}

/* unordered: each item once. */
TEST_EACH(an_unordered_stream_gives_each_item_once, ex)
{
	struct counter c = { 0, 500, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, twice, feed_twice, &c, .unordered = true, .window = 16);
	static char seen[1000];
	int y;

	for (int i = 0; i < 500; i++) {
		CHECK_EQ(crew_next(s, &y), 1);
		CHECK_EQ(seen[y]++, 0);
	}
	CHECK_EQ(crew_next(s, &y), 0);
	crew_stream_close(s);
}

/* unordered: what is done is not kept waiting by the first. */
TEST_EACH(an_unordered_stream_does_not_wait_for_the_first, ex)
{
	GATE (g, ex);
	struct counter c = { 0, 50, g.bytes };
	crew_stream *s;
	int y;

	NOT_WHERE(SINGLE, "the first would hold the only worker");
	s = crew_imap(ex, held_if, feed_held_first, &c, .unordered = true, .window = 8);
	for (int i = 1; i < 50; i++) {
		CHECK_EQ(crew_next(s, &y), 1);
		CHECK_NE(y, 0);
	}
	gate_open(g.at);
	CHECK_EQ(crew_next(s, &y), 1);
	CHECK_EQ(y, 0);
	crew_stream_close(s);
}

/* A failed item stands at its place, with its error, and the stream goes on. */
TEST_EACH(a_failed_item_does_not_end_the_stream, ex)
{
	struct counter c = { 0, 50, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, sevens_fail, feed_sevens, &c);
	int y = -1;

	for (int i = 0; i < 50; i++) {
		CHECK_EQ(crew_next(s, &y), i % 7 ? 1 : -1000 - i);
		CHECK_EQ(crew_stream_error(s)->code, i % 7 ? 0 : 1000 + i);
		CHECK(i % 7 == 0 || y == i);
	}
	CHECK_STR(crew_stream_error(s)->message, "49 is a seven");
	CHECK_EQ(crew_next(s, &y), 0);
	crew_stream_close(s);
}

/* An item that feed could not make fails at its place. */
TEST_EACH(an_error_of_feed_is_that_items_error, ex)
{
	struct counter c = { 0, 6, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, twice, feed_with_gaps, &c);
	int y;

	for (int i = 0; i < 6; i++)
		CHECK_EQ(crew_next(s, &y), i == 3 ? -EBADF : 1);
	CHECK_EQ(crew_next(s, &y), 0);
	crew_stream_close(s);
}

/* What feed fills is copied before its next call; bytes that come out are the caller's. */
TEST_EACH(feed_may_use_one_buffer_for_all_items, ex)
{
	struct counter c = { 0, 20, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, upper, feed_text, &c, .window = 8);
	crew_bytes y;

	for (int i = 0; i < 20; i++) {
		CHECK_EQ(crew_next(s, &y), 1);
		CHECK_EQ(y.len, 4);
		CHECK_EQ(((char *)y.data)[0], (char)('A' + i));
		crew_bytes_free(y);
	}
	crew_stream_close(s);
}

/* A result of the wrong type is refused and can be had after all. */
TEST_EACH(the_type_of_a_stream_is_checked, ex)
{
	struct counter c = { 0, 3, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, twice, feed_twice, &c);
	double d = 1.5;

	CHECK_EQ(crew_next(s, &d), CREW_ETYPE);
	CHECK_EQ(d, 1.5);
	crew_stream_close(s);
}

/* Closed early: what has not started is cancelled, what runs is waited for. */
TEST_EACH(closing_early_waits_only_for_what_runs, ex)
{
	struct counter c = { 0, INT_MAX, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, twice, feed_twice, &c, .window = 500);
	int y;

	CHECK_EQ(crew_next(s, &y), 1);
	CHECK(crew_stream_close(s) == NULL);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	CHECK(crew_stream_close(NULL) == NULL);
}

/* feed runs in the caller's thread, inside of crew_next: it needs no lock. */
static pthread_t feeder;
static int feed_noting_thread(void *state, CREW_ARGS(twice) *args)
{
	feeder = pthread_self();
	return feed_twice(state, args);
}
TEST_EACH(feed_runs_in_the_callers_thread, ex)
{
	struct counter c = { 0, 3, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, twice, feed_noting_thread, &c);
	int y;

	while (crew_next(s, &y) == 1)
		CHECK(pthread_equal(feeder, pthread_self()));
	crew_stream_close(s);
}

/* Two streams on one executor do not disturb each other. */
TEST_EACH(two_streams_share_an_executor, ex)
{
	struct counter a = { 0, 100, { NULL, 0 } }, b = { 1000, 1100, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, twice, feed_twice, &a), *t = crew_imap(ex, twice, feed_twice, &b);
	int y, z;

	for (int i = 0; i < 100; i++) {
		CHECK_EQ(crew_next(s, &y), 1);
		CHECK_EQ(crew_next(t, &z), 1);
		CHECK(y == 2 * i && z == 2 * (1000 + i));
	}
	crew_stream_close(t);
	crew_stream_close(s);
}
