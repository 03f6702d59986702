/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * root.c: one future, and an error. A task fails by crew_raise(); the code and the sentence arrive with the
 * future.
 */
#include <crew/crew.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>

CREW_TASK(double, root, (double, x))
{
	return x < 0 ? crew_raise(EDOM, "no real root of %g", x) : sqrt(x);
}

int main(void)
{
	CREW_SCOPE (ex, crew_threads(4)) {
		crew_future *good = crew_submit(ex, root, 16.0), *bad = crew_submit(ex, root, -1.0);
		double y;

		if (crew_result(good, &y) == 0)
			printf("%g\n", y);
		if (crew_result(bad, &y) == CREW_ERAISED) {
			const crew_error *error = crew_future_error(bad);
			printf("%s: %s (%s)\n", error->task, error->message, crew_errname(error->code));
		}
	}
}
