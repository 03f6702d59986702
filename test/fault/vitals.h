/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vitals.h: what the kernel says of a process: does it run, sleep, stand still, die? For tests that wait for that, or must know who is to blame that something
 * takes its time: the process, or a machine that has no CPU for it.
 */
#ifndef CREW_TEST_VITALS_H
#define CREW_TEST_VITALS_H

#include <stdbool.h>
#include <sys/types.h>

/* The letter of its state in /proc/PID/stat; Z also for one that is gone. */
char vitals_state(pid_t pid);

/* Nothing is left for anybody to do for its end: it has ended, is ending, or has been killed and will end when it gets a CPU. */
bool vitals_dying(pid_t pid);

/* Have it stand still: it does when this returns. */
void vitals_stop(pid_t pid);

/* A descriptor by which its end can be awaited; -1: there is no such process. Then: wait for that, and close it. -1 is nothing to wait for. */
int vitals_watch(pid_t pid);
void vitals_await_end(int watch);

#endif
