/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nameless.c: a module that is linked without a build id.
 */
#include <crew/crew.h>

extern const crew_task *const late_task;

CREW_TASK(long, quadruple, (long, x))
{
	return 4 * x;
}

const crew_task *const late_task = &quadruple_crew_task;
