/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * long_imap.c: imap over an input that is never there as a whole, on a pool, in chunks; and starmap, which takes a column
 * for each parameter. The feed is asked only a little ahead of what has been pulled: the difference is counted.
 */
#include <crew/crew.h>
#include <stdio.h>

enum { ITEMS = 200000, WINDOW = 1024 };

CREW_TASK(uint32_t, collatz, (uint32_t, n))
{
	uint32_t steps = 0;

	for (uint64_t x = n; x > 1; steps++)
		x = x % 2 ? 3 * x + 1 : x / 2;
	return steps;
}

CREW_TASK(uint64_t, power, (uint64_t, base), (int, exp))
{
	uint64_t y = 1;

	while (exp-- > 0)
		y *= base;
	return y;
}

static int count(void *state, CREW_ARGS(collatz) *args)
{
	uint32_t *next = state;

	args->n = ++*next;
	return *next <= ITEMS;
}

int main(void)
{
	uint64_t base[] = { 2, 3, 5, 7 }, y[4];
	uint32_t fed = 0, pulled = 0, ahead = 0, steps, longest = 0, at = 0;
	int exp[] = { 10, 5, 3, 2 };

	CREW_POOL_SCOPE (pool, crew_pool()) {
		crew_stream *s = crew_pool_imap(pool, collatz, count, &fed, .window = WINDOW, .chunk = 64);

		while (crew_next(s, &steps) == 1) {
			pulled++;
			ahead = fed - pulled > ahead ? fed - pulled : ahead;
			if (steps > longest)
				longest = steps, at = pulled;
		}
		crew_stream_close(s);
		crew_must(crew_pool_starmap(pool, power, base, exp, y, 4));
	}
	printf("%u items: %u takes %u steps; never more than the window ahead: %s\n", pulled, at, longest,
	       ahead <= WINDOW + 1 ? "yes" : "no");
	for (int i = 0; i < 4; i++)
		printf("%ju to the %d is %ju\n", (uintmax_t)base[i], exp[i], (uintmax_t)y[i]);
}
