/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lost_handles.c: a program that closes every descriptor above 2 while it has handles of threads and ends of pipes: as losses.c, for those. Threads are waited
 * for all the same, and what the program opens under the numbers stays its own.
 */
#include <crew/crew.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "own_files.h"
#include "runner.h"

enum { PATIENCE_MS = 20000 };

/* ---- threads ---- */

/* The descriptor of a thread's handle is for others to poll. What the program opens there is not what the thread says its end to, nor what it is waited for by. */
CREW_TASK(long, square_after, (uint32_t *, word), (long, x))
{
	while (!__atomic_load_n(word, __ATOMIC_ACQUIRE))
		sched_yield();
	return x * x;
}

TEST(handles_of_threads_need_no_descriptors)
{
	uint32_t word = 0;
	uint64_t there = 0;
	crew_process *p;
	int number;
	long y;

	if (TEST_TSAN)
		SKIP("ThreadSanitizer takes a descriptor that one thread closes and another uses for a race, and is right");
	p = crew_thread_start(square_after, &word, 7L);
	number = crew_process_fd(p);
	CHECK(number >= 3);
	close_all();
	CHECK_EQ(crew_process_fd(p), -EBADF);
	CHECK_EQ(crew_process_join(p, 0), -ETIMEDOUT);
	CHECK_EQ(dup2(eventfd(5, EFD_CLOEXEC | EFD_NONBLOCK), number), number); /* readable */
	CHECK_EQ(crew_process_fd(p), -EBADF);
	CHECK(crew_process_alive(p));
	CHECK_EQ(crew_process_join(p, 1), -ETIMEDOUT);
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
	CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
	CHECK(crew_process_result(p, &y) == 0 && y == 49);
	CHECK(crew_process_close(p) == NULL);
	CHECK_EQ(read(number, &there, sizeof there), (ssize_t)sizeof there);
	CHECK_EQ(there, 5u);
	close_all();
}

/* Nor is it shut down, if it is a socket as the thread's own was. */
TEST(a_socket_that_gets_the_number_of_a_threads_handle_stays_open)
{
	uint32_t word = 0;
	crew_process *p;
	int number, pair[2];
	char c;

	if (TEST_TSAN)
		SKIP("ThreadSanitizer takes a descriptor that one thread closes and another uses for a race, and is right");
	p = crew_thread_start(square_after, &word, 7L);
	number = crew_process_fd(p);
	close_all();
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	if (pair[0] != number && pair[1] != number)
		CHECK_EQ(dup2(pair[0], number), number);
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
	CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
	CHECK(crew_process_close(p) == NULL);
	CHECK_EQ(write(pair[1], "a", 1), 1);
	CHECK(read(pair[0], &c, 1) == 1 && c == 'a');
	CHECK_EQ(write(pair[0], "b", 1), 1);
	CHECK(read(pair[1], &c, 1) == 1 && c == 'b');
	close_all();
}

/* ---- pipes ---- */

/* Ends of pipes, and who lends them: what gets their numbers is not written to and not closed, and others can be made. */
static void lose_pipes(int shift)
{
	crew_pipe ends[2];
	struct own_files own;
	char c;

	CHECK_EQ(crew_pipe_make(ends, 0), 0);
	CHECK_EQ(crew_pipe_send(ends[0], "x", 1, PATIENCE_MS), 0);
	close_all();
	own_files_open(&own, shift);
	crew_pipe_drop(ends[0]);
	crew_pipe_drop(ends[1]);
	CHECK_EQ(crew_pipe_make(ends, 0), 0); /* and another lender */
	CHECK_EQ(crew_pipe_send(ends[0], "y", 1, PATIENCE_MS), 0);
	CHECK(crew_pipe_recv(ends[1], &c, 1, PATIENCE_MS) == 1 && c == 'y');
	crew_pipe_drop(ends[0]);
	crew_pipe_drop(ends[1]);
	own_files_check(&own);
}

TEST(files_that_get_the_numbers_of_pipes_are_the_programs_alone)
{
	if (TEST_TSAN)
		SKIP("ThreadSanitizer takes a descriptor that one thread closes and another uses for a race, and is right");
	for (int shift = 0; shift < OWN_KINDS; shift++) {
		pid_t pid = fork();
		int status;

		CHECK(pid >= 0);
		if (pid == 0) {
			lose_pipes(shift);
			exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
}
