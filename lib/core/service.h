/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * service.h: threads of the library's own, which serve others: engines, watchers, lenders. Every signal is blocked in them, and they hold no lock that a
 * forked child needs. So they do not count when it is asked whether a fork of this process is safe; hence they are counted here.
 */
#ifndef CREW_LIB_SERVICE_H
#define CREW_LIB_SERVICE_H

#include <pthread.h>
#include <stdint.h>

/* How many there are in this process. Each counts from before its first step, and until it is joined or leaves. */
extern uint32_t crew__service_threads;

/* ret NULL: nobody will join it; it detaches itself by crew__service_leave(). -errno. */
int crew__service_start(pthread_t *ret, void *(*run)(void *), void *arg);
void crew__service_join(pthread_t thread);

/* The last step of one that is not joined by crew__service_join(). */
void crew__service_leave(void);

#endif
