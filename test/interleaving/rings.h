/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rings.h: the executor over processes, as its opener leaves it, with threads of the scenario for processes.
 *
 *	thread 0        submits, waits, stops      lib/process/intake.c, process_wait.c, settle.c
 *	threads 1 2     workers                    lib/process/process_worker.c: work()
 *	thread 3        the engine                 lib/process/timetable.c, doom.c, burial.c
 *
 * It is opened once and reset for each schedule. Scenarios keep memory: ports and records stay.
 */
#ifndef CREW_TEST_RINGS_H
#define CREW_TEST_RINGS_H

#include "process/process_executor.h"

enum { RING_USER, RING_FIRST_WORKER, RING_SECOND_WORKER, RING_ENGINE };
enum { RING_PLACES = 2 };

extern struct process_executor *processes;

void ring_open(const crew_task *task); /* the only one that may be submitted */
void ring_begin(void);		       /* a schedule: empty, two workers alive */
void ring_end(void);		       /* nothing is outstanding, no slot reserved */

void ring_known(const crew_task *task); /* this thread may submit it: its number need not be looked up */
void ring_work(void);			/* threads 1 and 2 */
void ring_stop(void);			/* workers end when there is nothing left */

/* The engine sleeps until somebody died or roused it, then does what is due and buries. In an endless loop: it is `idle` in its scenario. */
void ring_engine_turn(void);
void ring_be_engine(void);

/* The same for tasks that submit tasks: it is roused by whoever rings its bell, takes what workers offer and what they have answered, and ends when it is
   stopped. What killed workers had, and what failed errands have left behind, is thrown away before ring_begin(). */
void ring_be_engine_of_errands(void);
void ring_written(int fd);
void ring_renew(void);

/* For scenarios: a death is told to the engine, a signal is one. */
void ring_killed(int thread);
void ring_signalled(int fd, int signal);

#endif
