/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * forking.c: what a forked child may do with its parent's executors and futures (nothing, and it is told so), and with its own (everything).
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, answer)
{
	return 42;
}

static crew_executor *parents;
static crew_future *done, *pending;
static crew_stream *stream;
static crew_inbox *inbox;
static crew_pool *pool;

/* A child of a program with threads has the leak checker's lock as some thread held it: it would wait for that thread at exit(). */
static bool forked;
#if TEST_ASAN
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return forked;
}
#endif

/* Run body in a forked child, which checks for itself; it ends by _exit, as a child of a threaded program should. */
static void in_child(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		forked = true;
		body();
		_exit(0);
	}
	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void asks_executor(void)
{
	struct crew_stats stats;
	int y = 3, in = 1;
	crew_future *f = crew_submit(parents, answer);

	CHECK(f != NULL && crew_future_done(f));
	CHECK_EQ(crew_result(f, &y), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, CREW_EFORKED);
	CHECK(crew_future_free(f) == NULL);
	CHECK_EQ(crew_post(parents, answer), CREW_EFORKED);
	CHECK(crew_run(parents, &y, answer) < 0);
	CHECK_EQ(crew_executor_shutdown(parents, CREW_CANCEL_PENDING, CREW_FOREVER), CREW_EFORKED);
	CHECK_EQ(crew_executor_wait(parents, CREW_FOREVER), CREW_EFORKED);
	CHECK_EQ(crew_executor_cancel(parents, NULL), CREW_EFORKED);
	CHECK_EQ(crew_executor_error(parents, NULL), CREW_EFORKED);
	CHECK_EQ(crew_executor_stats(parents, &stats, sizeof stats), CREW_EFORKED);
	CHECK_EQ(crew_executor_fd(parents), CREW_EFORKED);
	CHECK_EQ(crew_drain(parents), CREW_EFORKED);
	CHECK_EQ(crew_executor_unfinished(parents, NULL, 0), CREW_EFORKED);
	CHECK(crew_shared_alloc(parents, 10).data == NULL);
	crew_shared_free(parents, crew_bytes_make(&in, sizeof in));
	CHECK(y == 3 && in == 1);
}
/* In the child every executor of the parent answers CREW_EFORKED and touches nothing. */
TEST_EACH(in_a_forked_child_the_executor_is_eforked, ex)
{
	int y = 0;

	parents = ex;
	CHECK_EQ(crew_future_wait(crew_submit(ex, answer), CREW_FOREVER), 0);
	in_child(asks_executor);
	CHECK_EQ(crew_result(crew_submit(ex, answer), &y), 0); /* the parent's is as it was */
	CHECK_EQ(y, 42);
}

static void asks_futures(void)
{
	crew_future *fs[] = { done, pending };
	int y = 3;

	for (int i = 0; i < 2; i++) {
		CHECK_EQ(crew_result(fs[i], &y), CREW_EFORKED);
		CHECK_EQ(crew_result_within(fs[i], &y, 0), CREW_EFORKED);
		CHECK_EQ(crew_future_cancel(fs[i], NULL), CREW_EFORKED);
		CHECK_EQ(crew_future_error(fs[i])->code, CREW_EFORKED);
		CHECK(!crew_future_done(fs[i]) && !crew_future_running(fs[i]) && !crew_future_cancelled(fs[i]));
		CHECK_EQ(crew_future_set_data(fs[i], &y), CREW_EFORKED);
		CHECK(crew_future_free(fs[i]) == NULL);
		CHECK_EQ(crew_take(fs[i], &y, NULL), CREW_EFORKED);
	}
	CHECK_EQ(crew_wait(fs, 2, CREW_ALL_COMPLETED, CREW_FOREVER), CREW_EFORKED);
	CHECK_EQ(crew_wait_any(fs, 2, CREW_FOREVER), CREW_EFORKED);
	CHECK_EQ(y, 3);
}
/* Nor do its futures: no hang, no answer that may be stale. */
TEST_EACH(in_a_forked_child_futures_are_eforked, ex)
{
	GATE (g, ex);
	int y = 0;

	done = crew_submit(ex, answer);
	CHECK_EQ(crew_future_wait(done, CREW_FOREVER), 0);
	pending = crew_submit(ex, held, g.bytes, 5);
	in_child(asks_futures);
	gate_open(g.at);
	CHECK_EQ(crew_result(pending, &y), 0);
	CHECK_EQ(y, 5);
	CHECK_EQ(crew_result(done, &y), 0);
}

/* The child may open executors of its own, of every kind, while the parent's are busy. */
static void opens_its_own(void)
{
	int y = 0;

	CREW_SCOPE (ex, kind_open()) {
		CHECK_EQ(crew_executor_error(ex, NULL), 0);
		CHECK_EQ(crew_result(crew_submit(ex, answer), &y), 0);
	}
	CHECK_EQ(y, 42);
	CREW_SCOPE (ex, crew_inline())
		CHECK_EQ(crew_run(ex, &y, answer), 0);
}
TEST_EACH(a_forked_child_may_open_its_own, ex)
{
	GATE (g, ex);

	if (TEST_TSAN || TEST_ASAN)
		SKIP("a sanitizer's allocator and threads do not survive the fork of a threaded program");
	crew_submit(ex, held, g.bytes, 5);
	in_child(opens_its_own);
}

/* It may close the parent's, and leave by exit() too: both do nothing to the parent. */
static void closes_and_exits(void)
{
	crew_executor_close(parents);
	exit(0);
}
static void leaves_by_exit(void)
{
	exit(0);
}
TEST_EACH(a_forked_child_may_close_the_parents_and_exit, ex)
{
	int y = 0;

	parents = ex;
	CHECK_EQ(crew_future_wait(crew_submit(ex, answer), CREW_FOREVER), 0);
	in_child(closes_and_exits);
	in_child(leaves_by_exit);
	CHECK_EQ(crew_result(crew_submit(ex, answer), &y), 0);
	CHECK_EQ(y, 42);
}

/* A fork in the middle of everything, again and again: the child never hangs, the parent loses nothing. */
TEST_EACH(a_program_may_fork_while_its_executor_is_busy, ex)
{
	enum { N = 2000 };
	static crew_future *fs[N];
	int y;

	parents = ex;
	for (int i = 0; i < N; i++) {
		fs[i] = crew_submit(ex, answer);
		if (i % 100 == 50)
			in_child(asks_executor);
	}
	for (int i = 0; i < N; i++) {
		CHECK_EQ(crew_result(fs[i], &y), 0);
		CHECK_EQ(y, 42);
	}
}

/* Promises are objects like any other. */
static void asks_promise(void)
{
	int y = 3;

	CHECK_EQ(crew_result(pending, &y), CREW_EFORKED);
	CHECK_EQ(crew_future_set_result(pending, &y, CREW_TYPE_OF(int)), CREW_EFORKED);
	CHECK(crew_future_free(pending) == NULL);
}
TEST(in_a_forked_child_a_promise_is_eforked)
{
	int y = 4;

	pending = crew_future_new(CREW_TYPE_OF(int));
	in_child(asks_promise);
	CHECK_EQ(crew_future_set_result(pending, &y, CREW_TYPE_OF(int)), 0);
	crew_future_free(pending);
}

/* Streams too. */
static int feed_one(void *state, CREW_ARGS(answer) *args)
{
	(void)args;
	return (*(int *)state)-- > 0;
}
static void pulls(void)
{
	int y;

	CHECK_EQ(crew_next(stream, &y), CREW_EFORKED);
}
TEST_EACH(in_a_forked_child_a_stream_is_eforked, ex)
{
	int n = 3, y;

	stream = crew_imap(ex, answer, feed_one, &n);
	CHECK_EQ(crew_next(stream, &y), 1);
	in_child(pulls);
	CHECK_EQ(crew_next(stream, &y), 1);
	crew_stream_close(stream);
}

/* And inboxes, and pools. */
static void asks_inbox_and_pool(void)
{
	crew_error error;
	int y = 3;

	CHECK_EQ(crew_inbox_fd(inbox), CREW_EFORKED);
	CHECK_EQ(crew_inbox_drain(inbox), CREW_EFORKED);
	CHECK_EQ(crew_inbox_close(inbox), NULL);
	CHECK_EQ(crew_pool_apply(pool, &y, answer), CREW_ERAISED);
	CHECK_EQ(crew_pool_error(pool, &error), CREW_EFORKED);
	CHECK_EQ(crew_pool_close(pool), NULL);
}
TEST(in_a_forked_child_an_inbox_and_a_pool_are_eforked)
{
	int y = 0;

	inbox = crew_inbox_open();
	pool = crew_threadpool(1);
	in_child(asks_inbox_and_pool);
	CHECK_EQ(crew_inbox_drain(inbox), 0);
	CHECK_EQ(crew_inbox_close(inbox), NULL);
	CHECK_EQ(crew_pool_apply(pool, &y, answer), 0);
	CHECK_EQ(y, 42);
	CHECK_EQ(crew_pool_close(pool), NULL);
}
