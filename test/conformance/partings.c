/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * partings.c: how a child and its creator part: what each can do with an object that stands for himself or for the other, and ends that others have
 * seen, or that nobody waits for.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "children.h"

CREW_TASK(int, pass_to_exit, (int, status))
{
	exit(status);
}

/* ---- selves and parents ---- */

/* What it can do with itself: all but wait. */
CREW_TASK(int, look_at_myself)
{
	crew_process *self = crew_process_current();

	return !crew_process_alive(self) + 2 * (crew_process_close(self) != self) + 4 * (crew_process_error(self)->code != -EDEADLK) +
	       8 * crew_process_daemon(self);
}

TEST_CHILD(whoever_asks_for_himself_is_alive_and_cannot_be_closed)
{
	crew_process *p = start(look_at_myself);

	CHECK_EQ(end_of(p).exit_code, 0);
	CHECK_EQ(look_at_myself(), 0);
	CHECK_EQ(crew_process_signal(crew_process_current(), SIGWINCH), 0); /* which does nothing */
	CHECK(!crew_process_daemon(p));
	crew_process_close(p);
}

/* Who was forked by hand has none, and what stood for his parent's parent is not his. */
CREW_TASK(int, ask_parent_after_a_fork)
{
	crew_process *parent = crew_process_parent();
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(crew_process_join(parent, 0) == CREW_EFORKED && !crew_process_close(parent) && !crew_process_parent() ? 0 : 1);
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 1;
}

TEST_CHILD(a_fork_by_hand_has_no_parent)
{
	crew_process *p;

	NOT_FOR_THREADS("a thread has none");
	p = start(ask_parent_after_a_fork);
	CHECK_EQ(end_of(p).exit_code, 0);
	crew_process_close(p);
}

/* ---- ends ---- */

/* As exit() in a thread of a program does. */
CREW_TASK(void, have_a_thread_exit, (int, status), (bool, daemon))
{
	crew_thread_start_with((.daemon = daemon), pass_to_exit, status);
	for (;;)
		pause();
}

TEST_CHILD(exit_in_a_thread_of_it_is_its_status)
{
	crew_process *p;

	NOT_FOR_THREADS("exit would end us all");
	if (TEST_TSAN)
		SKIP("it takes locks that were initialised anew after a fork for locked");
	for (int i = 0; i < 2; i++) {
		p = start(have_a_thread_exit, 5 + i, i);
		CHECK_EQ(end_of(p).exit_code, 5 + i);
		crew_process_close(p);
	}
}

/* A process that the task forks by hand, some steps after it has begun, has its exit handlers, and nothing to say for it. */
CREW_TASK(int, fork_one_that_exits, (int, steps))
{
	int status;
	pid_t pid;

	for (volatile int i = 0; i < steps; i++)
		;
	pid = fork();
	if (pid == 0)
		exit(9);
	return waitpid(pid, &status, 0) == pid && status == 9 << 8 ? 4 : 5;
}

TEST_CHILD(exit_in_a_fork_by_hand_is_not_its_own)
{
	crew_process *p;
	int y = 0;

	NOT_FOR_THREADS("exit would end us all");
	p = start(fork_one_that_exits, 0);
	CHECK_EQ(crew_process_result(p, &y), 0);
	CHECK_EQ(y, 4);
	CHECK_EQ(end_of(p).exit_code, 4);
	crew_process_close(p);
}

/* A sanitizer's locks stay in a copy as they were: the library's threads in a child have begun, and hold none, before the task does. */
TEST_CHILD(a_task_may_fork_by_hand_at_once)
{
	crew_process *p[5];

	NOT_FOR_THREADS("exit would end us all");
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 5; i++)
			p[i] = start(fork_one_that_exits, 2000 * round);
		for (int i = 0; i < 5; i++) {
			CHECK_EQ(end_of(p[i]).exit_code, 4);
			crew_process_close(p[i]);
		}
	}
}

CREW_TASK(void, give_byte_back, (int, fd))
{
	char c;

	if (read(fd, &c, 1) == 1)
		(void)!write(fd, &c, 1);
}

TEST(closing_a_daemonic_thread_lets_it_go_on)
{
	crew_process *p;
	int pair[2];
	char c = 'c';

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	p = crew_thread_start_with((.daemon = true), give_byte_back, pair[1]);
	CHECK(crew_process_close(p) == NULL);
	CHECK_EQ(write(pair[0], &c, 1), 1);
	CHECK_EQ(read(pair[0], &c, 1), 1);
	close(pair[0]), close(pair[1]);
}

/* A program that was detached is ours to reap nevertheless, when it comes to that. */
TEST(a_detached_program_goes_on_when_it_is_given_back)
{
	char *argv[] = { "cat", NULL };
	struct pollfd end = { -1, POLLIN, 0 };
	int fds[2];
	crew_process *p;
	pid_t pid;

	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	p = crew_process_exec_with((.detach = true, .stdin_fd = fds[0]), argv);
	pid = crew_process_pid(p);
	end.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	CHECK(end.fd >= 0);
	CHECK_EQ(getsid(pid), pid);
	CHECK_EQ(crew_children(NULL, 0), 1);
	CHECK(crew_process_close(p) == NULL);
	CHECK_EQ(crew_children(NULL, 0), 0);
	CHECK_EQ(kill(pid, 0), 0);
	p = crew_process_exec_with((.detach = true, .stdin_fd = fds[0]), argv); /* this one ends before */
	close(fds[1]);
	CHECK_EQ(poll(&end, 1, -1), 1);
	close(end.fd);
	CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
	CHECK(crew_process_close(p) == NULL);
	CHECK_EQ(crew_children(NULL, 0), 0);
	CHECK_EQ(waitpid(pid, NULL, WNOHANG), -1);
	CHECK_EQ(errno, ECHILD);
	close(fds[0]);
}

CREW_TASK(double, refuse)
{
	return crew_raise(EDOM, "no");
}

CREW_TASK(void, do_nothing)
{
}

/* What it said itself when it ended in order. */
static void check_found(crew_process *p, int exit_code)
{
	struct crew_status status;

	CHECK_EQ(waitpid(crew_process_pid(p), NULL, 0), crew_process_pid(p));
	CHECK_EQ(crew_process_kill(p), 0); /* there is nobody any more */
	CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
	CHECK_EQ(crew_process_status(p, &status), 0);
	CHECK(status.state == CREW_PROCESS_ENDED && !status.lost);
	CHECK_EQ(status.exit_code, exit_code);
}

TEST(a_status_that_the_program_took_is_found_again)
{
	crew_process *p = crew_start_with((.start = CREW_START_FORK), pass_to_exit, 3), *q, *r;

	check_found(p, 3);
	CHECK_EQ(crew_process_error(p)->code, CREW_EWORKER);
	q = crew_start_with((.start = CREW_START_FORK), refuse); /* each start reaps, so there is none before the one before is reaped */
	check_found(q, 1);
	CHECK_EQ(crew_process_error(q)->code, EDOM);
	r = crew_start_with((.start = CREW_START_FORK), do_nothing);
	check_found(r, 0);
	CHECK_EQ(crew_process_error(r)->code, 0);
	crew_process_close(p), crew_process_close(q), crew_process_close(r);
}
