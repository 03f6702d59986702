/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fib.c: spawn and sync inside a task. On threads an idle worker may take what was spawned; a spawn that
 * nobody takes costs little more than a call. On any other executor it is a call.
 */
#include <crew/crew.h>
#include <stdio.h>

CREW_TASK(long, fib, (int, n))
{
	if (n < 2)
		return n;
	crew_spawn(fib, a, n - 1); /* may run elsewhere; lives on this stack */
	long b = fib(n - 2);
	return crew_sync(fib, a) + b;
}

int main(void)
{
	long y = 0;

	CREW_SCOPE (ex, crew_threads())
		crew_must(crew_run(ex, &y, fib, 30));
	printf("fib(30) = %ld\n", y);
}
