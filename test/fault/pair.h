/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pair.h: an executor of two workers, for killers: the first is the victim, the second its peer. What is asked here lies in the ring, where the parent sees it.
 */
#ifndef CREW_TEST_PAIR_H
#define CREW_TEST_PAIR_H

#include <sched.h>
#include <sys/timerfd.h>

#include "process/process_executor.h"
#include "runner.h"
#include "stepper.h"

/* The bits are set some instructions before they sleep. */
static inline bool pair_sleeps(crew_executor *ex)
{
	const struct ring *ring = &process_executor_of(ex)->ring;

	return (ck_pr_load_64(&ring->rw->parked[0]) & 3) == 3 && ck_pr_load_64(&ring->pub->tail) == ck_pr_load_64(&ring->rw->head) &&
	       stepper_state(crew_executor_worker_pid(ex, 0)) == 'S' && stepper_state(crew_executor_worker_pid(ex, 1)) == 'S';
}

/* Both sleep, and the victim is another than `old`, which it is not before that one is buried. Its pid. */
static inline pid_t pair_settle(crew_executor *ex, pid_t old)
{
	int64_t limit = test_now_ms() + 20000;
	pid_t pid;

	while ((pid = crew_executor_worker_pid(ex, 0)) <= 0 || pid == old || !pair_sleeps(ex)) {
		CHECK(test_now_ms() < limit);
		sched_yield();
	}
	return pid;
}

/* The sweep would repair what killers are to find. */
static inline void pair_stop_sweeping(crew_executor *ex)
{
	struct process_executor *p = process_executor_of(ex);
	struct itimerspec never = { 0 };

	latch_take(&p->lock);
	p->ticking = true; /* so nobody starts it */
	timerfd_settime(p->timer, 0, &never, NULL);
	latch_release(&p->lock);
}

#endif
