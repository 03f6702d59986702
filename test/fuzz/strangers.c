/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * strangers.c: what strangers may send, against the parser of it.
 *
 * LLVMFuzzerTestOneInput() holds for any bytes: nothing is read beyond them (they are given in a block of exactly their size, for AddressSanitizer), no length
 * above the cap is let through, more bytes never turn a refusal into something else, and what is accepted comes out the same when it is written again.
 *
 * With libFuzzer (clang -fsanitize=fuzzer -DLIBFUZZER) that is all; else main() feeds it mutations of good frames, the same in each run, for some seconds: what
 * CTest does. An argument is a file to be tried, or a number of rounds.
 */
#include <crew/base.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/frame.h"

#define MOST ((uint64_t)1 << 30)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "strangers: %s\n", what);
	abort();
}

static void try_read(const uint8_t *bytes, size_t n)
{
	struct frame frame = { FRAME_DATA, 77 }, again;
	unsigned char head[FRAME_HEAD];
	int rc = crew__frame_read(bytes, n, MOST, &frame), before = -EAGAIN;

	require(rc == 0 || rc == -EAGAIN || rc == CREW_EPROTO || rc == -EMSGSIZE, "an answer that there is not");
	require((rc == -EAGAIN) <= (n < FRAME_HEAD), "a whole head is said to be a part");
	if (rc)
		require(frame.length == 77, "a refused head was delivered");
	if (rc == 0) {
		require(frame.length <= MOST && frame.kind >= FRAME_DATA && frame.kind <= FRAME_DENIED, "a frame that there is not");
		crew__frame_write(head, frame.kind, frame.length);
		require(memcmp(head, bytes, FRAME_HEAD) == 0, "written again it is another");
	}
	for (size_t k = 0; k <= n && k <= FRAME_HEAD; k++) { /* cut anywhere */
		int part = crew__frame_read(bytes, k, MOST, &again);

		require(before == -EAGAIN || part == before, "more bytes have changed a verdict");
		before = part;
	}
	require(n < FRAME_HEAD || before == rc, "the verdict depends on what follows the head");
}

static void try_packet(const uint8_t *bytes, size_t n)
{
	struct frame frame = { FRAME_DATA, 77 };
	int rc = crew__frame_packet(bytes, n, MOST, &frame);

	require(rc == 0 || rc == CREW_EPROTO || rc == -EMSGSIZE, "an answer that there is not");
	if (rc == 0 && frame.kind == FRAME_DATA)
		require(frame.length == n - FRAME_HEAD, "a packet that is not as long as it says");
}

static void try_expect(const uint8_t *bytes, size_t n, enum frame_kind kind, size_t size)
{
	int rc = crew__frame_expect(bytes, n, kind, size);

	require(rc == 0 || rc == -EAGAIN || rc == CREW_EPROTO || rc == CREW_EAUTH, "an answer that there is not");
	require(rc != 0 || n >= size, "a step of the handshake that is not all there");
	require(rc != -EAGAIN || n < size, "a step of the handshake that never ends");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	uint8_t *exact = calloc(1, n ? n : 1); /* one beyond is seen */

	require(exact != NULL, "out of memory");
	if (n)
		memcpy(exact, bytes, n);
	try_read(exact, n);
	try_packet(exact, n);
	try_expect(exact, n, FRAME_CHALLENGE, CHALLENGE_SIZE);
	try_expect(exact, n, FRAME_ANSWER, ANSWER_SIZE);
	try_expect(exact, n, FRAME_WELCOME, WELCOME_SIZE);
	free(exact);
	return 0;
}

#ifndef LIBFUZZER
enum { INPUT_MOST = 256, ROUNDS = 1000000 };

static uint64_t state = 88172645463325252u; /* xorshift: the same in each run */

static uint64_t next(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static size_t good_frame(uint8_t input[INPUT_MOST])
{
	static const uint64_t lengths[] = { 0, 1, 32, 64, 100, MOST - 1, MOST, MOST + 1, UINT64_MAX, (uint64_t)1 << 63, UINT32_MAX };
	enum frame_kind kind = (enum frame_kind)(FRAME_DATA + next(FRAME_DENIED));
	uint64_t length = lengths[next(sizeof lengths / sizeof lengths[0])];

	for (size_t i = 0; i < INPUT_MOST; i++)
		input[i] = (uint8_t)next(256);
	crew__frame_write(input, kind, length);
	return next(3) ? FRAME_HEAD + (length < 100 ? (size_t)length : 100) : next(INPUT_MOST + 1);
}

static void mutate(uint8_t input[INPUT_MOST], size_t *n)
{
	for (uint64_t i = next(4); i-- > 0;) {
		switch (next(4)) {
		case 0:
			input[next(INPUT_MOST)] ^= (uint8_t)(1u << next(8));
			break;
		case 1:
			input[next(FRAME_HEAD)] = (uint8_t)next(256);
			break;
		case 2:
			*n = next(INPUT_MOST + 1);
			break;
		default:
			memset(input + next(FRAME_HEAD), (int)(next(2) * 255), next(8));
		}
	}
}

static int try_file(const char *path)
{
	static uint8_t input[1 << 20];
	FILE *file = fopen(path, "rbe");
	size_t n;

	if (!file) {
		perror(path);
		return 2;
	}
	n = fread(input, 1, sizeof input, file);
	fclose(file);
	return LLVMFuzzerTestOneInput(input, n);
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : ROUNDS;
	uint8_t input[INPUT_MOST];

	if (argc > 1 && rounds == 0)
		return try_file(argv[1]);
	for (long i = 0; i < rounds; i++) {
		size_t n = good_frame(input);

		mutate(input, &n);
		LLVMFuzzerTestOneInput(input, n);
	}
	printf("%ld inputs\n", rounds);
	return 0;
}
#endif
