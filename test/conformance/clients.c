/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clients.c: see clients.h.
 */
#include "clients.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../runner.h"

crew_bytes key(void)
{
	return crew_bytes_str("a key that both sides know");
}

crew_listener *listen_at(const char *address, crew_bytes with)
{
	int code = 1;
	crew_listener *l = crew_listener_open(address, with, &code);

	if (code == -ENOSYS)
		SKIP("no libcrypto here");
	if (address && code == -ENOENT && strstr(address, "::1"))
		SKIP("no IPv6 here");
	CHECK_EQ(code, 0);
	CHECK(l != NULL);
	return l;
}

int connect_to(void *(*be)(void *), int ms)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), code;
	socklen_t n = sizeof at;
	char address[64];
	pthread_t thread;

	CHECK_EQ(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	CHECK_EQ(listen(fd, 1), 0);
	CHECK_EQ(getsockname(fd, (struct sockaddr *)&at, &n), 0);
	CHECK_EQ(pthread_create(&thread, NULL, be, &fd), 0);
	snprintf(address, sizeof address, "tcp:127.0.0.1:%d", ntohs(at.sin_port));
	code = crew_handle_error(crew_connect(address, key(), ms));
	shutdown(fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	close(fd);
	return code;
}
