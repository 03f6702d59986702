/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ring.h: the memory that the parent and its workers share, and what each may do to it.
 *
 *	pub  (workers: read-only)   tail · engine's flags · orders for each worker · task identities · cells · replies to errands · arguments
 *	rw   (workers: read-write)  head · idle bits · a report of each worker · claims · answers · errands · results
 *	blocks (read-write)         crew_shared_alloc()
 *
 * A task is a *ticket*: a number that only grows. Its slot is the ticket modulo the size of the ring, so the queue is two counters: the parent
 * writes tail, workers move head by compare-and-swap, several tickets at a time. A ticket whose cell does not carry its number is a hole and is
 * skipped: cancelled, moved, or never there because the slot was still taken.
 *
 * One word for each slot says who has it, and everything that can go wrong is decided by a compare-and-swap on it:
 *
 *	claim word = ticket:32 | worker + 1:16 | flags:8 | status:8          futex on the lower half
 *
 *	(an older ticket) or QUEUED ─worker→ RUNNING ─worker→ FINISHED
 *	              │                       └──────parent→ DOOMED (its worker must not run another task: it is killed, or ends when it sees this)
 *	              └──────parent→ CANCELLED, MOVED (offered again under a new ticket)
 *
 * A word of an older ticket means QUEUED: submitting writes no memory that workers write. The answer is published in the answer's own ticket,
 * before FINISHED; whoever sees it there may take it. Should its worker die in between, the answer counts.
 *
 * The geometry is in no shared memory: each side has its own copy from before the fork, so nobody can scribble a mask.
 */
#ifndef CREW_LIB_RING_H
#define CREW_LIB_RING_H

#include <stddef.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/spinning.h"
#include "core/identity.h"

enum {
	WORD_QUEUED = 1,
	WORD_RUNNING,
	WORD_FINISHED,
	WORD_CANCELLED,
	WORD_MOVED,
	WORD_DOOMED,

	WORD_WAIT = 0x100, /* a thread of the parent sleeps on this word */
	WORD_NOTE = 0x200, /* the engine must hear of the end */
	WORD_STOP = 0x400, /* the task is asked to stop */
	WORD_FLAGS = 0xff00
};

static inline uint64_t word_make(uint64_t ticket, uint32_t worker, uint32_t rest)
{
	return (uint64_t)(uint32_t)ticket << 32 | (uint64_t)worker << 16 | rest;
}

static inline bool word_is_of(uint64_t word, uint64_t ticket)
{
	return (uint32_t)(word >> 32) == (uint32_t)ticket;
}

static inline uint32_t word_status(uint64_t word)
{
	return word & 0xff;
}

static inline uint32_t word_worker(uint64_t word) /* its index + 1; 0: none */
{
	return (word >> 16) & 0xffff;
}

/* Nobody has begun this ticket, and nothing else has happened to it. */
static inline bool word_is_open(uint64_t word, uint64_t ticket)
{
	return !word_is_of(word, ticket) || word_status(word) == WORD_QUEUED;
}

enum {
	JOB_PAYLOAD = 96,
	JOB_NOTE = 1,	 /* as WORD_NOTE, known when the cell was filled */
	JOB_EXTENT = 2, /* the payload is a struct extent: the arguments are there */
	WIDE_SIZE = 48,
	TASKS_MAX = 8192,
	LOG_SIZE = 256, /* a power of two */
	BATCH_MAX = 16,
	WORKERS_MAX = 1024,
	IDLE_WORDS = WORKERS_MAX / 64
};

/* What a worker must know to run a task. */
struct job {
	uint32_t task; /* index of its identity */
	uint32_t size; /* of the packed arguments */
	uint32_t flags;
	uint64_t deadline; /* monotonic ns; NEVER */
	unsigned char payload[JOB_PAYLOAD];
};

/* It in its slot, written by the parent. `ticket` is stored last. */
struct cell {
	uint32_t ticket;
	struct job job;
} __attribute__((__aligned__(128)));

struct extent {
	uint64_t offset, size; /* in the arena of pub, or of rw; or in the shared blocks */
};

/*
 * Memory for results, which the parent grants to one worker at a time, on request: a grant for small ones, and up to two stocks for large ones.
 * Those up to RESULT_COPIED are copied out by the parent, larger ones stay where they are. A request for a stock gives up what its slot had.
 */
enum {
	RESULT_COPIED = 32 << 10,
	STOCKS = 2,
	STOCK_UNITS = 64,
	WANT_GRANT = STOCKS, /* or the slot of a stock; of 0 bytes: only give it up */
};
#define STOCK_UNIT ((uint64_t)1 << 16)
#define STOCK_KEPT (STOCK_UNITS * STOCK_UNIT) /* a larger stock is for one result */
/* What a number of a task means; written before the first cell that names it. */
struct numbered_task {
	struct task_identity id;
	struct extent path; /* of its module, in the arena of pub, with its 0; size 0: the program's own */
};

/* How a task ended, written by its worker. `ticket` is stored last. */
struct answer {
	uint32_t ticket;
	uint32_t about; /* kind:8 | size:24 of a value that is INLINE or WIDE */
	uint64_t value; /* INLINE: itself; CODE: the code */
};
enum {
	ANSWER_INLINE = 1, /* up to 8 bytes */
	ANSWER_WIDE,	   /* up to WIDE_SIZE bytes in the slot's wide part */
	ANSWER_LARGE,	   /* the wide part is a struct extent in the worker's grant: to be copied */
	ANSWER_BLOCK,	   /* … in one of its stocks: it passes to the future */
	ANSWER_SHARED,	   /* … in the shared blocks: it stays there */
	ANSWER_NULL,	   /* a string or bytes without memory */
	ANSWER_ERROR,	   /* as LARGE; the bytes are a crew_error */
	ANSWER_CODE,	   /* it never ran, or had nowhere to put its result */
	ANSWER_HOME	   /* an errand that its own worker ran: the result is there already */
};

/* A stock, as its worker is told. size 0: there is none. */
struct stock_order {
	uint64_t offset, size; /* in rw's arena */
	uint64_t returned;     /* a bit for each unit, flipped when the unit is the worker's again */
};

/* What the parent tells one worker. Read-only there. */
struct orders {
	uint32_t go;	   /* the incarnation that may take tickets; futex */
	uint32_t granted;  /* number of the last request for memory that was answered; futex */
	uint64_t offset, size; /* what was granted, in rw's arena; size 0: there is none */
	uint32_t released; /* answers in a grant that were copied out, ever */
	struct stock_order stock[STOCKS];
	uint32_t replied;  /* bumped after each change of a reply to its errands; futex */
	uint32_t room_granted; /* number of the last request for room for arguments that was answered; futex */
} CREW__ALIGNED;

/* What one worker tells, and where it sleeps. */
struct report {
	uint32_t bell CREW__ALIGNED; /* bumped by whoever wakes it; futex */
	/* the worker's alone */
	uint64_t journal CREW__ALIGNED; /* first ticket << 16 | count: stored before they are taken from head */
	uint64_t want;			/* bytes of the request */
	uint32_t wanted;		/* what: WANT below */
	uint32_t asked;			/* its number */
	uint32_t phase;			/* incarnation << 8 | PHASE below */
	int32_t code;			/* of an initializer that failed */
	uint64_t room_want;		/* bytes of room for the arguments of an errand */
	uint32_t room_cell, room_asked; /* of this cell; number of that request */
	uint32_t waits;			/* threads that sleep on orders.replied, by faa */
	uint32_t await_number;		/* bumped before and after each wait for `awaits` */
	uint64_t awaits;		/* the ticket that its innermost task waits for without a deadline; 0: none. Read by peers, see circle.c */
	uint32_t logged CREW__ALIGNED;	/* tickets ever written to log */
	uint32_t log[LOG_SIZE];		/* the last tickets it finished: hints, overwritten when nobody reads them */
};
enum { WORKER_STARTING, WORKER_READY, WORKER_REFUSED, WORKER_RETIRED };

struct pub {
	/* written by submitters, under the parent's lock */
	uint64_t tail CREW__ALIGNED;
	/* written by the engine, or under the parent's lock; read by workers after each task */
	uint32_t stop CREW__ALIGNED; /* no ticket will come any more */
	uint32_t hungry;	     /* ring the engine after a task that leaves fewer tickets than this in the ring; 0: do not */
	uint32_t engine_parked;
	/* written by threads of the parent that wait */
	uint32_t sleepers CREW__ALIGNED; /* how many sleep */
	uint32_t sleeps;		 /* how often any went to sleep */
};

struct rw {
	uint64_t head CREW__ALIGNED;
	/* one bit for each worker; set by itself, `parked` also cleared by whoever wakes it */
	uint64_t parked[IDLE_WORDS] CREW__ALIGNED;
	uint64_t searching[IDLE_WORDS];
	uint64_t asking[IDLE_WORDS]; /* its request for memory is not answered yet */
	uint64_t offering[IDLE_WORDS]; /* it may have errands that nobody has taken */
	uint64_t blocked[IDLE_WORDS];  /* it sleeps in a task, which waits for another */
	uint32_t average CREW__ALIGNED; /* ns that a task takes, as somebody last measured it */
	uint32_t waker; /* WAKER_…, of whoever woke a worker last; written before the bell, read by who is woken, a hint */
};

#define WAKER_TALKS (1u << 31)	     /* it is in a conversation, see base/spinning.h */
#define WAKER_CPU(waker_) ((int)((waker_) & ~WAKER_TALKS)) /* where it is */

/* Fixed before the first fork; each process has its own copy. */
struct geometry {
	uint32_t slots; /* a power of two */
	uint32_t workers; /* places for them, spares included */
	uint32_t active;  /* that work at a time */
	uint32_t cpus;
	size_t pub_size, rw_size, blocks_size; /* of the whole mappings */
	size_t pub_used, rw_used;	       /* up to where the arenas begin */
};

/* Where things are in this process. */
struct ring {
	struct geometry geometry;
	uint64_t mask;
	struct pub *pub;
	struct rw *rw;
	struct orders *orders;
	struct numbered_task *tasks;
	struct cell *cells;
	struct report *reports;
	uint64_t *claims;
	struct answer *answers;
	unsigned char (*wide)[WIDE_SIZE];
	uint32_t *errand_words; /* ERRANDS for each worker, as the next two: errand.h */
	struct errand_request *errand_requests;
	struct errand_reply *errand_replies;
	unsigned char *in, *out, *blocks;
	size_t in_size, out_size;
};

/* Sizes for so many workers; arenas get what the limits of the process leave. */
void crew__ring_measure(struct geometry *geometry, uint32_t active, uint32_t spares, uint32_t cpus);

/* Find everything in three mappings. */
void crew__ring_attach(struct ring *ring, const struct geometry *geometry, void *pub, void *rw, void *blocks);

/* Wake one parked worker, if there is one. Any process: should it die half-way, the parent finds out (bury, sweep). */
bool crew__ring_wake_one(struct ring *ring);

/* After publishing up to `tail`: is it worth waking somebody? It has been stored under the parent's lock, which was given back since.
   True: nobody was awake, and now somebody will be. */
bool crew__ring_published(struct ring *ring, uint64_t tail);

/* How many workers are neither parked nor blocked. */
uint32_t crew__ring_awake(const struct ring *ring);

bool crew__ring_any(const uint64_t *bits, const struct ring *ring);
void crew__ring_bell(struct ring *ring, uint32_t worker);

enum {
	COLD_NS = 300000, /* who is woken after so long is cold: likely to be queued on its waker's CPU, and not to be needed again soon */
	TINY_NS = 5000,	 /* tasks that take less are not worth a wake of their own */
	WORTH_NS = 20000 /* of work in the ring: worth waking one more */
};

static inline uint64_t *ring_claim(const struct ring *ring, uint64_t ticket)
{
	return &ring->claims[ticket & ring->mask];
}

static inline struct cell *ring_cell(const struct ring *ring, uint64_t ticket)
{
	return &ring->cells[ticket & ring->mask];
}

static inline struct answer *ring_answer(const struct ring *ring, uint64_t ticket)
{
	return &ring->answers[ticket & ring->mask];
}

/* Is the answer there? Pairs with the release in finish (process_worker.c). */
static inline bool ring_answered(const struct ring *ring, uint64_t ticket)
{
	return load_acquire_32(&ring_answer(ring, ticket)->ticket) == (uint32_t)ticket;
}

/* The futex half of a claim word. */
static inline uint32_t *word_futex(uint64_t *word)
{
	return (uint32_t *)word + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

#endif
