/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handshake.h: two programs show each other that they know the same key.
 *
 *	listener ─ CHALLENGE: nonce L ────────────────────────────> client
 *	listener <─ ANSWER: nonce C, HMAC(key, "crew 1 client" L C) ─ client
 *	listener ─ WELCOME: HMAC(key, "crew 1 listener" L C) ─────> client	or DENIED
 *
 * Both nonces are random and in both sums, so nothing that was heard before is of use; the sums are named after their maker, so neither can be sent back; and
 * after the version, so nobody can be talked down.
 */
#ifndef CREW_LIB_HANDSHAKE_H
#define CREW_LIB_HANDSHAKE_H

#include <crew/base.h>

#include "ipc/frame.h"

enum { HANDSHAKE_MS = 5000 };

struct handshake {
	unsigned char nonces[2 * NONCE_SIZE]; /* the listener's, the client's */
	unsigned char in[ANSWER_SIZE];	      /* what has come, the longest there is */
	size_t have;
};

/* The listener's part. Both return 0, -EAGAIN, CREW_EAUTH, CREW_EPROTO, -errno; no call blocks. */
int crew__handshake_challenge(struct handshake *h, int fd);
int crew__handshake_finish(struct handshake *h, int fd, crew_bytes key);

/* The client's, all of it: also -ETIMEDOUT. */
int crew__handshake_answer(int fd, crew_bytes key, uint64_t deadline);

#endif
