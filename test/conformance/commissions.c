/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * commissions.c: what a task gives to the tasks that it submits, and has from them, where that is of an unusual form: nothing at all, options, plain arguments that
 * are larger than most. nesting.c has the rest. An executor of more workers than its smallest memory is for.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "gate.h"
#include "kinds.h"

#define HERE crew_task_executor()

CREW_TASK(const char *, no_string, (crew_bytes, gate))
{
	gate_arrive(gate.data);
	return NULL;
}
CREW_TASK(crew_bytes, no_bytes, (crew_bytes, gate))
{
	gate_arrive(gate.data);
	return crew_bytes_make(NULL, 0);
}
CREW_TASK(int, one_more, (int, x))
{
	return x + 1;
}

/* `apart`: both have run elsewhere before they are asked for. */
CREW_TASK(int, asks_for_nothing, (crew_bytes, gate), (int, apart))
{
	const char *text = "text";
	crew_bytes bytes = crew_bytes_str("bytes");
	crew_future *f = crew_submit(HERE, no_string, gate), *g = crew_submit(HERE, no_bytes, gate);

	if (apart)
		gate_await(gate.data, 2);
	return crew_take(f, &text, NULL) || text || crew_take(g, &bytes, NULL) || bytes.data || bytes.len;
}
TEST_EACH(nothing_comes_back_from_a_child_as_nothing, ex)
{
	int y = 1;

	for (int apart = 0; apart < (kind->traits & SINGLE ? 1 : 2); apart++) {
		GATE (g, ex);

		CHECK_EQ(crew_run(ex, &y, asks_for_nothing, g.bytes, apart), 0);
		CHECK_EQ(y, 0);
	}
}

struct wide {
	long v[40];
};
CREW_TASK(long, sum, (struct wide, w))
{
	long all = 0;

	for (int i = 0; i < 40; i++)
		all += w.v[i];
	return all;
}
CREW_TASK(long, has_many_added, (int, n))
{
	struct wide w;
	long y = 0;

	for (int i = 0; i < 40; i++)
		w.v[i] = n;
	return crew_run(HERE, &y, sum, w) ? -1 : y;
}
TEST_EACH(large_plain_arguments_reach_a_child, ex)
{
	long y = 0;

	CHECK_EQ(crew_run(ex, &y, has_many_added, 3), 0);
	CHECK_EQ(y, 120);
}

CREW_TASK(int, gives_it_time, (int, x))
{
	crew_future *f = crew_submit_with(HERE, (.timeout_ms = 600000), one_more, x);
	int y = 0;

	return crew_take(f, &y, NULL) ? -1 : y;
}
TEST_EACH(a_child_may_have_options, ex)
{
	int y = 0;

	CHECK_EQ(crew_run(ex, &y, gives_it_time, 4), 0);
	CHECK_EQ(y, 5);
}

/* Its first life is killed; the second one says how it went, and that it was the second. */
CREW_TASK(int, dies_and_raises, (crew_bytes, gate), (int, not_this))
{
	gate_add(gate.data, 0);
	if (getpid() != not_this && gate_count(gate.data, 0) == 1)
		raise(SIGKILL);
	return crew_raise(ENOENT, "not again");
}
TEST_EACH(an_error_counts_the_attempts, ex)
{
	crew_future *f;
	GATE (g, ex);

	if (!(kind->traits & SEPARATE))
		SKIP("a worker cannot die alone there");
	f = crew_submit_with(ex, (.retries = 1), dies_and_raises, g.bytes, (int)getpid());
	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, ENOENT);
	CHECK_EQ(crew_future_error(f)->attempts, 2);
	CHECK_EQ(gate_count(g.at, 0), 2u);
}

TEST_KIND(twenty_workers_share_the_work)
{
	int in[200], out[200];

	NOT_WHERE(IMMEDIATE | GROUPED, "it has no workers of its own");
	for (int i = 0; i < 200; i++)
		in[i] = i;
	CREW_SCOPE (ex, kind_open(.workers = 20)) {
		CHECK_EQ(crew_executor_workers(ex), 20);
		CHECK_EQ(crew_map(ex, one_more, in, out, 200), 0);
		for (int i = 0; i < 200; i++)
			CHECK_EQ(out[i], i + 1);
	}
}
