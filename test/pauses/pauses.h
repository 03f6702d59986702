/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pauses.h: each atomic operation of lib/ may take its time, in a program that runs as ever. See pauses.c.
 */
#ifndef CREW_TEST_PAUSES_H
#define CREW_TEST_PAUSES_H

#include <stdint.h>

/* From now on, in this process and in those that it starts. */
void pauses_begin(uint64_t seed);
uint64_t pauses_made(void); /* in this process */

#endif
