/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cpu.h: is it worth to look for something for a while, instead of sleeping until it is there?
 */
#ifndef CREW_LIB_CPU_H
#define CREW_LIB_CPU_H

#include <stdbool.h>

/* This process has more than one CPU, as it was when somebody first asked: whom we wait for may run meanwhile. */
bool crew__cpu_to_spare(void);

#endif
