/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared_array.c: an array that a child changes in place, and a global that it only seems to: every process has its own.
 */
#include <crew/crew.h>
#include <stdio.h>

static int global = 1;

CREW_TASK(int, negate, (crew_array, numbers))
{
	size_t n;
	double *x = crew_array_at(numbers, &n);

	for (size_t i = 0; x && i < n; i++)
		x[i] = -x[i];
	return ++global;
}

int main(void)
{
	static const double from[] = { 0.5, 1, 2, 4 };
	crew_array numbers = crew_array_of(double, 4, from);
	crew_process *p = crew_start(negate, numbers);
	int childs;

	crew_must(crew_process_result(p, &childs));
	crew_process_close(p);
	for (int i = 0; i < 4; i++)
		printf("%g ", crew_array_as(double, numbers)[i]);
	printf("\nthe global is %d there and %d here\n", childs, global);
	crew_drop(numbers);
}
