/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * frame.c: see frame.h. test/fuzz holds it to: never beyond n bytes, never a length beyond `most`, the same answer however the bytes were cut.
 */
#include "ipc/frame.h"

#include <crew/base.h>
#include <errno.h>
#include <string.h>

static const unsigned char magic[5] = { 'c', 'r', 'e', 'w', 1 };

void crew__frame_write(unsigned char head[FRAME_HEAD], enum frame_kind kind, uint64_t length)
{
	memset(head, 0, FRAME_HEAD);
	memcpy(head, magic, sizeof magic);
	head[5] = (unsigned char)kind;
	for (int i = 0; i < 8; i++)
		head[8 + i] = (unsigned char)(length >> (8 * i));
}

/* The fixed bytes, as far as they are there. */
static bool begins_well(const unsigned char *bytes, size_t n)
{
	if (memcmp(bytes, magic, n < sizeof magic ? n : sizeof magic))
		return false;
	if (n > 5 && (bytes[5] < FRAME_DATA || bytes[5] > FRAME_DENIED))
		return false;
	return (n <= 6 || bytes[6] == 0) && (n <= 7 || bytes[7] == 0);
}

int crew__frame_read(const unsigned char *bytes, size_t n, uint64_t most, struct frame *ret)
{
	uint64_t length = 0;

	if (!begins_well(bytes, n))
		return CREW_EPROTO;
	if (n < FRAME_HEAD)
		return -EAGAIN;
	for (int i = 0; i < 8; i++)
		length |= (uint64_t)bytes[8 + i] << (8 * i);
	if (length > most)
		return -EMSGSIZE;
	ret->kind = (enum frame_kind)bytes[5];
	ret->length = length;
	return 0;
}

int crew__frame_packet(const unsigned char *bytes, size_t n, uint64_t most, struct frame *ret)
{
	struct frame frame;
	int rc = crew__frame_read(bytes, n, most, &frame);
	size_t body = n - FRAME_HEAD;

	if (rc)
		return rc == -EAGAIN ? CREW_EPROTO : rc; /* a packet does not go on */
	if (frame.kind == FRAME_LARGE || frame.kind == FRAME_FD ? body != 0 : body != frame.length)
		return CREW_EPROTO;
	*ret = frame;
	return 0;
}

int crew__frame_expect(const unsigned char *bytes, size_t n, enum frame_kind kind, size_t size)
{
	struct frame frame;
	int rc = crew__frame_read(bytes, n, size - FRAME_HEAD, &frame);

	if (rc)
		return rc == -EAGAIN ? -EAGAIN : CREW_EPROTO;
	if (frame.kind == FRAME_DENIED && frame.length == 0)
		return CREW_EAUTH;
	if (frame.kind != kind || frame.length != size - FRAME_HEAD)
		return CREW_EPROTO;
	return n < size ? -EAGAIN : 0;
}
