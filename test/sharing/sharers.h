/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sharers.h: several of a kind: threads, children of every start method, workers (carriers.h).
 *
 *	TEST_CARRIED(no_count_is_lost)
 *	{
 *		crowd_start(4, count, &arg);	count(0, &arg) … count(3, &arg), each in a thread or a process of its own, with a copy of arg
 *		crowd_join();
 *	}
 */
#ifndef CREW_TEST_SHARERS_H
#define CREW_TEST_SHARERS_H

#include <crew/crew.h>
#include <errno.h>
#include <pthread.h>
#include <sys/types.h>

#include "../carriers.h"

#define crowd_start(n_, body_, arg_) crowd_start_with((n_), (body_), (arg_), sizeof *(arg_))
void crowd_start_with(int n, void (*body)(int i, void *arg), const void *arg, size_t size);
void crowd_join(void);

/* One forked child, whatever the carrier; killed; waited for, and right to have ended with 0. */
pid_t child_start(void (*body)(void *arg), void *arg);
void child_kill(pid_t pid);
void child_join(pid_t pid);

/* Until it has been seen asleep: its last step is done, as far as it goes. */
void child_await_sleep(pid_t pid);

#endif
