/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sharing.c: futures that travel: kept, cancelled, awaited and watched wherever their handle went, on executors of every kind. travels.c has the same for
 * processes that the program forks by itself.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "kinds.h"

static crew_future *promise_of_int(void)
{
	return crew_future_new(CREW_TYPE_OF(int));
}

static int keep(crew_future *f, int value)
{
	return crew_future_set_result(f, &value, CREW_TYPE_OF(int));
}

struct errand {
	int number;
	crew_promise to;
};

CREW_TASK(int, keep_it, (crew_promise, p), (int, value))
{
	crew_future *f = crew_promise_future(p);
	int rc = keep(f, value);

	crew_future_free(f);
	return rc;
}

CREW_TASK(int, keep_errand, (struct errand, errand))
{
	crew_future *f = crew_promise_future(errand.to);
	int rc = keep(f, errand.number);

	crew_future_free(f);
	return rc;
}

CREW_TASK(int, await_it, (crew_promise, p))
{
	crew_future *f = crew_promise_future(p);
	int y = -1, rc = crew_result_within(f, &y, 20000);

	crew_future_free(f);
	return rc ? rc : y;
}

CREW_TASK(int, fail_it, (crew_promise, p))
{
	crew_future *f = crew_promise_future(p);
	int rc = crew_future_set_error(f, 77, "no %s today", "bread");

	crew_future_free(f);
	return rc;
}

static void *heap_promise(void *p)
{
	crew_future_free(p);
	return NULL;
}

static crew_future *kept_open; /* in the worker: of a promise that it gave away */

CREW_TASK(crew_promise, offer, (int, unused))
{
	(void)unused;
	kept_open = crew_future_new(CREW_TYPE_OF(int));
	return crew_future_share(kept_open);
}

CREW_TASK(int, twice, (int, x))
{
	return 2 * x;
}

/* ---- with workers ---- */

TEST_EACH(a_promise_is_kept_by_a_task_that_was_given_its_handle, ex)
{
	crew_future *f = promise_of_int(), *t = crew_submit(ex, keep_it, crew_future_share(f), 41);
	int y = 0, rc = -1;

	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 41);
	CHECK_EQ(crew_result(t, &rc), 0);
	CHECK_EQ(rc, 0);
	CHECK_EQ(keep(f, 5), -EALREADY);
	crew_future_free(f);
}

/* The handle is a value like any other: also in the middle of a struct. */
TEST_EACH(a_handle_may_lie_in_a_struct, ex)
{
	crew_future *f = promise_of_int();
	struct errand errand = { 12, crew_future_share(f) };
	int y = 0;

	crew_submit(ex, keep_errand, errand);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 12);
	crew_future_free(f);
}

TEST_EACH(a_task_waits_for_a_promise_that_is_kept_here, ex)
{
	crew_future *f = promise_of_int(), *t;
	int y = 0;

	NOT_WHERE(IMMEDIATE, "the submit would wait for what comes after it");
	t = crew_submit(ex, await_it, crew_future_share(f));
	while (!crew_future_running(t))
		sched_yield();
	CHECK_EQ(keep(f, 9), 0);
	CHECK_EQ(crew_result(t, &y), 0);
	CHECK_EQ(y, 9);
	crew_future_free(f);
}

TEST_EACH(the_error_of_a_promise_travels_whole, ex)
{
	crew_future *f = promise_of_int();
	int y = 3;

	crew_submit(ex, fail_it, crew_future_share(f));
	CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
	CHECK_EQ(y, 3);
	CHECK_EQ(crew_future_error(f)->code, 77);
	CHECK_STR(crew_future_error(f)->message, "no bread today");
	crew_future_free(f);
}

/* A worker makes the promise and gives it away as a result; it is kept here and seen there. */
CREW_TASK(int, how_is_it, (int, unused))
{
	int y = -1;

	(void)unused;
	if (crew_result_within(kept_open, &y, 20000))
		return -1;
	kept_open = heap_promise(kept_open);
	return y;
}

TEST_KIND(a_handle_may_be_a_result)
{
	CREW_SCOPE (ex, kind_open(.workers = 1)) {
		crew_promise p = { 0, 0 };
		crew_future *f;
		int y = 0;

		CHECK_EQ(crew_result(crew_submit(ex, offer, 0), &p), 0);
		f = crew_promise_future(p);
		CHECK(!crew_future_done(f));
		CHECK_EQ(keep(f, 31), 0);
		CHECK_EQ(crew_result(crew_submit(ex, how_is_it, 0), &y), 0);
		CHECK_EQ(y, 31);
		crew_future_free(f);
	}
}

/* The future of a submit travels too: to another executor of the same kind. */
TEST_EACH(a_task_waits_for_a_task_of_another_executor, ex)
{
	CREW_SCOPE (other, kind_open(.workers = 1)) {
		crew_future *f = crew_submit(other, twice, 21), *t = crew_submit(ex, await_it, crew_future_share(f));
		int y = 0;

		CHECK_EQ(crew_result(t, &y), 0);
		CHECK_EQ(y, 42);
	}
}

/* Its value is whatever the task returns, and nobody else's to give. */
struct wide {
	long v[9];
};
CREW_TASK(const char *, words, (crew_bytes, gate), (int, n))
{
	crew_bytes text = crew_result_printf("%d words", n);

	gate_pass(gate.data);
	return n ? text.data : NULL;
}
CREW_TASK(crew_bytes, bees, (crew_bytes, gate), (int, n))
{
	crew_bytes out = crew_result_alloc((size_t)n);

	memset(out.data, 'b', out.len);
	gate_pass(gate.data);
	return out;
}
CREW_TASK(struct wide, widen, (crew_bytes, gate), (long, v))
{
	gate_pass(gate.data);
	return (struct wide){ { v, v, v, v, v, v, v, v, v } };
}

TEST_EACH(values_of_every_class_travel_with_the_future_of_a_submit, ex)
{
	crew_future *f[4], *other[4];
	struct wide wide = { { 0 } };
	const char *text = NULL;
	crew_bytes bytes;
	GATE (g, ex);

	f[0] = crew_submit(ex, words, g.bytes, 3);
	f[1] = crew_submit(ex, bees, g.bytes, 100000);
	f[2] = crew_submit(ex, widen, g.bytes, 7);
	f[3] = crew_submit(ex, words, g.bytes, 0);
	for (int i = 0; i < 4; i++) {
		other[i] = crew_promise_future(crew_future_share(f[i]));
		CHECK_EQ(crew_future_set_error(other[i], 5, "mine"), CREW_EHANDLE);
		CHECK_EQ(crew_future_set_running(other[i]), CREW_EHANDLE);
	}
	gate_open(g.at);
	CHECK_EQ(crew_result(other[0], &text), 0);
	CHECK_STR(text, "3 words");
	CHECK_EQ(crew_result(other[1], &bytes), 0);
	CHECK_EQ(bytes.len, 100000u);
	CHECK_EQ(((char *)bytes.data)[99999], 'b');
	CHECK_EQ(crew_result(other[2], &wide), 0);
	CHECK_EQ(wide.v[8], 7);
	CHECK_EQ(crew_result(other[3], &text), 0);
	CHECK(!text);
	for (int i = 0; i < 4; i++)
		crew_future_free(other[i]);
}

static void add_to(crew_future *f, void *arg)
{
	int y = 0;

	if (crew_result(f, &y) == 0)
		__atomic_add_fetch((int *)arg, y, __ATOMIC_SEQ_CST);
}

TEST_EACH(callbacks_of_a_promise_run_here_when_it_is_kept_there, ex)
{
	crew_future *f = promise_of_int();
	int sum = 0, y;

	CHECK_EQ(crew_future_on_done(f, add_to, &sum), 0);
	CHECK_EQ(crew_future_on_done(f, add_to, &sum), 0);
	crew_submit(ex, keep_it, crew_future_share(f), 4);
	while (__atomic_load_n(&sum, __ATOMIC_SEQ_CST) != 8)
		sched_yield();
	CHECK_EQ(crew_result(f, &y), 0);
	crew_future_free(f);
}

/* A callback that was registered before the promise was shared, nobody waits, and it was given back. */
TEST_EACH(a_promise_that_was_given_back_still_tells, ex)
{
	crew_future *f = promise_of_int();
	crew_promise p;
	int sum = 0;

	CHECK_EQ(crew_future_on_done(f, add_to, &sum), 0);
	p = crew_future_share(f);
	crew_submit(ex, keep_it, p, 6);
	crew_future_free(f);
	while (__atomic_load_n(&sum, __ATOMIC_SEQ_CST) != 6)
		sched_yield();
}

TEST_EACH(shared_and_local_futures_complete_in_one_loop, ex)
{
	crew_future *fs[4] = { promise_of_int(), crew_submit(ex, twice, 5), promise_of_int(), crew_submit(ex, twice, 6) };
	int sum = 0, n = 0, y;

	crew_submit(ex, keep_it, crew_future_share(fs[0]), 100);
	crew_submit(ex, keep_it, crew_future_share(fs[2]), 1000);
	CREW_AS_COMPLETED (f, fs, 4) {
		CHECK_EQ(crew_result(f, &y), 0);
		sum += y;
		n++;
	}
	CHECK_EQ(n, 4);
	CHECK_EQ(sum, 1122);
	crew_future_free(fs[0]);
	crew_future_free(fs[2]);
}

/* ---- in this process ---- */

TEST(a_handle_may_be_opened_where_it_was_made)
{
	crew_future *f = promise_of_int(), *g = crew_promise_future(crew_future_share(f));
	int y = 0;

	CHECK(f != g);
	CHECK_EQ(crew_result_within(f, &y, 0), -ETIMEDOUT);
	CHECK_EQ(keep(g, 8), 0);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 8);
	CHECK_EQ(keep(f, 9), -EALREADY);
	crew_future_free(g);
	crew_future_free(f);
}

TEST(set_running_and_cancel_answer_alike_everywhere)
{
	crew_future *f = promise_of_int(), *g = crew_promise_future(crew_future_share(f));

	CHECK_EQ(crew_future_set_running(g), 0);
	CHECK(crew_future_running(f));
	CHECK_EQ(crew_future_set_running(f), -EALREADY);
	CHECK_EQ(crew_future_cancel(f, "late"), 0);
	CHECK_EQ(keep(f, 1), 0);
	CHECK_EQ(crew_future_cancel(g, "later"), -EALREADY);
	crew_future_free(f);
	crew_future_free(g);
	f = promise_of_int();
	g = crew_promise_future(crew_future_share(f));
	CHECK_EQ(crew_future_cancel(g, "not needed"), 1);
	CHECK(crew_future_cancelled(f));
	CHECK_STR(crew_future_error(f)->message, "not needed");
	CHECK_EQ(crew_future_set_running(f), -ECANCELED);
	CHECK_EQ(crew_future_cancel(f, "again"), 1);
	CHECK_EQ(keep(f, 1), -EALREADY);
	crew_future_free(f);
	crew_future_free(g);
}

TEST(a_wrong_type_is_refused_everywhere)
{
	crew_future *f = promise_of_int(), *g = crew_promise_future(crew_future_share(f));
	double x = 1;

	CHECK_EQ(crew_future_set_result(g, &x, CREW_TYPE_OF(double)), CREW_ETYPE);
	CHECK_EQ(crew_result_within(g, &x, 0), -ETIMEDOUT);
	CHECK_EQ(keep(g, 1), 0);
	CHECK_EQ(crew_result(f, &x), CREW_ETYPE);
	crew_future_free(f);
	crew_future_free(g);
}

/* Done before it is shared: the handle carries the outcome. */
TEST(what_is_done_may_be_shared)
{
	crew_future *f = promise_of_int(), *g;
	int y = 0;

	keep(f, 3);
	g = crew_promise_future(crew_future_share(f));
	CHECK_EQ(crew_result(g, &y), 0);
	CHECK_EQ(y, 3);
	CHECK_EQ(keep(g, 4), CREW_EHANDLE);
	crew_future_free(f);
	CHECK_EQ(crew_result(g, &y), 0);
	crew_future_free(g);
}

TEST(a_future_that_stands_for_a_task_cannot_be_kept)
{
	CREW_SCOPE (ex, crew_inline_open()) {
		crew_future *g = crew_promise_future(crew_future_share(crew_submit(ex, twice, 2)));

		CHECK_EQ(keep(g, 4), CREW_EHANDLE);
		crew_future_free(g);
	}
}

TEST(a_handle_of_nothing_gives_a_failed_future)
{
	crew_future *f = promise_of_int(), *g = crew_promise_future((crew_promise){ 0, 0 });
	crew_promise p = crew_future_share(f);

	CHECK_EQ(crew_future_error(g)->code, CREW_EHANDLE);
	crew_future_free(g);
	g = crew_promise_future((crew_promise){ p.id_ + 1, p.type_ });
	CHECK_EQ(crew_future_error(g)->code, CREW_EHANDLE);
	crew_future_free(g);
	g = crew_promise_future((crew_promise){ p.id_, p.type_ ^ (uint64_t)1 << 32 });
	CHECK_EQ(crew_future_error(g)->code, CREW_EHANDLE);
	crew_future_free(g);
	crew_future_free(f);
	g = crew_promise_future(p);
	CHECK_EQ(crew_future_error(g)->code, CREW_EHANDLE);
	crew_future_free(g);
	g = crew_promise_future(crew_future_share(NULL));
	CHECK_EQ(crew_future_error(g)->code, CREW_EHANDLE);
	crew_future_free(g);
}

/* Its last reference goes here: who waits elsewhere learns it. */
TEST(a_promise_that_everybody_gave_back_is_broken)
{
	crew_future *f = promise_of_int(), *g = crew_promise_future(crew_future_share(f));
	int y;

	crew_future_free(f);
	CHECK_EQ(crew_result_within(g, &y, 20000), CREW_ERAISED);
	CHECK_EQ(crew_future_error(g)->code, CREW_EBROKEN);
	crew_future_free(g);
}

/* A handle that was not opened yet may still be kept: the promise is not broken. */
TEST(a_handle_on_its_way_keeps_a_promise)
{
	crew_future *f = promise_of_int(), *g;
	crew_promise p = crew_future_share(f);
	int y = 0;

	CHECK_EQ(crew_result_within(f, &y, 300), -ETIMEDOUT);
	g = crew_promise_future(p);
	keep(g, 2);
	crew_future_free(g);
	CHECK_EQ(crew_result(f, &y), 0);
	crew_future_free(f);
}

struct big {
	unsigned char bytes[4000];
};

CREW_TASK(int, keep_big, (crew_promise, p), (int, seed))
{
	crew_future *f = crew_promise_future(p);
	struct big big;
	int rc;

	memset(&big, seed, sizeof big);
	rc = crew_future_set_result(f, &big, CREW_TYPE_OF(struct big));
	crew_future_free(f);
	return rc;
}

TEST_EACH(structs_travel_by_value, ex)
{
	crew_future *f = crew_future_new(CREW_TYPE_OF(struct big));
	struct big y;

	crew_submit(ex, keep_big, crew_future_share(f), 7);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK(y.bytes[0] == 7 && y.bytes[3999] == 7);
	crew_future_free(f);
}

CREW_TASK(int, keep_text, (crew_promise, p), (const char *, text))
{
	crew_future *f = crew_promise_future(p);
	int rc = crew_future_set_result(f, &text, CREW_TYPE_OF(const char *));

	crew_future_free(f);
	return rc;
}

TEST_EACH(strings_travel_with_their_text, ex)
{
	static const char *const texts[] = { "", "short", "a text that does not fit into the forty-eight bytes of an outcome", NULL };

	for (int i = 0; i < 4; i++) {
		crew_future *f = crew_future_new(CREW_TYPE_OF(const char *));
		const char *y = "?";

		crew_submit(ex, keep_text, crew_future_share(f), texts[i]);
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_STR(y, texts[i]);
		crew_future_free(f);
	}
}

CREW_TASK(int, keep_bytes, (crew_promise, p), (size_t, n))
{
	crew_future *f = crew_promise_future(p);
	crew_bytes bytes = { malloc(n + 1), n };
	int rc;

	for (size_t i = 0; i < n; i++)
		((unsigned char *)bytes.data)[i] = (unsigned char)(i * 7);
	rc = crew_future_set_result(f, &bytes, CREW_TYPE_OF(crew_bytes));
	free(bytes.data);
	crew_future_free(f);
	return rc;
}

TEST_EACH(bytes_of_any_size_travel, ex)
{
	static const size_t sizes[] = { 0, 1, 16, 48, 49, 4096, 8193, 100000, 16 << 20 };

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		crew_future *f = crew_future_new(CREW_TYPE_OF(crew_bytes));
		crew_bytes y = { NULL, 1 };

		crew_submit(ex, keep_bytes, crew_future_share(f), sizes[i]);
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y.len, sizes[i]);
		for (size_t k = 0; k < y.len; k += y.len > 5000 ? 997 : 1)
			CHECK_EQ(((unsigned char *)y.data)[k], (unsigned char)(k * 7));
		crew_future_free(f);
	}
}
