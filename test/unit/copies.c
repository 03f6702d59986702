/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * copies.c: crew__copy(), which takes another way from 8 MiB on: nothing is left out there, and nothing beyond is touched.
 */
#include <stdlib.h>

#include "base/copy.h"
#include "../runner.h"

enum { LARGE = 8 << 20, MARGIN = 128 };

static unsigned char pattern(size_t i)
{
	return (unsigned char)(i * 31 + (i >> 9) * 7 + (i >> 16));
}

static void check_copy(unsigned char *to, const unsigned char *from, size_t n)
{
	for (size_t i = 0; i < MARGIN; i++)
		to[-1 - (ptrdiff_t)i] = to[n + i] = 0xee;
	crew__copy(to, from, n);
	for (size_t i = 0; i < n; i++)
		if (to[i] != from[i])
			CHECK_EQ(i, n);
	for (size_t i = 0; i < MARGIN; i++)
		CHECK(to[-1 - (ptrdiff_t)i] == 0xee && to[n + i] == 0xee);
}

TEST(a_copy_of_any_size_and_place_is_whole)
{
	static const size_t sizes[] = { 0, 1, 63, 4096, LARGE - 1, LARGE, LARGE + 1, LARGE + 63, LARGE + 8191, LARGE + 8192, LARGE + 12345 };
	static const size_t places[] = { 0, 1, 16, 63 };
	unsigned char *from = malloc(LARGE + 20000), *to = malloc(LARGE + 20000 + 2 * MARGIN);

	for (size_t i = 0; i < LARGE + 20000; i++)
		from[i] = pattern(i);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		for (size_t k = 0; k < 4; k++)
			check_copy(to + MARGIN + places[k], from + places[3 - k] * (i % 2), sizes[i]);
	free(from);
	free(to);
}
