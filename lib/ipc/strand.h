/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * strand.h: records in shared memory, first in first out, as many and as large as there is memory: what queues are made of.
 *
 *	oldest ─> [ drained ] ─> [ drained | records … ] ─> … ─> [ … records | free ]
 *	                              ^ the getter is here             ^ the putter is here
 *
 * Records lie one behind the other in segments. There is one putter and one getter at a time; who it is is settled by the caller's two mutexes (robust.h).
 * A put and a get are each finished by one change of a number: of the count of records ever put, or got. What else changes with them lies in two copies, and
 * the parity of the count says which one holds. So a process that is killed at any instruction of either has done all of it or nothing; only
 * a segment that was just being taken or given back needs a word, `draft`, to be found by.
 *
 * Segments belong to the putter's side, which takes those that the getter has left again.
 */
#ifndef CREW_LIB_STRAND_H
#define CREW_LIB_STRAND_H

#include <stddef.h>

#include "base/atomic.h"

/* How far a side has come. */
struct strand_place {
	uint64_t segment, at; /* offset of the segment; of the next record in it */
	uint64_t bytes;	      /* of all records before */
	uint64_t reserved_;
};

struct strand {
	/* fixed after open */
	uint64_t item; /* size of each record; 0: each has its own */
	uint64_t size; /* of a segment as a rule */

	/* the putter writes; the getter reads put */
	uint32_t put CREW__ALIGNED; /* records ever put, modulo 2^32; the change that finishes a put, made by the caller */
	uint64_t oldest;	    /* first segment of the list */
	uint64_t draft;		    /* a segment that is in the list no longer, or not yet; 0. Its death: the next putter frees it */
	struct strand_place putting[2]; /* [put & 1] holds */

	/* the getter writes; the putter reads got, reached and got_bytes */
	uint32_t got CREW__ALIGNED;	/* records ever got, likewise */
	uint64_t reached;		/* the segment it is in; may lag behind, never runs ahead */
	uint64_t got_bytes;		/* bytes of all records got; never lags behind got, may be ahead by the next record, after a getter that died or failed */
	struct strand_place getting[2]; /* [got & 1] holds */
};

int crew__strand_open(struct strand *s, size_t item, size_t capacity, size_t bytes); /* -errno. Memory is zeroed */
void crew__strand_close(struct strand *s);

/* The putter's side. prepare writes the record where nobody looks: 0; -ENOMEM, -ENOSPC. Then comes put + 1, then settle. */
int crew__strand_prepare(struct strand *s, const void *data, size_t n);
static inline void strand_settle_put(struct strand *s);
void crew__strand_repair_put(struct strand *s); /* first thing after another putter died */
void crew__strand_trim(struct strand *s);	/* free what the getter has left */

/* The getter's side. The next record, where it lies: NULL, there is none. To take it: got + 1, then settle: true: it left a segment behind. */
const void *crew__strand_peek(struct strand *s, size_t *ret_n);
bool crew__strand_settle_get(struct strand *s); /* also the first thing after another getter died */

static inline void strand_settle_put(struct strand *s)
{
	if (unlikely(s->draft)) {
		ck_pr_fence_store();
		ck_pr_store_64(&s->draft, 0); /* it is in the list */
	}
}

static inline bool strand_empty(const struct strand *s)
{
	return load_acquire_32(&s->put) == load_acquire_32(&s->got); /* pairs with the commits */
}

/* How many there are now: a number that was right at some instant of the call. */
uint32_t crew__strand_len(const struct strand *s);

/* Bytes in records, for the putter, who has looked at got. */
static inline uint64_t strand_bytes(const struct strand *s)
{
	return s->putting[s->put & 1].bytes - ck_pr_load_64(&s->got_bytes);
}

#endif
