/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outcomes.c: what lies in the family's memory behind shared futures, and that it goes.
 */
#include <crew/crew.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../runner.h"
#include "ipc/family.h"
#include "ipc/outcome.h"

static crew_future *promise_of_int(void)
{
	return crew_future_new(CREW_TYPE_OF(int));
}

static int keep(crew_future *f, int value)
{
	return crew_future_set_result(f, &value, CREW_TYPE_OF(int));
}

/* Outcomes that somebody has, once the dead are swept. */
static uint32_t alive(void)
{
	struct outcome *o;
	uint32_t n = 0;

	for (uint32_t i = 0; (o = crew__outcome_at(i)) != NULL; i++) {
		crew__outcome_sweep(o);
		n += (ck_pr_load_64(&o->life) & LIFE_STATE) != LIFE_FREE;
	}
	return n;
}

static void share_and_keep(void)
{
	crew_future *f = promise_of_int(), *g = crew_promise_future(crew_future_share(f));
	int y = 0;

	CHECK_EQ(keep(g, 3), 0);
	CHECK_EQ(crew_result(f, &y), 0);
	crew_future_free(g);
	crew_future_free(f);
}

TEST(a_hundred_thousand_shares_leave_nothing)
{
	size_t before;

	share_and_keep();
	before = crew__family_used();
	for (size_t i = test_scaled(100000); i > 0; i--)
		share_and_keep();
	CHECK_EQ(crew__family_used(), before);
	CHECK_EQ(alive(), 0u);
}

/* Also those that nobody kept, whose values were large, that failed and that were cancelled. */
TEST(no_kind_of_end_leaves_anything)
{
	size_t before = 0;
	char text[500];
	crew_bytes bytes = { text, sizeof text };

	memset(text, 'x', sizeof text);
	for (int i = 0; i < 40; i++) {
		crew_future *f = crew_future_new(CREW_TYPE_OF(crew_bytes)), *g = crew_promise_future(crew_future_share(f));

		if (i % 4 == 0)
			CHECK_EQ(crew_future_set_result(f, &bytes, CREW_TYPE_OF(crew_bytes)), 0);
		else if (i % 4 == 1)
			CHECK_EQ(crew_future_set_error(g, 5, "five"), 0);
		else if (i % 4 == 2)
			CHECK_EQ(crew_future_cancel(g, "enough"), 1);
		CHECK_EQ(crew_future_set_result(f, &bytes, CREW_TYPE_OF(crew_bytes)), i % 4 == 3 ? 0 : -EALREADY);
		crew_future_free(f);
		crew_future_free(g);
		if (i == 3)
			before = crew__family_used();
	}
	CHECK_EQ(crew__family_used(), before);
	CHECK_EQ(alive(), 0u);
}

/* More handles and futures than have room in an outcome itself. */
TEST(many_may_have_one_promise)
{
	enum { N = 200 };
	crew_future *f = promise_of_int(), *g[N];
	crew_promise p[N];
	int y;

	for (int i = 0; i < N; i++)
		p[i] = crew_future_share(f);
	for (int i = 0; i < N; i++)
		g[i] = crew_promise_future(p[i]);
	CHECK_EQ(keep(g[N / 2], 4), 0);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(crew_result(g[i], &y), 0);
		CHECK_EQ(y, 4);
		crew_future_free(g[i]);
	}
	crew_future_free(f);
	CHECK_EQ(alive(), 0u);
}

/* Children die with futures in their hands; later shares sweep up after them, so memory does not grow with the dead. */
TEST(what_the_dead_had_is_swept)
{
	size_t used = 0;

	for (int round = 0; round < 40; round++) {
		crew_promise p[32];
		crew_future *f[32];
		pid_t child;
		int status;

		for (int i = 0; i < 32; i++) {
			f[i] = promise_of_int();
			p[i] = crew_future_share(f[i]);
		}
		child = fork();
		if (child == 0) {
			for (int i = 0; i < 32; i++)
				(void)crew_promise_future(p[i]);
			_exit(0);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK_EQ(status, 0);
		for (int i = 0; i < 32; i++)
			crew_future_free(f[i]);
		if (round == 9)
			used = crew__family_used();
	}
	CHECK_EQ(crew__family_used(), used);
	CHECK_EQ(alive(), 0u);
}

/* A stale handle does not find what has its place now. */
TEST(a_stale_handle_finds_nothing)
{
	crew_future *f = promise_of_int(), *g;
	crew_promise old = crew_future_share(f), now;

	crew_future_free(f);
	f = promise_of_int();
	now = crew_future_share(f);
	CHECK_EQ((uint32_t)now.id_, (uint32_t)old.id_);
	g = crew_promise_future(old);
	CHECK_EQ(crew_future_error(g)->code, CREW_EHANDLE);
	crew_future_free(g);
	CHECK_EQ(crew_result_within(f, &(int){ 0 }, 0), -ETIMEDOUT);
	crew_future_free(f);
	CHECK_EQ(alive(), 0u);
}

/* A process has one name, its children others; the dead are known, also while nobody has waited for them. */
TEST(members_live_until_they_die)
{
	uint64_t self = crew__member_self();
	int pipe_fds[2], status;
	siginfo_t info;
	pid_t child;

	CHECK_EQ(member_pid(self), getpid());
	CHECK(crew__member_lives(self) && same_member(self, crew__member_self()));
	CHECK_EQ(pipe(pipe_fds), 0);
	child = fork();
	if (child == 0) {
		uint64_t mine = crew__member_self();

		(void)!write(pipe_fds[1], &mine, sizeof mine);
		for (;;)
			pause();
	}
	CHECK_EQ(read(pipe_fds[0], &self, sizeof self), (ssize_t)sizeof self);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	CHECK_EQ(member_pid(self), child);
	CHECK(!same_member(self, crew__member_self()) && crew__member_lives(self));
	kill(child, SIGKILL);
	CHECK_EQ(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	CHECK(!crew__member_lives(self));
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(!crew__member_lives(self));
}
