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
	STATE_HEAP = 1 << 9,	 /* value.run.data or value.large is the data of a block that goes with the record */
	STATE_HELD = 1 << 10,	 /* waits in a group's backlog: no hint may start it */
	STATE_TAKEN = 1 << 12,	 /* somebody has claimed it, and its value with it */
	STATE_SHARED = 1 << 13,	 /* a promise that other processes have too: it is claimed there, see core/sharing.h */
	STATE_REVOKED = 1 << 14, /* with TAKEN: claimed so that it never runs; its end is a few steps away */
	STATE_BACKEND = 1 << 11	 /* the executor keeps something for it: ops->forget before it is recycled */
};

#define REFS_MASK 0xffffu
#define ONE_GENERATION 0x10000u

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
	uint32_t refs;	/* generation:16 | references:16; any thread, by faa. 0 references only while it is FREE */
	uintptr_t about; /* const crew_task *, or struct annex * | 1; set before PENDING, annexed once by CAS */
	union {		 /* arguments until the claim; the claimer's; from completion on the result, read-only */
		unsigned char bytes[16];
		uint64_t word[2];
		crew_bytes run; /* result of class BYTES; STRING: run.data */
		void *large;	/* result larger than 16 bytes: where it is, the data of a block */
		crew_error *error;
	} value;
} __attribute__((__aligned__(32)));

_Static_assert(sizeof(struct crew_future) == 32, "a record is half a cache line");

/*
 * One thing to do when a future completes. Registering, removing and closing the list happen under one of a few mutexes, chosen by the future's
 * address: only those who want to be told pay for it. The completer takes the whole list, runs it in order, without the mutex.
 */
struct callback {
	struct callback *next; /* guarded by the mutex until the completer took the list */
	crew_done_fn *fn;
	void *arg;
	uint32_t phase; /* CALLBACK_…; written by the completer, read by who removes it */
	bool embedded;	/* in its registrar's memory, who removes it (crew__unsubscribe) before that goes; else malloc'ed */
};
enum { CALLBACK_LISTED, CALLBACK_TAKEN, CALLBACK_DONE };

/* When it is to be ended by force, and why. */
struct kill_order {
	uint64_t at;
	char reason[sizeof((crew_error *)0)->message];
};

struct annex {
	const crew_task *task; /* NULL: a promise */
	struct callback *first, **last; /* callbacks; guarded by the future's callback mutex */
	bool closed;			/* completed: no more are listed; guarded by it too */
	uint32_t settled;		/* 1: everybody was told; the completer's last store here, woken by address */
	void *data;		    /* any thread, atomic */
	uint64_t deadline;	    /* fixed at submit; NEVER */
	uint64_t submitted_at;	    /* ns; 0 unless some option asked for it */
	crew_executor *group;	    /* the group it belongs to, or NULL */
	crew_future *group_prev, *group_next; /* guarded by the executor's mutex, as the next three */
	bool member;		    /* in the group's list */
	bool counted;		    /* among those that run, for the group's limit */
	bool left;		    /* it is done, and the group knows */
	bool queued;		    /* in the group's backlog */
	bool foreign;		    /* submitted for a task in a worker: its failure is that one's business, not the executor's */
	bool home;		    /* … and it ran there: the value is there, not here */
	crew_future *queue_next;    /* backlogs, priority lanes: guarded by the queue's mutex */
	crew_inbox *inbox;	    /* where on_done goes; NULL: none */
	crew_done_fn *on_done;
	void *on_done_arg;
	crew_future *inbox_next; /* the inbox's */
	int type;		 /* of a promise's result */
	int priority;
	uint32_t retries, attempts; /* how many it may have, 0: the executor's number; begun */
	struct binding *binding;    /* to what other processes see of it, or NULL; written once, atomic */
	struct pins *pins;	    /* the shared blocks its arguments lie in, or NULL */
	struct kill_order *kill;    /* malloc'ed; NULL. Guarded by its executor's own lock until it is done */
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

/* PENDING → RUNNING, with `mark`, as long as those bits of the state are so; false when they are not. A full barrier when it succeeds. */
static inline bool crew__claim_from(crew_future *f, uint32_t bits, uint32_t are, uint32_t mark)
{
	uint32_t s = ck_pr_load_32(&f->state);

	while ((s & bits) == are) {
		if (ck_pr_cas_32_value(&f->state, s, ((s & ~(uint32_t)(PHASE_MASK | STATE_HELD)) | PHASE_RUNNING | STATE_TAKEN | mark), &s)) {
			ck_pr_fence_acquire();
			return true;
		}
	}
	return false;
}

/* `held`: STATE_HELD for also what a group holds back, else 0. */
static inline bool crew__claim_marked(crew_future *f, uint32_t held, uint32_t mark)
{
	return crew__claim_from(f, PHASE_MASK | (STATE_HELD & ~held), PHASE_PENDING, mark);
}

/* What a group holds back, only: once it is let go its executor may have it, and has to be asked. */
static inline bool crew__claim_held(crew_future *f, uint32_t mark)
{
	return crew__claim_from(f, PHASE_MASK | STATE_HELD, PHASE_PENDING | STATE_HELD, mark);
}

static inline bool crew__claim_as(crew_future *f, uint32_t held)
{
	return crew__claim_marked(f, held, 0);
}

/* As crew__claim_marked(), also of what was only marked as running where its task really is. */
static inline bool crew__take_marked(crew_future *f, uint32_t mark)
{
	uint32_t s = ck_pr_load_32(&f->state);

	while (!(s & STATE_TAKEN) && (phase_of(s) == PHASE_PENDING || phase_of(s) == PHASE_RUNNING)) {
		if (ck_pr_cas_32_value(&f->state, s, (s & ~(uint32_t)PHASE_MASK) | PHASE_RUNNING | STATE_TAKEN | mark, &s)) {
			ck_pr_fence_acquire();
			return true;
		}
	}
	return false;
}

static inline bool crew__take(crew_future *f)
{
	return crew__take_marked(f, 0);
}

static inline void crew__mark_running(crew_future *f)
{
	uint32_t s = ck_pr_load_32(&f->state);

	while (phase_of(s) == PHASE_PENDING && !ck_pr_cas_32_value(&f->state, s, (s & ~(uint32_t)PHASE_MASK) | PHASE_RUNNING, &s))
		;
}

/* Let hints start what a group held back; false: it was claimed meanwhile. */
static inline bool crew__unhold(crew_future *f)
{
	uint32_t s = ck_pr_load_32(&f->state);

	while ((s & (PHASE_MASK | STATE_HELD)) == (PHASE_PENDING | STATE_HELD))
		if (ck_pr_cas_32_value(&f->state, s, s & ~(uint32_t)STATE_HELD, &s))
			return true;
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
/* The same where STATE_NOTIFY is set, for threads that must not run callbacks of the user's. False: there are some; crew__completed() is still due. */
bool crew__completed_briefly(crew_future *f, uint32_t state);

static inline void crew__complete(crew_future *f, uint32_t add)
{
	uint32_t old;

	ck_pr_fence_release();
	old = ck_pr_faa_32(&f->state, add);
	if (unlikely((old & (STATE_WAITER | STATE_NOTIFY | STATE_DETACHED)) || (add & STATE_FAILED)))
		crew__completed(f, old + add);
}

/*
 * Have cb->fn(f, arg) called at completion; now, in this thread, when f is done. -ENOMEM: not registered. unsubscribe returns when cb is
 * neither listed nor running any more.
 */
int crew__subscribe(crew_future *f, struct callback *cb);
void crew__unsubscribe(crew_future *f, struct callback *cb);

/* Set STATE_NOTIFY, if f is not done yet: true when it is set. A completer that sees it deals with the annex, holding a reference of its own. */
bool crew__notify(crew_future *f);

/* Around a fork: no other thread may be inside when the child's copy is made. */
void crew__callbacks_before_fork(void);
void crew__callbacks_after_fork(void);

/* Is this thread in a callback of one of ex's futures? */
bool crew__in_callback(crew_executor *ex);

/* Complete with an error. `error` is malloc'ed or one of the static ones; the future owns it from here on. */
void crew__fail(crew_future *f, crew_error *error);
void crew__fail_code(crew_future *f, int code, const char *format, ...) CREW_PRINTF(3, 4);
/* A filled error, or the static one that says that there is no memory for it. Never NULL. */
crew_error *crew__error_make(const crew_task *task, int code, const char *format, ...) CREW_PRINTF(3, 4);
void crew__error_free(crew_error *error);
crew_error *crew__error_no_memory(void);
void crew__error_where(crew_error *error, const char *where); /* the file without its folders */

/* Complete as CANCELLED; reason may be NULL. */
void crew__cancelled(crew_future *f, const char *reason);

/*
 * Memory. Slabs are aligned to their size, so a record finds its slab, and the slab its executor. A process-wide map of slabs tells a
 * live address from a foreign one without touching it. Each thread that submits has a port to each executor: its cache
 * of free records and, behind it, what the backend needs per submitting thread.
 */
#define SLAB_SIZE ((size_t)1 << 18)

struct slab {
	crew_executor *owner; /* fixed; NULL once orphaned (its executor was closed under referenced futures) */
	uint32_t generation;  /* fixed: crew__fork_generation when it was made */
	struct slab *next;    /* in the owner's list, guarded by its mutex */
	uint32_t used;	      /* records ever handed out: written by the one port that bumps it, read by all */
	uint32_t orphans;     /* once orphaned: records still referenced; by faa */
	crew_future record[] __attribute__((__aligned__(32)));
};
#define SLAB_RECORDS ((SLAB_SIZE - sizeof(struct slab)) / sizeof(crew_future))
_Static_assert(sizeof(struct slab) == sizeof(crew_future), "crew__check() takes what is no head for a record");

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

/* What a submit gives when it cannot make a record: failed from the start, in no slab, never freed. */
enum { FIXED_NO_MEMORY, FIXED_HANDLE, FIXED_FORKED, FIXED_COUNT };
extern crew_future crew__fixed[FIXED_COUNT];

static inline bool is_fixed(const crew_future *f)
{
	return f >= crew__fixed && f < crew__fixed + FIXED_COUNT;
}

/* Drop one reference. The last one recycles a future that is done, else passes to its completer: STATE_DETACHED. */
void crew__release(crew_future *f);
void crew__retain(crew_future *f);

/* Pass the last reference to the completer, or recycle. */
void crew__detach(crew_future *f);

/* A reference for somebody who has none, found by a walk over all records: only an annexed record can be pinned, and only it needs to be (nothing
   else of a record is ever freed). False: it is gone, or has no annex. */
bool crew__pin(crew_future *f);

/* At close, when every future is done: give back the executor's own references, free the slabs that nobody refers to, orphan the rest. */
void crew__records_fini(crew_executor *ex);

struct port {
	crew_executor *ex;   /* fixed */
	struct port *next;   /* in the executor's list; append only until close */
	uint64_t submitted;  /* owner thread writes, stats read */
	uint32_t taken;	     /* a live thread owns it; guarded by the executor's mutex */
	/* owner thread only */
	uint32_t free_count; /* in `free`, at most CHAIN_RECORDS */
	crew_future *free;   /* linked by value.word[1]: walks over all records may be reading word[0], see process/settle.c */
	crew_future *spare;  /* a second chain, full, or NULL */
	struct slab *slab;   /* being bumped */
};

/* This thread's port to ex; NULL: out of memory. */
struct port *crew__port_slow(crew_executor *ex);
extern __thread struct port *crew__last_port __attribute__((__tls_model__("initial-exec")));
extern __thread uint64_t crew__last_id __attribute__((__tls_model__("initial-exec")));

/* A FREE record, all its fields undefined but refs' generation; NULL: out of memory. Owner thread of the port. */
crew_future *crew__record_new_slow(struct port *port);
#define CHAIN_RECORDS 128

static inline crew_future *crew__record_new(struct port *port)
{
	crew_future *f = port->free;

	if (unlikely(!f))
		return crew__record_new_slow(port);
	port->free = (crew_future *)(uintptr_t)f->value.word[1];
	port->free_count--;
	prefetch_to_write(port->free); /* the next one that is taken */
	return f;
}

/* Give a new record its first state, which publishes it. */
static inline void crew__record_init(crew_future *f, const crew_task *task, uint32_t state)
{
	store_release_ptr((void **)&f->about, (void *)(uintptr_t)task); /* atomic, as is the next: a walk over all records may look at both */
	ck_pr_store_32(&f->refs, (ck_pr_load_32(&f->refs) & ~REFS_MASK) | 1);
	store_release_32(&f->state, state);
}

/* Nobody refers to f any more and it is done (or was never submitted): free what it owns, and itself. Any thread. */
void crew__recycle(crew_future *f);
void crew__recycle_orphan(crew_future *f); /* whose executor is closed, and that owns nothing */
void crew__spill(struct port *port);	   /* the free list is a full chain: where other threads find it */

#endif
