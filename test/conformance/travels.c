/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * travels.c: futures that travel further than to workers: to children that the program forks by itself, and theirs; and through queues.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../carriers.h"

static crew_future *promise_of_int(void)
{
	return crew_future_new(CREW_TYPE_OF(int));
}

static int keep(crew_future *f, int value)
{
	return crew_future_set_result(f, &value, CREW_TYPE_OF(int));
}

CREW_TASK(int, await_it, (crew_promise, p))
{
	crew_future *f = crew_promise_future(p);
	int y = -1, rc = crew_result_within(f, &y, 20000);

	crew_future_free(f);
	return rc ? rc : y;
}

CREW_TASK(int, twice, (int, x))
{
	return 2 * x;
}

static void add_to(crew_future *f, void *arg)
{
	int y = 0;

	if (crew_result(f, &y) == 0)
		__atomic_add_fetch((int *)arg, y, __ATOMIC_SEQ_CST);
}

/* ---- in processes that the program forks ---- */

/* Every way to end would do; none of the test's own may run here. */
static void reap(pid_t child)
{
	int status;

	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(a_forked_child_keeps_and_its_parent_waits)
{
	crew_future *f = promise_of_int();
	crew_promise p = crew_future_share(f);
	pid_t child = fork();
	int y = 0;

	if (child == 0) {
		crew_future *g = crew_promise_future(p);

		_exit(keep(g, 5) == 0 ? 0 : 1);
	}
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(y, 5);
	reap(child);
	crew_future_free(f);
}

TEST(a_parent_keeps_and_its_grandchild_waits)
{
	crew_future *f = promise_of_int();
	crew_promise p = crew_future_share(f);
	pid_t child = fork();

	if (child == 0) {
		pid_t grandchild = fork();
		int y = 0, status = 1;

		if (grandchild == 0)
			_exit(crew_result_within(crew_promise_future(p), &y, 20000) == 0 && y == 6 ? 0 : 1);
		waitpid(grandchild, &status, 0);
		_exit(status ? 1 : 0);
	}
	CHECK_EQ(keep(f, 6), 0);
	reap(child);
	crew_future_free(f);
}

TEST(a_pointer_is_refused_elsewhere)
{
	crew_future *f = crew_future_new(CREW_TYPE_OF(int *));
	crew_promise p = crew_future_share(f);
	int x = 4, *y = &x;
	pid_t child = fork();

	if (child == 0) {
		crew_future *g = crew_promise_future(p);

		_exit(crew_future_error(g)->code == CREW_EPOINTER ? 0 : 1);
	}
	CHECK_EQ(crew_future_set_result(f, &y, CREW_TYPE_OF(int *)), 0);
	y = NULL;
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK(y == &x);
	reap(child);
	crew_future_free(f);
}

/* A task elsewhere is cancelled by its owner, on request; also why it was is told. */
TEST(a_task_may_be_cancelled_from_another_process)
{
	CREW_SCOPE (ex, crew_threads(1)) {
		crew_future *gate = promise_of_int(), *busy = crew_submit(ex, await_it, crew_future_share(gate)), *f = crew_submit(ex, twice, 1);
		crew_promise p = crew_future_share(f), q = crew_future_share(busy);
		pid_t child;

		while (!crew_future_running(busy))
			sched_yield();
		child = fork();
		if (child == 0) {
			crew_future *g = crew_promise_future(p), *h = crew_promise_future(q);
			int rc = crew_future_cancel(h, NULL);
			bool ok = rc == 0;

			while ((rc = crew_future_cancel(g, "no longer wanted")) == 0)
				; /* its owner has not answered within a second; it cannot run */
			ok = ok && rc == 1 && crew_future_cancelled(g) && !strcmp(crew_future_error(g)->message, "no longer wanted");
			while (!crew_future_running(h))
				sched_yield();
			_exit(ok ? 0 : 1);
		}
		reap(child);
		CHECK(crew_future_cancelled(f));
		CHECK_STR(crew_future_error(f)->message, "no longer wanted");
		keep(gate, 1);
		crew_future_wait(busy, CREW_FOREVER);
		crew_future_free(gate);
	}
}

/* Eight processes, one promise: exactly one set succeeds, and everybody sees its value. */
TEST(the_first_set_wins_wherever_it_is_made)
{
	enum { RACERS = 8 };

	for (int round = 0; round < (int)test_scaled(50); round++) {
		crew_future *f = promise_of_int(), *start = promise_of_int();
		crew_promise p[RACERS], s[RACERS];
		pid_t child[RACERS];
		int winner = -1, winners = 0, status;

		for (int i = 0; i < RACERS; i++) {
			p[i] = crew_future_share(f);
			s[i] = crew_future_share(start);
			child[i] = fork();
			if (child[i] == 0) {
				crew_future *g = crew_promise_future(p[i]), *go = crew_promise_future(s[i]);
				int seen = -1, rc;

				if (crew_result_within(go, &seen, 20000))
					_exit(100);
				rc = keep(g, i);
				if (crew_result(g, &seen) || (rc == 0 && seen != i) || (rc && rc != -EALREADY))
					_exit(101);
				_exit(rc == 0 ? 50 + seen : seen);
			}
		}
		keep(start, 1);
		CHECK_EQ(crew_result(f, &winner), 0);
		for (int i = 0; i < RACERS; i++) {
			CHECK_EQ(waitpid(child[i], &status, 0), child[i]);
			CHECK(WIFEXITED(status));
			CHECK_EQ(WEXITSTATUS(status) % 50, winner);
			winners += WEXITSTATUS(status) >= 50;
		}
		CHECK_EQ(winners, 1);
		crew_future_free(f);
		crew_future_free(start);
	}
}

/* ---- through queues, to whoever is on the other side ---- */

struct post {
	crew_queue out, back;
};

static void keep_what_comes(const void *arg)
{
	const struct post *post = arg;
	crew_promise p;

	for (int i = 0; i < 20; i++) {
		crew_future *f;

		CHECK_EQ(crew_get(post->out, &p), 0);
		f = crew_promise_future(p);
		CHECK_EQ(keep(f, i), 0);
		crew_future_free(f);
	}
}

TEST_CARRIED(handles_go_through_a_queue)
{
	struct post post = { .out = crew_queue_make(.item = sizeof(crew_promise)) };
	crew_future *fs[20];
	int y;

	for (int i = 0; i < 20; i++) {
		crew_promise p;

		fs[i] = promise_of_int();
		p = crew_future_share(fs[i]);
		CHECK_EQ(crew_put(post.out, &p), 0);
	}
	carry(keep_what_comes, &post, sizeof post);
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(crew_result(fs[i], &y), 0);
		CHECK_EQ(y, i);
		crew_future_free(fs[i]);
	}
	carried_join();
	crew_queue_drop(post.out);
}

/* The other side watches a promise of ours and gives us one of its own, which we keep when its callback has run. */
static void watch_and_offer(const void *arg)
{
	const struct post *post = arg;
	crew_future *f, *mine = promise_of_int();
	crew_promise p;
	int sum = 0, y = 0;

	CHECK_EQ(crew_get(post->out, &p), 0);
	f = crew_promise_future(p);
	CHECK_EQ(crew_future_on_done(f, add_to, &sum), 0);
	CHECK_EQ(crew_future_on_done(mine, add_to, &sum), 0);
	p = crew_future_share(mine);
	CHECK_EQ(crew_put(post->back, &p), 0);
	CHECK_EQ(crew_result(mine, &y), 0);
	CHECK_EQ(y, 30);
	while (__atomic_load_n(&sum, __ATOMIC_SEQ_CST) != 42)
		sched_yield();
	crew_future_free(f);
	crew_future_free(mine);
}

TEST_CARRIED(callbacks_run_on_both_sides)
{
	struct post post = { crew_queue_make(.item = sizeof(crew_promise)), crew_queue_make(.item = sizeof(crew_promise)) };
	crew_future *f = promise_of_int(), *theirs;
	crew_promise p = crew_future_share(f);
	int sum = 0;

	carry(watch_and_offer, &post, sizeof post);
	CHECK_EQ(crew_put(post.out, &p), 0);
	CHECK_EQ(crew_get(post.back, &p), 0);
	theirs = crew_promise_future(p);
	CHECK_EQ(crew_future_on_done(theirs, add_to, &sum), 0);
	CHECK_EQ(keep(f, 12), 0);
	CHECK_EQ(keep(theirs, 30), 0);
	while (__atomic_load_n(&sum, __ATOMIC_SEQ_CST) != 30)
		sched_yield();
	carried_join();
	crew_future_free(theirs);
	crew_future_free(f);
	crew_queue_drop(post.out);
	crew_queue_drop(post.back);
}
