/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reapers.c: single children of programs that reap whatever there is, or ignore SIGCHLD. No zombie stays, and no status is waited for that will not come.
 */
#include <crew/crew.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

CREW_TASK(int, give, (int, x))
{
	return x;
}

CREW_TASK(void, sleep_for_ever)
{
	for (;;)
		pause();
}

TEST(a_child_ends_where_sigchld_is_ignored)
{
	struct crew_status status;
	crew_process *p, *q;
	int y;

	signal(SIGCHLD, SIG_IGN);
	p = crew_start_with((.start = CREW_START_FORK), give, 9);
	CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
	CHECK(!crew_process_alive(p));
	CHECK_EQ(crew_process_result(p, &y), 0);
	CHECK_EQ(y, 9);
	CHECK_EQ(crew_process_status(p, &status), 0);
	CHECK_EQ(status.exit_code, 9); /* the letter says so */
	q = crew_start_with((.start = CREW_START_FORK), sleep_for_ever);
	crew_process_kill(q);
	CHECK_EQ(crew_process_join(q, CREW_FOREVER), 0);
	CHECK(!crew_process_alive(q));
	CHECK_EQ(crew_process_status(q, &status), 0);
	CHECK(status.lost);
	CHECK_EQ(crew_process_exitcode(q, &y), -ENODATA);
	CHECK_EQ(crew_process_error(q)->code, -ENODATA);
	CHECK_HAS(crew_process_error(q)->message, "somebody else took its status");
	crew_process_close(p), crew_process_close(q);
	signal(SIGCHLD, SIG_DFL);
}

static uint32_t reaping; /* 1 when it has begun, 2 when it is to end */

CREW_TASK(int, reap_whatever_there_is)
{
	int count = 0;

	__atomic_store_n(&reaping, 1, __ATOMIC_RELAXED);
	while (__atomic_load_n(&reaping, __ATOMIC_RELAXED) == 1) {
		count += waitpid(-1, NULL, WNOHANG) > 0;
		sched_yield();
	}
	return count;
}

TEST(a_host_that_reaps_everything_is_no_reason_to_hang)
{
	crew_process *reaper = crew_thread_start(reap_whatever_there_is);
	int y;

	while (!__atomic_load_n(&reaping, __ATOMIC_RELAXED))
		sched_yield();
	for (int i = 0; i < 20; i++) {
		crew_process *p = crew_start_with((.start = CREW_START_FORK), give, i);

		CHECK_EQ(crew_process_result(p, &y), 0);
		CHECK_EQ(y, i);
		CHECK(!crew_process_alive(p));
		crew_process_close(p);
	}
	__atomic_store_n(&reaping, 2, __ATOMIC_RELAXED);
	crew_process_close(reaper);
}

/* No zombie stays: whatever comes next reaps those that have ended. */
TEST(the_next_start_reaps_those_that_have_ended)
{
	crew_process *p = crew_start_with((.start = CREW_START_FORK), give, 0), *q;
	struct pollfd end = { crew_process_fd(p), POLLIN, 0 };

	CHECK_EQ(poll(&end, 1, -1), 1);
	q = crew_start_with((.start = CREW_START_FORK), sleep_for_ever);
	CHECK_EQ(waitpid(crew_process_pid(p), NULL, WNOHANG), -1);
	CHECK_EQ(errno, ECHILD);
	CHECK_EQ(crew_process_join(p, 0), 0);
	crew_process_kill(q);
	crew_process_close(p), crew_process_close(q);
}
