/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * context.h: what a thread knows while it runs a task: crew_raise(), crew_result_alloc() and the crew_task_…() questions look here.
 *
 * A worker keeps one context for its whole life and changes `future` for each task; a task run inside another (by a wait, inline, by a sync)
 * has one of its own, linked to the outer. `dirty` is the one word to look at after a task: 0 means that it neither raised nor allocated.
 */
#ifndef CREW_LIB_CONTEXT_H
#define CREW_LIB_CONTEXT_H

#include "core/executor_ops.h"
#include "core/record.h"

/* A run of bytes that crew_result_alloc() made. `data` is what the user sees. */
struct block {
	struct block *next; /* in its context, until it is the result of a future */
	size_t capacity;
	uint64_t magic; /* BLOCK_MAGIC */
	uint64_t reserved_;
	unsigned char data[] __attribute__((__aligned__(16)));
};
#define BLOCK_MAGIC 0x637265772d6f6b21ull

static inline struct block *block_of(void *data)
{
	return (struct block *)((unsigned char *)data - offsetof(struct block, data));
}

struct block *crew__block_new(size_t n); /* NULL: out of memory */
void crew__block_free(struct block *block);

struct context;

/* Where crew_result_alloc() looks first, when results had better lie somewhere else than in the heap. */
struct result_memory {
	int (*alloc)(struct context *c, size_t n, void **ret);	  /* *ret NULL: not there, this time; -ENOMEM: nowhere */
	bool (*resize)(struct context *c, void *data, size_t n); /* in its place; false: it cannot, or is none of its blocks */
	void (*drop)(struct context *c, void *data);		  /* not needed any more; not one of its blocks: nothing */
	void (*announce)(void *context);			  /* a large result is nearly copied: for who waits for it, see base/copy.h */
};

struct context {
	struct context *outer; /* the task this one runs inside of, on the same stack */
	const struct context *crowd; /* of a hand: who cannot end before it has, on another stack (crowd.h); NULL: nobody */
	crew_executor *ex;     /* what crew_task_executor() answers */
	crew_future *future;   /* NULL: a stolen frame, or nothing */
	int worker;
	uint32_t dirty;		/* anything below was touched */
	crew_error *raised;	/* the first raise, or NULL */
	struct block *blocks;	/* crew_result_alloc()ed and not yet given to a future */
	uint64_t deadline;	/* of this task; NEVER */
	bool (*stopping)(struct context *c); /* asked to stop, for tasks whose word is elsewhere; NULL: STATE_STOP of future */
	void *backend;		/* the implementation's own */
	const struct result_memory *memory; /* NULL: the heap */
};

extern __thread struct context *crew__context __attribute__((__tls_model__("initial-exec")));

void crew__context_init(struct context *c, crew_executor *ex, int worker);
void crew__context_fini(struct context *c); /* frees what is left in it */
void crew__blocks_free(struct context *c);

/*
 * Run a task that was claimed, in this thread, and complete its future. c is the thread's current context. This is the whole of what a
 * thread worker does for a task.
 */
void crew__run_slow(struct context *c, crew_future *f); /* annexed, large result, raw */
void crew__run_finish(struct context *c, crew_future *f, const crew_task *task);

static inline void crew__run(struct context *c, crew_future *f)
{
	uintptr_t about = (uintptr_t)load_acquire_ptr((void *const *)&f->about);
	const crew_task *task = (const crew_task *)about;

	if (unlikely((about & 1) || CREW_TYPE_SIZE(task->result) > 16 || (task->flags & CREW_TASK_RAW_BYTES))) {
		crew__run_slow(c, f);
		return;
	}
	c->future = f;
	task->run(f->value.bytes, f->value.bytes);
	if (unlikely(c->dirty || CREW_TYPE_CLASS(task->result) == CREW_STRING || CREW_TYPE_CLASS(task->result) == CREW_BYTES))
		crew__run_finish(c, f, task);
	else
		crew__complete(f, COMPLETE_FINISHED);
}

/* Run a claimed f inside whatever this thread is doing now: a fresh context, nested. */
void crew__run_nested(crew_executor *ex, crew_future *f, int worker);

/* The result of a raw task is memory of crew_result_alloc(): no copy. */
int crew__call_give(crew_call *call, crew_bytes out);

/*
 * For workers that have no future at hand (processes): run task with `arguments` (writable), value to `result` (at least 16 bytes, or as large as
 * the type). Returns NULL when it went well, else the error, which is the caller's to free. A BYTES or STRING result lies in c's blocks, in the
 * arguments, or in static storage; *ret_block tells which block, NULL if none, and leaves it in c.
 */
crew_error *crew__call(struct context *c, const crew_task *task, void *arguments, void *result, struct block **ret_block);

#endif
