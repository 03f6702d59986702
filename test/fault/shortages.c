/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shortages.c: what if there is no more? The k-th call that asks the system for something fails, for every k until a round of work asks less often
 * than that; once, and from then on.
 *
 *	for each executor, for each call: k = 1, 2, … { arm · open, work, close · disarm · nothing left? }
 *
 * What must hold each time: an executor that could not be opened says why; every future ends, with the right value or an error; an executor that is not
 * broken works again when the shortage is over; after the close nothing is left of it, not one block of memory, no descriptor, child, thread or mapping.
 *
 * The count goes on in processes that are forked meanwhile, each on its own copy: so zygote and workers run short, too.
 */
#include <crew/crew.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "census.h"
#include "runner.h"
#include "shortage.h"

/* ---- a round of work ---- */

CREW_TASK(long, twice, (long, x))
{
	return 2 * x;
}

CREW_TASK(crew_bytes, echo, (crew_bytes, in))
{
	return crew_result_copy(in.data, in.len);
}

CREW_TASK(const char *, name, (const char *, of), (int, n))
{
	return n ? of : NULL;
}

CREW_TASK(int, refuse, (int, code))
{
	return crew_raise(code, "no");
}

struct wide {
	long word[12];
};
CREW_TASK(struct wide, spread, (long, x))
{
	struct wide wide;

	for (int i = 0; i < 12; i++)
		wide.word[i] = x;
	return wide;
}

enum { BIG = 200000 };
static unsigned char big[BIG];

/* The future has ended, one way or the other; true: well. */
static bool ended(crew_future *f, int code)
{
	crew_error error = *crew_future_error(f);

	CHECK(crew_future_done(f));
	CHECK_NE(code, -ETIMEDOUT);
	CHECK_NE(code, -EDEADLK);
	if (code == 0)
		CHECK_EQ(error.code, 0);
	else if (code == CREW_ERAISED)
		CHECK(error.code != 0 && error.message[0]);
	return code == 0;
}

static void count(crew_future *f, void *counter)
{
	(void)f;
	__atomic_add_fetch((int *)counter, 1, __ATOMIC_RELAXED);
}

static void numbers(crew_executor *ex)
{
	crew_future *fs[8];
	int counter = 0, registered = 0;
	long y;

	for (long i = 0; i < 8; i++)
		fs[i] = crew_submit(ex, twice, i);
	for (int i = 0; i < 8; i++)
		registered += crew_future_on_done(fs[i], count, &counter) == 0;
	CHECK_GE(crew_wait(fs, 8, CREW_ALL_COMPLETED, 20000), -ENOMEM);
	for (long i = 0; i < 8; i++) {
		int code = crew_result_within(fs[i], &y, 20000);

		if (ended(fs[i], code))
			CHECK_EQ(y, 2 * i);
		crew_future_free(fs[i]);
	}
	CHECK_NE(crew_executor_wait(ex, 20000), -ETIMEDOUT); /* callbacks come after the waiters were woken */
	CHECK_EQ(__atomic_load_n(&counter, __ATOMIC_RELAXED), registered);
}

static void runs(crew_executor *ex)
{
	crew_bytes in = { big, BIG }, out;
	crew_future *f = crew_submit(ex, echo, in);
	struct wide wide;
	const char *text;

	if (ended(f, crew_result_within(f, &out, 20000)))
		CHECK(out.len == BIG && memcmp(out.data, big, BIG) == 0);
	crew_future_free(f);
	f = crew_submit(ex, name, "a text", 1);
	if (ended(f, crew_result_within(f, &text, 20000)))
		CHECK(strcmp(text, "a text") == 0);
	crew_future_free(f);
	f = crew_submit(ex, spread, 7);
	if (ended(f, crew_result_within(f, &wide, 20000)))
		CHECK(wide.word[0] == 7 && wide.word[11] == 7);
	crew_future_free(f);
}

static void failures(crew_executor *ex)
{
	crew_future *f = crew_submit_with(ex, (.priority = 1, .timeout_ms = 20000), refuse, EDOM);
	int y;

	CHECK(!ended(f, crew_result_within(f, &y, 20000)));
	crew_future_free(f);
}

static void many(crew_executor *ex)
{
	long in[64], out[64];
	int rc;

	for (long i = 0; i < 64; i++)
		in[i] = i;
	rc = crew_map(ex, twice, in, out, 64);
	for (long i = 0; rc == 0 && i < 64; i++)
		CHECK_EQ(out[i], 2 * i);
	CREW_SCOPE (g, crew_group(ex)) {
		long y;

		rc = crew_run(g, &y, twice, 4);
		if (rc == 0)
			CHECK_EQ(y, 8);
	}
}

/* Each once, whatever there is no memory for: the set that orders them, or the futures themselves, which are then all the same one. */
static void one_by_one(crew_executor *ex)
{
	crew_future *fs[5];
	int told = 0, different = 0;

	for (long i = 0; i < 4; i++)
		fs[i] = crew_submit(ex, twice, i);
	fs[4] = fs[0];
	for (int i = 0; i < 5; i++) {
		bool again = false;

		for (int k = 0; k < i; k++)
			again |= fs[k] == fs[i];
		different += !again;
	}
	CREW_AS_COMPLETED_WITHIN (f, fs, 5, 20000, NULL) {
		long y;

		ended(f, crew_result_within(f, &y, 0));
		told++;
	}
	CHECK_EQ(told, different);
	for (int i = 0; i < 4; i++)
		crew_future_free(fs[i]);
}

static void delivered(crew_future *f, void *counter)
{
	count(f, counter);
}

static void events(crew_executor *ex)
{
	int counter = 0;
	struct pollfd readable = { crew_executor_fd(ex), POLLIN, 0 };

	crew_submit_to(ex, delivered, &counter, twice, 3);
	while (counter == 0 && readable.fd >= 0) {
		CHECK_EQ(poll(&readable, 1, 20000), 1);
		crew_drain(ex);
	}
	CHECK_LE(counter, 1);
}

static void share(crew_executor *ex)
{
	crew_bytes block = crew_shared_alloc(ex, 70000), out;
	crew_future *f;

	if (!block.data)
		return;
	memset(block.data, 7, block.len);
	f = crew_submit(ex, echo, block);
	if (ended(f, crew_result_within(f, &out, 20000)))
		CHECK(out.len == 70000 && memcmp(out.data, block.data, 70000) == 0);
	crew_future_free(f);
	crew_shared_free(ex, block);
}

static void work(crew_executor *ex)
{
	numbers(ex);
	runs(ex);
	failures(ex);
	many(ex);
	one_by_one(ex);
	events(ex);
	share(ex);
}

/* ---- the sweep ---- */

struct opener {
	const char *name;
	crew_executor *(*open)(void);
};

static crew_executor *open_inline(void)
{
	return crew_inline();
}

static crew_executor *open_threads(void)
{
	return crew_threads(2);
}

static crew_executor *open_forked(void)
{
	return crew_processes(.workers = 2, .start = CREW_START_FORK);
}

static bool for_ever;

/* One life under a shortage. */
static void live_once(const struct opener *opener, enum call call, long k)
{
	crew_executor *ex;
	crew_error error;
	long y;

	if (k)
		shortage_begin(call, k, for_ever);
	ex = opener->open();
	if (crew_executor_error(ex, &error))
		CHECK(error.code != 0 && error.message[0]);
	work(ex);
	shortage_end();
	if (crew_executor_error(ex, NULL) == 0 && (crew_run(ex, &y, twice, 21) || y != 42))
		test_fail(__FILE__, __LINE__, "%s: no work after the %ld-th %s failed", opener->name, k, shortage_of(call));
	CHECK_EQ(crew_executor_close(ex), NULL);
}

/* Blocks that each such life leaves. What one may add to the process for good (a leaf of the map of records) it adds once. */
static long leak_of(const struct opener *opener, enum call call, long k, long *baseline)
{
	long before = *baseline;

	live_once(opener, call, k);
	*baseline = shortage_live();
	if (*baseline == before)
		return 0;
	before = *baseline;
	live_once(opener, call, k);
	*baseline = shortage_live();
	return *baseline - before;
}

static void sweep(const struct opener *opener, bool lasting)
{
	struct census before;
	char left[400];
	long baseline, leak;

	for_ever = lasting;
	shortage_prepare();
	memset(big, 5, sizeof big);
	live_once(opener, CALLS, 0);
	live_once(opener, CALLS, 0); /* what the first one leaves in the process for good is there */
	baseline = shortage_live();
	census_take(&before);
	for (enum call call = 0; call < CALLS && !(lasting && call == SEND) /* a socket that never takes anything is a dead one */; call++) {
		long k = 0, step = test_scaled(100) >= 100 ? 1 : 3;

		do {
			k += k < 8 ? 1 : step;
			leak = leak_of(opener, call, k, &baseline);
			if (leak)
				test_fail(__FILE__, __LINE__, "%s, the %ld-th %s fails: %ld blocks are left", opener->name, k, shortage_of(call), leak);
			if (!census_settled(&before, left, sizeof left))
				test_fail(__FILE__, __LINE__, "%s, the %ld-th %s fails: left behind: %s", opener->name, k, shortage_of(call), left);
		} while (shortage_came());
		fprintf(stderr, "%s: %s fails at each of %ld places%s\n", opener->name, shortage_of(call), k - 1, lasting ? ", for good" : "");
	}
	shortage_finish();
}

#define SWEEP(name_, opener_)                                       \
	TEST_WITHIN (name_##_survives_any_call_that_fails_once, 300) \
	{                                                           \
		sweep(&opener_, false);                             \
	}                                                           \
	TEST_WITHIN (name_##_survives_any_call_that_fails_for_good, 300) \
	{                                                           \
		sweep(&opener_, true);                              \
	}

static const struct opener inlined = { "inline", open_inline }, threaded = { "threads", open_threads },
			   forked = { "processes", open_forked };

SWEEP(inline_executor, inlined)
SWEEP(thread_executor, threaded)
SWEEP(process_executor, forked)
