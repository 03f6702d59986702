/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cpu.h: CPUs to spare, and which one a thread runs on.
 */
#ifndef CREW_LIB_CPU_H
#define CREW_LIB_CPU_H

#include <sched.h>
#include <stdbool.h>

/* This process has more than one CPU, as it was when somebody first asked: whom we wait for may run meanwhile. */
bool crew__cpu_to_spare(void);

/* Move this thread off the CPU, if it is there and may run on others: its mask is narrowed for a moment. */
void crew__cpu_leave(int cpu);

/* set without cpu; false: nothing would be left, or it was not in. */
bool crew__cpu_without(const cpu_set_t *set, int cpu, cpu_set_t *ret);

#endif
