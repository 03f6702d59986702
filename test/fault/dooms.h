/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dooms.h: tasks that never end, tasks that count their runs in memory that outlives workers, and a look whether the pool is whole.
 */
#ifndef CREW_TEST_DOOMS_H
#define CREW_TEST_DOOMS_H

#include <crew/crew.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "runner.h"

enum { PATIENT, IGNORES_TERM, BLOCKS_ALL, STOPPED, SPINS };

static inline void count(crew_bytes runs, int i)
{
	__atomic_add_fetch((unsigned char *)runs.data + i, 1, __ATOMIC_SEQ_CST);
}

static inline int runs_of(crew_bytes runs, int i)
{
	return __atomic_load_n((unsigned char *)runs.data + i, __ATOMIC_SEQ_CST);
}

CREW_TASK(long, honest, (crew_bytes, runs), (int, i))
{
	count(runs, i);
	for (volatile int k = 0; k < i * 7919 % 300; k++)
		;
	return (long)i * 3 + 1;
}

/* Never ends by itself. It is what it is by the time that its run is counted. */
CREW_TASK(int, endless, (crew_bytes, runs), (int, i), (int, how))
{
	sigset_t all;

	sigfillset(&all);
	if (how == IGNORES_TERM)
		signal(SIGTERM, SIG_IGN);
	if (how == BLOCKS_ALL)
		sigprocmask(SIG_SETMASK, &all, NULL);
	count(runs, i);
	if (how == STOPPED)
		raise(SIGSTOP);
	for (;;)
		if (how != SPINS)
			pause();
	return 0;
}

CREW_TASK(pid_t, worker_pid)
{
	return getpid();
}

static inline void await_run(crew_bytes runs, int i)
{
	while (runs_of(runs, i) == 0)
		sched_yield();
}

/* Every place has a worker again, and every worker works. */
static inline void check_strength(crew_executor *ex, int workers)
{
	int64_t limit = test_now_ms() + 20000;
	int there = 0;
	pid_t y;

	while (there < workers) {
		CHECK(test_now_ms() < limit);
		there = 0;
		for (int i = 0; i < workers; i++)
			there += crew_executor_worker_pid(ex, i) > 0;
		sched_yield();
	}
	for (int i = 0; i < 4 * workers; i++)
		CHECK_EQ(crew_run(ex, &y, worker_pid), 0);
}

#endif
