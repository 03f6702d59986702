/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipes.c: pipe.h within one program, with threads, forked children and workers at the other end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../carriers.h"

struct talk {
	crew_pipe end, own;
	long n;
};

static const size_t lengths[] = { 0, 1, 100, 4096, 65519, 65520, 65536, 65537, 1000000, 20000000, 3, 0 };
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

/* Start fn with end 1, which is theirs then. What a thread has is our own copy. */
static void carry_end(carried_fn *fn, const crew_pipe end[2], long n)
{
	struct talk t = { .end = end[1], .own = end[0], .n = n };

	carry(fn, &t, sizeof t);
	if (carrier_is_thread())
		return;
	CHECK_EQ(crew_pipe_give(end[1]), 0);
}

/* A forked child inherits the other end as well. */
static void arrive(const struct talk *t)
{
	if (!carrier_is_thread())
		crew_pipe_drop(t->own);
}

static void leave(const struct talk *t)
{
	crew_pipe_drop(t->end);
}

static unsigned char *pattern(size_t n)
{
	unsigned char *p = malloc(n + 1);

	CHECK(p != NULL);
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)(n + i * 11 + (i >> 8));
	return p;
}

/* ---- messages ---- */

static void echo(const void *arg)
{
	const struct talk *t = arg;
	crew_bytes message;

	arrive(t);
	while (crew_pipe_recv_bytes(t->end, &message, CREW_FOREVER) == 0) {
		CHECK_EQ(crew_pipe_send(t->end, message.data, message.len, CREW_FOREVER), 0);
		crew_bytes_free(message);
	}
	leave(t);
}

/* Each as it was sent, whatever its size; and none runs into the next. */
TEST_CARRIED(messages_of_any_size_come_back_as_they_were)
{
	crew_pipe end[2];
	crew_bytes got;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	carry_end(echo, end, 0);
	for (int i = 0; i < LENGTHS; i++) {
		unsigned char *sent = pattern(lengths[i]);

		CHECK_EQ(crew_pipe_send(end[0], sent, lengths[i], CREW_FOREVER), 0);
		CHECK_EQ(crew_pipe_recv_bytes(end[0], &got, CREW_FOREVER), 0);
		CHECK_EQ(got.len, lengths[i]);
		CHECK(memcmp(got.data, sent, got.len) == 0);
		crew_bytes_free(got);
		free(sent);
	}
	crew_pipe_drop(end[0]);
	carried_join();
	crew_pipe_drop(end[1]);
}

static void send_numbers(const void *arg)
{
	const struct talk *t = arg;

	arrive(t);
	for (long i = 0; i < t->n; i++)
		CHECK_EQ(crew_pipe_send(t->end, &i, sizeof i, CREW_FOREVER), 0);
	leave(t);
}

TEST_CARRIED(messages_come_in_the_order_they_were_sent)
{
	crew_pipe end[2];
	long x;

	CHECK_EQ(crew_pipe_make(end, CREW_PIPE_ONEWAY), 0);
	carry_end(send_numbers, end, 5000);
	for (long i = 0; i < 5000; i++) {
		CHECK_EQ(crew_pipe_recv(end[0], &x, sizeof x, CREW_FOREVER), (ssize_t)sizeof x);
		CHECK_EQ(x, i);
	}
	CHECK_EQ(crew_pipe_recv(end[0], &x, sizeof x, CREW_FOREVER), CREW_ECLOSED);
	carried_join();
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* Nothing fits into no buffer. */
TEST(an_empty_message_needs_no_buffer)
{
	crew_pipe end[2];

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(crew_pipe_send(end[0], NULL, 0, 0), 0);
	CHECK_EQ(crew_pipe_recv(end[1], NULL, 0, 0), 0);
	CHECK_EQ(crew_pipe_send(end[0], NULL, 0, 0), 0);
	CHECK_EQ(crew_pipe_next_size(end[1]), 0);
	CHECK_EQ(crew_pipe_next_size(end[1]), 0);
	CHECK_EQ(crew_pipe_skip(end[1]), 0);
	CHECK_EQ(crew_pipe_skip(end[1]), -EAGAIN);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* A large message lies in a memory file, and that is a file. Beyond the limit a write would be a signal. */
TEST(a_message_larger_than_files_may_be_is_refused)
{
	struct rlimit before, limit;
	static char large[200000];
	crew_pipe end[2];
	crew_bytes got;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = (struct rlimit){ sizeof large - 1, before.rlim_max };
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	CHECK_EQ(crew_pipe_send(end[0], large, sizeof large, 0), -EFBIG);
	CHECK_EQ(crew_pipe_send(end[0], large, sizeof large - 1, 0), 0);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
	CHECK_EQ(crew_pipe_recv_bytes(end[1], &got, 0), 0);
	CHECK_EQ(got.len, sizeof large - 1);
	crew_bytes_free(got);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* What is too long for the buffer is still there. */
TEST(a_message_that_is_too_long_can_be_received_again_or_skipped)
{
	char buffer[10], large[10000];
	crew_pipe end[2];

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	memset(large, 'x', sizeof large);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(crew_pipe_send(end[0], "a longer text", 14, 0), 0);
		CHECK_EQ(crew_pipe_send(end[0], large, sizeof large, 0), 0);
		CHECK_EQ(crew_pipe_send(end[0], "end", 4, 0), 0);
	}
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(crew_pipe_recv(end[1], buffer, 5, 0), -EMSGSIZE);
		CHECK_EQ(crew_pipe_poll(end[1], 0), 0);
		CHECK_EQ(crew_pipe_next_size(end[1]), 14);
		CHECK_EQ(crew_pipe_recv(end[1], buffer, sizeof buffer, 0), -EMSGSIZE);
		CHECK_EQ(crew_pipe_recv(end[1], large, sizeof large, 0), 14);
		CHECK_STR(large, "a longer text");
		CHECK_EQ(crew_pipe_recv(end[1], buffer, sizeof buffer, 0), -EMSGSIZE);
		CHECK_EQ(crew_pipe_skip(end[1]), 0);
		CHECK_EQ(crew_pipe_recv(end[1], buffer, sizeof buffer, 0), 4);
		CHECK_STR(buffer, "end");
	}
	CHECK_EQ(crew_pipe_skip(end[1]), -EAGAIN);
	CHECK_EQ(crew_pipe_next_size(end[1]), -EAGAIN);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* ---- time ---- */

TEST(a_receive_waits_as_long_as_it_may)
{
	crew_pipe end[2];
	char c;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(crew_pipe_recv(end[0], &c, 1, 0), -EAGAIN);
	CHECK_EQ(crew_pipe_recv(end[0], &c, 1, 20), -ETIMEDOUT);
	CHECK_EQ(crew_pipe_poll(end[0], 0), -EAGAIN);
	CHECK_EQ(crew_pipe_poll(end[0], 20), -ETIMEDOUT);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

TEST(a_send_waits_as_long_as_it_may)
{
	static char block[60000];
	crew_pipe end[2];
	int sent = 0, rc;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	while ((rc = crew_pipe_send(end[0], block, sizeof block, 0)) == 0)
		sent++;
	CHECK_EQ(rc, -EAGAIN);
	CHECK(sent > 0);
	CHECK_EQ(crew_pipe_send(end[0], block, sizeof block, 20), -ETIMEDOUT);
	while (sent--)
		CHECK_EQ(crew_pipe_recv(end[1], block, sizeof block, 0), (ssize_t)sizeof block);
	CHECK_EQ(crew_pipe_recv(end[1], block, sizeof block, 0), -EAGAIN);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* ---- the end ---- */

/* What the dead have said is heard; then comes the end. */
TEST(the_end_comes_when_all_who_held_the_other_end_are_dead)
{
	crew_pipe end[2];
	char text[8];
	pid_t pid[3];

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	for (int i = 0; i < 3; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			crew_pipe_drop(end[0]);
			CHECK_EQ(crew_pipe_send(end[1], "last", 4, CREW_FOREVER), 0);
			raise(SIGKILL);
		}
	}
	crew_pipe_drop(end[1]);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(crew_pipe_recv(end[0], text, sizeof text, CREW_FOREVER), 4);
	CHECK_EQ(crew_pipe_recv(end[0], text, sizeof text, CREW_FOREVER), CREW_ECLOSED);
	CHECK_EQ(crew_pipe_poll(end[0], 0), 0);
	CHECK_EQ(crew_pipe_send(end[0], text, 4, CREW_FOREVER), -EPIPE);
	for (int i = 0; i < 3; i++)
		waitpid(pid[i], NULL, 0);
	crew_pipe_drop(end[0]);
}

/* A worker that is killed has no copy any more, and who gave it away has none either. */
CREW_TASK(int, say_last, (crew_pipe, p))
{
	raise(crew_pipe_send(p, "last", 4, CREW_FOREVER) == 0 ? SIGKILL : SIGABRT);
	return 0;
}

TEST(the_end_comes_when_the_worker_who_was_given_the_end_dies)
{
	crew_executor *ex = crew_processes(1);
	crew_pipe end[2];
	crew_future *f;
	char text[8];

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	f = crew_submit(ex, say_last, end[1]);
	CHECK_EQ(crew_pipe_give(end[1]), 0);
	CHECK_EQ(crew_pipe_give(end[1]), CREW_EHANDLE);
	CHECK_EQ(crew_pipe_recv(end[0], text, sizeof text, CREW_FOREVER), 4);
	CHECK_EQ(crew_pipe_recv(end[0], text, sizeof text, CREW_FOREVER), CREW_ECLOSED);
	CHECK_EQ(crew_future_error(f)->signal, SIGKILL);
	crew_pipe_drop(end[0]);
	crew_executor_close(ex);
}

CREW_TASK(int, try_send, (crew_pipe, p))
{
	int rc = crew_pipe_send(p, "x", 1, CREW_FOREVER);

	crew_pipe_drop(p);
	return rc;
}

/* Only who has made an end can give it away, and once. */
CREW_TASK(int, give_what_was_lent, (crew_pipe, p))
{
	int rc = crew_pipe_send(p, "x", 1, CREW_FOREVER);

	rc = rc ? rc : crew_pipe_give(p);
	crew_pipe_drop(p);
	return rc;
}

TEST(an_end_is_given_away_once_by_who_has_made_it)
{
	crew_executor *ex = crew_processes(1);
	crew_pipe end[2];
	int y = 0;
	char c;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(crew_run(ex, &y, give_what_was_lent, end[1]), 0);
	CHECK_EQ(y, CREW_EHANDLE);
	CHECK_EQ(crew_pipe_recv(end[0], &c, 1, CREW_FOREVER), 1);
	CHECK_EQ(crew_pipe_give(end[1]), 0);
	CHECK_EQ(crew_pipe_give(end[1]), CREW_EHANDLE);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
	crew_executor_close(ex);
}

/* A child that is forked later is as any other process that gets the handle. */
TEST(an_end_that_was_given_away_may_go_to_a_fork)
{
	crew_pipe end[2];
	int status;
	pid_t pid;
	char c;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(crew_pipe_give(end[1]), 0);
	CHECK_EQ(crew_pipe_send(end[1], "x", 1, 0), CREW_EHANDLE);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(crew_pipe_send(end[1], "x", 1, CREW_FOREVER) != 0);
	CHECK_EQ(crew_pipe_recv(end[0], &c, 1, CREW_FOREVER), 1);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(crew_pipe_recv(end[0], &c, 1, CREW_FOREVER), CREW_ECLOSED); /* ours went when the child had it */
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* The handle of an end that nobody holds any more is a clear error. */
TEST(a_copy_of_what_was_dropped_cannot_be_had)
{
	crew_executor *ex = crew_processes(1);
	crew_pipe end[2];
	int y = 0;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	crew_pipe_drop(end[1]);
	CHECK_EQ(crew_run(ex, &y, try_send, end[1]), 0);
	CHECK(y == CREW_EHANDLE || y == CREW_ECLOSED);
	crew_pipe_drop(end[0]);
	crew_executor_close(ex);
}

/* Lent more than once, while the maker keeps his copy. */
TEST(several_workers_may_send_into_one_end)
{
	crew_executor *ex = crew_processes(4);
	crew_future *f[20];
	crew_pipe end[2];
	char c;

	CHECK_EQ(crew_pipe_make(end, CREW_PIPE_ONEWAY), 0);
	for (int i = 0; i < 20; i++)
		f[i] = crew_submit(ex, try_send, end[1]);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(crew_pipe_recv(end[0], &c, 1, CREW_FOREVER), 1);
	for (int i = 0; i < 20; i++) {
		int y = 1;

		CHECK_EQ(crew_take(f[i], &y, NULL), 0);
		CHECK_EQ(y, 0);
	}
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
	crew_executor_close(ex);
}

TEST(the_wrong_direction_is_an_error)
{
	crew_pipe end[2], wrong[2];
	char c = 0;

	CHECK_EQ(crew_pipe_make(end, CREW_PIPE_ONEWAY), 0);
	CHECK_EQ(crew_pipe_send(end[0], &c, 1, 0), -EBADF);
	CHECK_EQ(crew_pipe_recv(end[1], &c, 1, 0), -EBADF);
	CHECK_EQ(crew_pipe_poll(end[1], 0), -EBADF);
	CHECK_EQ(crew_pipe_make(wrong, 0x100), -EINVAL);
	CHECK_EQ(crew_pipe_send(wrong[0], &c, 1, 0), -EINVAL);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* ---- descriptors ---- */

static void write_to_what_comes(const void *arg)
{
	const struct talk *t = arg;
	int fd = crew_pipe_recv_fd(t->end, CREW_FOREVER);

	CHECK(fd > 2);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(write(fd, "seen", 4), 4);
	close(fd);
	leave(t);
}

static void pass_fd(int at_least)
{
	crew_pipe end[2];
	char text[8] = "";
	int p[2], high;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
	high = fcntl(p[1], F_DUPFD_CLOEXEC, at_least);
	CHECK_GE(high, at_least);
	carry_end(write_to_what_comes, end, 0);
	CHECK_EQ(crew_pipe_send_fd(end[0], high, CREW_FOREVER), 0);
	CHECK_EQ(read(p[0], text, sizeof text), 4);
	CHECK_STR(text, "seen");
	carried_join();
	close(p[0]);
	close(p[1]);
	close(high);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

TEST_CARRIED(a_descriptor_passes_through_a_pipe)
{
	pass_fd(3);
}
TEST_CARRIED(a_descriptor_above_255_passes_through_a_pipe)
{
	pass_fd(300);
}

/* Each receive takes its kind, and leaves the other where it is. */
TEST(bytes_are_no_descriptor_and_a_descriptor_is_no_bytes)
{
	crew_pipe end[2];
	crew_bytes got;
	char c = 'c';
	int fd;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(crew_pipe_send(end[0], &c, 1, 0), 0);
	CHECK_EQ(crew_pipe_send(end[0], NULL, 0, 0), 0);
	CHECK_EQ(crew_pipe_send_fd(end[0], STDOUT_FILENO, 0), 0);
	CHECK_EQ(crew_pipe_send_fd(end[0], 100000, 0), -EBADF);
	CHECK_EQ(crew_pipe_recv_fd(end[1], 0), CREW_ETYPE);
	CHECK_EQ(crew_pipe_recv(end[1], &c, 1, 0), 1);
	CHECK_EQ(crew_pipe_recv_fd(end[1], 0), CREW_ETYPE);
	CHECK_EQ(crew_pipe_recv(end[1], &c, 1, 0), 0);
	CHECK_EQ(crew_pipe_recv(end[1], &c, 1, 0), CREW_ETYPE);
	CHECK_EQ(crew_pipe_recv_bytes(end[1], &got, 0), CREW_ETYPE);
	fd = crew_pipe_recv_fd(end[1], 0);
	CHECK_GE(fd, 3);
	close(fd);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* ---- several at once ---- */

CREW_TASK(int, wait_for_word, (crew_pipe, p))
{
	char c;
	int rc = (int)crew_pipe_recv(p, &c, 1, CREW_FOREVER);

	crew_pipe_drop(p);
	return rc;
}

TEST(pipes_queues_futures_and_descriptors_can_be_waited_for_together)
{
	crew_executor *ex = crew_threads(1);
	crew_queue q = crew_queue_make(.item = sizeof(int));
	crew_pipe end[2], other[2];
	crew_waitable w[4];
	int p[2], x = 1, y;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(crew_pipe_make(other, 0), 0);
	CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
	w[0] = crew_on_pipe(end[0]);
	w[1] = crew_on_queue(q);
	w[2] = crew_on_fd(p[0]);
	w[3] = crew_on_future(crew_submit(ex, wait_for_word, other[1]));
	CHECK_EQ(crew_wait_ready(w, 4, 0), 0);
	CHECK_EQ(crew_wait_ready(w, 4, 20), 0);
	CHECK_EQ(crew_put(q, &x), 0);
	CHECK_EQ(crew_wait_ready(w, 4, CREW_FOREVER), 1);
	CHECK(w[1].ready && !w[0].ready);
	CHECK_EQ(crew_get(q, &x), 0);
	CHECK_EQ(crew_wait_ready(w, 4, 0), 0);
	CHECK_EQ(crew_pipe_send(end[1], &x, 1, 0), 0);
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_EQ(crew_wait_ready(w, 4, CREW_FOREVER), 2);
	CHECK(w[0].ready && w[2].ready && !w[3].ready);
	CHECK_EQ(crew_wait_ready(w + 3, 1, 20), 0);
	CHECK_EQ(crew_pipe_send(other[0], &x, 1, 0), 0);
	CHECK_EQ(crew_wait_ready(w + 3, 1, CREW_FOREVER), 1);
	CHECK_EQ(crew_take(w[3].future, &y, NULL), 0);
	CHECK_EQ(y, 1);
	crew_pipe_drop(end[1]);
	CHECK_EQ(crew_pipe_skip(end[0]), 0);
	CHECK_EQ(crew_wait_ready(w, 1, CREW_FOREVER), 1); /* the end is something, too */
	CHECK_EQ(crew_wait_ready(NULL, 0, 10), 0);
	CHECK_EQ(crew_wait_ready(NULL, 1, 10), -EINVAL);
	for (int i = 0; i < 2; i++) {
		crew_pipe_drop(end[i]);
		crew_pipe_drop(other[i]);
		close(p[i]);
	}
	crew_queue_drop(q);
	crew_executor_close(ex);
}

TEST(several_futures_can_be_waited_for)
{
	crew_future *f[2] = { crew_future_new(CREW_TYPE_OF(int)), crew_future_new(CREW_TYPE_OF(int)) };
	crew_waitable w[2] = { crew_on_future(f[0]), crew_on_future(f[1]) };
	int x = 1;

	CHECK_EQ(crew_wait_ready(w, 2, 1), 0);
	CHECK_EQ(crew_future_set_result(f[1], &x, CREW_TYPE_OF(int)), 0);
	CHECK_EQ(crew_wait_ready(w, 2, CREW_FOREVER), 1);
	CHECK(!w[0].ready && w[1].ready);
	crew_future_free(f[0]);
	crew_future_free(f[1]);
}

/* Whoever drops an end with something unread in it takes nothing of what it has sent along. */
TEST(what_was_sent_before_the_end_is_received)
{
	crew_pipe end[2];
	char c = 0;

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(crew_pipe_send(end[0], "unread", 6, 0), 0);
	CHECK_EQ(crew_pipe_send(end[1], "x", 1, 0), 0);
	crew_pipe_drop(end[1]);
	CHECK_EQ(crew_pipe_recv(end[0], &c, 1, CREW_FOREVER), 1);
	CHECK_EQ(c, 'x');
	CHECK_EQ(crew_pipe_recv(end[0], &c, 1, CREW_FOREVER), CREW_ECLOSED);
	crew_pipe_drop(end[0]);
}

TEST(what_is_no_pipe_is_refused)
{
	crew_pipe none = { { 0, 0 } }, end[2];
	crew_queue q = crew_queue_make(.item = 1);
	char c;

	CHECK_EQ(crew_pipe_send(none, &c, 1, 0), CREW_EHANDLE);
	CHECK_EQ(crew_pipe_recv(none, &c, 1, 0), CREW_EHANDLE);
	CHECK_EQ(crew_pipe_send((crew_pipe){ q.handle }, &c, 1, 0), CREW_EHANDLE);
	CHECK_EQ(crew_pipe_fd(none), CREW_EHANDLE);
	CHECK_EQ(crew_pipe_give(none), CREW_EHANDLE);
	crew_pipe_drop(none);
	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(crew_pipe_send(end[0], NULL, 1, 0), -EINVAL);
	crew_pipe_drop(end[0]);
	CHECK_EQ(crew_pipe_send(end[0], &c, 1, 0), CREW_EHANDLE);
	CHECK_EQ(crew_pipe_recv(end[1], &c, 1, 0), CREW_ECLOSED);
	crew_pipe_drop(end[1]);
	crew_queue_drop(q);
}

/* What cannot be waited for is ready: whoever looks is told why. What is no thing at all is refused. */
TEST(what_is_wrong_with_a_thing_makes_it_ready)
{
	static char nothing[64];
	crew_future *f = crew_future_new(CREW_TYPE_OF(int));
	crew_waitable none = { .kind = 99 };
	crew_waitable things[3];
	crew_pipe end[2];

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
	things[0] = crew_on_pipe(end[0]);
	things[1] = crew_on_future((crew_future *)(void *)nothing);
	things[2] = crew_on_future(f);
	CHECK_EQ(crew_wait_ready(things, 3, CREW_FOREVER), 2);
	CHECK(things[0].ready && things[1].ready && !things[2].ready);
	things[0] = crew_on_queue((crew_queue){ { 0, 0 } });
	things[1] = crew_on_future(NULL);
	CHECK_EQ(crew_wait_ready(things, 3, CREW_FOREVER), 2);
	CHECK(things[0].ready && things[1].ready && !things[2].ready);
	CHECK_EQ(crew_wait_ready(&none, 1, CREW_FOREVER), -EINVAL);
	crew_future_free(f);
}
