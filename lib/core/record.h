/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.h: struct crew_future, 32 bytes that are task and future in one, and where they live.
 *
 * One state word holds the whole truth. It moves once, by compare-and-swap or fetch-and-add:
 *
 *	FREE → PENDING ─claim→ RUNNING ─complete→ FINISHED or CANCELLED → FREE
 *
 * Whoever claims, for running it, cancelling it or keeping a promise, is the only one who may complete; whoever completes owns what follows.
 * Queues hold bare pointers to records as *hints*: a hint may be stale (its task was cancelled, run by a waiter, even recycled into another
 * task), the claim finds out. That is sound because records are type-stable: they lie in slabs that belong to one executor until
 * it is closed, so a stale hint can only ever claim a task of the same executor, which is then merely run early.
 *
 * What does not fit in 32 bytes lies in an annex, made only when needed: long arguments, callbacks, options. Its pointer takes the place
 * of the task's, marked by its lowest bit.
 */
#ifndef CREW_LIB_RECORD_H
#define CREW_LIB_RECORD_H

#include <crew/executor.h>
#include <pthread.h>

#include "base/atomic.h"
#include "base/clock.h"

enum {
	PHASE_FREE = 0,
	PHASE_PENDING = 1,
	PHASE_RUNNING = 2,
	PHASE_FINISHED = 3,
	PHASE_CANCELLED = 5,
	PHASE_MASK = 7,

	STATE_WAITER = 1 << 3,	 /* a thread sleeps on the word: who completes wakes it, by address */
	STATE_NOTIFY = 1 << 4,	 /* the annex has more to do at completion; its setter took a reference for the completer */
	STATE_DETACHED = 1 << 5, /* no reference is left: who completes recycles */
	STATE_OWNED = 1 << 6,	 /* the executor's reference has not been given back */
	STATE_FAILED = 1 << 7,	 /* with FINISHED: value.error says how */
	STATE_STOP = 1 << 8,	 /* the task has been asked to stop */
	STATE_HEAP = 1 << 9,	 /* value.bytes.data or value.block is a result block that goes with the record */
	STATE_HELD = 1 << 10,	 /* waits in a group's backlog: no hint may start it */
	STATE_BACKEND = 1 << 11	 /* the executor keeps something for it: ops->forget before it is recycled */
};

static inline uint32_t phase_of(uint32_t state)
{
	return state & PHASE_MASK;
}

static inline bool phase_done(uint32_t state)
{
	return phase_of(state) >= PHASE_FINISHED;
}

struct crew_future {
	uint32_t state; /* see above; any thread, by CAS or faa */
	uint32_t refs;	/* generation:16 | users' references:16; any thread, by faa */
	uintptr_t about; /* const crew_task *, or struct annex * | 1; set before PENDING, annexed once by CAS */
	union {		 /* arguments until the claim; the claimer's; from completion on the result, read-only */
		unsigned char bytes[16];
		uint64_t word[2];
		crew_bytes run; /* result of class BYTES; STRING: run.data */
		void *block;	/* result larger than 16 bytes */
		crew_error *error;
	} value;
} __attribute__((__aligned__(32)));

_Static_assert(sizeof(struct crew_future) == 32, "a record is half a cache line");

/* One thing to do when a future completes. The list is pushed by CAS, closed once by swap (CALLBACKS_CLOSED). */
struct callback {
	struct callback *next;
	crew_done_fn *fn;
	void *arg;
	bool embedded; /* lies in memory of its registrar's, who keeps it until it ran; else malloc'ed */
};
#define CALLBACKS_CLOSED ((struct callback *)1)

struct annex {
	const crew_task *task; /* NULL: a promise */
	struct callback *callbacks; /* any thread, by CAS */
	void *data;		    /* any thread, atomic */
	uint64_t deadline;	    /* fixed at submit; NEVER */
	uint64_t submitted_at;	    /* ns; 0 unless some option asked for it */
	crew_executor *group;	    /* the group it belongs to, or NULL */
	crew_future *group_prev, *group_next; /* guarded by the group's mutex */
	crew_future *queue_next;    /* backlogs, priority lanes: guarded by the queue's mutex */
	crew_inbox *inbox;	    /* where on_done goes; NULL: none */
	crew_done_fn *on_done;
	void *on_done_arg;
	crew_future *inbox_next; /* the inbox's */
	int type;		 /* of a promise's result */
	int priority;
	uint32_t retries, attempts; /* left; begun */
	uint32_t argument_size;	    /* bytes of arguments[] in use */
	unsigned char arguments[] __attribute__((__aligned__(16))); /* the struct of arguments, then what it points to */
};

static inline struct annex *annex_of(const crew_future *f)
{
	uintptr_t about = (uintptr_t)load_acquire_ptr((void *const *)&f->about);

	return about & 1 ? (struct annex *)(about - 1) : NULL;
}

static inline const crew_task *task_of(const crew_future *f)
{
	uintptr_t about = (uintptr_t)load_acquire_ptr((void *const *)&f->about);

	return about & 1 ? ((struct annex *)(about - 1))->task : (const crew_task *)about;
}

/* Make sure there is an annex, NULL: out of memory. Any thread that holds a reference. */
struct annex *crew__annex(crew_future *f);

/* PENDING → RUNNING; false when it is anything else. `held`: also what a group holds back. A full barrier when it succeeds. */
static inline bool crew__claim_as(crew_future *f, uint32_t held)
{
	uint32_t s = ck_pr_load_32(&f->state);

	while ((s & (PHASE_MASK | STATE_HELD)) == PHASE_PENDING || (s & (PHASE_MASK | held)) == (PHASE_PENDING | held)) {
		if (ck_pr_cas_32_value(&f->state, s, ((s & ~(uint32_t)(PHASE_MASK | STATE_HELD)) | PHASE_RUNNING), &s)) {
			ck_pr_fence_acquire();
			return true;
		}
	}
	return false;
}

static inline bool crew__claim(crew_future *f)
{
	return crew__claim_as(f, 0);
}

/*
 * The end of a claimed future; the value is in place. `add` is one of:
 */
#define COMPLETE_FINISHED (PHASE_FINISHED - PHASE_RUNNING)
#define COMPLETE_CANCELLED (PHASE_CANCELLED - PHASE_RUNNING)
/* … plus STATE_FAILED, STATE_HEAP, STATE_BACKEND as they apply (none of which is set before). */
static inline void crew__complete(crew_future *f, uint32_t add);
void crew__completed(crew_future *f, uint32_t old); /* the rest of it: wake, callbacks, recycle */

static inline void crew__complete(crew_future *f, uint32_t add)
{
	uint32_t old;

	ck_pr_fence_release();
	old = ck_pr_faa_32(&f->state, add);
	if (unlikely((old & (STATE_WAITER | STATE_NOTIFY | STATE_DETACHED)) || (add & STATE_FAILED)))
		crew__completed(f, old + add);
}

/* Complete with an error. `error` is malloc'ed or one of the static ones; the future owns it from here on. */
void crew__fail(crew_future *f, crew_error *error);
void crew__fail_code(crew_future *f, int code, const char *format, ...) CREW_PRINTF(3, 4);
/* A filled error, or the static one that says that there is no memory for it. Never NULL. */
crew_error *crew__error_make(const crew_task *task, int code, const char *format, ...) CREW_PRINTF(3, 4);
void crew__error_free(crew_error *error);

/*
 * Memory. Slabs are aligned to their size, so a record finds its slab, and the slab its executor. A process-wide map of slabs tells a
 * live address from a foreign one without touching it. Each thread that submits has a port to each executor: its cache
 * of free records and, behind it, what the backend needs per submitting thread.
 */
#define SLAB_SIZE ((size_t)1 << 18)

struct slab {
	crew_executor *owner; /* fixed; NULL once orphaned (its executor was closed under referenced futures) */
	struct slab *next;    /* in the owner's list, guarded by its mutex */
	uint32_t used;	      /* records ever handed out: written by the one port that bumps it, read by all */
	uint32_t orphans;     /* once orphaned: records still referenced; by faa */
	crew_future record[] __attribute__((__aligned__(32)));
};
#define SLAB_RECORDS ((SLAB_SIZE - sizeof(struct slab)) / sizeof(crew_future))

static inline struct slab *slab_of(const crew_future *f)
{
	return (struct slab *)((uintptr_t)f & ~(uintptr_t)(SLAB_SIZE - 1));
}

static inline crew_executor *executor_of(const crew_future *f)
{
	return slab_of(f)->owner;
}

/* Is f a live future? Never touches memory that is not ours. 0, CREW_EHANDLE, CREW_EFORKED. */
int crew__check(const crew_future *f);

struct port {
	crew_executor *ex;   /* fixed */
	struct port *next;   /* in the executor's list; append only until close */
	uint64_t submitted;  /* owner thread writes, stats read */
	uint32_t taken;	     /* a live thread owns it; guarded by the executor's mutex */
	/* owner thread only */
	uint32_t free_count;
	crew_future *free;   /* linked by value.word[0] */
	struct slab *slab;   /* being bumped */
};

/* This thread's port to ex; NULL: out of memory. */
struct port *crew__port_slow(crew_executor *ex);
extern __thread struct port *crew__last_port __attribute__((__tls_model__("initial-exec")));
extern __thread uint64_t crew__last_id __attribute__((__tls_model__("initial-exec")));

/* A record, all its fields undefined but refs' generation; NULL: out of memory. Owner thread of the port. */
crew_future *crew__record_new_slow(struct port *port);
void crew__record_spill(struct port *port);
#define PORT_FREE_MAX 256

static inline crew_future *crew__record_new(struct port *port)
{
	crew_future *f = port->free;

	if (unlikely(!f))
		return crew__record_new_slow(port);
	port->free = (crew_future *)(uintptr_t)f->value.word[0];
	port->free_count--;
	return f;
}

/* Nobody refers to f any more and it is done (or was never submitted): free what it owns, and itself. Any thread. */
void crew__recycle(crew_future *f);

#endif
