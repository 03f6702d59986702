/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * losses.c: a program that closes every descriptor above 2 under its executors. They notice, whatever they were doing: each future ends, with an error that
 * says why, workers end, a close returns. And what the program opens afterwards, under the very same numbers, is its own: nothing is written to it, read
 * from it or closed.
 *
 * Each program is a process of its own, which the test forks; it closes all that the runner has open, too.
 */
#include <crew/crew.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "own_files.h"
#include "runner.h"

enum { PATIENCE_MS = 20000 };

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

CREW_TASK(int, wait_here_for_ever, (crew_bytes, begun))
{
	__atomic_store_n((uint32_t *)begun.data, 1, __ATOMIC_RELEASE);
	for (;;)
		pause();
	return 0;
}

CREW_TASK(pid_t, parent_of_worker)
{
	return getppid();
}

static const enum crew_start starts[] = { CREW_START_SERVER, CREW_START_FORK, CREW_START_SPAWN };

static crew_executor *open_by(enum crew_start start)
{
	crew_executor *ex = crew_processes(.workers = 2, .start = start);

	CHECK_EQ(crew_executor_error(ex, NULL), 0);
	return ex;
}

/* In a program of its own. */
static void apart(void (*program)(enum crew_start), enum crew_start start)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		program(start);
		exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void in_every_way(void (*program)(enum crew_start))
{
	if (TEST_TSAN)
		SKIP("ThreadSanitizer takes a descriptor that one thread closes and another uses for a race, and is right");
	for (int i = 0; i < 3; i++)
		apart(program, starts[i]);
}

static void check_broken(crew_future *f)
{
	CHECK_EQ(crew_future_wait(f, PATIENCE_MS), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
	CHECK_HAS(crew_future_error(f)->message, "closed the file descriptors");
}

/* The executor takes nothing any more and says why. */
static void check_given_up(crew_executor *ex)
{
	crew_error error;

	CHECK_EQ(crew_future_error(crew_submit(ex, square, 3))->code, CREW_EBROKEN);
	CHECK_EQ(crew_executor_error(ex, &error), CREW_EBROKEN);
	CHECK_HAS(error.message, "closed the file descriptors");
}

/* ---- what they were doing ---- */

static void is_busy(enum crew_start start)
{
	crew_executor *ex = open_by(start);
	crew_bytes begun = crew_shared_alloc(ex, sizeof(uint32_t));
	crew_future *running = crew_submit(ex, wait_here_for_ever, begun), *fs[40];
	int pidfd = (int)syscall(SYS_pidfd_open, crew_executor_worker_pid(ex, 0), 0);

	for (int i = 0; i < 40; i++)
		fs[i] = i % 2 ? crew_submit(ex, square, i) : crew_submit(ex, wait_here_for_ever, begun);
	while (!__atomic_load_n((uint32_t *)begun.data, __ATOMIC_ACQUIRE))
		sched_yield();
	pidfd = dup2(pidfd, 0); /* the one that is left */
	close_all();
	check_broken(running);
	for (int i = 0; i < 40; i++)
		CHECK_NE(crew_future_wait(fs[i], PATIENCE_MS), -ETIMEDOUT);
	check_given_up(ex);
	CHECK_EQ(crew_executor_close(ex), NULL);
	CHECK_EQ(poll(&(struct pollfd){ pidfd, POLLIN, 0 }, 1, PATIENCE_MS), 1); /* workers end */
}

TEST_WITHIN(a_busy_executor_may_lose_its_descriptors, 120)
{
	in_every_way(is_busy);
}

static void is_idle(enum crew_start start)
{
	const struct timespec settle = { 0, 400000000 };
	crew_executor *ex = open_by(start);
	long y;

	CHECK_EQ(crew_run(ex, &y, square, 4), 0);
	nanosleep(&settle, NULL); /* the last sweep; either way it must hold */
	close_all();
	check_given_up(ex);
	CHECK_EQ(crew_executor_wait(ex, PATIENCE_MS), CREW_EBROKEN);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

TEST_WITHIN(an_idle_executor_may_lose_its_descriptors, 120)
{
	in_every_way(is_idle);
}

static void is_closed_at_once(enum crew_start start)
{
	crew_executor *ex = open_by(start), *other = open_by(start);
	long y;

	CHECK_EQ(crew_run(ex, &y, square, 4), 0);
	close_all();
	CHECK_EQ(crew_executor_close(ex), NULL);
	CHECK_EQ(crew_executor_close(other), NULL);
}

TEST_WITHIN(an_executor_without_descriptors_can_be_closed, 120)
{
	in_every_way(is_closed_at_once);
}

static void exits(enum crew_start start)
{
	crew_executor *ex = open_by(start);

	for (int i = 0; i < 40; i++)
		crew_submit(ex, square, i);
	close_all();
}

TEST_WITHIN(a_program_without_descriptors_can_exit, 120)
{
	in_every_way(exits);
}

static void count(crew_future *f, void *arg)
{
	(void)f;
	__atomic_add_fetch((uint32_t *)arg, 1, __ATOMIC_RELEASE);
}

/* Nobody waits in person: the engine alone can find out. */
static void is_called_back(enum crew_start start)
{
	crew_executor *ex = open_by(start);
	crew_bytes begun = crew_shared_alloc(ex, sizeof(uint32_t));
	crew_future *f = crew_submit(ex, wait_here_for_ever, begun);
	uint32_t called = 0;

	CHECK_EQ(crew_future_on_done(f, count, &called), 0);
	while (!__atomic_load_n((uint32_t *)begun.data, __ATOMIC_ACQUIRE))
		sched_yield();
	nanosleep(&(struct timespec){ 0, 50000000 }, NULL); /* a tick, after which it looks once a second */
	close_all();
	while (!__atomic_load_n(&called, __ATOMIC_ACQUIRE))
		sched_yield();
	CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
	CHECK_EQ(crew_executor_close(ex), NULL);
	CHECK_EQ(called, 1u);
}

TEST_WITHIN(callbacks_come_when_descriptors_are_lost, 120)
{
	in_every_way(is_called_back);
}

/* ---- who cannot tell anybody ---- */

/* A child of the program has copies of all sockets: neither server nor zygote see them close. */
static void has_a_child(enum crew_start start)
{
	crew_executor *ex = open_by(start);
	crew_bytes begun = crew_shared_alloc(ex, sizeof(uint32_t));
	crew_future *f = crew_submit(ex, wait_here_for_ever, begun);
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0)
		for (;;)
			pause();
	close_all();
	check_broken(f);
	check_given_up(ex);
	CHECK_EQ(crew_executor_close(ex), NULL);
	kill(child, SIGKILL);
	CHECK_EQ(waitpid(child, NULL, 0), child);
}

TEST_WITHIN(a_child_of_the_program_may_hold_copies, 120)
{
	in_every_way(has_a_child);
}

/* All that could ring the engine is stopped. */
static void is_stopped(enum crew_start start)
{
	crew_executor *ex = open_by(start);
	pid_t zygote;

	CHECK_EQ(crew_run(ex, &zygote, parent_of_worker), 0);
	kill(zygote, SIGSTOP);
	for (int i = 0; i < 2; i++)
		kill(crew_executor_worker_pid(ex, i), SIGSTOP);
	nanosleep(&(struct timespec){ 0, 400000000 }, NULL);
	close_all();
	CHECK_EQ(crew_executor_close(ex), NULL);
	kill(zygote, SIGKILL);
}

TEST_WITHIN(a_sleeping_engine_without_descriptors_can_be_ended, 120)
{
	in_every_way(is_stopped);
}

/* ---- what is the program's ---- */

static int shift; /* of the kinds, so that each number is had by each kind once */

static void opens_files(enum crew_start start)
{
	crew_executor *ex = open_by(start), *other;
	crew_bytes begun = crew_shared_alloc(ex, sizeof(uint32_t)), large = crew_shared_alloc(ex, 3 << 20);
	crew_future *f = crew_submit(ex, wait_here_for_ever, begun);
	struct own_files own;
	long y;

	while (!__atomic_load_n((uint32_t *)begun.data, __ATOMIC_ACQUIRE))
		sched_yield();
	close_all();
	own_files_open(&own, shift);
	check_broken(f);
	CHECK_EQ(crew_executor_kill(ex, SIGTERM), 0);
	crew_shared_free(ex, large);
	CHECK_EQ(crew_executor_close(ex), NULL);
	other = open_by(CREW_START_FORK); /* and it can begin again */
	CHECK_EQ(crew_run(other, &y, square, 5), 0);
	CHECK_EQ(y, 25);
	CHECK_EQ(crew_executor_close(other), NULL);
	own_files_check(&own);
}

TEST_WITHIN(files_that_get_the_numbers_are_the_programs_alone, 120)
{
	for (shift = 0; shift < OWN_KINDS; shift++)
		in_every_way(opens_files);
}

static void begins_again(enum crew_start start)
{
	long y;

	for (int i = 0; i < 3; i++) {
		crew_executor *ex = open_by(start);

		CHECK_EQ(crew_run(ex, &y, square, 5), 0);
		CHECK_EQ(y, 25);
		close_all();
		CHECK_EQ(crew_executor_close(ex), NULL);
		if (start == CREW_START_FORK)
			CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1); /* the zygote was reaped */
		if (start == CREW_START_SPAWN) { /* what is executed cannot have the memory that all processes share any more */
			ex = crew_processes(.workers = 1, .start = start);
			CHECK_EQ(crew_executor_error(ex, NULL), -EBADF);
			CHECK_EQ(crew_executor_close(ex), NULL);
			return;
		}
	}
}

TEST_WITHIN(a_program_that_closes_all_may_open_another_executor, 120)
{
	in_every_way(begins_again);
}

/* Threads have none to lose. */
TEST(threads_need_no_descriptors)
{
	long y;

	CREW_SCOPE (ex, crew_threads(2)) {
		CHECK_EQ(crew_run(ex, &y, square, 5), 0);
		close_all();
		for (int i = 0; i < 100; i++)
			CHECK(crew_run(ex, &y, square, i) == 0 && y == (long)i * i);
	}
}

/* ---- single children ---- */

static void check_child(enum crew_start start, bool possible)
{
	crew_process *p = crew_start_with((.start = start), square, 6);
	long y = 0;

	CHECK_EQ(crew_process_join(p, PATIENCE_MS), possible ? 0 : -EBADF);
	if (possible) {
		CHECK_EQ(crew_process_result(p, &y), 0);
		CHECK_EQ(y, 36);
	}
	CHECK_EQ(crew_process_close(p), NULL);
}

static void check_program(void)
{
	char *argv[] = { "true", NULL };
	crew_process *p = crew_process_exec(argv);
	int code = -1;

	CHECK_EQ(crew_process_join(p, PATIENCE_MS), 0);
	CHECK_EQ(crew_process_exitcode(p, &code), 0);
	CHECK_EQ(code, 0);
	CHECK_EQ(crew_process_close(p), NULL);
}

/* What has a server, a queue and a lock when it closes all, begins anew: only what has to be executed cannot be of this family any more. */
static void starts_children(enum crew_start start)
{
	crew_queue q = crew_queue_make(.item = sizeof(long));
	crew_lock lock = crew_lock_make();
	long x = 5;

	check_child(start, true);
	for (int i = 0; i < 2; i++) {
		close_all();
		check_child(CREW_START_FORK, true);
		check_child(CREW_START_SERVER, true);
		check_child(CREW_START_SPAWN, false);
		check_program();
		CHECK_EQ(crew_put(q, &x), 0);
		CHECK_EQ(crew_get(q, &x), 0);
		CHECK_EQ(crew_lock_acquire(lock, PATIENCE_MS), 0);
		CHECK_EQ(crew_lock_release(lock), 0);
	}
	CHECK_EQ(x, 5);
}

TEST_WITHIN(a_program_that_closes_all_may_start_children, 120)
{
	in_every_way(starts_children);
}

CREW_TASK(long, wait_for_a_byte, (int, fd))
{
	char byte;

	return read(fd, &byte, 1);
}

CREW_TASK(void, sleep_for_ever)
{
	for (;;)
		pause();
}

/* Its children run: one that is its own is waited for all the same, though nobody hears what it says; those of the server end with that. */
static void has_children(enum crew_start start)
{
	char *argv[] = { "sh", "-c", "read line; exit 7", NULL };
	crew_process *p = crew_start_with((.start = start), sleep_for_ever), *answers, *program;
	int code = 0, pair[2];
	struct crew_status status;
	struct own_files own;
	long y;

	CHECK_EQ(pipe(pair), 0);
	CHECK_EQ(dup2(pair[0], 0), 0);
	CHECK_EQ(dup2(pair[1], 1), 1);
	answers = crew_start_with((.start = CREW_START_FORK), wait_for_a_byte, 0);
	program = crew_process_exec(argv);
	CHECK(crew_process_alive(p) && crew_process_alive(answers) && crew_process_alive(program));
	close_all();
	own_files_open(&own, shift);
	CHECK_EQ(crew_process_kill(p), 0);
	CHECK_EQ(crew_process_join(p, PATIENCE_MS), 0);
	CHECK_EQ(crew_process_error(p)->code, start == CREW_START_FORK ? CREW_EWORKER : CREW_EBROKEN);
	CHECK_EQ(write(1, "xx\n\n", 4), 4);
	CHECK_EQ(crew_process_join(answers, PATIENCE_MS), 0);
	CHECK_EQ(crew_process_result(answers, &y), CREW_ERAISED);
	CHECK_EQ(crew_process_error(answers)->code, CREW_EBROKEN);
	CHECK_HAS(crew_process_error(answers)->message, "closed the file descriptors");
	CHECK_EQ(crew_process_status(answers, &status), 0);
	CHECK(!status.lost && status.exit_code == 0);
	CHECK_EQ(crew_process_join(program, PATIENCE_MS), 0);
	CHECK_EQ(crew_process_exitcode(program, &code), 0);
	CHECK_EQ(code, 7);
	crew_process_close(p), crew_process_close(answers), crew_process_close(program);
	own_files_check(&own);
}

TEST_WITHIN(children_of_a_program_that_closes_all_can_be_waited_for, 120)
{
	for (shift = 0; shift < OWN_KINDS; shift++)
		in_every_way(has_children);
}

/* The other way round: a child that closes all, and has a file of its own under each number. */
CREW_TASK(long, have_a_file_everywhere)
{
	for (int fd = 3; fd < OWN_FILES; fd++)
		dup2(0, fd);
	close_range(OWN_FILES, ~0u, 0);
	return 1;
}

TEST_WITHIN(a_child_that_closes_all_answers_to_nobody, 120)
{
	for (int i = 0; i < 3; i++) {
		int fd = memfd_create("own", MFD_CLOEXEC);
		crew_process *p = crew_start_with((.start = starts[i], .stdin_fd = fd), have_a_file_everywhere);
		struct stat st;
		long y;

		CHECK_EQ(crew_process_join(p, PATIENCE_MS), 0);
		CHECK_EQ(crew_process_result(p, &y), CREW_ERAISED);
		CHECK_EQ(crew_process_error(p)->code, CREW_EWORKER);
		CHECK_EQ(crew_process_close(p), NULL);
		CHECK_EQ(fstat(fd, &st), 0);
		CHECK_EQ(st.st_size, 0);
		close(fd);
	}
}
