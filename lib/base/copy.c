/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * copy.c: large copies past the cache.
 *
 * A copy of many megabytes does not stay in the cache until its reader comes, but on its way through it drives out what would have, and each of its
 * lines is read before it is written. Stores that go past the cache save both: of 16 MiB there and back they move 11 GB/s where memcpy()
 * moves 7, of 4 MiB 11 where memcpy() moves 14. glibc does the same from three quarters of the last cache on, which is right
 * for one process that copies; here a second one reads, and writes an answer.
 *
 * Who waits for a large copy sleeps by then, and would wake when all is done: 30 to 50 us, half of what a megabyte takes. So it can be told a
 * wake's time before. Of copies past the cache, which take milliseconds, that is no part worth saving.
 */
#include "base/copy.h"

#include <stdint.h>
#include <string.h>

#define STREAMED ((size_t)8 << 20)
#define LINE ((size_t)64)
#define ANNOUNCED ((size_t)256 << 10) /* copied in about the time that a sleeper takes to wake */

#ifdef __SSE2__
#include <emmintrin.h>

enum { PAGE = 4096, AHEAD = 256 };

static inline void stream_line(unsigned char *to, const unsigned char *from)
{
	const __m128i *in = (const __m128i *)(const void *)from;
	__m128i *out = (__m128i *)(void *)to, a = _mm_loadu_si128(in), b = _mm_loadu_si128(in + 1), c = _mm_loadu_si128(in + 2),
		d = _mm_loadu_si128(in + 3);

	_mm_stream_si128(out, a);
	_mm_stream_si128(out + 1, b);
	_mm_stream_si128(out + 2, c);
	_mm_stream_si128(out + 3, d);
}

/* Pairs of pages, two lines of each in turn: one page after the other keeps half of the memory's banks waiting (8 GB/s). `to` is aligned to a
   line, n a multiple of two pages. */
static void stream(unsigned char *to, const unsigned char *from, size_t n)
{
	for (size_t at = 0; at < n; at += at % PAGE == PAGE - 2 * LINE ? PAGE + 2 * LINE : 2 * LINE)
		for (size_t line = at; line <= at + PAGE; line += PAGE) {
			__builtin_prefetch(from + line + AHEAD);
			__builtin_prefetch(from + line + AHEAD + LINE);
			stream_line(to + line, from + line);
			stream_line(to + line + LINE, from + line + LINE);
		}
	_mm_sfence(); /* such stores keep no order with others: whoever publishes the copy relies on it */
}

void crew__copy(void *to, const void *from, size_t n)
{
	size_t head = (size_t)(-(uintptr_t)to & (LINE - 1)), middle;

	if (n < STREAMED) {
		if (n)
			memcpy(to, from, n);
		return;
	}
	middle = (n - head) / (2 * PAGE) * (2 * PAGE);
	memcpy(to, from, head);
	stream((unsigned char *)to + head, (const unsigned char *)from + head, middle);
	memcpy((unsigned char *)to + head + middle, (const unsigned char *)from + head + middle, n - head - middle);
}
#else
void crew__copy(void *to, const void *from, size_t n)
{
	if (n)
		memcpy(to, from, n);
}
#endif

void crew__copy_announced(void *to, const void *from, size_t n, const struct herald *herald)
{
	size_t first = n - n % LINE - ANNOUNCED;

	if (!herald || n < ANNOUNCED || n >= STREAMED) {
		crew__copy(to, from, n);
		return;
	}
	crew__copy(to, from, first);
	herald->announce(herald->arg);
	crew__copy((unsigned char *)to + first, (const unsigned char *)from + first, n - first);
}
