/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * errand.h: how a task in a worker has the whole pool run what it submits.
 *
 *	worker (offer.c)                              parent: the engine (errand.c)
 *	request, word OFFERED ──────────────────────> an idle worker? word TAKEN, checked, copied, placed in the ring
 *	                       <── reply PLACED, ticket ──┘                     │ as any task
 *	wait: OFFERED → runs it here                                            ↓
 *	      PLACED, ticket not claimed → claims it, runs it here           some worker
 *	      claimed → sleeps on orders.replied                                │
 *	                       <── reply DONE, result ── its future completes ──┘
 *
 * An errand is one cell of its worker: request and word in rw, the reply in pub. What nobody took is still the worker's, and costs the
 * parent nothing; so a busy pool runs nested tasks by plain calls, and only idleness makes them travel, the oldest first, which
 * is the largest part of most trees.
 *
 *	word = number:28 | state:4        FREE ─worker→ OFFERED ─engine→ TAKEN ─worker, when the reply is DONE→ FREE
 *	                                     ↑──worker──┘  ↑──no room──┘ └─cannot be─→ REFUSED ─worker→ FREE
 *
 * Whoever moves the word from OFFERED has the task. The number counts the worker's offers and makes each reply unmistakable. Should the worker die, the
 * parent clears words and replies before the next one of its place starts; what the dead one's tasks had sent out and nobody began is cancelled,
 * what runs is asked to stop and its end is nobody's business.
 */
#ifndef CREW_LIB_ERRAND_H
#define CREW_LIB_ERRAND_H

#include "process/ring.h"

enum { ERRANDS = 64 /* of one worker at a time: bits of a word */, ROOM_KEPT = 1 << 20 /* a larger one is given back after use */ };

enum { ERRAND_FREE, ERRAND_OFFERED, ERRAND_TAKEN, ERRAND_REFUSED };
enum { REPLY_NONE, REPLY_PLACED, REPLY_DONE };

static inline uint32_t errand_word(uint32_t number, uint32_t state)
{
	return number << 4 | state;
}

/* In rw. Written by the worker before the word says OFFERED; foreign to the parent, which fetches it once. */
struct errand_request {
	struct task_identity identity; /* when `task` is not known */
	uint32_t task;		       /* the parent's number of it; TASKS_MAX: not known */
	uint32_t size;		       /* of the packed arguments */
	uint32_t large;		       /* they are in the cell's room */
	uint32_t retries;
	uint64_t deadline;
	unsigned char payload[JOB_PAYLOAD];
} CREW__ALIGNED;

/* In pub. Written by the parent, under its lock. */
struct errand_reply {
	uint32_t word; /* number and REPLY_…; stored last */
	uint32_t task; /* its number, for the next request */
	uint64_t ticket; /* PLACED: may change, when the worker that had it in its journal dies */
	struct extent room; /* in rw's arena: where large arguments of this cell go */
	/* DONE */
	uint32_t about; /* kind:8 | size:24, as of an answer */
	int32_t code;	/* ANSWER_CODE */
	struct extent bytes; /* LARGE, ERROR: in pub's arena, until the word is FREE */
	unsigned char value[WIDE_SIZE];
} CREW__ALIGNED;

static inline uint32_t *errand_words(const struct ring *ring, uint32_t worker)
{
	return ring->errand_words + (size_t)worker * ERRANDS;
}

static inline struct errand_request *errand_requests(const struct ring *ring, uint32_t worker)
{
	return ring->errand_requests + (size_t)worker * ERRANDS;
}

static inline struct errand_reply *errand_replies(const struct ring *ring, uint32_t worker)
{
	return ring->errand_replies + (size_t)worker * ERRANDS;
}

#endif
