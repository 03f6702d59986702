/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * priority_lane.h: tasks that were submitted with a priority, best first.
 *
 * Two heaps of hints behind one mutex: urgent (priority > 0), which workers look at before the queues,
 * and late (< 0), after them. A lane that holds nothing costs nobody anything: its owner keeps a word
 * that says which heaps are in use.
 */
#ifndef CREW_LIB_PRIORITY_LANE_H
#define CREW_LIB_PRIORITY_LANE_H

#include <crew/future.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define LANE_MAX_PRIORITY 128		 /* beyond it all are equal, so that none has to wait for ever */
#define LANE_STEP_NS 250000000ll /* a hint that has waited so long is worth one priority more */

struct lane_hint {
	int64_t key; /* time of submit, minus what its priority is worth: ageing without touching the heap again */
	uint64_t order;
	crew_future *f;
};

struct lane_heap {
	struct lane_hint *hints;
	size_t count, capacity;
};

struct priority_lane {
	pthread_mutex_t mutex;
	/* guarded by mutex */
	struct lane_heap heap[2]; /* LANE_LATE, LANE_URGENT */
	uint64_t order;
};
enum { LANE_LATE, LANE_URGENT };

void crew__lane_init(struct priority_lane *lane);
void crew__lane_fini(struct priority_lane *lane);

/* Called with the mutex held, whenever a heap becomes used or empty: keep the word. */
typedef void lane_notice_fn(struct priority_lane *lane, int which, bool used);

/* -ENOMEM. now: monotonic nanoseconds. */
int crew__lane_put(struct priority_lane *lane, crew_future *f, int priority, uint64_t now, lane_notice_fn *notice);
crew_future *crew__lane_take(struct priority_lane *lane, int which, lane_notice_fn *notice); /* NULL: empty */

#endif
