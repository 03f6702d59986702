/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * address.c: see address.h.
 */
#include "ipc/address.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_unix(const char *path, struct address *ret)
{
	size_t n = strlen(path);

	if (n == 0 || (n == 1 && path[0] == '@'))
		return -EINVAL;
	if (n >= sizeof ret->un.sun_path)
		return -ENAMETOOLONG;
	ret->un.sun_family = AF_UNIX;
	memcpy(ret->un.sun_path, path, n);
	ret->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	if (path[0] == '@') { /* Linux's own: begins with a 0 and has its length */
		ret->un.sun_path[0] = '\0';
		ret->size--;
	}
	return 0;
}

/* 0 to 65535, or the name of a service: getaddrinfo() takes larger numbers modulo 65536. */
static bool is_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return *text && (text[digits] || (digits <= 5 && atoi(text) <= 65535));
}

/* HOST:PORT, [HOST]:PORT */
static int parse_tcp(const char *text, struct address *ret)
{
	const char *colon = strrchr(text, ':'), *host = text;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	size_t n = colon ? (size_t)(colon - text) : 0;
	char name[256];

	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		host++;
		n -= 2;
	}
	if (!colon || n == 0 || !is_port(colon + 1))
		return -EINVAL;
	if (n >= sizeof name)
		return -ENAMETOOLONG;
	memcpy(name, host, n);
	name[n] = '\0';
	if (getaddrinfo(name, colon + 1, &hints, &found))
		return -ENOENT;
	memcpy(&ret->storage, found->ai_addr, found->ai_addrlen);
	ret->size = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

int crew__address_parse(const char *text, struct address *ret)
{
	memset(ret, 0, sizeof *ret);
	if (text && strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, ret);
	if (text && strncmp(text, "tcp:", 4) == 0)
		return parse_tcp(text + 4, ret);
	return -EINVAL;
}

void crew__address_print(const struct address *address, char ret[ADDRESS_TEXT])
{
	char host[64], port[16];
	bool abstract = address->any.sa_family == AF_UNIX && address->un.sun_path[0] == '\0';

	if (address->any.sa_family == AF_UNIX)
		snprintf(ret, ADDRESS_TEXT, "unix:%s%.*s", abstract ? "@" : "",
			 (int)(address->size - offsetof(struct sockaddr_un, sun_path)) - 1, address->un.sun_path + abstract);
	else if (getnameinfo(&address->any, address->size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(ret, ADDRESS_TEXT, address->any.sa_family == AF_INET6 ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
	else
		snprintf(ret, ADDRESS_TEXT, "tcp:?");
}

const char *crew__address_path(const struct address *address)
{
	return address->any.sa_family == AF_UNIX && address->un.sun_path[0] ? address->un.sun_path : NULL;
}
