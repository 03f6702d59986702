/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * module.c: a module that a program loads when its workers are there already. It is built twice, with another FACTOR.
 */
#include <crew/crew.h>

extern const crew_task *const late_task;

CREW_TASK(long, multiply, (long, x))
{
	return FACTOR * x;
}

const crew_task *const late_task = &multiply_crew_task;
