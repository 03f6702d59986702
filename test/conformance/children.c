/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * children.c: one child, as a process of every start method and as a thread: what it is given, how it ends, and what its creator can ask.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "children.h"

/* ---- tasks ---- */

CREW_TASK(int, give, (int, x))
{
	return x;
}

CREW_TASK(void, do_nothing)
{
}

CREW_TASK(double, root, (double, x))
{
	return x < 0 ? crew_raise(EDOM, "no real root of %g", x) : x / 2;
}

CREW_TASK(crew_bytes, reversed, (crew_bytes, in))
{
	crew_bytes out = crew_result_alloc(in.len);

	for (size_t i = 0; i < in.len; i++)
		((char *)out.data)[i] = ((const char *)in.data)[in.len - 1 - i];
	return out;
}

CREW_TASK(const char *, greeting, (const char *, who), (int, n))
{
	crew_bytes text = crew_result_printf("hello %s %d", who ? who : "nobody", n);

	return text.data;
}

struct wide {
	long v[6];
};

CREW_TASK(struct wide, widened, (struct wide, w))
{
	w.v[5] += 1;
	return w;
}

CREW_TASK(void, wait_for_byte, (int, fd))
{
	char c;

	(void)!read(fd, &c, 1);
}

CREW_TASK(int, pass_to_exit, (int, status))
{
	exit(status);
}

CREW_TASK(void, die_by, (int, signal))
{
	raise(signal);
}

CREW_TASK(void, sleep_for_ever)
{
	for (;;)
		pause();
}

/* ---- life ---- */

/* What the task returns arrives, and its end is known. */
TEST_CHILD(a_child_runs_its_task_and_ends)
{
	crew_process *p = start(give, 42);
	struct crew_status status = end_of(p);
	int y = 0;

	CHECK_EQ(status.state, CREW_PROCESS_ENDED);
	CHECK_EQ(status.exit_code, 42);
	CHECK_EQ(status.signal, 0);
	CHECK(!status.lost && !status.core);
	CHECK_EQ(crew_process_result(p, &y), 0);
	CHECK_EQ(y, 42);
	CHECK_EQ(crew_process_error(p)->code, 0);
	CHECK(!crew_process_alive(p));
	CHECK(crew_process_close(p) == NULL);
}

/* main()'s rule: the low 8 bits of an int. */
TEST_CHILD(an_int_is_the_exit_status)
{
	static const int values[][2] = { { 0, 0 }, { 1, 1 }, { 255, 255 }, { 256, 0 }, { -1, 255 } };

	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
		crew_process *p = start(give, values[i][0]);
		int y, code = INT_MIN;

		CHECK_EQ(end_of(p).exit_code, values[i][1]);
		CHECK_EQ(crew_process_exitcode(p, &code), 0);
		CHECK_EQ(code, values[i][1]);
		CHECK_EQ(crew_process_result(p, &y), 0);
		CHECK_EQ(y, values[i][0]);
		crew_process_close(p);
	}
}

TEST_CHILD(a_void_task_ends_with_0)
{
	crew_process *p = start(do_nothing);

	CHECK_EQ(end_of(p).exit_code, 0);
	CHECK_EQ(crew_process_error(p)->code, 0);
	crew_process_close(p);
}

/* A raise is an exit status of 1 and the whole error, as in a future. */
TEST_CHILD(a_raise_arrives_with_its_sentence)
{
	crew_process *p = start(root, -1.0);
	double y = 7;

	CHECK_EQ(end_of(p).exit_code, 1);
	CHECK_EQ(crew_process_result(p, &y), CREW_ERAISED);
	CHECK_EQ(y, 7.0);
	CHECK_EQ(crew_process_error(p)->code, EDOM);
	CHECK_STR(crew_process_error(p)->message, "no real root of -1");
	CHECK_STR(crew_process_error(p)->task, "root");
	CHECK_HAS(crew_process_error(p)->where, "children.c:");
	crew_process_close(p);
}

TEST_CHILD(results_of_every_class_arrive)
{
	size_t n = 300000;
	char *text = malloc(n);
	crew_process *p, *q, *r, *s;
	struct wide w = { { 1, 2, 3, 4, 5, 6 } };
	const char *said;
	crew_bytes back;
	double half;

	for (size_t i = 0; i < n; i++)
		text[i] = (char)(i * 7);
	p = start(reversed, crew_bytes_make(text, n));
	q = start(greeting, "world", 3);
	r = start(widened, w);
	s = start(root, 8.0);
	CHECK_EQ(crew_process_result(p, &back), 0);
	CHECK_EQ(back.len, n);
	for (size_t i = 0; i < n; i++)
		CHECK_EQ(((char *)back.data)[i], text[n - 1 - i]);
	CHECK_EQ(crew_process_result(q, &said), 0);
	CHECK_STR(said, "hello world 3");
	CHECK_EQ(crew_process_result(r, &w), 0);
	CHECK_EQ(w.v[5], 7);
	CHECK_EQ(crew_process_result(s, &half), 0);
	CHECK_EQ(half, 4.0);
	free(text);
	crew_process_close(p), crew_process_close(q), crew_process_close(r), crew_process_close(s);
}

TEST_CHILD(a_null_string_arrives_as_null)
{
	crew_process *p = start(greeting, NULL, 1);
	const char *said;

	CHECK_EQ(crew_process_result(p, &said), 0);
	CHECK_STR(said, "hello nobody 1");
	crew_process_close(p);
}

TEST_CHILD(a_result_of_another_type_is_refused)
{
	crew_process *p = start(give, 1);
	double y;

	CHECK_EQ(crew_process_result(p, &y), CREW_ETYPE);
	crew_process_close(p);
}

/* ---- waiting ---- */

TEST_CHILD(a_join_with_a_time_limit_gives_up_and_can_be_repeated)
{
	int fds[2];
	crew_process *p;
	struct crew_status status;

	CHECK_EQ(pipe(fds), 0);
	if (way->traits & NO_POINTERS)
		SKIP("it has none of our descriptors");
	p = start(wait_for_byte, fds[0]);
	CHECK_EQ(crew_process_join(p, 0), -ETIMEDOUT);
	CHECK_EQ(crew_process_join(p, 20), -ETIMEDOUT);
	CHECK(crew_process_alive(p));
	CHECK_EQ(crew_process_status(p, &status), 0);
	CHECK_EQ(status.state, CREW_PROCESS_RUNNING);
	CHECK_EQ(crew_process_exitcode(p, &status.exit_code), -EAGAIN);
	CHECK_EQ(write(fds[1], "x", 1), 1);
	CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
	CHECK_EQ(crew_process_join(p, 0), 0);
	CHECK(!crew_process_alive(p));
	crew_process_close(p);
	close(fds[0]), close(fds[1]);
}

/* The sentinel goes into any poll. */
TEST_CHILD(its_descriptor_is_readable_when_it_has_ended)
{
	crew_process *p = start(do_nothing);
	struct pollfd fd = { crew_process_fd(p), POLLIN, 0 };

	CHECK_GE(fd.fd, 3);
	CHECK_EQ(poll(&fd, 1, -1), 1);
	CHECK_EQ(crew_process_join(p, 0), 0);
	CHECK_EQ(poll(&fd, 1, 0), 1);
	CHECK(fcntl(fd.fd, F_GETFD) & FD_CLOEXEC);
	crew_process_close(p);
}

CREW_TASK(int, join_it, (crew_process *, p))
{
	return crew_process_join(p, CREW_FOREVER);
}

CREW_TASK(int, wait_for_word, (crew_pipe, p))
{
	char c;

	return crew_pipe_recv(p, &c, 1, CREW_FOREVER) == 1 ? 0 : 1;
}

TEST_CHILD(it_can_be_waited_for_beside_other_things)
{
	crew_queue q = crew_queue_make(.item = 1);
	crew_process *failed = crew_process_exec(NULL);
	crew_waitable w[4];
	crew_process *p;
	crew_pipe end[2];

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	p = start(wait_for_word, end[1]);
	w[0] = crew_on_process(p);
	w[1] = crew_on_pipe(end[0]);
	w[2] = crew_on_queue(q);
	CHECK_EQ(crew_wait_ready(w, 3, 20), 0);
	CHECK_EQ(crew_pipe_send(end[0], "x", 1, CREW_FOREVER), 0);
	CHECK_EQ(crew_wait_ready(w, 1, CREW_FOREVER), 1);
	CHECK(w[0].ready);
	CHECK(!crew_process_alive(p));
	w[3] = crew_on_process(failed); /* it never will be more than that */
	CHECK_EQ(crew_wait_ready(w + 2, 2, CREW_FOREVER), 1);
	CHECK(w[3].ready && !w[2].ready);
	w[3] = crew_on_fd(-1);
	CHECK_EQ(crew_wait_ready(w + 3, 1, CREW_FOREVER), 1);
	crew_process_close(p);
	crew_process_close(failed);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
	crew_queue_drop(q);
}

TEST_CHILD(several_threads_may_join_one_child)
{
	crew_process *p = start(give, 3), *joiner[4];
	int y;

	for (int i = 0; i < 4; i++)
		joiner[i] = crew_thread_start(join_it, p);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(crew_process_result(joiner[i], &y), 0);
		CHECK_EQ(y, 0);
		crew_process_close(joiner[i]);
	}
	CHECK_EQ(end_of(p).exit_code, 3);
	crew_process_close(p);
}

CREW_TASK(int, join_myself)
{
	return -crew_process_join(crew_process_current(), CREW_FOREVER);
}

TEST_CHILD(nobody_can_join_himself)
{
	crew_process *p = start(join_myself);

	CHECK_EQ(end_of(p).exit_code, EDEADLK);
	CHECK_EQ(crew_process_join(crew_process_current(), 0), -EDEADLK);
	CHECK(crew_process_close(crew_process_current()) != NULL);
	crew_process_close(p);
}

/* close() of one that runs waits for it. */
TEST_CHILD(close_waits)
{
	crew_process *p = start(do_nothing);

	crew_process_close(p);
	CHECK(crew_process_close(NULL) == NULL);
	CHECK_EQ(crew_process_join(NULL, 0), CREW_EHANDLE);
	CHECK_EQ(crew_process_error(NULL)->code, CREW_EHANDLE);
}

/* ---- names ---- */

CREW_TASK(const char *, my_name)
{
	crew_bytes text = crew_result_printf("%s", crew_process_name(crew_process_current()));

	return text.data;
}

TEST_CHILD(it_knows_its_name)
{
	crew_process *p = start(my_name), *q = start_with((.name = "reader"), my_name);
	const char *name;

	CHECK_STR(crew_process_name(p), way->traits & A_THREAD ? "Thread-1" : "Process-1");
	CHECK_EQ(crew_process_result(p, &name), 0);
	CHECK_STR(name, crew_process_name(p));
	CHECK_STR(crew_process_name(q), "reader");
	CHECK_EQ(crew_process_result(q, &name), 0);
	CHECK_STR(name, "reader");
	CHECK_STR(crew_process_name(crew_process_current()), "MainProcess");
	crew_process_close(p), crew_process_close(q);
}

CREW_TASK(const char *, name_of_grandchild)
{
	crew_process *p = crew_start_with((.start = CREW_START_FORK), my_name);
	const char *name;
	crew_bytes copy;

	if (crew_process_result(p, &name))
		return crew_raise_as(const char *, 1, "it has no name");
	copy = crew_result_printf("%s", name);
	crew_process_close(p);
	return copy.data;
}

/* Processes nest, and their names say how. */
TEST_CHILD(a_child_may_have_children)
{
	crew_process *p = start(name_of_grandchild);
	const char *name;

	CHECK_EQ(crew_process_result(p, &name), 0);
	CHECK_STR(name, way->traits & A_THREAD ? "Process-1" : "Process-1:1");
	crew_process_close(p);
}

CREW_TASK(int, ask_parent)
{
	crew_process *parent = crew_process_parent();
	struct crew_status status;

	if (!parent || crew_process_pid(parent) <= 0 || !crew_process_alive(parent) || crew_process_join(parent, 0) != -ETIMEDOUT)
		return 1;
	if (crew_process_status(parent, &status) || status.state != CREW_PROCESS_RUNNING || crew_parent_fd() < 0)
		return 2;
	if (crew_process_close(parent) != parent)
		return 4;
	return strcmp(crew_process_name(parent), "MainProcess") ? 3 : 0;
}

TEST_CHILD(a_child_knows_its_parent)
{
	crew_process *p;

	NOT_FOR_THREADS("a thread has none");
	CHECK(crew_process_parent() == NULL);
	CHECK_EQ(crew_parent_fd(), -ESRCH);
	p = start(ask_parent);
	CHECK_EQ(end_of(p).exit_code, 0);
	crew_process_close(p);
}

TEST_CHILD(active_children_are_those_that_have_not_ended)
{
	crew_process *p, *q, *found[4] = { NULL };

	NOT_FOR_THREADS("threads are not among them");
	CHECK_EQ(crew_children(NULL, 0), 0);
	p = start(sleep_for_ever);
	q = start(do_nothing);
	CHECK_EQ(crew_process_join(q, CREW_FOREVER), 0);
	CHECK_EQ(crew_children(found, 4), 1);
	CHECK(found[0] == p);
	found[0] = NULL;
	CHECK_EQ(crew_children(found, 0), 1);
	CHECK(!found[0]);
	CHECK_EQ(crew_children(NULL, 4), 1);
	crew_process_kill(p);
	CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
	CHECK_EQ(crew_children(found, 4), 0);
	crew_process_close(p), crew_process_close(q);
}

/* ---- other ends ---- */

TEST_CHILD(exit_in_a_task_is_its_status)
{
	static const int values[][2] = { { 0, 0 }, { 3, 3 }, { -1, 255 }, { 256, 0 } };

	NOT_FOR_THREADS("exit would end us all");
	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
		crew_process *p = start(pass_to_exit, values[i][0]);
		int y;

		CHECK_EQ(end_of(p).exit_code, values[i][1]);
		CHECK_EQ(crew_process_result(p, &y), values[i][1] ? CREW_ERAISED : -ENODATA);
		CHECK_EQ(crew_process_error(p)->code, values[i][1] ? CREW_EWORKER : 0);
		CHECK_EQ(crew_process_error(p)->exit_status, values[i][1]);
		crew_process_close(p);
	}
}

TEST_CHILD(a_signal_that_kills_it_is_told)
{
	static const int signals[] = { SIGKILL, SIGTERM, SIGABRT, SIGUSR1 };

	NOT_FOR_THREADS("a signal would end us all");
	for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
		crew_process *p = start(die_by, signals[i]);
		struct crew_status status = end_of(p);
		int code;

		CHECK_EQ(status.signal, signals[i]);
		CHECK_EQ(status.exit_code, -1);
		CHECK_EQ(crew_process_exitcode(p, &code), 0);
		CHECK_EQ(code, -signals[i]);
		CHECK_EQ(crew_process_error(p)->code, CREW_EWORKER);
		CHECK_EQ(crew_process_error(p)->signal, signals[i]);
		CHECK_EQ(crew_process_error(p)->worker, crew_process_pid(p));
		CHECK_HAS(crew_process_error(p)->message, "was killed by signal");
		crew_process_close(p);
	}
}

TEST_CHILD(terminate_kill_and_interrupt_end_it)
{
	int (*const ways_to_go[])(crew_process *) = { crew_process_terminate, crew_process_kill, crew_process_interrupt };
	static const int signals[] = { SIGTERM, SIGKILL, SIGINT };

	NOT_FOR_THREADS("nobody can kill a thread");
	for (int i = 0; i < 3; i++) {
		crew_process *p = start(sleep_for_ever);

		CHECK_EQ(ways_to_go[i](p), 0);
		CHECK_EQ(end_of(p).signal, signals[i]);
		CHECK_EQ(ways_to_go[i](p), 0); /* after its end: nothing */
		CHECK_EQ(crew_process_signal(p, 0), -EINVAL);
		CHECK_EQ(crew_process_signal(p, 1000), -EINVAL);
		crew_process_close(p);
	}
}

TEST_CHILD(threads_are_not_signalled)
{
	crew_process *p;

	if (!(way->traits & A_THREAD))
		SKIP("this is about threads");
	p = start(do_nothing);
	CHECK_EQ(crew_process_terminate(p), -ENOTSUP);
	CHECK_EQ(crew_process_pid(p), getpid());
	crew_process_close(p);
}

TEST_CHILD(a_stopped_child_is_seen_and_can_be_killed)
{
	struct crew_status status;
	crew_process *p;

	NOT_FOR_THREADS("nobody can stop a thread");
	p = start(sleep_for_ever);
	CHECK_EQ(crew_process_signal(p, SIGSTOP), 0);
	do
		CHECK_EQ(crew_process_status(p, &status), 0);
	while (status.state == CREW_PROCESS_RUNNING);
	CHECK_EQ(status.state, CREW_PROCESS_STOPPED);
	CHECK(crew_process_alive(p));
	CHECK_EQ(crew_process_join(p, 10), -ETIMEDOUT);
	CHECK_EQ(crew_process_kill(p), 0);
	CHECK_EQ(end_of(p).signal, SIGKILL);
	crew_process_close(p);
}

/* ---- daemons ---- */

CREW_TASK(int, start_one)
{
	crew_process *p = crew_start_with((.start = CREW_START_FORK), do_nothing);
	int rc = crew_process_join(p, CREW_FOREVER);

	crew_process_close(p);
	return -rc;
}

CREW_TASK(int, execute_one)
{
	char *argv[] = { "true", NULL };
	crew_process *p = crew_process_exec(argv);
	int rc = crew_process_join(p, CREW_FOREVER);

	crew_process_close(p);
	return -rc;
}

TEST_CHILD(a_daemonic_process_may_not_have_children)
{
	crew_process *p, *q;

	NOT_FOR_THREADS("a daemonic thread may");
	p = start_with((.daemon = true), start_one);
	q = start_with((.daemon = true), execute_one);
	CHECK(crew_process_daemon(p));
	CHECK_EQ(end_of(p).exit_code, EPERM);
	CHECK_EQ(end_of(q).exit_code, EPERM);
	crew_process_close(p), crew_process_close(q);
}

TEST_CHILD(closing_a_daemonic_process_ends_it)
{
	crew_process *p;

	NOT_FOR_THREADS("a daemonic thread goes on");
	p = start_with((.daemon = true), sleep_for_ever);
	crew_process_close(p);
	CHECK_EQ(crew_children(NULL, 0), 0);
}

/* ---- failed starts ---- */

TEST_CHILD(a_start_that_fails_is_an_object_that_says_why)
{
	crew_process *p = start_it(NULL, NULL, &(struct crew_start_options){ 0 });
	struct crew_status status;
	int y;

	CHECK(p != NULL);
	CHECK_EQ(crew_process_join(p, CREW_FOREVER), CREW_ENOTASK);
	CHECK_EQ(crew_process_error(p)->code, CREW_ENOTASK);
	CHECK_EQ(crew_process_status(p, &status), CREW_ENOTASK);
	CHECK_EQ(status.state, CREW_PROCESS_FAILED);
	CHECK_EQ(crew_process_result(p, &y), CREW_ENOTASK);
	CHECK_EQ(crew_process_kill(p), CREW_ENOTASK);
	CHECK_EQ(crew_process_pid(p), 0);
	CHECK(crew_process_fd(p) < 0);
	CHECK(!crew_process_alive(p));
	crew_process_close(p);
}

TEST_CHILD(a_start_without_descriptors_fails_clean)
{
	struct rlimit limit = { 3, 0 }, old;
	crew_process *p;

	getrlimit(RLIMIT_NOFILE, &old);
	limit.rlim_max = old.rlim_max;
	for (rlim_t n = 3; n < 12; n++) {
		limit.rlim_cur = n;
		setrlimit(RLIMIT_NOFILE, &limit);
		p = start(do_nothing);
		setrlimit(RLIMIT_NOFILE, &old);
		CHECK(crew_process_join(p, CREW_FOREVER) == 0 || crew_process_error(p)->code == -EMFILE);
		crew_process_close(p);
	}
}

/* ---- start methods ---- */

TEST(the_start_method_is_set_once_unless_forced)
{
	CHECK_EQ(crew_set_start_method((enum crew_start)99, false), -EINVAL);
	CHECK_EQ(crew_set_start_method(CREW_START_FORK, false), 0);
	CHECK_EQ(crew_start_method(), CREW_START_FORK);
	CHECK_EQ(crew_set_start_method(CREW_START_SPAWN, false), -EALREADY);
	CHECK_EQ(crew_set_start_method(CREW_START_SPAWN, true), 0);
	CHECK_EQ(crew_start_method(), CREW_START_SPAWN);
}

