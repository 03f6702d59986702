/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * module.c: a module that a program loads when its workers are there already. It is built twice, with another FACTOR.
 */
#include <crew/crew.h>

extern const crew_task *const late_task, *const late_failure;

CREW_TASK(long, multiply, (long, x))
{
	return FACTOR * x;
}

CREW_TASK(long, give_up, (long, code))
{
	return crew_raise((int)code, "no use");
}

const crew_task *const late_task = &multiply_crew_task, *const late_failure = &give_up_crew_task;
