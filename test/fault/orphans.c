/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * orphans.c: single children of programs that are killed or end, of threads that end, and of forks by hand. Nobody is left behind.
 */
#include <crew/crew.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

/* A forked child of a program with threads has one itself, which watches its creator. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "report_thread_leaks=0:die_after_fork=0";
}

/* What a test and the programs it forks have in common. */
struct board {
	pid_t pid;
	uint32_t step, busy; /* atomic */
};
static struct board *board;

static void open_board(void)
{
	board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(board != MAP_FAILED);
}

static void close_board(void)
{
	munmap(board, sizeof *board);
}

static void set_step(uint32_t step)
{
	__atomic_store_n(&board->step, step, __ATOMIC_RELEASE);
}

static void await_step(uint32_t step)
{
	while (__atomic_load_n(&board->step, __ATOMIC_ACQUIRE) < step)
		sched_yield();
}

static int watch_pid(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	CHECK(fd >= 0);
	return fd;
}

static void check_gone(int pidfd)
{
	struct pollfd fd = { pidfd, POLLIN, 0 };

	CHECK_EQ(poll(&fd, 1, 5000), 1);
	close(pidfd);
}

static int ended_with(pid_t pid)
{
	int status;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

CREW_TASK(int, give, (int, x))
{
	return x;
}

/* Deaf to everything that can be refused. */
CREW_TASK(void, spin_for_ever)
{
	signal(SIGTERM, SIG_IGN);
	for (volatile unsigned i = 0;; i++)
		;
}

CREW_TASK(void, sleep_for_ever)
{
	for (;;)
		pause();
}

/* ---- the creator dies ---- */

/* A program that starts one child of each start method's kind, tells its pid, and waits to be killed. */
static void program_with(enum crew_start start)
{
	crew_process *p = crew_start_with((.start = start), spin_for_ever);

	CHECK(crew_process_alive(p));
	board->pid = crew_process_pid(p);
	set_step(1);
	for (;;)
		pause();
}

static void kill_program_with(enum crew_start start)
{
	pid_t program;
	int child;

	open_board();
	program = fork();
	CHECK(program >= 0);
	if (program == 0)
		program_with(start);
	await_step(1);
	child = watch_pid(board->pid);
	kill(program, SIGKILL);
	CHECK(WIFSIGNALED(ended_with(program)));
	check_gone(child);
	close_board();
}

TEST(a_forked_child_dies_with_its_creator)
{
	kill_program_with(CREW_START_FORK);
}

TEST(a_child_of_the_server_dies_with_its_creator)
{
	kill_program_with(CREW_START_SERVER);
}

TEST(a_spawned_child_dies_with_its_creator)
{
	kill_program_with(CREW_START_SPAWN);
}

TEST(a_program_dies_with_its_creator)
{
	char *argv[] = { "sh", "-c", "trap '' TERM HUP; while :; do sleep 1; done", NULL };
	pid_t program;
	int child;

	open_board();
	program = fork();
	CHECK(program >= 0);
	if (program == 0) {
		crew_process *p = crew_process_exec(argv);

		board->pid = crew_process_pid(p);
		set_step(1);
		for (;;)
			pause();
	}
	await_step(1);
	child = watch_pid(board->pid);
	kill(program, SIGKILL);
	CHECK(WIFSIGNALED(ended_with(program)));
	check_gone(child);
	close_board();
}

CREW_TASK(void, start_grandchild, (struct board *, b))
{
	crew_process *p = crew_start_with((.start = CREW_START_FORK), spin_for_ever);

	b->pid = crew_process_pid(p);
	set_step(1);
	crew_process_join(p, CREW_FOREVER);
}

/* A killed child takes its own along. */
TEST(a_grandchild_dies_with_its_creator)
{
	crew_process *p;
	int grandchild;

	open_board();
	p = crew_start_with((.start = CREW_START_FORK), start_grandchild, board);
	await_step(1);
	grandchild = watch_pid(board->pid);
	crew_process_kill(p);
	CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
	check_gone(grandchild);
	crew_process_close(p);
	close_board();
}

/* However early that is, and whatever locks a sanitizer held in the creator when it forked. */
CREW_TASK(void, start_grandchild_and_die, (int, steps))
{
	for (volatile int i = 0; i < steps; i++)
		;
	crew_start_with((.start = CREW_START_FORK), sleep_for_ever);
	raise(SIGKILL);
}

TEST(a_grandchild_dies_with_a_creator_who_was_in_a_hurry)
{
	for (int i = 0; i < 200; i++) {
		struct pollfd last = { -1, POLLIN, 0 }; /* ends with the last who has its other end */
		crew_process *p;
		int fds[2];

		CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
		p = crew_start_with((.start = CREW_START_FORK), start_grandchild_and_die, i % 20 * 500);
		close(fds[1]);
		CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
		last.fd = fds[0];
		CHECK_EQ(poll(&last, 1, 5000), 1);
		close(fds[0]);
		crew_process_close(p);
	}
}

/* A task whose first life is killed when somebody watches the child it has started. Its second life has a child of its own, and ends it. */
struct lives {
	uint32_t count, watched;
	pid_t children[2];
};

CREW_TASK(int, lives_twice, (crew_bytes, at), (int, start))
{
	struct lives *lives = at.data;
	crew_process *p = crew_start_with((.start = (enum crew_start)start), sleep_for_ever);
	uint32_t life = __atomic_load_n(&lives->count, __ATOMIC_ACQUIRE);

	lives->children[life % 2] = crew_process_pid(p);
	__atomic_store_n(&lives->count, life + 1, __ATOMIC_RELEASE);
	while (life == 0)
		if (__atomic_load_n(&lives->watched, __ATOMIC_ACQUIRE))
			raise(SIGKILL);
	crew_process_kill(p);
	crew_process_close(p);
	return (int)life;
}

TEST(children_of_a_task_die_with_each_life_of_it)
{
	const enum crew_start starts[] = { CREW_START_SERVER, CREW_START_FORK, CREW_START_SPAWN };

	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_processes(2)) {
			crew_bytes at = crew_shared_alloc(ex, sizeof(struct lives));
			struct lives *lives = at.data;
			crew_future *f;
			int first, life;

			*lives = (struct lives){ 0 };
			f = crew_submit_with(ex, (.retries = 1), lives_twice, at, (int)starts[i]);
			while (!__atomic_load_n(&lives->count, __ATOMIC_ACQUIRE))
				sched_yield();
			first = watch_pid(lives->children[0]);
			__atomic_store_n(&lives->watched, 1, __ATOMIC_RELEASE);
			CHECK_EQ(crew_result(f, &life), 0);
			CHECK_EQ(life, 1);
			check_gone(first);
		}
}

/* A death signal would come now: it belongs to the thread that forked. */
CREW_TASK(crew_process *, start_in_thread, (enum crew_start, start))
{
	return crew_start_with((.start = start), sleep_for_ever);
}

CREW_TASK(crew_process *, exec_in_thread)
{
	char *argv[] = { "sleep", "1000", NULL };

	return crew_process_exec(argv);
}

TEST(a_child_outlives_the_thread_that_started_it)
{
	crew_process *thread[3] = { crew_thread_start(start_in_thread, CREW_START_FORK), crew_thread_start(start_in_thread, CREW_START_SPAWN),
				    crew_thread_start(exec_in_thread) };
	struct crew_status status;
	crew_process *p;

	for (int i = 0; i < 3; i++) {
		CHECK_EQ(crew_process_join(thread[i], CREW_FOREVER), 0);
	}
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(crew_process_error(thread[i])->code, 0);
		CHECK_EQ(crew_process_result(thread[i], &p), 0);
		crew_process_close(thread[i]);
		CHECK_EQ(crew_process_join(p, 50), -ETIMEDOUT); /* time for a signal that must not come */
		CHECK(crew_process_alive(p));
		crew_process_kill(p);
		CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
		CHECK_EQ(crew_process_status(p, &status), 0);
		CHECK_EQ(status.signal, SIGKILL);
		crew_process_close(p);
	}
}

/* A detached child goes on, in a session of its own, and nobody has to reap it. */
CREW_TASK(void, tell_and_sleep, (struct board *, b))
{
	b->pid = getpid();
	set_step(getsid(0) == getppid() || getsid(0) == getpid() || getsid(0) > 0 ? 1 : 9);
	await_step(3);
	set_step(4);
}

TEST(a_detached_child_outlives_its_creator)
{
	pid_t program;
	int child;

	open_board();
	program = fork();
	CHECK(program >= 0);
	if (program == 0) {
		crew_process *p = crew_start_with((.start = CREW_START_FORK, .detach = true), tell_and_sleep, board);

		CHECK(crew_process_alive(p));
		await_step(1);
		CHECK_EQ(crew_process_pid(p), board->pid);
		CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
		set_step(2);
		crew_process_close(p);
		exit(0);
	}
	await_step(2);
	child = watch_pid(board->pid);
	CHECK_EQ(ended_with(program), 0);
	CHECK(kill(board->pid, 0) == 0 && getsid(board->pid) != getsid(0));
	set_step(3);
	check_gone(child);
	CHECK_EQ(board->step, 4u);
	close_board();
}

TEST(the_end_of_a_detached_child_is_known)
{
	static const enum crew_start starts[] = { CREW_START_FORK, CREW_START_SERVER, CREW_START_SPAWN };

	for (int i = 0; i < 3; i++) {
		crew_process *p = crew_start_with((.start = starts[i], .detach = true), give, 7), *q;
		struct crew_status status;
		int y, code;

		CHECK_EQ(crew_process_result(p, &y), 0);
		CHECK_EQ(y, 7);
		CHECK_EQ(crew_process_exitcode(p, &code), 0);
		CHECK_EQ(code, 7);
		crew_process_close(p);
		q = crew_start_with((.start = starts[i], .detach = true), sleep_for_ever);
		crew_process_kill(q);
		CHECK_EQ(crew_process_join(q, CREW_FOREVER), 0);
		CHECK_EQ(crew_process_status(q, &status), 0);
		CHECK_EQ(status.state, CREW_PROCESS_ENDED);
		CHECK(status.lost);
		CHECK_EQ(crew_process_exitcode(q, &code), -ENODATA);
		crew_process_close(q);
	}
}

/* The creator's end is seen; how it was is for its own creator. The creator has not given back what it started. */
CREW_TASK(void, see_the_creator_end, (struct board *, b))
{
	crew_process *creator = crew_process_parent();
	struct crew_status status;
	int code;

	b->pid = getpid();
	set_step(1);
	CHECK_EQ(crew_process_join(creator, CREW_FOREVER), 0);
	CHECK(!crew_process_alive(creator));
	CHECK_EQ(crew_process_status(creator, &status), 0);
	CHECK(status.state == CREW_PROCESS_ENDED && status.lost);
	CHECK_EQ(crew_process_exitcode(creator, &code), -ENODATA);
	set_step(2);
}

TEST(a_detached_child_sees_its_creator_end)
{
	pid_t program;
	int child;

	open_board();
	program = fork();
	CHECK(program >= 0);
	if (program == 0) {
		crew_process *ended = crew_start_with((.start = CREW_START_FORK), give, 0);

		crew_start_with((.start = CREW_START_FORK, .detach = true), see_the_creator_end, board);
		await_step(1);
		CHECK_EQ(crew_process_join(ended, CREW_FOREVER), 0);
		await_step(3);
		exit(0);
	}
	await_step(1);
	child = watch_pid(board->pid);
	CHECK_EQ(board->step, 1u);
	set_step(3);
	CHECK_EQ(ended_with(program), 0);
	check_gone(child);
	CHECK_EQ(board->step, 2u);
	close_board();
}

/* ---- the creator ends ---- */

/* Its exit waits for children that are no daemons, and ends those that are. */
CREW_TASK(void, count_up, (struct board *, b))
{
	await_step(2);
	b->pid = getpid();
	set_step(3);
}

TEST(exit_waits_for_children_and_ends_daemons)
{
	pid_t program;
	int daemon;

	open_board();
	program = fork();
	CHECK(program >= 0);
	if (program == 0) {
		crew_process *d = crew_start_with((.start = CREW_START_FORK, .daemon = true), spin_for_ever);

		board->pid = crew_process_pid(d);
		crew_start_with((.start = CREW_START_FORK), count_up, board);
		set_step(1);
		exit(5);
	}
	await_step(1);
	daemon = watch_pid(board->pid);
	set_step(2);
	CHECK_EQ(ended_with(program), 5 << 8);
	CHECK_EQ(board->step, 3u);
	check_gone(daemon);
	close_board();
}

CREW_TASK(void, wait_for_step, (struct board *, b), (uint32_t, step))
{
	(void)b;
	await_step(step);
	set_step(step + 1);
}

TEST(exit_waits_for_threads_but_for_daemons)
{
	pid_t program;

	open_board();
	program = fork();
	CHECK(program >= 0);
	if (program == 0) {
		crew_process *daemon = crew_thread_start_with((.daemon = true), sleep_for_ever), *other = crew_thread_start(wait_for_step, board, 2);

		CHECK(crew_process_alive(daemon) && crew_process_alive(other));
		set_step(1);
		exit(6);
	}
	await_step(1);
	CHECK_EQ(waitpid(program, NULL, WNOHANG), 0);
	set_step(2);
	CHECK_EQ(ended_with(program), 6 << 8);
	CHECK_EQ(board->step, 3u);
	close_board();
}

/* What a child had started and not joined is joined when its task returns. */
CREW_TASK(int, leave_one_behind, (struct board *, b))
{
	crew_start_with((.start = CREW_START_FORK), wait_for_step, b, 1);
	return 4;
}

TEST(a_child_waits_for_its_own_children)
{
	crew_process *p;

	open_board();
	p = crew_start_with((.start = CREW_START_FORK), leave_one_behind, board);
	CHECK_EQ(crew_process_join(p, 20), -ETIMEDOUT);
	set_step(1);
	CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
	CHECK_EQ(board->step, 2u);
	crew_process_close(p);
	close_board();
}

/* ---- forks by hand ---- */

TEST(after_a_fork_children_are_the_parents)
{
	crew_process *p = crew_start_with((.start = CREW_START_FORK), sleep_for_ever), *q;
	pid_t pid = fork();
	int y;

	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK_EQ(crew_process_join(p, CREW_FOREVER), CREW_EFORKED);
		CHECK_EQ(crew_process_kill(p), CREW_EFORKED);
		CHECK_EQ(crew_process_error(p)->code, CREW_EFORKED);
		CHECK(!crew_process_alive(p));
		CHECK(crew_process_close(p) == NULL);
		CHECK_EQ(crew_children(NULL, 0), 0);
		CHECK(crew_process_parent() == NULL);
		q = crew_start_with((.start = CREW_START_FORK), give, 3);
		CHECK_EQ(crew_process_result(q, &y), 0);
		crew_process_close(q);
		exit(y);
	}
	CHECK_EQ(ended_with(pid), 3 << 8);
	CHECK(crew_process_alive(p));
	crew_process_kill(p);
	crew_process_close(p);
}

/* Other threads hold whatever they hold, but for what only a thread's first steps do, a sanitizer's locks among it. */
CREW_TASK(void, allocate_until, (struct board *, b))
{
	__atomic_fetch_add(&b->busy, 1, __ATOMIC_RELAXED);
	while (__atomic_load_n(&b->step, __ATOMIC_ACQUIRE) == 0)
		free(malloc(100 + (size_t)b->pid));
}

TEST(a_program_with_busy_threads_may_fork_children)
{
	crew_process *threads[2];
	int y;

	open_board();
	for (int i = 0; i < 2; i++)
		threads[i] = crew_thread_start(allocate_until, board);
	while (__atomic_load_n(&board->busy, __ATOMIC_RELAXED) < 2)
		sched_yield();
	for (int i = 0; i < (int)test_scaled(200); i++) {
		crew_process *p = crew_start_with((.start = CREW_START_FORK), give, i & 127);

		CHECK_EQ(crew_process_result(p, &y), 0);
		CHECK_EQ(y, i & 127);
		crew_process_close(p);
	}
	set_step(1);
	crew_process_close(threads[0]), crew_process_close(threads[1]);
	close_board();
}
