/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shortage.h: the k-th call of a kind fails.
 *
 *	shortage_prepare();
 *	shortage_begin(MEMFD, 3, false);
 *	…					the third memfd_create from here on fails
 *	shortage_end();
 *	if (shortage_came())			it was asked for so often
 */
#ifndef CREW_TEST_SHORTAGE_H
#define CREW_TEST_SHORTAGE_H

#include <stdbool.h>

enum call {
	MEMORY, MAP, ADVISE, MEMFD, GROW, EVENTFD, TIMERFD, SIGNALFD, EPOLL, WATCH, DUP, SOCKETS, PIPE, PROCESS, PIDFD, THREAD,
	OPENING, STATUS, NAMING, RANDOM, KEY, SEND, CALLS
};

const char *shortage_of(enum call call);
void shortage_prepare(void); /* before a census: what begins and ends then, does so for this process and all it forks */
void shortage_finish(void);
void shortage_begin(enum call call, long k, bool for_ever); /* for_ever: and all that follow the k-th */
void shortage_end(void);
bool shortage_came(void); /* did the k-th call come? Then the next one is to come later */
long shortage_live(void); /* blocks of memory that this process has not given back */

#endif
