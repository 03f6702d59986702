/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue_memory.h: a queue as it lies in the family's memory, and what its files call of one another.
 */
#ifndef CREW_LIB_QUEUE_MEMORY_H
#define CREW_LIB_QUEUE_MEMORY_H

#include <crew/queue.h>

#include "ipc/object.h"
#include "ipc/robust.h"
#include "ipc/strand.h"

/*
 * Two mutexes, one for each end, held while a record is copied and never while somebody sleeps. Two turns, each held by the one process of
 * its side that sleeps for the rest: so one is woken for one item, and when it is killed the kernel gives its turn to the next. Order: turn before mutex.
 */
enum { FINISHED = 1, DROPPED };

struct queue {
	uint64_t stamp; /* object.h */

	/* fixed after make */
	uint64_t item, capacity, bytes;

	/* written under both ends */
	uint32_t finished; /* FINISHED: nothing is put any more; DROPPED: nor got */

	/* who sleeps, or is about to; by everybody, atomically. The dead stay counted: then a drop loses the cell */
	uint32_t crowd CREW__ALIGNED;

	/* what they sleep on, robust.h; changed by wakers, atomically */
	uint32_t news;	    /* for an item, and for room: it is rare that both are waited for */
	uint32_t done_news; /* for all to be done */

	/* bells: set by sleepers, cleared by wakers in the mutex named here */
	uint32_t hungry CREW__ALIGNED; /* for an item: put */
	uint32_t stuck;		       /* for room: get */
	uint32_t joining;	       /* for all to be done: done */

	/* nanoseconds to spin before the sleep; each written by who has that turn. Guesses */
	uint32_t get_patience CREW__ALIGNED;
	uint32_t put_patience CREW__ALIGNED;

	struct robust put, get;		  /* the ends of the strand */
	struct robust put_turn, get_turn; /* who sleeps */
	struct robust done;		  /* the count below */
	uint32_t done_count;		  /* items that were done, modulo 2^32; the change that finishes a task_done() */

	struct strand strand;
};

static inline struct queue *queue_at(crew_queue q)
{
	return handle_at(q.handle, HANDLE_QUEUE);
}

/* One wait: on what, under which mutex it ends, and what for. */
struct vigil {
	uint32_t *bell, *news;
	struct robust *mutex;
	uint32_t *patience; /* NULL: do not spin */
	bool (*over)(const struct queue *q, const struct vigil *v);
	void (*mend)(struct queue *q); /* after a death in the mutex; or NULL */
	uint32_t got;	      /* for room: how many had been taken when there was none */
	const uint32_t *stop; /* not NULL: and until this is not 0 */
};

/* Enter an end, and repair what a dead owner left: 0; -ETIMEDOUT. */
int crew__queue_enter_put(struct queue *q, uint64_t deadline);
int crew__queue_enter_get(struct queue *q, uint64_t deadline);

/* Would a record of n bytes find room? For who is in put. */
bool crew__queue_has_room(const struct queue *q, size_t n);

/* Be counted while in keep, and in what leads there: a drop waits for all to leave. */
void crew__queue_come(struct queue *q);
void crew__queue_go(struct queue *q, crew_handle handle);

/* Until v is over: 0; -ETIMEDOUT; CREW_EHANDLE. */
int crew__queue_keep(struct queue *q, crew_handle handle, const struct vigil *v, uint64_t deadline);

/* Until there is something to get, or never will be, or *stop: 0; CREW_EHANDLE, -ETIMEDOUT. Takes no turn: any number may wait. */
int crew__queue_await_item(struct queue *q, crew_handle handle, uint64_t deadline, const uint32_t *stop);

/* Wake who sleeps for an item, though there is none: they look again and, if nothing else has changed, sleep again. */
void crew__queue_stir(struct queue *q);

/* Not 0: a get would not wait, or fail. */
int crew__queue_state(crew_queue h);

/* This process got nothing: its descriptor for the queue, if it has one, is not readable any more. */
extern uint32_t crew__queue_watches; /* how many it has */
void crew__queue_watch_empty(crew_handle handle);

#endif
