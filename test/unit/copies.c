/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * copies.c: crew__copy(), which takes another way from 8 MiB on: nothing is left out there, and nothing beyond is touched. And copies that are announced.
 */
#include <stdlib.h>
#include <string.h>

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

static struct {
	unsigned char *to;
	size_t copied; /* bytes that were there when it was announced */
	int times;
} told;

static void count(void *arg)
{
	const unsigned char *from = arg;

	told.times++;
	while (told.to[told.copied] == from[told.copied])
		told.copied++;
}

/* Somebody is told once, when less than half a megabyte is still to come; but not of copies that are short, or take very long. */
TEST(an_announced_copy_is_whole_and_told_once_before_its_end)
{
	static const size_t sizes[] = { 1000, 256 << 10, (256 << 10) + 1, 1 << 20, (3 << 20) + 77, LARGE };
	unsigned char *from = malloc(LARGE), *to = malloc(LARGE);

	for (size_t i = 0; i < LARGE; i++)
		from[i] = (unsigned char)(pattern(i) | 1);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		bool announced = sizes[i] >= 256 << 10 && sizes[i] < LARGE;

		memset(to, 0, LARGE);
		told.to = to, told.copied = 0, told.times = 0;
		crew__copy_announced(to, from, sizes[i], &(struct herald){ count, from });
		CHECK_EQ(memcmp(to, from, sizes[i]), 0);
		CHECK_EQ(told.times, announced);
		CHECK(!announced || (told.copied < sizes[i] && told.copied + (512 << 10) > sizes[i]));
	}
	free(from);
	free(to);
}
