/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * connections.c: both ends of a connection to another program, and what may come over it that no library has sent: pieces, nonsense, half a message, a reset, an
 * answer of somebody who does not know the key. The limits of such messages; and what a program that has closed its stdin finds in its place: nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <crew/crew.h>

#include "../runner.h"
#include "clients.h"

struct connector {
	char address[160];
	pthread_t thread;
	crew_pipe made;
};

static void *connect_here(void *arg)
{
	struct connector *c = arg;

	c->made = crew_connect(c->address, key(), CREW_FOREVER);
	return NULL;
}

/* Both ends of a connection are ours. */
static void connect_both(const char *address, crew_pipe end[2])
{
	crew_listener *l = listen_at(address, key());
	struct connector c;

	snprintf(c.address, sizeof c.address, "%s", crew_listener_address(l));
	CHECK_EQ(pthread_create(&c.thread, NULL, connect_here, &c), 0);
	end[0] = crew_listener_accept(l, CREW_FOREVER);
	pthread_join(c.thread, NULL);
	end[1] = c.made;
	CHECK_EQ(crew_handle_error(end[0]), 0);
	CHECK_EQ(crew_handle_error(end[1]), 0);
	crew_listener_close(l);
}

/* A few bytes from one end to the other. */
static void talk_once(const crew_pipe end[2])
{
	char text[8];

	CHECK_EQ(crew_pipe_send(end[0], "hello", 5, CREW_FOREVER), 0);
	CHECK_EQ(crew_pipe_recv(end[1], text, sizeof text, CREW_FOREVER), 5);
}

/* What a message looks like, and a step of the handshake: see lib/ipc/frame.h. */
static size_t frame(unsigned char *to, int kind, size_t n)
{
	memset(to, 0, 16 + n);
	memcpy(to, "crew\1", 5);
	to[5] = (unsigned char)kind;
	to[8] = (unsigned char)n;
	return 16 + n;
}

/* ---- limits ---- */

/* Memory that nobody pays for, to be pointed at. */
static void *much(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

TEST(a_message_to_another_program_has_its_limit)
{
	const char *const addresses[] = { "tcp:127.0.0.1:0", NULL };
	size_t n = ((size_t)1 << 30) + 1;
	void *large = much(n);
	crew_pipe end[2];

	for (int i = 0; i < 2; i++) {
		connect_both(addresses[i], end);
		CHECK_EQ(crew_pipe_send(end[0], large, n, 0), -EMSGSIZE);
		talk_once(end);
		crew_pipe_drop(end[0]);
		crew_pipe_drop(end[1]);
	}
	munmap(large, n);
}

TEST(no_descriptor_goes_over_tcp)
{
	crew_pipe end[2];

	connect_both("tcp:127.0.0.1:0", end);
	CHECK_EQ(crew_pipe_send_fd(end[0], STDOUT_FILENO, 0), -ENOTSUP);
	talk_once(end);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* Nobody reads, and the socket takes a part of it. */
TEST(a_send_over_tcp_that_gives_up_in_the_middle_closes_the_connection)
{
	size_t n = (size_t)200 << 20;
	void *large = much(n);
	crew_pipe end[2];
	crew_bytes got;

	connect_both("tcp:127.0.0.1:0", end);
	CHECK_EQ(crew_pipe_send(end[0], large, n, 20), -ETIMEDOUT);
	CHECK_EQ(crew_pipe_send(end[0], "x", 1, CREW_FOREVER), -EPIPE);
	CHECK_EQ(crew_pipe_recv_bytes(end[1], &got, CREW_FOREVER), CREW_EPROTO); /* half a message */
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
	munmap(large, n);
}

/* A program that has closed its standard descriptors finds nothing of ours there. */
TEST(no_socket_takes_the_place_of_stdio)
{
	const char *const addresses[] = { "tcp:127.0.0.1:0", NULL };
	crew_listener *l = listen_at(NULL, key()); /* libcrypto is loaded */
	crew_pipe end[2];

	crew_listener_close(l);
	close(STDIN_FILENO);
	for (int i = 0; i < 2; i++) {
		connect_both(addresses[i], end);
		CHECK_EQ(fcntl(STDIN_FILENO, F_GETFD), -1);
		talk_once(end);
		crew_pipe_drop(end[0]);
		crew_pipe_drop(end[1]);
		l = listen_at(addresses[i], key());
		CHECK_GE(crew_listener_fd(l), 3);
		CHECK_EQ(fcntl(STDIN_FILENO, F_GETFD), -1);
		crew_listener_close(l);
	}
}

TEST(no_queue_that_is_polled_takes_the_place_of_stdio)
{
	crew_queue q = crew_queue_make(.item = sizeof(int));

	close(STDIN_FILENO);
	CHECK_GE(crew_queue_fd(q), 3);
	CHECK_EQ(fcntl(STDIN_FILENO, F_GETFD), -1);
	crew_queue_drop(q);
}

TEST(a_descriptor_that_comes_takes_no_place_of_stdio)
{
	int kept = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3), fd;
	crew_pipe end[2];

	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(crew_pipe_send_fd(end[0], STDOUT_FILENO, 0), 0);
	close(STDIN_FILENO);
	fd = crew_pipe_recv_fd(end[1], 0);
	CHECK_GE(fd, 3);
	CHECK_EQ(fcntl(STDIN_FILENO, F_GETFD), -1);
	if (kept >= 0) {
		CHECK_EQ(dup2(kept, STDIN_FILENO), STDIN_FILENO);
		close(kept);
	}
	close(fd);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* ---- what comes ---- */

/* The pieces of a stream are as TCP likes. */
TEST(a_message_may_come_in_pieces)
{
	unsigned char whole[26];
	crew_pipe end[2];
	char got[16];

	connect_both("tcp:127.0.0.1:0", end);
	(void)frame(whole, 1, 10);
	memcpy(whole + 16, "0123456789", 10);
	for (size_t i = 0; i < sizeof whole; i++) {
		CHECK_EQ(crew_pipe_recv(end[0], got, sizeof got, 0), -EAGAIN);
		CHECK_EQ(send(crew_pipe_fd(end[1]), whole + i, 1, MSG_NOSIGNAL), 1);
		CHECK_EQ(crew_pipe_poll(end[0], CREW_FOREVER), 0);
	}
	CHECK_EQ(crew_pipe_recv(end[0], got, sizeof got, 0), 10);
	CHECK(memcmp(got, "0123456789", 10) == 0);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

/* What is sent over the socket by somebody else than the library, and then no more. */
static void check_nonsense(const void *bytes, size_t n, int code)
{
	crew_pipe end[2];
	char c;

	connect_both("tcp:127.0.0.1:0", end);
	CHECK_EQ(send(crew_pipe_fd(end[1]), bytes, n, MSG_NOSIGNAL), (ssize_t)n);
	crew_pipe_drop(end[1]);
	CHECK_EQ(crew_pipe_recv(end[0], &c, 1, CREW_FOREVER), code);
	CHECK_EQ(crew_pipe_recv(end[0], &c, 1, CREW_FOREVER), code); /* nor does it become one */
	crew_pipe_drop(end[0]);
}

TEST(nonsense_over_tcp_is_no_message)
{
	unsigned char bytes[32];

	check_nonsense("GET / HTTP/1.0\r\n", 16, CREW_EPROTO);
	check_nonsense(bytes, frame(bytes, 3, 0), CREW_EPROTO); /* descriptors do not come this way */
	check_nonsense(bytes, frame(bytes, 1, 10) - 3, CREW_EPROTO);
	check_nonsense(bytes, 7, CREW_EPROTO);
	check_nonsense(bytes, 0, CREW_ECLOSED);
}

/* Who goes away without having read all resets the connection: the end, as any other. */
TEST(a_reset_is_the_end)
{
	crew_pipe end[2];
	char c;

	connect_both("tcp:127.0.0.1:0", end);
	CHECK_EQ(crew_pipe_send(end[0], "unread", 6, CREW_FOREVER), 0);
	CHECK_EQ(crew_pipe_poll(end[1], CREW_FOREVER), 0);
	crew_pipe_drop(end[1]);
	CHECK_EQ(crew_pipe_recv(end[0], &c, 1, CREW_FOREVER), CREW_ECLOSED);
	CHECK_EQ(crew_pipe_send(end[0], &c, 1, CREW_FOREVER), -EPIPE);
	crew_pipe_drop(end[0]);
}

/* A listener that does not know the key, but how to speak. */
static void *be_impostor(void *arg)
{
	int fd = *(int *)arg, to = accept(fd, NULL, NULL);
	unsigned char buffer[80];

	(void)!send(to, buffer, frame(buffer, 4, 32), MSG_NOSIGNAL); /* the challenge; what answers it has 80 bytes */
	if (recv(to, buffer, sizeof buffer, MSG_WAITALL) == sizeof buffer)
		(void)!send(to, buffer, frame(buffer, 6, 32), MSG_NOSIGNAL); /* welcome */
	(void)!recv(to, buffer, 1, 0);
	close(to);
	return NULL;
}

TEST(a_listener_that_does_not_know_the_key_is_refused)
{
	int code = connect_to(be_impostor, CREW_FOREVER);

	CHECK(code == CREW_EAUTH || code == -ENOSYS);
}
