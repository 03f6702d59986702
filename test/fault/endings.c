/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * endings.c: every way to die in every place where a program's code runs, deaths that follow on deaths, programs that end whichever way, and groups that
 * are stopped and go on. deaths.c looks at single deaths and at what their errors say.
 */
#include <crew/crew.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runner.h"

enum { PATIENCE_MS = 20000 };

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

CREW_TASK(int, wait_for_ever)
{
	for (;;)
		pause();
	return 0;
}

/* ---- the table ---- */

enum way { SEGFAULT, ABORT, BUS, DIVISION, ILLEGAL, UNDERSCORE_EXIT_0, UNDERSCORE_EXIT_3, EXIT_5, QUICK_EXIT_6, THREAD_EXIT, KILL_9, WAYS };

static const struct {
	int signal, status;
} ends[WAYS] = { { SIGSEGV, -1 }, { SIGABRT, -1 }, { SIGBUS, -1 }, { SIGFPE, -1 }, { SIGILL, -1 }, { 0, 0 }, { 0, 3 }, { 0, 5 }, { 0, 6 }, { 0, 0 }, { SIGKILL, -1 } };

static void die(enum way how)
{
	const struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	switch (how) {
	case UNDERSCORE_EXIT_0:
	case UNDERSCORE_EXIT_3:
		_exit(ends[how].status);
	case EXIT_5:
		exit(5);
	case QUICK_EXIT_6:
		quick_exit(6);
	case THREAD_EXIT:
		pthread_exit(NULL); /* of the only thread */
	case ABORT:
		abort();
	default:
		signal(ends[how].signal, SIG_DFL); /* a sanitizer's handler makes an exit of it */
		raise(ends[how].signal);
	}
}

/* Where a sanitizer has no thread of its own, which would not be the only one then, and does not look for leaks on a stack that is gone. */
static bool applies(enum way how)
{
	return how != THREAD_EXIT || !(TEST_TSAN || TEST_ASAN);
}

static void skip_where_ends_are_others(void)
{
	if (TEST_TSAN)
		SKIP("ThreadSanitizer has its own ways to end a process");
}

CREW_TASK(int, die_as_task, (enum way, how))
{
	die(how);
	return 0;
}

static void die_in_callback(crew_future *f, void *how)
{
	(void)f;
	die(*(enum way *)how);
}

/* The callback of a child that the task submits runs in the same worker. */
CREW_TASK(int, die_as_callback, (enum way, how))
{
	crew_future *f = crew_submit(crew_task_executor(), square, 2);

	crew_future_on_done(f, die_in_callback, &how);
	crew_future_wait(f, CREW_FOREVER);
	return 0;
}

static void check_death(crew_executor *ex, crew_future *f, enum way how)
{
	const crew_error *e;
	long y;

	CHECK_EQ(crew_future_wait(f, PATIENCE_MS), CREW_ERAISED);
	e = crew_future_error(f);
	CHECK_EQ(e->code, CREW_EWORKER);
	CHECK_EQ(e->signal, ends[how].signal);
	CHECK_EQ(e->exit_status, ends[how].status);
	CHECK(crew_run(ex, &y, square, 9) == 0 && y == 81);
}

TEST_WITHIN(a_task_may_die_in_any_way, 60)
{
	skip_where_ends_are_others();
	CREW_SCOPE (ex, crew_processes(2))
		for (enum way how = 0; how < WAYS; how++)
			if (applies(how))
				check_death(ex, crew_submit(ex, die_as_task, how), how);
}

TEST_WITHIN(a_callback_in_a_worker_may_die_in_any_way, 60)
{
	skip_where_ends_are_others();
	CREW_SCOPE (ex, crew_processes(2))
		for (enum way how = 0; how < WAYS; how++)
			if (applies(how))
				check_death(ex, crew_submit(ex, die_as_callback, how), how);
}

struct birth_log {
	enum way how;
	uint32_t starts;
};

static int die_at_birth(void *arg, int worker)
{
	struct birth_log *log = *(struct birth_log **)arg;

	(void)worker;
	__atomic_add_fetch(&log->starts, 1, __ATOMIC_SEQ_CST);
	die(log->how);
	return 0;
}

/* Three in a row, and it is over: nobody is forked without end. */
TEST_WITHIN(an_initializer_may_die_in_any_way, 60)
{
	struct birth_log *log = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	skip_where_ends_are_others();
	for (log->how = 0; log->how < WAYS; log->how++) {
		if (!applies(log->how))
			continue;
		log->starts = 0;
		CREW_SCOPE (ex, crew_processes(.workers = 2, .start = CREW_START_FORK, .initializer = die_at_birth, .arg = &log)) {
			crew_future *f = crew_submit(ex, square, 3);

			CHECK_EQ(crew_future_wait(f, PATIENCE_MS), CREW_ERAISED);
			CHECK_EQ(crew_future_error(f)->code, CREW_EBROKEN);
		}
		CHECK_LE(log->starts, 2u + 3u + 2u); /* the first two, a successor for each of three deaths, and those under way */
	}
	munmap(log, 4096);
}

/* ---- deaths that follow on deaths ---- */

/* Whoever takes the place of a dead worker dies, too, as soon as it is seen: while the first is being buried, while it starts, while it takes tasks. Only tasks
   that ran in one of them fail. */
TEST_WITHIN(successors_of_the_dead_may_die, 120)
{
	size_t kills = 0, failed = 0, n = test_scaled(400);

	CREW_SCOPE (ex, crew_processes(3)) {
		crew_future **fs = calloc(8 * n, sizeof *fs);
		pid_t last[3] = { 0, 0, 0 };
		long y;

		for (size_t i = 0; i < n; i++) {
			int64_t limit = test_now_ms() + PATIENCE_MS;
			pid_t pid = 0;

			for (size_t k = 8 * i; k < 8 * i + 8; k++)
				fs[k] = crew_submit(ex, square, (long)k);
			while ((pid = crew_executor_worker_pid(ex, (int)(i % 3))) <= 0 || pid == last[i % 3]) {
				CHECK(test_now_ms() < limit);
				sched_yield();
			}
			kill(pid, SIGKILL);
			last[i % 3] = pid;
			kills++;
			while (i % 8 == 7 && crew_run(ex, &y, square, 2)) /* some come to work: who dies 32 times before that breaks the executor */
				CHECK(test_now_ms() < limit);
		}
		for (size_t i = 0; i < 8 * n; i++) {
			int code = crew_future_wait(fs[i], PATIENCE_MS);

			CHECK_NE(code, -ETIMEDOUT);
			failed += code != 0;
			CHECK(code == 0 ? crew_result(fs[i], &y) == 0 && y == (long)(i * i) : crew_future_error(fs[i])->signal == SIGKILL);
		}
		CHECK_LE(failed, kills);
		CHECK_EQ(crew_executor_error(ex, NULL), 0);
		free(fs);
	}
	printf("%zu kills of successors, %zu of %zu tasks lost\n", kills, failed, 8 * n);
}

/* ---- the end of the program ---- */

struct board {
	pid_t workers[2];
	uint32_t ready;
};

static void be_program(struct board *board, enum crew_start start, enum way how)
{
	crew_executor *ex = crew_processes(.workers = 2, .start = start), *threads = crew_threads(2);
	long y;

	CHECK_EQ(crew_run(ex, &y, square, 2), 0);
	for (int i = 0; i < 2; i++)
		board->workers[i] = crew_executor_worker_pid(ex, i);
	for (int i = 0; i < 6; i++)
		crew_submit(ex, wait_for_ever), crew_submit(threads, wait_for_ever);
	__atomic_store_n(&board->ready, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&board->ready, __ATOMIC_ACQUIRE) != 2)
		sched_yield();
	die(how);
}

static void check_program(enum crew_start start, enum way how)
{
	struct board *board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, fds[2];
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0)
		be_program(board, start, how);
	while (!__atomic_load_n(&board->ready, __ATOMIC_ACQUIRE))
		sched_yield();
	for (int i = 0; i < 2; i++)
		fds[i] = (int)syscall(SYS_pidfd_open, board->workers[i], 0);
	__atomic_store_n(&board->ready, 2, __ATOMIC_RELEASE);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, ends[how].status);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(poll(&(struct pollfd){ fds[i], POLLIN, 0 }, 1, PATIENCE_MS), 1);
		close(fds[i]);
	}
	munmap(board, 4096);
}

/* Tasks run in threads and processes, and nobody has closed anything. */
TEST_WITHIN(a_program_may_end_in_any_way_with_tasks_running, 120)
{
	const enum crew_start starts[] = { CREW_START_SERVER, CREW_START_FORK, CREW_START_SPAWN };
	const enum way ways[] = { UNDERSCORE_EXIT_3, EXIT_5, QUICK_EXIT_6, ABORT, SEGFAULT };

	skip_where_ends_are_others();
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < 5; k++)
			check_program(starts[i], ways[k]);
}

/* ---- stopped, and on ---- */

struct progress {
	uint32_t ready; /* 1: at work; 2: it may end */
	uint32_t rounds;
};

static void work_on(struct progress *progress)
{
	crew_executor *ex = crew_processes(2), *threads = crew_threads(2);
	pid_t before[2] = { crew_executor_worker_pid(ex, 0), crew_executor_worker_pid(ex, 1) };
	crew_future *promise = crew_future_new(CREW_TYPE_OF(int));
	long y;

	for (long i = 0; __atomic_load_n(&progress->ready, __ATOMIC_ACQUIRE) != 2; i++) {
		CHECK(crew_run(ex, &y, square, i) == 0 && y == i * i);
		CHECK(crew_run(threads, &y, square, i) == 0 && y == i * i);
		CHECK_EQ(crew_future_wait(promise, 1), -ETIMEDOUT);
		if (i == 10)
			__atomic_store_n(&progress->ready, 1, __ATOMIC_RELEASE);
		__atomic_add_fetch(&progress->rounds, 1, __ATOMIC_RELEASE);
	}
	for (int i = 0; i < 2; i++)
		CHECK_EQ(crew_executor_worker_pid(ex, i), before[i]);
	crew_future_free(promise);
	CHECK_EQ(crew_executor_close(ex), NULL);
	CHECK_EQ(crew_executor_close(threads), NULL);
	exit(0);
}

/* Ctrl-Z and fg: the program, its server, zygote and workers stop in the middle of whatever they do, and go on. Nobody is taken for dead. */
TEST_WITHIN(a_whole_group_may_be_stopped_and_go_on, 60)
{
	struct progress *progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct timespec stopped = { 0, 150000000 }; /* nobody waits so long for an obituary: the time itself is what is tried, nothing is waited for */
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* it is in no group that is killed with this one */
		setpgid(0, 0);
		work_on(progress);
	}
	while (__atomic_load_n(&progress->ready, __ATOMIC_ACQUIRE) != 1)
		sched_yield();
	for (size_t i = 0; i < test_scaled(8); i++) {
		uint32_t rounds;

		CHECK_EQ(kill(-pid, SIGSTOP), 0);
		CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
		CHECK(WIFSTOPPED(status));
		nanosleep(&stopped, NULL);
		rounds = __atomic_load_n(&progress->rounds, __ATOMIC_ACQUIRE);
		CHECK_EQ(kill(-pid, SIGCONT), 0);
		while (__atomic_load_n(&progress->rounds, __ATOMIC_ACQUIRE) - rounds < 2) /* it is at work again */
			sched_yield();
	}
	__atomic_store_n(&progress->ready, 2, __ATOMIC_RELEASE);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	munmap(progress, sizeof *progress);
}

/* ---- what others inherit ---- */

/* What a program that is executed here has open. */
static int open_in_a_program(void)
{
	FILE *list = popen("ls /proc/self/fd | wc -l", "re");
	int n = -1;

	CHECK(list != NULL && fscanf(list, "%d", &n) == 1);
	pclose(list);
	return n;
}

TEST(a_program_that_is_executed_inherits_nothing)
{
	const enum crew_start starts[] = { CREW_START_SERVER, CREW_START_FORK, CREW_START_SPAWN };
	int before = open_in_a_program();
	long y;

	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_processes(.workers = 3, .spares = 1, .start = starts[i])) {
			crew_bytes block = crew_shared_alloc(ex, 100000);

			CHECK_EQ(crew_run(ex, &y, square, 3), 0);
			CHECK_EQ(open_in_a_program(), before);
			crew_shared_free(ex, block);
		}
}
