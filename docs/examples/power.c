/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * power.c: the first program. crew_processes(…) may be crew_threads(…) or crew_inline(): the swap is one
 * word.
 */
#include <crew/crew.h>
#include <stdio.h>

CREW_TASK(double, power, (double, base), (int, exp))
{
	return exp == 0 ? 1 : base * power(base, exp - 1);
}

int main(void)
{
	double base[] = { 1, 2, 3 }, y[3];
	int exp[] = { 9, 9, 9 };

	CREW_SCOPE (ex, crew_processes(.workers = 3))
		if (crew_map(ex, power, base, exp, y, 3) == 0)
			printf("%g %g %g\n", y[0], y[1], y[2]);
}
