/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * address.h: "unix:PATH", "unix:@NAME", "tcp:HOST:PORT" as sockets want them, and back.
 */
#ifndef CREW_LIB_ADDRESS_H
#define CREW_LIB_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { ADDRESS_TEXT = 160 };

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_un un;
		struct sockaddr_storage storage;
	};
	socklen_t size;
};

/* 0; -EINVAL, -ENAMETOOLONG, -ENOENT: no such host. Resolving a name may block. */
int crew__address_parse(const char *text, struct address *ret);
void crew__address_print(const struct address *address, char ret[ADDRESS_TEXT]);

/* A path in the file system, or NULL. */
const char *crew__address_path(const struct address *address);

#endif
