/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arena.h: extents of a mapping: who has which part. All of its knowledge is private to the parent; nothing of it lies in the mapping.
 */
#ifndef CREW_LIB_ARENA_H
#define CREW_LIB_ARENA_H

#include <pthread.h>
#include <stdint.h>

#include "process/mapping.h"

#define ARENA_CHUNK ((size_t)1 << 16)

struct run;
struct span;

struct arena {
	const struct mapping *mapping; /* fixed after init, as the next two */
	size_t base, size;	       /* the part of the mapping it may hand out */
	struct span **spans;	       /* by chunk; NULL: not in a span. The table is fixed, its entries are guarded by mutex */
	/* guarded by mutex */
	pthread_mutex_t mutex;
	struct run *runs; /* free, by place */
	size_t run_count, run_capacity;
	uint64_t *populated; /* one bit for each chunk: it has pages */
	size_t idle, most;   /* chunks with pages that nobody has; that there may be of them */
	uint64_t turns;	     /* runs ever taken */
	bool keeping;	     /* there was one since it was trimmed */
	struct span *partial[8]; /* per class: spans with room */
	struct span *full;	 /* the others, of all classes */
};

int crew__arena_init(struct arena *a, const struct mapping *mapping, size_t base, size_t size); /* -ENOMEM */
void crew__arena_fini(struct arena *a);

/* An extent of at least n bytes with pages behind it, aligned to a cache line: its offset from `base`. -ENOMEM, -ENOSPC. Any thread. */
int crew__arena_alloc(struct arena *a, size_t n, uint64_t *ret_offset);

/* n as at alloc. */
void crew__arena_free(struct arena *a, uint64_t offset, size_t n);

/* The same for n that is a multiple of ARENA_CHUNK, whose parts may be given back one by one, in chunks. */
int crew__arena_alloc_run(struct arena *a, size_t n, uint64_t *ret_offset);
void crew__arena_free_run(struct arena *a, uint64_t offset, size_t n);

/* How often anything was taken. When that stands still for long, whoever watches may trim: pages that are kept for next time go back, and until the next time
   none are kept. */
uint64_t crew__arena_turns(struct arena *a);
void crew__arena_trim(struct arena *a);

#endif
