/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * injection.h: the queue of hints that one submitting thread fills and every worker takes from.
 *
 * Unbounded, one producer, many consumers. The producer executes no read-modify-write and touches no
 * line that consumers write, unless a segment is full; a consumer takes up to a whole batch with one
 * CAS. A hint is a pointer to a record, and never more than a hint.
 */
#ifndef CREW_LIB_INJECTION_H
#define CREW_LIB_INJECTION_H

#include <crew/future.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"

#ifndef SEGMENT_SLOTS /* tests have short ones */
#define SEGMENT_SLOTS 504
#endif
#define BATCH_MAX 32

struct segment {
	uint64_t head; /* reuses:32 | index of the next slot to take:32; consumers by CAS, the producer before a reuse */
	struct segment *next;	    /* the producer, once it is full */
	struct segment *freed_next; /* who pushed it on `freed`; then the producer */
	/* the producer fills (release), and clears before a reuse; consumers read */
	crew_future *slot[SEGMENT_SLOTS] CREW__ALIGNED;
} CREW__ALIGNED;

struct injection {
	/* producer only */
	struct segment *tail;
	uint32_t index;	       /* of the next slot to fill in it */
	struct segment *cache; /* drained segments, to be filled again */
	/* moves:16 | address:48 of the segment to take from, 0: never used; consumers by CAS, the producer the first one */
	uint64_t first CREW__ALIGNED;
	/* consumers push drained segments by CAS, the producer takes them all */
	struct segment *freed CREW__ALIGNED;
};

/* A zeroed injection is empty and ready. fini: nobody else uses it any more. */
void crew__injection_fini(struct injection *q);

/* Make room; false: out of memory. Producer only. */
bool crew__injection_turn(struct injection *q);

/* Any thread. take: up to max hints (at most BATCH_MAX), a fair share of what is there for one of `sharers`;
   *left: something may remain. */
bool crew__injection_any(const struct injection *q);
int crew__injection_take(struct injection *q, crew_future **batch, int max, int sharers, bool *left);

/* Producer only. */
static inline bool crew__injection_has_room(const struct injection *q)
{
	return q->tail && q->index < SEGMENT_SLOTS;
}

/* Producer only. False: out of memory, nothing happened. */
static inline bool crew__injection_put(struct injection *q, crew_future *f)
{
	if (unlikely(!crew__injection_has_room(q)) && !crew__injection_turn(q))
		return false;
	store_release_ptr((void **)&q->tail->slot[q->index++], f); /* pairs with the acquire in crew__injection_take */
	return true;
}

#endif
