/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * upbringing.c: what a child is given: arguments, signals, standard streams, limits; and programs that are executed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "children.h"
#include "tasks.h"

CREW_TASK(void, do_nothing)
{
}

CREW_TASK(void, sleep_for_ever)
{
	for (;;)
		pause();
}

CREW_TASK(int, join_it, (crew_process *, p))
{
	return crew_process_join(p, CREW_FOREVER);
}

/* ---- what it is given ---- */

TEST_CHILD(pointers_go_where_memory_goes)
{
	crew_process *p = start(join_it, NULL);
	int y = 0;

	if (way->traits & NO_POINTERS) {
		CHECK_EQ(crew_process_join(p, 0), CREW_EPOINTER);
		CHECK_EQ(crew_process_error(p)->code, CREW_EPOINTER);
	} else {
		CHECK_EQ(crew_process_result(p, &y), 0);
		CHECK_EQ(y, CREW_EHANDLE);
	}
	crew_process_close(p);
}

TEST_CHILD(nothing_comes_back_as_nothing)
{
	crew_process *p = start(no_text), *q = start(no_bytes);
	const char *text = "text";
	crew_bytes bytes = crew_bytes_str("bytes");

	CHECK_EQ(crew_process_result(p, &text), 0);
	CHECK(!text);
	CHECK_EQ(crew_process_result(q, &bytes), 0);
	CHECK(!bytes.data && bytes.len == 0);
	crew_process_close(p), crew_process_close(q);
}

CREW_RAW_TASK(reverse, raw_reverse);

TEST_CHILD(a_raw_task_may_be_a_child)
{
	static const char large[100];
	crew_process *p = start(reverse, crew_bytes_str("stressed")), *q = start(reverse, crew_bytes_make(large, sizeof large));
	crew_bytes y = { NULL, 0 };

	CHECK_EQ(crew_process_result(p, &y), 0);
	CHECK_EQ(y.len, 8);
	CHECK(memcmp(y.data, "desserts", 8) == 0);
	CHECK_EQ(crew_process_result(q, &y), CREW_ERAISED);
	CHECK_EQ(crew_process_error(q)->code, E2BIG);
	CHECK_STR(crew_process_error(q)->message, "100 bytes");
	CHECK_EQ(end_of(q).exit_code, 1);
	crew_process_close(p), crew_process_close(q);
}

static int global = 1;

CREW_TASK(int, change_global)
{
	return ++global;
}

TEST_CHILD(globals_are_shared_with_threads_only)
{
	crew_process *p = start(change_global);

	CHECK_EQ(end_of(p).exit_code, 2);
	CHECK_EQ(global, way->traits & A_THREAD ? 2 : 1);
	crew_process_close(p);
}

CREW_TASK(int, dispositions)
{
	struct sigaction action;
	sigset_t mask;
	int bad = 0;

	for (int i = 1; i < 32; i++)
		if (i != SIGKILL && i != SIGSTOP && sigaction(i, NULL, &action) == 0)
			bad += action.sa_handler != SIG_DFL;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int i = 1; i < 32; i++)
		bad += sigismember(&mask, i) == 1;
	return bad;
}

TEST_CHILD(a_child_has_default_signals)
{
	sigset_t blocked;
	crew_process *p;

	NOT_FOR_THREADS("a thread has the program's");
	if (TEST_TSAN || TEST_ASAN)
		SKIP("the sanitizer answers sigaction()");
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	p = start(dispositions);
	CHECK_EQ(end_of(p).exit_code, 0);
	crew_process_close(p);
}

CREW_TASK(int, shout)
{
	char line[64] = "";

	if (!fgets(line, sizeof line, stdin))
		return 1;
	printf("out: %s", line);
	fprintf(stderr, "err: %s", line);
	return 0;
}

static void expect(int fd, const char *text)
{
	char buffer[128] = "";
	size_t n = 0;
	ssize_t got;

	while ((got = read(fd, buffer + n, sizeof buffer - 1 - n)) > 0)
		n += (size_t)got;
	CHECK_STR(buffer, text);
	close(fd);
}

TEST_CHILD(pipes_stand_for_its_stdio)
{
	crew_process *p;
	int in;

	NOT_FOR_THREADS("a thread has the program's");
	p = start_with((.stdin_fd = CREW_PIPE, .stdout_fd = CREW_PIPE, .stderr_fd = CREW_PIPE), shout);
	in = crew_process_pipe(p, 0);
	CHECK_GE(in, 3);
	CHECK_EQ(crew_process_pipe(p, 0), -EBADF);
	CHECK_EQ(crew_process_pipe(p, 3), -EINVAL);
	CHECK_EQ(write(in, "hey\n", 4), 4);
	close(in);
	expect(crew_process_pipe(p, 1), "out: hey\n");
	expect(crew_process_pipe(p, 2), "err: hey\n");
	CHECK_EQ(end_of(p).exit_code, 0);
	crew_process_close(p);
}

/* Its input ends when we close our end, whatever else was started meanwhile. */
TEST_CHILD(a_younger_sibling_does_not_hold_a_pipe_open)
{
	crew_process *p, *younger;

	NOT_FOR_THREADS("a thread has the program's");
	p = start_with((.stdin_fd = CREW_PIPE, .stdout_fd = CREW_DEVNULL), shout);
	younger = start(sleep_for_ever);
	close(crew_process_pipe(p, 0));
	CHECK_EQ(end_of(p).exit_code, 1);
	crew_process_kill(younger);
	crew_process_close(p), crew_process_close(younger);
}

TEST_CHILD(descriptors_may_be_swapped)
{
	int out[2], err[2], in;
	crew_process *p;

	NOT_FOR_THREADS("a thread has the program's");
	CHECK_EQ(pipe2(out, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(err, O_CLOEXEC), 0);
	p = start_with((.stdin_fd = CREW_PIPE, .stdout_fd = err[1], .stderr_fd = out[1]), shout);
	close(out[1]), close(err[1]);
	in = crew_process_pipe(p, 0);
	CHECK_EQ(write(in, "ho\n", 3), 3);
	close(in);
	crew_process_close(p);
	expect(out[0], "err: ho\n");
	expect(err[0], "out: ho\n");
}

CREW_TASK(int, my_nice)
{
	return getpriority(PRIO_PROCESS, 0);
}

CREW_TASK(int, my_limits)
{
	struct rlimit files, cpu;

	getrlimit(RLIMIT_NOFILE, &files);
	getrlimit(RLIMIT_CPU, &cpu);
	return files.rlim_cur == 50 && cpu.rlim_cur == 20 ? 0 : 1;
}

TEST_CHILD(niceness_and_limits_are_its_own)
{
	crew_process *p, *q;
	int own = getpriority(PRIO_PROCESS, 0);

	NOT_FOR_THREADS("limits are a process's");
	p = start_with((.nice = 5), my_nice);
	q = start_with((.max_files = 50, .max_cpu_s = 20), my_limits);
	CHECK_EQ(end_of(p).exit_code, own + 5 > 19 ? 19 : own + 5); /* no process is nicer than 19 */
	CHECK_EQ(end_of(q).exit_code, 0);
	crew_process_close(p), crew_process_close(q);
	for (int i = -1; i <= 1; i += 2) {
		p = start_with((.nice = 41 * i), my_nice);
		CHECK_EQ(crew_process_error(p)->code, -EINVAL);
		crew_process_close(p);
	}
	p = start_with((.cpus = "nonsense"), my_nice);
	CHECK_EQ(crew_process_join(p, 0), -EINVAL);
	crew_process_close(p);
}

CREW_TASK(int, most_files)
{
	struct rlimit files;

	return getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur == files.rlim_max ? (int)files.rlim_cur : -1;
}

/* A limit cannot be raised above that of the creator, and is not refused. */
TEST_CHILD(a_limit_above_the_creators_is_the_creators)
{
	struct rlimit limit = { 200, 200 };
	crew_process *p;
	int y = 0;

	NOT_FOR_THREADS("limits are a process's");
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	p = start_with((.max_files = 300), most_files);
	CHECK_EQ(crew_process_result(p, &y), 0);
	CHECK_EQ(y, 200);
	crew_process_close(p);
}

CREW_TASK(int, is_only_on, (int, cpu))
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_ISSET(cpu, &set) && CPU_COUNT(&set) == 1;
}

TEST_CHILD(a_child_runs_on_the_cpus_it_is_given)
{
	crew_process *p;
	char cpus[16];
	int y = 0, cpu = test_first_cpu();

	snprintf(cpus, sizeof cpus, "%d", cpu);
	p = start_with((.cpus = cpus), is_only_on, cpu);
	CHECK_EQ(crew_process_result(p, &y), 0);
	CHECK_EQ(y, 1);
	crew_process_close(p);
}

TEST(a_thread_has_the_stack_it_is_given)
{
	crew_process *p = crew_thread_start_with((.stack_size = 16 << 20), stack_size);
	long size = 0;

	CHECK_EQ(crew_process_result(p, &size), 0);
	CHECK_GE(size, 16L << 20);
	crew_process_close(p);
}

/* It reads nothing, and a program that it executes has it, too. */
CREW_TASK(int, reads_nothing)
{
	char c;

	return fcntl(STDIN_FILENO, F_GETFD) == 0 && read(STDIN_FILENO, &c, 1) == 0;
}

TEST_CHILD(a_program_without_stdin_has_children_with_one)
{
	crew_process *p;
	int y = 0;

	NOT_FOR_THREADS("a thread has the program's");
	close(STDIN_FILENO);
	p = start_with((.stdin_fd = CREW_DEVNULL), reads_nothing);
	CHECK_EQ(crew_process_result(p, &y), 0);
	CHECK_EQ(y, 1);
	CHECK_EQ(fcntl(STDIN_FILENO, F_GETFD), -1);
	crew_process_close(p);
}

/* ---- programs ---- */

TEST(a_program_is_executed_with_its_arguments)
{
	char *argv[] = { "sh", "-c", "read x; echo $x $1; echo oh >&2; exit 3", "sh", "there", NULL };
	crew_process *p = crew_process_exec_with((.stdin_fd = CREW_PIPE, .stdout_fd = CREW_PIPE, .stderr_fd = CREW_PIPE), argv);
	int in = crew_process_pipe(p, 0);

	CHECK_EQ(write(in, "hello\n", 6), 6);
	close(in);
	expect(crew_process_pipe(p, 1), "hello there\n");
	expect(crew_process_pipe(p, 2), "oh\n");
	CHECK_STR(crew_process_name(p), "sh");
	CHECK_EQ(end_of(p).exit_code, 3);
	CHECK_EQ(crew_process_error(p)->code, CREW_EWORKER);
	CHECK_EQ(crew_process_error(p)->exit_status, 3);
	crew_process_close(p);
}

TEST(a_program_that_cannot_be_executed_is_known_at_once)
{
	char *missing[] = { "/there/is/no/such/program", NULL }, *folder[] = { "/tmp", NULL }, *true_[] = { "true", NULL };
	crew_process *p = crew_process_exec_with((.stdout_fd = CREW_PIPE), missing), *q = crew_process_exec(folder),
		     *r = crew_process_exec_with((.directory = "/there/is/no/such/folder"), true_);

	CHECK_EQ(crew_process_join(p, CREW_FOREVER), -ENOENT);
	CHECK_HAS(crew_process_error(p)->message, "/there/is/no/such/program");
	CHECK_EQ(crew_process_join(q, CREW_FOREVER), -EACCES);
	CHECK_EQ(crew_process_join(r, CREW_FOREVER), -ENOENT);
	crew_process_close(p), crew_process_close(q), crew_process_close(r);
}

TEST(a_program_gets_three_descriptors)
{
	char *argv[] = { "sh", "-c", "if [ -e /proc/self/fd/50 ]; then exit 1; fi", NULL };
	crew_process *p, *q;

	CHECK_EQ(dup2(0, 50), 50);
	p = crew_process_exec(argv);
	q = crew_process_exec_with((.inherit_fds = true), argv);
	CHECK_EQ(end_of(p).exit_code, 0);
	CHECK_EQ(end_of(q).exit_code, 1);
	crew_process_close(p), crew_process_close(q);
	close(50);
}

TEST(a_program_may_have_a_name_of_ours_and_nothing_to_read)
{
	char *argv[] = { "sh", "-c", "read x && exit 1; exit 4", NULL };
	crew_process *p = crew_process_exec_with((.name = "reader", .stdin_fd = CREW_DEVNULL, .stdout_fd = CREW_DEVNULL), argv);

	CHECK_STR(crew_process_name(p), "reader");
	CHECK_EQ(end_of(p).exit_code, 4);
	crew_process_close(p);
}

TEST(a_program_has_its_environment_and_folder)
{
	char *argv[] = { "/bin/sh", "-c", "echo $WORD $PWD", NULL }, *environment[] = { "WORD=yes", NULL };
	crew_process *p = crew_process_exec_with((.stdout_fd = CREW_PIPE, .directory = "/", .environment = environment), argv);

	expect(crew_process_pipe(p, 1), "yes /\n");
	CHECK_EQ(end_of(p).exit_code, 0);
	crew_process_close(p);
}

TEST(a_program_can_be_killed)
{
	char *argv[] = { "sleep", "1000", NULL };
	crew_process *p = crew_process_exec(argv), *daemon = crew_process_exec_with((.daemon = true), argv);

	CHECK(crew_process_alive(p));
	CHECK_EQ(crew_process_kill(p), 0);
	CHECK_EQ(end_of(p).signal, SIGKILL);
	crew_process_close(p);
	crew_process_close(daemon);
}
