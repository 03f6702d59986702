/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clients.h: a key, listeners that know it, and a thread that takes the place of a listener and does not. For the tests of connections to other programs.
 */
#ifndef CREW_TEST_CLIENTS_H
#define CREW_TEST_CLIENTS_H

#include <crew/crew.h>

crew_bytes key(void); /* that both sides know */

/* address: NULL for any. Skips the test where there is no libcrypto, or no IPv6 for an address of that. */
crew_listener *listen_at(const char *address, crew_bytes with);

/* What comes of a crew_connect() with ms to a TCP socket on which `be` runs in a thread, with a pointer to the listening descriptor, instead of a crew_listener. */
int connect_to(void *(*be)(void *fd), int ms);

#endif
