/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scopes.c: every way out of a CREW_SCOPE waits, gives futures back and closes. The runner's census sees what is left.
 */
#include <errno.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, twice, (int, n))
{
	return 2 * n;
}

/* Memory that outlives the scope: the counter is our own, the executor's is gone. */
static uint32_t runs;
static void count_run(crew_future *f, void *arg)
{
	(void)f, (void)arg;
	__atomic_add_fetch(&runs, 1, __ATOMIC_SEQ_CST);
}
static void submit_ten(crew_executor *ex)
{
	for (int i = 0; i < 10; i++)
		crew_future_on_done(crew_submit(ex, twice, i), count_run, NULL);
}

TEST_KIND(the_end_of_a_scope_waits)
{
	CREW_SCOPE (ex, kind_open())
		submit_ten(ex);
	CHECK_EQ(runs, 10u);
}

/* break leaves the scope, not a loop around it. */
TEST_KIND(break_leaves_the_scope_only)
{
	int turns = 0;

	for (int i = 0; i < 3; i++) {
		CREW_SCOPE (ex, kind_open()) {
			submit_ten(ex);
			if (i < 3)
				break;
			turns = 1000;
		}
		CHECK_EQ(runs, 10u * (uint32_t)(i + 1));
		turns++;
	}
	CHECK_EQ(turns, 3);
}

TEST_KIND(continue_leaves_the_scope_only)
{
	int turns = 0;

	for (int i = 0; i < 2; i++) {
		CREW_SCOPE (ex, kind_open()) {
			submit_ten(ex);
			if (i < 2)
				continue;
			turns = 1000;
		}
		turns++;
	}
	CHECK_EQ(turns, 2);
	CHECK_EQ(runs, 20u);
}

static int leaves_by_return(void)
{
	CREW_SCOPE (ex, kind_open()) {
		submit_ten(ex);
		return 7;
	}
	return 8;
}
TEST_KIND(return_waits_and_closes)
{
	CHECK_EQ(leaves_by_return(), 7);
	CHECK_EQ(runs, 10u);
}

TEST_KIND(goto_waits_and_closes)
{
	CREW_SCOPE (ex, kind_open()) {
		submit_ten(ex);
		goto out;
	}
	CHECK(0);
out:
	CHECK_EQ(runs, 10u);
}

/* The body may be a single statement, and scopes nest. */
TEST_KIND(scopes_nest)
{
	int y = 0, z = 0;

	CREW_SCOPE (a, kind_open())
		CREW_SCOPE (b, crew_inline()) {
			CHECK_EQ(crew_result(crew_submit(a, twice, 1), &y), 0);
			CHECK_EQ(crew_result(crew_submit(b, twice, 2), &z), 0);
		}
	CHECK(y == 2 && z == 4);
}

/* CREW_AUTO: the rest of the enclosing block. */
static int uses_auto(void)
{
	int y = 0;

	CREW_AUTO (ex, kind_open());
	submit_ten(ex);
	return crew_run(ex, &y, twice, 4) == 0 ? y : -1;
}
TEST_KIND(auto_closes_at_the_end_of_its_block)
{
	CHECK_EQ(uses_auto(), 8);
	CHECK_EQ(runs, 10u);
}

/* A failed opener does not skip the body: each submit fails, crew_executor_error says why, nothing hangs. */
TEST(a_scope_over_a_failed_opener_runs_and_fails)
{
	int turns = 0, y = 5;
	crew_error e;

	CREW_SCOPE (ex, crew_threads(.workers = -1)) {
		CHECK_EQ(crew_executor_error(ex, &e), -EINVAL);
		CHECK_EQ(e.code, -EINVAL);
		CHECK(e.message[0] != 0);
		CHECK_NE(crew_result(crew_submit(ex, twice, 1), &y), 0);
		CHECK_EQ(y, 5);
		turns++;
	}
	CHECK_EQ(turns, 1);
}

/* A scope with nothing submitted leaves nothing behind. */
TEST_KIND(an_idle_scope_leaves_nothing)
{
	for (int i = 0; i < 5; i++)
		CREW_SCOPE (ex, kind_open())
			crew_executor_workers(ex);
}

/* Open and close, again and again. */
TEST_KIND(scopes_can_be_opened_again_and_again)
{
	int rounds = kind->traits & SEPARATE ? 20 : 100, y;

	for (int i = 0; i < rounds; i++)
		CREW_SCOPE (ex, kind_open()) {
			CHECK_EQ(crew_run(ex, &y, twice, i), 0);
			CHECK_EQ(y, 2 * i);
		}
}
