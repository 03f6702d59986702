/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outputs.c: what workers write to stderr. All of it goes on to the program's, in order, whatever that is; the last of it is told with a worker's death;
 * and nobody is held up by a stderr that is full, closed, gone, or kept open by a stranger.
 */
#include <crew/crew.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runner.h"

enum { PATIENCE_MS = 20000 };

CREW_TASK(int, says, (const char *, text))
{
	return (int)write(STDERR_FILENO, text, strlen(text));
}

CREW_TASK(int, says_and_dies, (const char *, text), (int, how))
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return -1;
	if (how)
		raise(how);
	_exit(3);
}

CREW_TASK(int, says_and_waits, (const char *, text), (crew_bytes, said), (int, i))
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return -1;
	__atomic_store_n((char *)said.data + i, 1, __ATOMIC_RELEASE);
	for (;;)
		pause();
	return 0;
}

/* One line, in one piece: the worker, and how many it has written. */
CREW_TASK(int, writes_line)
{
	static int count;
	char line[64];
	int n = snprintf(line, sizeof line, "%d %d\n", (int)getpid(), count++);

	return write(STDERR_FILENO, line, (size_t)n) == n;
}

/* ---- the last words ---- */

TEST(the_last_words_of_a_worker_are_told)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_error e;
		int y;

		CHECK_EQ(crew_take(crew_submit(ex, says_and_dies, "the matrix is singular\n", SIGSEGV), &y, &e), CREW_ERAISED);
		CHECK_EQ(e.code, CREW_EWORKER);
		CHECK_EQ(e.signal, SIGSEGV);
		CHECK_STR(e.output, "the matrix is singular\n");
		CHECK_GE(e.max_rss_kib, 1);
		CHECK_EQ(crew_take(crew_submit(ex, says_and_dies, "no luck", 0), &y, &e), CREW_ERAISED);
		CHECK_EQ(e.exit_status, 3);
		CHECK_STR(e.output, "no luck");
	}
}

TEST(last_words_are_the_last_not_the_first)
{
	char text[1001];
	crew_error e;
	int y;

	for (size_t i = 0; i < sizeof text - 1; i++)
		text[i] = (char)('a' + i % 26);
	text[sizeof text - 1] = '\0';
	CREW_SCOPE (ex, crew_processes(1)) {
		CHECK_EQ(crew_run(ex, &y, says, "something else before\n"), 0);
		CHECK_EQ(crew_take(crew_submit(ex, says_and_dies, text, SIGABRT), &y, &e), CREW_ERAISED);
		CHECK_EQ(strlen(e.output), sizeof e.output - 1);
		CHECK_STR(e.output, text + sizeof text - sizeof e.output);
	}
}

/* A successor has no part in the words of who was there before. */
TEST(a_worker_that_says_nothing_has_no_last_words)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		crew_error e;
		int y;

		CHECK_EQ(crew_take(crew_submit(ex, says_and_dies, "first", SIGKILL), &y, &e), CREW_ERAISED);
		CHECK_EQ(crew_take(crew_submit(ex, says_and_dies, "", SIGKILL), &y, &e), CREW_ERAISED);
		CHECK_STR(e.output, "");
	}
}

/* False: its time was up before it was seen to have said anything. */
static bool is_ended_after(crew_executor *ex, crew_bytes said, int i, int ms)
{
	int64_t up = test_now_ms() + ms;
	crew_future *f = crew_submit_with(ex, (.timeout_ms = ms), says_and_waits, "waiting for Godot\n", said, i);
	const crew_error *e;
	bool in_time = false;

	while (!in_time && test_now_ms() < up)
		in_time = __atomic_load_n((char *)said.data + i, __ATOMIC_ACQUIRE) && test_now_ms() < up;
	e = crew_future_error(f);
	CHECK_EQ(e->code, CREW_EDEADLINE);
	if (in_time)
		CHECK_STR(e->output, "waiting for Godot\n");
	return in_time;
}

TEST(a_task_that_is_ended_has_last_words_too)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		enum { TRIES = 10 };
		crew_bytes said = crew_shared_alloc(ex, TRIES);
		int tries = 0;

		while (!is_ended_after(ex, said, tries, 100 << tries))
			CHECK_LE(++tries, TRIES - 1);
		crew_shared_free(ex, said);
	}
}

CREW_TASK(int, burns)
{
	struct timespec t;

	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	while (t.tv_sec == 0 && t.tv_nsec < 60000000);
	raise(SIGKILL);
	return 0;
}

TEST(what_a_dead_worker_had_used_is_told)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		const crew_error *e = crew_future_error(crew_submit(ex, burns));

		CHECK_GE(e->user_ms + e->system_ms, 50);
		CHECK_GE(e->max_rss_kib, 100);
	}
}

static int refuses(void *arg, int worker)
{
	static const char text[] = "no such database\n";

	(void)arg, (void)worker;
	return write(STDERR_FILENO, text, sizeof text - 1) > 0 ? -ENOENT : 0;
}

TEST(an_initializer_that_fails_is_heard)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .initializer = refuses)) {
		const crew_error *e = crew_future_error(crew_submit(ex, says, "never"));
		crew_error why;

		CHECK_EQ(e->code, CREW_EBROKEN);
		CHECK_EQ(crew_executor_error(ex, &why), CREW_EBROKEN);
		CHECK_STR(why.output, "no such database\n");
	}
}

/* ---- passing on ---- */

/* What stands behind fd 2 while `ex` is open: read from the other end, or later from the file. */
struct target {
	int saved, other;
};

static struct target set_stderr(int fd, int other)
{
	struct target t = { fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10), other };

	CHECK_EQ(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	close(fd);
	return t;
}

/* A file, to be read from its beginning. */
static struct target set_stderr_to_file(void)
{
	int fd = memfd_create("stderr", MFD_CLOEXEC);
	char path[32];

	CHECK(fd >= 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return set_stderr(fd, open(path, O_RDONLY | O_CLOEXEC));
}

static void restore_stderr(struct target *t)
{
	dup2(t->saved, STDERR_FILENO);
	close(t->saved);
	t->saved = -1;
}

/* Everything up to the end of file. */
static char *read_all(int fd, size_t *ret_size)
{
	size_t size = 0, capacity = 1 << 16;
	char *all = malloc(capacity);
	ssize_t n;

	while ((n = read(fd, all + size, capacity - size - 1)) > 0) {
		size += (size_t)n;
		if (size + 1 == capacity)
			all = realloc(all, capacity *= 2);
	}
	all[size] = '\0';
	if (ret_size)
		*ret_size = size;
	return all;
}

/* The number at *at, which a sanitizer would look for the end of all lines to find. */
static int number_at(const char **at, char end)
{
	int y = 0;

	CHECK(**at >= '0' && **at <= '9');
	for (; **at >= '0' && **at <= '9'; ++*at)
		y = 10 * y + **at - '0';
	CHECK(*(*at)++ == end);
	return y;
}

/* Each worker's lines are there, all of them, in their order. */
static void check_lines(const char *all, int n)
{
	int pids[64] = { 0 }, next[64] = { 0 }, lines = 0;

	for (const char *at = all; *at; lines++) {
		int pid = number_at(&at, ' '), number = number_at(&at, '\n'), i = 0;

		while (pids[i] && pids[i] != pid)
			i++;
		pids[i] = pid;
		CHECK_EQ(number, next[i]++);
	}
	CHECK_EQ(lines, n);
}

struct reading {
	int fd;
	char *all;
	size_t size;
};

static void *read_in_thread(void *arg)
{
	struct reading *r = arg;

	r->all = read_all(r->fd, &r->size);
	return NULL;
}

/* n lines through a pipe or a socket that is read all the while. */
static void lines_through(int fds[2], int n)
{
	struct target t = set_stderr(fds[1], fds[0]);
	struct reading r = { .fd = t.other };
	pthread_t reader;
	int y;

	CREW_SCOPE (ex, crew_processes(.workers = 3, .start = CREW_START_FORK)) {
		crew_future **fs = calloc((size_t)n, sizeof *fs);

		CHECK_EQ(pthread_create(&reader, NULL, read_in_thread, &r), 0);
		for (int i = 0; i < n; i++)
			fs[i] = crew_submit(ex, writes_line);
		for (int i = 0; i < n; i++) {
			CHECK_EQ(crew_result(fs[i], &y), 0);
			CHECK_EQ(y, 1);
		}
		free(fs);
	}
	restore_stderr(&t);
	pthread_join(reader, NULL);
	close(t.other);
	check_lines(r.all, n);
	free(r.all);
}

TEST(all_lines_arrive_in_a_pipe)
{
	int fds[2];

	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	lines_through(fds, (int)test_scaled(5000));
}

TEST(all_lines_arrive_in_a_socket)
{
	int fds[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	lines_through(fds, (int)test_scaled(5000));
}

TEST(all_lines_arrive_in_a_file)
{
	int n = (int)test_scaled(5000), y;
	struct target t = set_stderr_to_file();
	char *all;

	CHECK_EQ(write(STDERR_FILENO, "7 0\n", 4), 4);
	CREW_SCOPE (ex, crew_processes(3))
		for (int i = 0; i < n; i++)
			CHECK_EQ(crew_run(ex, &y, writes_line), 0);
	CHECK_EQ(write(STDERR_FILENO, "7 1\n", 4), 4); /* the place where to write is the program's, too */
	restore_stderr(&t);
	all = read_all(t.other, NULL);
	close(t.other);
	check_lines(all, n + 2);
	free(all);
}

TEST(all_lines_arrive_in_a_terminal)
{
	int n = 50, y, master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), lines = 0;
	struct pollfd more = { master, POLLIN, 0 };
	struct target t;
	char bytes[4096];
	ssize_t got;

	if (master < 0 || grantpt(master) || unlockpt(master))
		SKIP("there are no pseudo-terminals here");
	t = set_stderr(open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC), master);
	CREW_SCOPE (ex, crew_processes(2))
		for (int i = 0; i < n; i++)
			CHECK_EQ(crew_run(ex, &y, writes_line), 0);
	while (poll(&more, 1, lines < n ? PATIENCE_MS : 0) == 1 && (got = read(master, bytes, sizeof bytes)) > 0) /* a terminal takes its time */
		for (ssize_t i = 0; i < got; i++)
			lines += bytes[i] == '\n';
	restore_stderr(&t);
	close(master);
	CHECK_EQ(lines, n);
}

TEST(a_stderr_that_is_closed_or_has_no_reader_disturbs_nobody)
{
	int fds[2], y;

	for (int closed = 0; closed < 2; closed++) {
		struct target t;
		crew_error e;

		CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
		t = set_stderr(fds[1], -1);
		close(closed ? STDERR_FILENO : fds[0]);
		CREW_SCOPE (ex, crew_processes(2)) {
			for (int i = 0; i < 100; i++) {
				CHECK_EQ(crew_run(ex, &y, writes_line), 0);
				CHECK_EQ(y, 1);
			}
			CHECK_EQ(crew_take(crew_submit(ex, says_and_dies, "heard", SIGSEGV), &y, &e), CREW_ERAISED);
			CHECK_HAS(e.output, "heard");
		}
		if (closed)
			close(fds[0]);
		restore_stderr(&t);
	}
}

/* A reader that takes its time: workers wait, the engine does not, and in the end everything is there. */
CREW_TASK(int, writes_much, (int, n))
{
	int y = 0;

	for (int i = 0; i < n; i++)
		y += dprintf(STDERR_FILENO, "%d %d\n", (int)getpid(), i) > 0;
	return y;
}

TEST(a_full_stderr_holds_up_only_who_writes)
{
	enum { LINES = 60000 };
	int fds[2], y;
	struct reading r = { 0 };
	struct target t;
	pthread_t reader;
	crew_future *f;

	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	t = set_stderr(fds[1], fds[0]);
	r.fd = fds[0];
	CREW_SCOPE (ex, crew_processes(.workers = 2, .grace_ms = 60000, .start = CREW_START_FORK)) {
		crew_error e;

		f = crew_submit(ex, writes_much, LINES);
		for (int i = 0; i < 20; i++) {
			CHECK_EQ(crew_take(crew_submit(ex, says_and_dies, "", SIGSEGV), &y, &e), CREW_ERAISED);
			CHECK_EQ(e.code, CREW_EWORKER);
		}
		CHECK(!crew_future_done(f)); /* 64 KiB in each of two pipes, and more to say */
		CHECK_EQ(pthread_create(&reader, NULL, read_in_thread, &r), 0);
		CHECK_EQ(crew_result(f, &y), 0);
		CHECK_EQ(y, LINES);
	}
	restore_stderr(&t);
	pthread_join(reader, NULL);
	close(t.other);
	check_lines(r.all, LINES);
	free(r.all);
}

/* What a worker leaves in its pipe at a close comes through, too. */
static void says_goodbye(void *arg, int worker)
{
	(void)arg, (void)worker;
	for (int i = 0; i < 2000; i++)
		dprintf(STDERR_FILENO, "%d %d\n", (int)getpid(), i);
}

TEST(a_close_loses_nothing_that_was_written)
{
	struct target t = set_stderr_to_file();
	char *all;

	CHECK(crew_executor_close(crew_processes(.workers = 4, .finalizer = says_goodbye, .grace_ms = 60000)) == NULL);
	restore_stderr(&t);
	all = read_all(t.other, NULL);
	close(t.other);
	check_lines(all, 4 * 2000);
	free(all);
}

/* A process that the task had started keeps the pipe open. Its worker's death is told all the same, and what it writes later goes on. */
CREW_TASK(pid_t, leaves_a_child, (int, gate))
{
	char byte;

	if (fork() > 0) {
		if (write(STDERR_FILENO, "parent\n", 7) < 0)
			_exit(4);
		raise(SIGKILL);
	}
	while (read(gate, &byte, 1) < 0 && errno == EINTR)
		;
	if (write(STDERR_FILENO, "child\n", 6) < 0)
		_exit(5);
	_exit(0);
}

TEST(a_child_that_keeps_stderr_open_holds_nobody_up)
{
	int fds[2], gate[2], y;
	struct target t;
	char all[64] = "";
	size_t n = 0;

	CHECK_EQ(pipe(gate), 0); /* to be inherited */
	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	t = set_stderr(fds[1], fds[0]);
	CREW_SCOPE (ex, crew_processes(.workers = 1, .start = CREW_START_FORK)) {
		const crew_error *e = crew_future_error(crew_submit(ex, leaves_a_child, gate[0]));

		CHECK_EQ(e->code, CREW_EWORKER);
		CHECK_STR(e->output, "parent\n");
		CHECK_EQ(crew_run(ex, &y, says, ""), 0);
		CHECK_EQ(write(gate[1], "x", 1), 1);
		while (n < 13)
			n += (size_t)read(t.other, all + n, sizeof all - 1 - n);
		CHECK_STR(all, "parent\nchild\n");
	}
	restore_stderr(&t);
	close(t.other);
	close(gate[0]);
	close(gate[1]);
}

CREW_TASK(bool, has_stderr_of, (pid_t, pid))
{
	char path[64], theirs[256] = "", ours[256] = "";

	snprintf(path, sizeof path, "/proc/%d/fd/2", (int)pid);
	return readlink(path, theirs, sizeof theirs - 1) > 0 && readlink("/proc/self/fd/2", ours, sizeof ours - 1) > 0 && strcmp(theirs, ours) == 0;
}

TEST(workers_may_have_the_programs_stderr_itself)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .raw_stderr = true)) {
		crew_error e;
		bool same;
		int y;

		CHECK_EQ(crew_run(ex, &same, has_stderr_of, getpid()), 0);
		CHECK(same);
		CHECK_EQ(crew_take(crew_submit(ex, says_and_dies, "unheard", SIGKILL), &y, &e), CREW_ERAISED);
		CHECK_STR(e.output, "");
	}
}

CREW_TASK(int, closes_stderr)
{
	return close(STDERR_FILENO);
}

TEST(a_task_may_close_its_stderr)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		int y;

		CHECK_EQ(crew_run(ex, &y, says, "before\n"), 0);
		CHECK_EQ(crew_run(ex, &y, closes_stderr), 0);
		CHECK_EQ(y, 0);
		CHECK_EQ(crew_run(ex, &y, says, "after\n"), 0);
		CHECK_EQ(y, -1);
		CHECK_STR(crew_future_error(crew_submit(ex, burns))->output, "before\n");
	}
}
