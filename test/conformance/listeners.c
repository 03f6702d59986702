/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * listeners.c: Listener and Client, over Unix and TCP sockets, with those who know the key and those who do not.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <crew/crew.h>

#include "../runner.h"
#include "clients.h"

static const crew_bytes no_key = { NULL, 0 };

struct client {
	char address[160];
	crew_bytes key;
	pthread_t thread;
	int code;
};

/* Connect, send what was asked back until the end. */
static void *be_client(void *arg)
{
	struct client *c = arg;
	crew_pipe p = crew_connect(c->address, c->key, CREW_FOREVER);
	crew_bytes got;

	c->code = crew_handle_error(p);
	while (c->code == 0 && crew_pipe_recv_bytes(p, &got, CREW_FOREVER) == 0) {
		CHECK_EQ(crew_pipe_send(p, got.data, got.len, CREW_FOREVER), 0);
		crew_bytes_free(got);
	}
	crew_pipe_drop(p);
	return NULL;
}

static void start_client(struct client *c, crew_listener *l, crew_bytes with)
{
	snprintf(c->address, sizeof c->address, "%s", crew_listener_address(l));
	c->key = with;
	CHECK_EQ(pthread_create(&c->thread, NULL, be_client, c), 0);
}

/* Whoever knows the key gets in. */
static void check_open(crew_listener *l)
{
	struct client c;
	crew_pipe p;

	start_client(&c, l, key());
	p = crew_listener_accept(l, CREW_FOREVER);
	CHECK_EQ(crew_handle_error(p), 0);
	crew_pipe_drop(p);
	pthread_join(c.thread, NULL);
}

static void talk(crew_pipe p)
{
	static const size_t lengths[] = { 0, 1, 1000, 65536, 65537, 3000000, 2 };
	crew_bytes got;

	for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
		char *text = malloc(lengths[i] + 1);

		memset(text, 'a' + (int)i, lengths[i]);
		CHECK_EQ(crew_pipe_send(p, text, lengths[i], CREW_FOREVER), 0);
		CHECK_EQ(crew_pipe_recv_bytes(p, &got, CREW_FOREVER), 0);
		CHECK_EQ(got.len, lengths[i]);
		CHECK(memcmp(got.data, text, got.len) == 0);
		crew_bytes_free(got);
		free(text);
	}
}

static void converse(const char *address, crew_bytes with)
{
	crew_listener *l = listen_at(address, with);
	struct client c;
	crew_pipe p;
	char x;

	start_client(&c, l, with);
	p = crew_listener_accept(l, CREW_FOREVER);
	CHECK_EQ(crew_handle_error(p), 0);
	talk(p);
	CHECK_EQ(crew_pipe_recv(p, &x, 1, 0), -EAGAIN);
	CHECK(crew_listener_close(l) == NULL); /* the pipe lives on */
	talk(p);
	crew_pipe_drop(p);
	pthread_join(c.thread, NULL);
	CHECK_EQ(c.code, 0);
}

TEST(a_client_talks_over_a_unix_socket_in_a_directory_of_its_own)
{
	converse(NULL, key());
}
TEST(a_client_talks_over_an_abstract_socket)
{
	char name[64];

	snprintf(name, sizeof name, "unix:@crew-test-%d", (int)getpid());
	converse(name, key());
}
TEST(a_client_talks_over_tcp)
{
	converse("tcp:127.0.0.1:0", key());
}
TEST(a_client_talks_over_tcp_by_ipv6)
{
	converse("tcp:[::1]:0", key());
}

/* ---- keys ---- */

static void mismatch(const char *address, crew_bytes ours, crew_bytes theirs)
{
	crew_listener *l = listen_at(address, ours);
	struct client wrong, right;
	crew_pipe p;

	start_client(&wrong, l, theirs);
	do
		CHECK_EQ(crew_handle_error(crew_listener_accept(l, 50)), -ETIMEDOUT);
	while (pthread_tryjoin_np(wrong.thread, NULL) == EBUSY);
	CHECK_EQ(wrong.code, CREW_EAUTH);
	start_client(&right, l, ours);
	p = crew_listener_accept(l, CREW_FOREVER);
	CHECK_EQ(crew_handle_error(p), 0);
	crew_pipe_drop(p);
	pthread_join(right.thread, NULL);
	crew_listener_close(l);
}

/* Who does not know the key is told so, and never seen; who does comes after him. */
TEST(a_wrong_key_is_refused)
{
	mismatch(NULL, key(), crew_bytes_str("another"));
}
TEST(a_wrong_key_is_refused_over_tcp)
{
	mismatch("tcp:127.0.0.1:0", key(), crew_bytes_str("another"));
}
TEST(an_empty_key_is_a_key)
{
	converse(NULL, no_key);
}
TEST(an_empty_key_is_not_any_key)
{
	mismatch(NULL, key(), no_key);
}
TEST(any_key_is_not_an_empty_key)
{
	mismatch("tcp:127.0.0.1:0", no_key, key());
}

/* More than an HMAC takes. */
TEST(a_key_longer_than_any_is_refused)
{
	crew_listener *l = listen_at(NULL, key());
	struct client c;
	size_t n = (size_t)INT_MAX + 1;
	void *large = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(large != MAP_FAILED);
	start_client(&c, l, crew_bytes_make(large, n));
	do
		CHECK_EQ(crew_handle_error(crew_listener_accept(l, 50)), -ETIMEDOUT);
	while (pthread_tryjoin_np(c.thread, NULL) == EBUSY);
	CHECK_EQ(c.code, -EINVAL);
	crew_listener_close(l);
	munmap(large, n);
}

/* ---- strangers ---- */

static int stranger(crew_listener *l)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_port = htons((uint16_t)atoi(strrchr(crew_listener_address(l), ':') + 1));
	CHECK_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	return fd;
}

/* Some say nothing, some nonsense, one a byte now and then: whoever knows the key gets in meanwhile. */
TEST(silent_and_senseless_strangers_hold_up_nobody)
{
	crew_listener *l = listen_at("tcp:127.0.0.1:0", key());
	unsigned char junk[4096];
	struct client c;
	crew_pipe p;
	int fd[40];

	for (size_t i = 0; i < sizeof junk; i++)
		junk[i] = (unsigned char)test_random();
	for (int i = 0; i < 40; i++) {
		fd[i] = stranger(l);
		if (i % 4 == 1)
			CHECK(send(fd[i], junk, sizeof junk, MSG_NOSIGNAL) > 0);
		if (i % 4 == 2)
			CHECK_EQ(send(fd[i], "crew\1\5", 6, MSG_NOSIGNAL), 6);
		if (i % 4 == 3)
			close(fd[i]);
	}
	start_client(&c, l, key());
	p = crew_listener_accept(l, CREW_FOREVER);
	CHECK_EQ(crew_handle_error(p), 0);
	talk(p);
	crew_pipe_drop(p);
	pthread_join(c.thread, NULL);
	for (int i = 0; i < 40; i++)
		if (i % 4 != 3)
			close(fd[i]);
	crew_listener_close(l);
}

/* There are places for 64, and they hear who waits for one when others have gone. */
TEST(silent_strangers_may_take_every_place)
{
	crew_listener *l = listen_at("tcp:127.0.0.1:0", key());
	int fd[70];

	for (int i = 0; i < 70; i++)
		fd[i] = stranger(l);
	CHECK_EQ(crew_handle_error(crew_listener_accept(l, 20)), -ETIMEDOUT);
	for (int i = 0; i < 70; i++)
		close(fd[i]);
	check_open(l);
	crew_listener_close(l);
}

/* As many knock as the kernel lets wait, and nobody looks. */
TEST(a_client_waits_for_a_place_before_the_door_as_long_as_it_may)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	crew_listener *l = listen_at(NULL, key());
	int fd[300], n = 0;

	snprintf(at.sun_path, sizeof at.sun_path, "%s", crew_listener_address(l) + 5);
	do {
		CHECK(n < 300);
		fd[n] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		CHECK(fd[n] >= 0);
	} while (connect(fd[n++], (struct sockaddr *)&at, sizeof at) == 0);
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(crew_handle_error(crew_connect(crew_listener_address(l), key(), 0)), -ETIMEDOUT);
	CHECK_EQ(crew_handle_error(crew_connect(crew_listener_address(l), key(), 20)), -ETIMEDOUT);
	while (n > 0)
		close(fd[--n]);
	crew_listener_close(l);
}

/* Their time is over after 5 s, and they are gone. */
TEST(a_silent_stranger_is_shown_the_door)
{
	crew_listener *l = listen_at("tcp:127.0.0.1:0", key());
	int fd = stranger(l);
	char in[256];
	ssize_t n;

	CHECK_EQ(crew_handle_error(crew_listener_accept(l, 6000)), -ETIMEDOUT);
	n = recv(fd, in, sizeof in, 0);
	CHECK(n > 0 && n < 100); /* the challenge, and no more */
	while ((n = recv(fd, in, sizeof in, MSG_DONTWAIT)) < 0 && errno == EAGAIN) /* it was let in late, or is seen to go late */
		CHECK_EQ(crew_handle_error(crew_listener_accept(l, 100)), -ETIMEDOUT);
	CHECK(n <= 0);
	close(fd);
	crew_listener_close(l);
}

static void *be_echo(void *arg)
{
	int fd = *(int *)arg, to = accept(fd, NULL, NULL);
	char buffer[256];
	ssize_t n;

	while ((n = recv(to, buffer, sizeof buffer, 0)) > 0)
		(void)send(to, buffer, (size_t)n, MSG_NOSIGNAL);
	close(to);
	return NULL;
}

/* A listener that only sends back what it hears learns nothing that it could use, and gets no pipe. */
TEST(a_listener_that_answers_with_our_own_words_is_refused)
{
	int code = connect_to(be_echo, 300);

	CHECK(code == -ETIMEDOUT || code == CREW_EPROTO || code == CREW_EAUTH || code == -ENOSYS);
}

/* ---- addresses ---- */

TEST(an_address_is_taken_by_one)
{
	crew_listener *l = listen_at(NULL, key());
	char address[160];
	struct stat st;
	int code = 0;

	snprintf(address, sizeof address, "%s", crew_listener_address(l));
	CHECK(crew_listener_open(address, key(), &code) == NULL);
	CHECK_EQ(code, -EADDRINUSE);
	CHECK_EQ(stat(address + 5, &st), 0);
	CHECK_EQ(st.st_mode & 0777u, 0600u);
	crew_listener_close(l);
	CHECK_EQ(access(address + 5, F_OK), -1);
}

/* One after the other, however they are named. */
TEST(names_and_ports_are_taken_by_one)
{
	const char *addresses[2] = { "tcp:127.0.0.1:0" };
	char name[64];

	snprintf(name, sizeof name, "unix:@crew-test-%d", (int)getpid());
	addresses[1] = name;
	for (int i = 0; i < 2; i++) {
		crew_listener *l = listen_at(addresses[i], key());
		int code = 0;

		CHECK(crew_listener_open(crew_listener_address(l), key(), &code) == NULL);
		CHECK_EQ(code, -EADDRINUSE);
		crew_listener_close(l);
	}
}

/* What lies at the path when the listener is closed goes with it if it is the socket that was bound. */
TEST(a_file_in_place_of_the_socket_outlives_the_listener)
{
	char directory[] = "/tmp/crew-test-" "XX" "XX" "XX", address[80];
	crew_listener *l;
	FILE *file;

	CHECK(mkdtemp(directory) != NULL);
	snprintf(address, sizeof address, "unix:%s/s", directory);
	l = listen_at(address, key());
	CHECK_EQ(unlink(address + 5), 0);
	file = fopen(address + 5, "we");
	CHECK(file != NULL);
	fclose(file);
	crew_listener_close(l);
	CHECK_EQ(unlink(address + 5), 0);
	CHECK_EQ(rmdir(directory), 0);
}

TEST(a_socket_of_another_kind_is_not_replaced)
{
	char directory[] = "/tmp/crew-test-" "XX" "XX" "XX", address[80];
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), code = 0;

	CHECK(mkdtemp(directory) != NULL);
	snprintf(address, sizeof address, "unix:%s/s", directory);
	snprintf(at.sun_path, sizeof at.sun_path, "%s", address + 5);
	CHECK_EQ(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	CHECK(crew_listener_open(address, key(), &code) == NULL);
	CHECK(code == -EADDRINUSE || code == -ENOSYS);
	CHECK_EQ(access(address + 5, F_OK), 0);
	close(fd);
	unlink(address + 5);
	rmdir(directory);
}

/* In a child that was forked it is the parent's. */
TEST(a_forked_child_leaves_the_listener_to_its_parent)
{
	crew_listener *l = listen_at(NULL, key());
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK_EQ(crew_handle_error(crew_listener_accept(l, CREW_FOREVER)), CREW_EFORKED);
		CHECK(crew_listener_close(l) == NULL);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(access(crew_listener_address(l) + 5, F_OK), 0);
	check_open(l);
	crew_listener_close(l);
}

/* What a killed listener left is replaced; what is no socket is left alone. */
TEST(a_stale_socket_is_replaced_and_nothing_else)
{
	char directory[] = "/tmp/crew-test-" "XX" "XX" "XX", path[64], address[80];
	crew_listener *l;
	FILE *file;
	int code;

	CHECK(mkdtemp(directory) != NULL);
	snprintf(path, sizeof path, "%s/s", directory);
	snprintf(address, sizeof address, "unix:%s", path);
	if (fork() == 0) {
		listen_at(address, key());
		_exit(0);
	}
	wait(NULL);
	CHECK_EQ(access(path, F_OK), 0);
	l = listen_at(address, key());
	crew_listener_close(l);
	file = fopen(path, "we");
	CHECK(file != NULL);
	fclose(file);
	CHECK(crew_listener_open(address, key(), &code) == NULL);
	CHECK_EQ(code, -EADDRINUSE);
	CHECK_EQ(access(path, F_OK), 0);
	unlink(path);
	rmdir(directory);
}

TEST(what_is_no_address_is_refused)
{
	static const char *const wrong[] = { "", "unix:", "unix:@", "tcp:", "tcp:127.0.0.1", "tcp::80", "somewhere", "tcp:[::1]",
					     "tcp:127.0.0.1:", "tcp:127.0.0.1:65536", "tcp:127.0.0.1:99999999999", "tcp:127.0.0.1:80x" };
	char path[200], host[300];
	int code;

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		CHECK(crew_listener_open(wrong[i], key(), &code) == NULL);
		CHECK(code == -EINVAL || code == -ENOENT || code == -ENOSYS);
		CHECK(crew_handle_error(crew_connect(wrong[i], key(), 100)) < 0);
	}
	CHECK(crew_listener_open(NULL, (crew_bytes){ NULL, 6 }, &code) == NULL); /* a key that is not there is not an empty one */
	CHECK(code == -EINVAL || code == -ENOSYS);
	CHECK_EQ(crew_handle_error(crew_connect("tcp:127.0.0.1:80", (crew_bytes){ NULL, 6 }, 100)), -EINVAL);
	memset(path, 'x', sizeof path);
	memcpy(path, "unix:/", 6);
	path[sizeof path - 1] = '\0';
	CHECK(crew_listener_open(path, key(), &code) == NULL);
	CHECK(code == -ENAMETOOLONG || code == -ENOSYS);
	CHECK_EQ(crew_handle_error(crew_connect("unix:/nowhere/at/all", key(), 100)) == -ENOENT || code == -ENOSYS, 1);
	CHECK(crew_handle_error(crew_connect("unix:x", key(), 100)) < 0); /* a path of one character */
	memset(host, 'x', sizeof host);
	memcpy(host, "tcp:", 4);
	memcpy(host + sizeof host - 4, ":80", 4);
	CHECK_EQ(crew_handle_error(crew_connect(host, key(), 100)) == -ENAMETOOLONG || code == -ENOSYS, 1);
	CHECK_EQ(crew_handle_error(crew_connect(NULL, key(), 100)) == -EINVAL || code == -ENOSYS, 1);
}

TEST(an_accept_waits_as_long_as_it_may)
{
	crew_listener *l = listen_at(NULL, key());

	CHECK_EQ(crew_handle_error(crew_listener_accept(l, 0)), -EAGAIN);
	CHECK_EQ(crew_handle_error(crew_listener_accept(l, 20)), -ETIMEDOUT);
	CHECK_EQ(crew_handle_error(crew_listener_accept(NULL, 0)), -EINVAL);
	CHECK(crew_listener_close(NULL) == NULL);
	crew_listener_close(l);
}

/* A connection is a pipe: it passes descriptors, where the socket can, and may be passed on. */
CREW_TASK(int, say_hello, (crew_pipe, p))
{
	int rc = crew_pipe_send(p, "hello", 5, CREW_FOREVER);

	crew_pipe_drop(p);
	return rc;
}

TEST(a_connection_may_go_on_to_a_worker)
{
	crew_executor *ex = crew_processes(1);
	crew_listener *l = listen_at(NULL, key());
	struct client c;
	char text[8];
	crew_pipe p;
	int y = 1;

	start_client(&c, l, key());
	p = crew_listener_accept(l, CREW_FOREVER);
	CHECK_EQ(crew_run(ex, &y, say_hello, p), 0);
	CHECK_EQ(y, 0);
	CHECK_EQ(crew_pipe_recv(p, text, sizeof text, CREW_FOREVER), 5);
	crew_pipe_drop(p);
	pthread_join(c.thread, NULL);
	crew_listener_close(l);
	crew_executor_close(ex);
}
