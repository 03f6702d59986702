/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * streams.c: crew_imap(): results pulled one by one from an input that may never end.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
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

/* The same with several items to a task: those that fail, those that feed could not make, wherever in a chunk, and those after them. */
static int feed_odd_gaps(void *state, CREW_ARGS(twice) *args)
{
	struct counter *c = state;

	args->n = c->next++;
	return args->n >= c->end ? 0 : args->n % 4 == 3 ? -EBADF : 1;
}
TEST_EACH(chunks_change_nothing_for_items_that_fail, ex)
{
	static const size_t windows[] = { 1, 6, 100 };
	int y = -1;

	for (size_t chunk = 2; chunk <= 6; chunk += 2)
		for (int w = 0; w < 3; w++) {
			struct counter c = { 0, 50, { NULL, 0 } }, d = { 0, 21, { NULL, 0 } };
			crew_stream *s = crew_imap(ex, sevens_fail, feed_sevens, &c, .chunk = chunk, .window = windows[w]);
			crew_stream *t = crew_imap(ex, twice, feed_odd_gaps, &d, .chunk = chunk, .window = windows[w]);

			for (int i = 0; i < 50; i++) {
				CHECK_EQ(crew_next(s, &y), i % 7 ? 1 : -1000 - i);
				CHECK_EQ(crew_stream_error(s)->code, i % 7 ? 0 : 1000 + i);
			}
			for (int i = 0; i < 21; i++) {
				CHECK_EQ(crew_next(t, &y), i % 4 == 3 ? -EBADF : 1);
				CHECK(i % 4 == 3 || y == 2 * i);
			}
			CHECK_EQ(crew_next(s, &y), 0);
			CHECK_EQ(crew_next(t, &y), 0);
			crew_stream_close(s);
			crew_stream_close(t);
		}
}

/* What can never be sent ends the stream, once. */
TEST_EACH(a_stream_that_cannot_go_on_ends, ex)
{
	struct counter c = { 0, 5, { NULL, 0 } };
	crew_task *copy = malloc(sizeof *copy);
	crew_stream *s;
	int y = 0, rc;

	memcpy(copy, CREW_TASK_OF(twice), sizeof *copy);
	s = crew_stream_open(ex, copy, (void (*)(void))feed_twice, &c, &(struct crew_imap_options){ .chunk = 3 }, sizeof(struct crew_imap_options));
	rc = crew_next(s, &y);
	CHECK_EQ(rc, CREW_ENOTASK); /* a chunk says which task it is of by its name, on every executor */
	CHECK_EQ(crew_stream_error(s)->code, CREW_ENOTASK);
	CHECK_EQ(crew_next(s, &y), 0);
	CHECK_EQ(crew_next(s, &y), 0);
	crew_stream_close(s);
	free(copy);
}

/* Items too large to be sent fail, and others do not. */
CREW_TASK(size_t, measure, (crew_bytes, in))
{
	return in.len;
}
static int feed_too_much(void *state, CREW_ARGS(measure) *args)
{
	struct counter *c = state;

	args->in = (crew_bytes){ c, c->next == 1 ? SIZE_MAX : c->next == 3 ? SIZE_MAX / 4 : sizeof *c };
	return c->next++ < c->end;
}
TEST_EACH(an_item_too_large_for_memory_fails_alone, ex)
{
	struct counter c = { 0, 5, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, measure, feed_too_much, &c, .chunk = 2);
	size_t y;

	for (int i = 0; i < 5; i++) {
		CHECK_EQ(crew_next(s, &y), i == 1 ? -E2BIG : i == 3 ? -ENOMEM : 1);
		CHECK(i == 1 || i == 3 || y == sizeof c);
	}
	CHECK_EQ(crew_next(s, &y), 0);
	crew_stream_close(s);
}

/* Cancelled with all that waits, or lost with a worker: each of its items is told. */
CREW_TASK(int, dies_at, (int, n))
{
	if (n == 2)
		raise(SIGKILL);
	return n;
}
static int feed_dies(void *state, CREW_ARGS(dies_at) *args)
{
	struct counter *c = state;

	args->n = c->next;
	return c->next++ < c->end;
}
TEST_EACH(the_items_of_a_chunk_that_is_lost_are_told, ex)
{
	struct counter c = { 0, 4, { NULL, 0 } }, d = { 0, 6, { NULL, 0 } };
	GATE (g, ex);
	crew_stream *s;
	int y;

	NOT_WHERE(IMMEDIATE, "nothing waits");
	gate_occupy(&g);
	s = crew_imap(ex, twice, feed_twice, &c, .chunk = 2);
	CHECK_EQ(crew_next_within(s, &y, 0), -ETIMEDOUT);
	CHECK_EQ(crew_executor_cancel(ex, "not now"), 2);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(crew_next(s, &y), -ECANCELED);
		CHECK_EQ(crew_stream_error(s)->code, -ECANCELED);
	}
	CHECK_EQ(crew_next(s, &y), 0);
	crew_stream_close(s);
	gate_open(g.at);
	if (!(kind->traits & SEPARATE))
		return; /* a thread that dies is a program that dies */
	s = crew_imap(ex, dies_at, feed_dies, &d, .chunk = 2);
	for (int i = 0; i < 6; i++)
		CHECK_EQ(crew_next(s, &y), i / 2 == 1 ? CREW_EWORKER : 1);
	CHECK_EQ(crew_next(s, &y), 0);
	crew_stream_close(s);
}

/* The type and the size are asked of each item, of a chunk as well; what goes nowhere is lost. */
TEST_EACH(an_item_of_a_chunk_is_checked_as_any, ex)
{
	struct counter c = { 0, 5, { NULL, 0 } }, t = { 0, 2, { NULL, 0 } };
	crew_stream *s = crew_imap(ex, twice, feed_twice, &c, .chunk = 5), *u = crew_imap(ex, upper, feed_text, &t, .chunk = 2);
	double d = 1.5;
	int y = 0;

	CHECK_EQ(crew_next(s, &d), CREW_ETYPE);
	CHECK_EQ(crew_stream_next(s, &y, 2, CREW_TYPE_OF(int)), CREW_ETYPE);
	CHECK_EQ(crew_stream_next(s, NULL, sizeof y, CREW_TYPE_OF(int)), 1);
	CHECK(crew_next(s, &y) == 1 && y == 6);
	CHECK_EQ(crew_stream_next(u, NULL, sizeof(crew_bytes), CREW_TYPE_OF(crew_bytes)), 1);
	crew_stream_close(s);
	crew_stream_close(u);
}

/* More workers, more items on their way. */
TEST(a_stream_over_many_workers_has_a_wider_window)
{
	struct counter c = { 0, INT_MAX, { NULL, 0 } };
	int y;

	CREW_SCOPE (ex, crew_threads(20)) {
		crew_stream *s = crew_imap(ex, twice, feed_twice, &c);

		CHECK_EQ(crew_next(s, &y), 1);
		CHECK_EQ(c.next, 80);
		crew_stream_close(s);
	}
}

/* An item that was never a task arrives at once, in its order or without any. */
TEST_EACH(an_item_that_feed_could_not_make_is_there_at_once, ex)
{
	for (int unordered = 0; unordered < 2; unordered++) {
		struct counter c = { 0, 6, { NULL, 0 } };
		crew_stream *s = crew_imap(ex, twice, feed_with_gaps, &c, .unordered = unordered);
		int y, bad = 0;

		for (int i = 0; i < 6; i++) {
			int rc = crew_next_within(s, &y, 20000);

			bad += rc == -EBADF;
			CHECK(rc == 1 || rc == -EBADF);
		}
		CHECK_EQ(bad, 1);
		CHECK_EQ(crew_next_within(s, &y, 20000), 0);
		crew_stream_close(s);
	}
}
