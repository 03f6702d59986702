/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scarcity.c: a program that may have little: few descriptors, little address space, small files, no more processes, small stacks. And one whose
 * descriptors somebody closed, and one that is interrupted ten thousand times a second.
 *
 * Each limit is tried in a process of its own, for every value of a range: what could not be opened says so, what was opened works, a task that asks for
 * too much fails alone, and nothing is killed or hangs.
 */
#include <crew/crew.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

CREW_TASK(long, increment, (long, x))
{
	return x + 1;
}

CREW_TASK(crew_bytes, repeat, (long, n))
{
	crew_bytes out = crew_result_alloc((size_t)n);

	if (out.data)
		memset(out.data, 3, out.len);
	return out;
}

CREW_TASK(long, add_slowly, (long, n))
{
	long sum = 0;

	for (long i = 0; i < n * 1000; i++)
		__asm__ volatile("" : "+r"(sum) : "r"(i));
	return n;
}

/* Everything ends: well, or with an error. How many tasks were well. */
static int try(crew_executor *ex)
{
	crew_future *fs[8];
	crew_error error;
	crew_bytes out;
	int well = 0;
	long y;

	if (crew_executor_error(ex, &error))
		CHECK(error.code < 0 && error.message[0]);
	for (long i = 0; i < 8; i++)
		fs[i] = crew_submit(ex, increment, i);
	for (long i = 0; i < 8; i++) {
		int code = crew_take(fs[i], &y, &error);

		well += code == 0;
		CHECK(code == 0 ? y == i + 1 : error.code != 0);
	}
	if (crew_run(ex, &out, repeat, 300000) == 0) {
		CHECK(out.len == 300000 && ((unsigned char *)out.data)[299999] == 3);
		crew_bytes_free(out);
		well++;
	}
	return well;
}

typedef crew_executor *opener(void);

static crew_executor *threads(void)
{
	return crew_threads(2);
}

static crew_executor *processes(void)
{
	return crew_processes(.workers = 2, .start = CREW_START_FORK);
}

static crew_executor *executions(void)
{
	return crew_processes(.workers = 2, .start = CREW_START_SPAWN);
}

static int try_with(opener *open, int resource, rlim_t value)
{
	struct rlimit limit;
	crew_executor *ex;
	int well;

	getrlimit(resource, &limit);
	limit.rlim_cur = value;
	CHECK_EQ(setrlimit(resource, &limit), 0);
	ex = open();
	well = try(ex);
	CHECK_EQ(crew_executor_close(ex), NULL);
	return well;
}

/* In a child: a limit is for life. How many tasks were well there. */
static int try_apart(opener *open, int resource, rlim_t value)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0)
		_exit(try_with(open, resource, value));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 9)
		test_fail(__FILE__, __LINE__, "resource %d at %lu: status %#x", resource, (unsigned long)value, (unsigned)status);
	return WEXITSTATUS(status);
}

static void try_descriptors(opener *open)
{
	for (rlim_t n = 3; n < 64; n++)
		try_apart(open, RLIMIT_NOFILE, n);
	CHECK_EQ(try_apart(open, RLIMIT_NOFILE, 128), 9);
}

TEST_WITHIN(threads_do_with_few_descriptors, 60)
{
	try_descriptors(threads);
}

TEST_WITHIN(processes_do_with_few_descriptors, 120)
{
	try_descriptors(processes);
}

TEST_WITHIN(executed_processes_do_with_few_descriptors, 120)
{
	try_descriptors(executions);
}

/* What a child is known by can be looked at without another descriptor. */
TEST(a_program_is_joined_with_no_descriptor_left)
{
	char *argv[] = { "sh", "-c", "read line; exit 7", NULL };
	struct crew_status status;
	struct rlimit limit;
	crew_process *p;
	int pair[2], code = 0;

	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	CHECK_EQ(pipe(pair), 0);
	CHECK_EQ(dup2(pair[0], 0), 0);
	p = crew_process_exec(argv);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 3, limit.rlim_max }), 0);
	CHECK(crew_process_alive(p));
	CHECK_EQ(crew_process_join(p, 0), -ETIMEDOUT);
	CHECK_EQ(write(pair[1], "\n", 1), 1);
	CHECK_EQ(crew_process_join(p, 20000), 0);
	CHECK_EQ(crew_process_exitcode(p, &code), 0);
	CHECK_EQ(code, 7);
	CHECK_EQ(crew_process_status(p, &status), 0);
	CHECK(!status.lost);
	crew_process_close(p);
	close(pair[0]), close(pair[1]);
	/* Who looks for leaks when this program ends opens files for it. */
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void try_address_space(opener *open)
{
	if (TEST_ASAN || TEST_TSAN)
		SKIP("a sanitizer needs all the address space");
	for (rlim_t mib = 16; mib <= 4096; mib *= 2)
		try_apart(open, RLIMIT_AS, mib << 20);
	CHECK_EQ(try_apart(open, RLIMIT_AS, (rlim_t)200 << 30), 9);
}

TEST_WITHIN(threads_do_with_little_address_space, 60)
{
	try_address_space(threads);
}

TEST_WITHIN(processes_do_with_little_address_space, 120)
{
	try_address_space(processes);
}

/* SIGXFSZ would kill a program that makes its shared memory larger than that. */
TEST_WITHIN(processes_do_with_small_files, 120)
{
	for (rlim_t n = 0; n <= (rlim_t)1 << 30; n = n ? 8 * n : 1)
		try_apart(processes, RLIMIT_FSIZE, n);
	CHECK_EQ(try_apart(processes, RLIMIT_FSIZE, RLIM_INFINITY), 9);
}

/* The limit of processes is not for root. */
static int try_as_nobody(opener *open, rlim_t n)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (syscall(SYS_setresuid, 65534, 65534, 65534))
			_exit(10);
		_exit(try_with(open, RLIMIT_NPROC, n));
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 10)
		SKIP("it takes root to become somebody whose processes are counted");
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) < 10);
	return WEXITSTATUS(status);
}

TEST_WITHIN(executors_do_with_few_processes, 120)
{
	for (rlim_t n = 1; n < 8; n++) {
		try_as_nobody(threads, n);
		try_as_nobody(processes, n);
	}
	CHECK_EQ(try_as_nobody(threads, 4000), 9);
	CHECK_EQ(try_as_nobody(processes, 4000), 9);
}

TEST(a_stack_may_be_small)
{
	long y;

	CREW_SCOPE (ex, crew_threads(.workers = 2, .stack_size = (size_t)PTHREAD_STACK_MIN + 16384 * (1 + 15 * (TEST_ASAN || TEST_TSAN)))) {
		for (long i = 0; i < 100; i++)
			CHECK(crew_run(ex, &y, increment, i) == 0 && y == i + 1);
	}
	CREW_SCOPE (ex, crew_processes(.workers = 1, .stack_size = (size_t)PTHREAD_STACK_MIN + 16384 * (1 + 15 * (TEST_ASAN || TEST_TSAN)))) {
		for (long i = 0; i < 100; i++)
			CHECK(crew_run(ex, &y, increment, i) == 0 && y == i + 1);
	}
}

/* ---- interruptions ---- */

static unsigned long interruptions;

static void interrupt(int signal)
{
	(void)signal;
	__atomic_add_fetch(&interruptions, 1, __ATOMIC_RELAXED);
}

static void storm(bool restart, int us)
{
	struct sigaction action = { .sa_handler = interrupt, .sa_flags = restart ? SA_RESTART : 0 };
	const struct itimerval tick = { { 0, us }, { 0, us } };

	CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &tick, NULL), 0);
}

/* Waits end when they should, no sooner and not never, whatever interrupts them. */
static void check_under_storm(opener *open, bool restart)
{
	crew_executor *ex = open(); /* a program is forked before it is interrupted */
	crew_future *promise = crew_future_new(CREW_TYPE_OF(int)), *f;
	int64_t begin, took;
	long y;

	storm(restart, 100);
	for (long i = 0; i < 200; i++)
		CHECK(crew_run(ex, &y, add_slowly, i) == 0 && y == i);
	begin = test_now_ms();
	CHECK_EQ(crew_future_wait(promise, 50), -ETIMEDOUT);
	took = test_now_ms() - begin;
	CHECK_GE(took, 50);
	CHECK_LE(took, 2000);
	f = crew_submit(ex, add_slowly, 2000);
	begin = test_now_ms();
	CHECK_EQ(crew_wait(&promise, 1, CREW_ALL_COMPLETED, 50), 0);
	CHECK_GE(test_now_ms() - begin, 50);
	CHECK_EQ(crew_result(f, &y), 0);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	CHECK_EQ(crew_executor_close(ex), NULL);
	CHECK_GE(__atomic_load_n(&interruptions, __ATOMIC_RELAXED), 100u);
	crew_future_free(promise);
}

TEST_WITHIN(threads_work_in_a_storm_of_signals, 120)
{
	check_under_storm(threads, false);
}

TEST_WITHIN(threads_work_in_a_storm_of_signals_that_restart, 120)
{
	check_under_storm(threads, true);
}

TEST_WITHIN(processes_work_in_a_storm_of_signals, 120)
{
	check_under_storm(processes, false);
}

TEST_WITHIN(processes_work_in_a_storm_of_signals_that_restart, 120)
{
	check_under_storm(processes, true);
}
