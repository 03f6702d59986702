/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fiber.h: threads that take turns in one thread, each with a stack and thread-local memory of its own. x86-64 only.
 */
#ifndef CREW_TEST_FIBER_H
#define CREW_TEST_FIBER_H

#define FIBERS_MAX 8

/* Make stacks and thread-local memory for all of them. False: not on this machine. */
bool fibers_open(void);

/* Fiber i begins anew at its next turn, with fresh thread-local memory: main(i) on an empty stack. It must not return. */
void fiber_reset(int i, void (*main)(int i));

/* Go on as fiber `to`, or as who called fibers_open() when it is negative. Returns when somebody goes on as `from`. */
void fiber_switch(int from, int to);

#endif
