/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * frame.h: what messages look like on a socket, and the one parser of bytes that others wrote.
 *
 *	"crew" | version 1 | kind | 0 0 | length, 8 bytes, little-endian | length bytes
 *
 * Pure: no allocation, no system call, no state but what is passed. On packet sockets a frame is a packet, on streams they follow each other.
 * A message too large for a packet is FRAME_LARGE: its bytes are in a memory file, which comes with the packet.
 */
#ifndef CREW_LIB_FRAME_H
#define CREW_LIB_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum frame_kind { FRAME_DATA = 1, FRAME_LARGE, FRAME_FD, FRAME_CHALLENGE, FRAME_ANSWER, FRAME_WELCOME, FRAME_DENIED };
enum { FRAME_HEAD = 16, NONCE_SIZE = 32, MAC_SIZE = 32 };
enum { CHALLENGE_SIZE = FRAME_HEAD + NONCE_SIZE, ANSWER_SIZE = FRAME_HEAD + NONCE_SIZE + MAC_SIZE, WELCOME_SIZE = FRAME_HEAD + MAC_SIZE };

struct frame {
	enum frame_kind kind;
	uint64_t length; /* of the body */
};

void crew__frame_write(unsigned char head[FRAME_HEAD], enum frame_kind kind, uint64_t length);

/* The head of n bytes: 0; -EAGAIN: n is less than FRAME_HEAD, and what there is may be the beginning of one; CREW_EPROTO: it is none;
   -EMSGSIZE: the body is larger than `most`. *ret is untouched unless 0. */
int crew__frame_read(const unsigned char *bytes, size_t n, uint64_t most, struct frame *ret);

/* A whole packet: the head, and whether the body is as long as it says. 0, CREW_EPROTO, -EMSGSIZE. */
int crew__frame_packet(const unsigned char *bytes, size_t n, uint64_t most, struct frame *ret);

/* A frame of the handshake of exactly this kind and size, from n bytes of what has come so far: 0; -EAGAIN: go on; CREW_EPROTO; CREW_EAUTH: it is FRAME_DENIED. */
int crew__frame_expect(const unsigned char *bytes, size_t n, enum frame_kind kind, size_t size);

#endif
