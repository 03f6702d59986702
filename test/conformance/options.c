/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.c: what openers can be told, and what a task can ask about where it runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gate.h"
#include "kinds.h"
#include "tasks.h"

#define NEEDS_WORKERS() NOT_WHERE(IMMEDIATE | GROUPED, "it has no workers of its own")

CREW_TASK(int, answer)
{
	return 42;
}
CREW_TASK(int, worker_index)
{
	return crew_task_worker();
}
CREW_TASK(int, held_index, (crew_bytes, gate))
{
	int i = crew_task_worker();

	gate_add(gate.data, i < 0 || i > 62 ? 63 : i);
	gate_pass(gate.data);
	return i;
}
CREW_TASK(crew_bytes, thread_name)
{
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	return crew_result_copy(name, strlen(name) + 1);
}
CREW_TASK(int, cpus_of_worker)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_ISSET(0, &set) ? CPU_COUNT(&set) : -1;
}
CREW_TASK(int, nice_of_worker)
{
	return getpriority(PRIO_PROCESS, 0);
}
/* Use that much stack. */
CREW_TASK(int, deep_stack)
{
	char frame[3 << 20];

	memset(frame, 1, sizeof frame);
	__asm__ volatile("" : : "r"(frame) : "memory");
	return frame[1 << 20];
}
CREW_TASK(long, task_thread)
{
	return syscall(SYS_gettid);
}
CREW_TASK(int, asks)
{
	return !crew_task_cancelled() && crew_task_time_left() == CREW_FOREVER && crew_task_worker() >= 0 &&
	       crew_task_executor() != NULL;
}
CREW_TASK(int, asks_time)
{
	return crew_task_time_left();
}

/* Exactly as many workers as were asked for, numbered from 0. */
TEST_KIND(there_are_as_many_workers_as_asked_for)
{
	NEEDS_WORKERS();
	for (int n = 1; n <= 5; n += 2)
		CREW_SCOPE (ex, kind_open(.workers = n)) {
			GATE (g, ex);

			CHECK_EQ(crew_executor_workers(ex), n);
			for (int i = 0; i < n + 3; i++)
				crew_submit(ex, held_index, g.bytes);
			gate_await(g.at, (uint32_t)n);
			for (int i = 0; i < n; i++)
				CHECK_EQ(gate_count(g.at, i), 1u);
			CHECK_EQ(gate_count(g.at, n) + gate_count(g.at, 63), 0u);
		}
}

/* The positional form: crew_threads(4). */
TEST(the_number_of_workers_may_be_positional)
{
	CREW_SCOPE (ex, crew_threads(3))
		CHECK_EQ(crew_executor_workers(ex), 3);
	CREW_SCOPE (ex, crew_processes(2))
		CHECK_EQ(crew_executor_workers(ex), 2);
	CREW_SCOPE (ex, crew_threads())
		CHECK_EQ(crew_executor_workers(ex), crew_cpu_count());
	CREW_SCOPE (ex, crew_processes())
		CHECK_EQ(crew_executor_workers(ex), crew_cpu_count());
}

/* The affinity of the opener counts for the default. */
TEST(the_default_number_of_workers_honours_affinity)
{
	test_have_one_cpu();
	CHECK_EQ(crew_cpu_count(), 1);
	CREW_SCOPE (ex, crew_threads())
		CHECK_EQ(crew_executor_workers(ex), 1);
}

/* There whoever waits makes way for whoever answers, outside and in a task. */
CREW_TASK(int, has_another_answer)
{
	int y = 0;

	return crew_run(crew_task_executor(), &y, answer) ? -1 : y;
}
TEST_KIND(one_cpu_is_enough)
{
	test_have_one_cpu();
	CREW_SCOPE (ex, kind_open(.workers = 2))
		for (int i = 0; i < 100; i++) {
			int y = 0;

			CHECK_EQ(i % 2 ? crew_run(ex, &y, answer) : crew_run(ex, &y, has_another_answer), 0);
			CHECK_EQ(y, 42);
		}
}

/* Workers are named name/0, name/1, …; a long name is cut, not refused. */
TEST_KIND(workers_have_names)
{
	char copy[] = "io";
	crew_bytes name;

	NEEDS_WORKERS();
	CREW_SCOPE (ex, kind_open(.workers = 1, .name = copy)) {
		memset(copy, 'x', 2);
		CHECK_EQ(crew_result(crew_submit(ex, thread_name), &name), 0);
		CHECK_STR(name.data, "io/0");
		CHECK_STR(crew_executor_name(ex), "io");
	}
	CREW_SCOPE (ex, kind_open(.workers = 1)) {
		CHECK_EQ(crew_result(crew_submit(ex, thread_name), &name), 0);
		CHECK_STR(name.data, "crew/0");
	}
	CREW_SCOPE (ex, kind_open(.workers = 1, .name = "a-very-long-name-for-a-pool")) {
		CHECK_EQ(crew_result(crew_submit(ex, thread_name), &name), 0);
		CHECK_HAS(name.data, "a-very-long");
	}
}

/* Memory that any worker finds, of whichever kind: the executor's own does not exist yet when it is opened. */
struct elsewhere {
	pid_t pid;
	int fd;
};
static void count_elsewhere(const struct elsewhere *e, int i)
{
	char path[64];
	struct gate *gate;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)e->pid, e->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	gate = mmap(NULL, sizeof *gate, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(gate != MAP_FAILED);
	gate_add(gate, i);
	munmap(gate, sizeof *gate);
	close(fd);
}

/* initializer and finalizer: once in each worker that starts, with its number; the finalizer when it ends. */
static int initialize(void *arg, int worker)
{
	count_elsewhere(arg, worker);
	count_elsewhere(arg, 40);
	return 0;
}
static void finalize(void *arg, int worker)
{
	(void)worker;
	count_elsewhere(arg, 41);
}
TEST_KIND(initializer_and_finalizer_run_once_in_each_worker)
{
	struct elsewhere seen = { getpid(), memfd_create("seen", MFD_CLOEXEC) };
	struct gate *gate;

	NEEDS_WORKERS();
	CHECK_EQ(ftruncate(seen.fd, sizeof *gate), 0);
	/* the grace is what a finalizer may take, and that of a worker that does not get a CPU takes as long as that lasts */
	CREW_SCOPE (ex, kind_open(.workers = 3, .initializer = initialize, .finalizer = finalize, .arg = &seen, .arg_size = sizeof seen,
				  .grace_ms = 600000)) {
		GATE (g, ex);

		for (int i = 0; i < 3; i++)
			crew_submit(ex, held, g.bytes, 0);
		gate_await(g.at, 3);
	}
	gate = mmap(NULL, sizeof *gate, PROT_READ | PROT_WRITE, MAP_SHARED, seen.fd, 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(gate_count(gate, i), 1u);
	CHECK_EQ(gate_count(gate, 40), 3u);
	CHECK_EQ(gate_count(gate, 41), 3u);
	munmap(gate, sizeof *gate);
	close(seen.fd);
}

/* Each worker has a copy of the argument, and it is its own: what one writes there no other sees. */
static char argument_seen[32];
static int keep_argument(void *arg, int worker)
{
	snprintf(argument_seen, sizeof argument_seen, "%s", (char *)arg);
	((char *)arg)[0] = (char)('a' + worker);
	return 0;
}
CREW_TASK(crew_bytes, argument)
{
	return crew_result_copy(argument_seen, sizeof argument_seen);
}
TEST_KIND(workers_have_the_argument_that_was_passed_by_size)
{
	char text[] = "seven";
	crew_bytes seen;

	NOT_WHERE(IMMEDIATE | GROUPED, "there are no workers of its own, or no options");
	if (!(kind->traits & SEPARATE))
		SKIP("threads share the argument itself");
	CREW_SCOPE (ex, kind_open(.workers = 3, .initializer = keep_argument, .arg = text, .arg_size = sizeof text)) {
		strcpy(text, "other");
		for (int i = 0; i < 30; i++) {
			CHECK_EQ(crew_take(crew_submit(ex, argument), &seen, NULL), 0);
			CHECK_STR(seen.data, "seven");
			crew_bytes_free(seen);
		}
	}
}

/* An address means nothing to a process that was not forked from this one as it is. */
TEST_KIND(an_argument_without_a_size_is_for_workers_that_inherit)
{
	crew_error e;
	int x = 7;

	NOT_WHERE(IMMEDIATE | GROUPED, "there are no workers of its own, or no options");
	CREW_SCOPE (ex, kind_open(.workers = 1, .arg = &x)) {
		CHECK_EQ(crew_executor_error(ex, &e), (kind->traits & SEPARATE) && !(kind->traits & INHERITS) ? CREW_EPOINTER : 0);
		CHECK(e.code == 0 || e.message[0]);
	}
}

/* An initializer that fails breaks the executor: what waits and what comes fails with CREW_EBROKEN; no hang, no endless respawn. */
static int fail_to_initialize(void *arg, int worker)
{
	(void)arg, (void)worker;
	return 5;
}
TEST_KIND(a_failing_initializer_breaks_the_executor)
{
	crew_error e = { 0 };

	NEEDS_WORKERS();
	CREW_SCOPE (ex, kind_open(.workers = 2, .initializer = fail_to_initialize)) {
		crew_future *fs[10];

		for (int i = 0; i < 10; i++)
			fs[i] = crew_submit(ex, answer);
		for (int i = 0; i < 10; i++) {
			CHECK_EQ(crew_future_wait(fs[i], CREW_FOREVER), CREW_ERAISED);
			CHECK_EQ(crew_future_error(fs[i])->code, CREW_EBROKEN);
		}
		CHECK_NE(crew_executor_error(ex, &e), 0);
		CHECK(e.message[0] != 0);
		CHECK_EQ(crew_future_error(crew_submit(ex, answer))->code, CREW_EBROKEN);
	}
}

/* A finalizer does not run where the initializer failed. */
TEST_KIND(no_finalizer_without_initializer)
{
	static struct gate seen;

	NOT_WHERE(SEPARATE | IMMEDIATE | GROUPED, "seen through our own memory, from workers of its own");
	CREW_SCOPE (ex, kind_open(.workers = 1, .initializer = fail_to_initialize, .finalizer = finalize, .arg = &seen))
		crew_future_wait(crew_submit(ex, answer), CREW_FOREVER);
	CHECK_EQ(gate_count(&seen, 41), 0u);
}

/* max_tasks_per_child: a fresh worker after so many tasks; none is lost on the way. */
TEST_KIND(workers_are_replaced_after_their_share_of_tasks)
{
	enum { N = 40 };
	long ids[N];
	int different = 1, y;

	NEEDS_WORKERS();
	CREW_SCOPE (ex, kind_open(.workers = 1, .max_tasks_per_child = 5)) {
		for (int i = 0; i < N; i++)
			CHECK_EQ(crew_run(ex, &ids[i], task_thread), 0);
		for (int i = 1; i < N; i++)
			different += ids[i] != ids[i - 1];
		for (int i = 0; i + 6 < N; i++)
			CHECK(ids[i] != ids[i + 5] || ids[i] != ids[i + 6]);
		CHECK_EQ(crew_run(ex, &y, answer), 0);
	}
	CHECK_GE(different, N / 5);
}

TEST_KIND(no_task_is_lost_when_workers_are_replaced)
{
	static crew_future *fs[300];
	int y;

	NEEDS_WORKERS();
	CREW_SCOPE (ex, kind_open(.workers = 2, .max_tasks_per_child = 1)) {
		int n = kind->traits & SEPARATE ? 40 : 300;

		for (int i = 0; i < n; i++)
			fs[i] = crew_submit(ex, answer);
		for (int i = 0; i < n; i++) {
			CHECK_EQ(crew_result(fs[i], &y), 0);
			CHECK_EQ(y, 42);
		}
	}
}

/* cpus: the workers' affinity. */
TEST_KIND(workers_run_on_the_cpus_they_are_given)
{
	int y = 0;

	NEEDS_WORKERS();
	CREW_SCOPE (ex, kind_open(.workers = 2, .cpus = "0")) {
		CHECK_EQ(crew_executor_error(ex, NULL), 0);
		CHECK_EQ(crew_result(crew_submit(ex, cpus_of_worker), &y), 0);
		CHECK_EQ(y, 1);
	}
}

/* A list that cannot be read is refused at the open. */
TEST_KIND(a_bad_list_of_cpus_is_refused)
{
	static const char *const bad[] = { "x", "3-1", "0,", "-1", "0-", "99999", "0 1" };

	NEEDS_WORKERS();
	for (int i = 0; i < 7; i++)
		CREW_SCOPE (ex, kind_open(.workers = 1, .cpus = bad[i])) {
			crew_future *f = crew_submit(ex, answer);

			CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
			CHECK_NE(crew_executor_error(ex, NULL), 0);
		}
}

/* nice is added to the worker's own, and does not leak to the program. */
TEST_KIND(workers_are_as_nice_as_asked)
{
	int y = -1, before = getpriority(PRIO_PROCESS, 0);

	NEEDS_WORKERS();
	CREW_SCOPE (ex, kind_open(.workers = 1, .nice = 3)) {
		CHECK_EQ(crew_result(crew_submit(ex, nice_of_worker), &y), 0);
		CHECK_EQ(y, before + 3 > 19 ? 19 : before + 3);
	}
	CHECK_EQ(getpriority(PRIO_PROCESS, 0), before);
}

/* What no priority can be is refused, below as above. */
TEST_KIND(no_worker_is_nicer_than_can_be)
{
	NEEDS_WORKERS();
	for (int i = -1; i <= 1; i += 2)
		CREW_SCOPE (ex, kind_open(.workers = 1, .nice = 41 * i))
			CHECK_EQ(crew_executor_error(ex, NULL), -EINVAL);
}

/* stack_size: at least that much; less than any thread needs is refused. */
TEST_KIND(workers_have_the_stack_they_are_given)
{
	long size = 0;
	int y = 0;

	NEEDS_WORKERS();
	CREW_SCOPE (ex, kind_open(.workers = 1, .stack_size = 16 << 20)) {
		if (!(kind->traits & SEPARATE)) {
			CHECK_EQ(crew_result(crew_submit(ex, stack_size), &size), 0);
			CHECK_GE(size, 16L << 20);
		}
		CHECK_EQ(crew_result(crew_submit(ex, deep_stack), &y), 0);
		CHECK_EQ(y, 1);
	}
	CREW_SCOPE (ex, kind_open(.workers = 1, .stack_size = 1))
		CHECK_EQ(crew_executor_error(ex, NULL), -EINVAL);
}

/* Workers block every signal: the program's handlers run in its own threads. */
CREW_TASK(int, blocks_signals)
{
	sigset_t set;

	pthread_sigmask(SIG_SETMASK, NULL, &set);
	return sigismember(&set, SIGUSR1) && sigismember(&set, SIGINT) && sigismember(&set, SIGCHLD);
}
TEST_EACH(threads_block_every_signal, ex)
{
	int y = 0;

	NOT_WHERE(IMMEDIATE, "the worker is the program's own thread");
	NOT_WHERE(SEPARATE, "a process has its signals at their default, but SIGINT");
	CHECK_EQ(crew_result(crew_submit(ex, blocks_signals), &y), 0);
	CHECK_EQ(y, 1);
}
CREW_TASK(int, signals_at_default)
{
	struct sigaction a;
	sigset_t set;

	sigprocmask(SIG_SETMASK, NULL, &set);
	return sigaction(SIGINT, NULL, &a) == 0 && a.sa_handler == SIG_IGN && sigaction(SIGTERM, NULL, &a) == 0 &&
	       a.sa_handler == SIG_DFL && sigaction(SIGUSR1, NULL, &a) == 0 && a.sa_handler == SIG_DFL &&
	       !sigismember(&set, SIGUSR1) && !sigismember(&set, SIGTERM);
}
static void ignore_signal(int number)
{
	(void)number;
}
TEST_KIND(processes_have_signals_at_their_default)
{
	int y = 0;

	NOT_WHERE(IMMEDIATE | GROUPED, "it has no workers of its own");
	if (!(kind->traits & SEPARATE))
		SKIP("threads share the program's handlers");
	signal(SIGUSR1, ignore_signal);
	signal(SIGTERM, SIG_IGN);
	CREW_SCOPE (ex, kind_open())
		CHECK_EQ(crew_result(crew_submit(ex, signals_at_default), &y), 0);
	CHECK_EQ(y, 1);
}

/* Opening, using and closing leaves the program's own signal handling as it was. */
TEST_KIND(the_program_keeps_its_signal_handling)
{
	struct sigaction before[32], after;

	for (int n = 1; n < 32; n++)
		sigaction(n, NULL, &before[n]);
	CREW_SCOPE (ex, kind_open())
		crew_future_wait(crew_submit(ex, answer), CREW_FOREVER);
	for (int n = 1; n < 32; n++) {
		sigaction(n, NULL, &after);
		CHECK(after.sa_handler == before[n].sa_handler);
	}
}

/* What a task may ask: true inside, neutral outside. */
TEST_EACH(a_task_may_ask_about_itself, ex)
{
	int y = 0;

	CHECK_EQ(crew_result(crew_submit(ex, asks), &y), 0);
	CHECK_EQ(y, 1);
	CHECK_EQ(crew_result(crew_submit(ex, worker_index), &y), 0);
	CHECK(y >= 0 && y < kind->workers);
	CHECK_EQ(crew_result(crew_submit_with(ex, (.timeout_ms = 60000), asks_time), &y), 0);
	CHECK(y > 0 && y <= 60000);
}
TEST(outside_of_a_task_the_answers_are_neutral)
{
	CHECK(!crew_task_cancelled());
	CHECK_EQ(crew_task_time_left(), CREW_FOREVER);
	CHECK_EQ(crew_task_worker(), -1);
	CHECK(crew_task_executor() == NULL);
}

/* On threads the executor of a task is the very same; in a process it is one that runs in place. */
static crew_executor *opened;
CREW_TASK(int, runs_on_opened)
{
	return crew_task_executor() == opened;
}
TEST_EACH(a_task_knows_its_executor, ex)
{
	int y = 0;

	NOT_WHERE(SEPARATE | GROUPED, "another process has another; a group's task may be told of either");
	opened = ex;
	CHECK_EQ(crew_result(crew_submit(ex, runs_on_opened), &y), 0);
	CHECK_EQ(y, 1);
}

/* Statistics: each figure is right for itself. */
TEST_EACH(statistics_count, ex)
{
	GATE (g, ex);
	struct crew_stats s = { 0 };

	for (int i = 0; i < 5; i++)
		CHECK_EQ(crew_future_wait(crew_submit(ex, answer), CREW_FOREVER), 0);
	crew_future_wait(crew_submit(ex, held_failure, (gate_open(g.at), g.bytes), 5), CREW_FOREVER);
	crew_executor_wait(ex, CREW_FOREVER);
	CHECK_EQ(crew_executor_stats(ex, &s, sizeof s), 0);
	CHECK(s.submitted >= 6 && s.done == s.submitted);
	CHECK(s.failed == 1 && s.cancelled == 0 && s.queued == 0 && s.running == 0);
	CHECK(s.lost == 0 && s.workers_lost == 0);
}
TEST_EACH(statistics_see_what_runs_and_waits, ex)
{
	GATE (g, ex);
	struct crew_stats s = { 0 };
	crew_future *f;

	NOT_WHERE(IMMEDIATE, "nothing runs or waits");
	NOT_WHERE(GROUPED, "the workers are the other's");
	gate_occupy(&g);
	for (int i = 0; i < 4; i++)
		f = crew_submit(ex, answer);
	crew_future_cancel(f, NULL);
	CHECK_EQ(crew_executor_stats(ex, &s, sizeof s), 0);
	CHECK_EQ(s.workers, kind->workers);
	CHECK_EQ(s.running, (uint64_t)kind->workers);
	CHECK_EQ(s.queued, 3u);
	CHECK_EQ(s.cancelled, 1u);
}

/* An idle pool of threads has no thread at all before its first task. */
TEST(a_pool_that_was_never_used_has_no_thread)
{
	CREW_SCOPE (ex, crew_threads(8)) {
		struct crew_stats s;

		CHECK_EQ(crew_executor_stats(ex, &s, sizeof s), 0);
		CHECK_EQ(s.workers, 0);
	}
}
