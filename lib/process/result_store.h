/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * result_store.h: the memory that results lie in, and who has which part of it, as the parent knows it.
 *
 *	arena of rw ─┬─ grant of a worker:  small results, copied out when they are taken
 *	             └─ stock of a worker:  units of 64 KiB; a large result has some of them to itself, and they pass with it to the future,
 *	                                    to whoever takes it, and back to the worker's stock (or the arena) when it is freed
 *
 * A result that passed is a *lease*. It outlives its worker, and the executor too: the store stays until the last lease is given back.
 */
#ifndef CREW_LIB_RESULT_STORE_H
#define CREW_LIB_RESULT_STORE_H

#include "core/region.h"
#include "process/arena.h"
#include "process/ring.h"

/* Memory of one worker for large results. All but the first line is guarded by the regions' mutex. */
struct stock {
	uint32_t worker, slot;
	uint64_t offset, size; /* in the arena */
	uint64_t unit;	       /* STOCK_UNIT, or the whole: it is for one result */
	bool orphan;	       /* no worker has it any more: what is given back goes to the arena */
	uint64_t held;	       /* a bit for each unit that a lease has */
	uint64_t kept;	       /* leases that are the user's, by their first unit */
	uint64_t apart;	       /* leases whose addresses are private memory since a fork, likewise */
	uint8_t span[STOCK_UNITS]; /* units of the lease that begins there; 0: none does */
};

struct result_store {
	struct region region;
	struct mapping mapping;
	struct arena arena;
	/* guarded by the regions' mutex */
	struct orders *orders;	 /* NULL once the executor is closed */
	struct stock **by_chunk; /* who has it; NULL: nobody, or a grant. As many as the arena has chunks */
	size_t reach;		 /* of by_chunk: nothing is entered from here on */
	size_t leases, kept;	 /* all; of these the user's */
	uint32_t busy;		 /* threads that give memory back at this moment */
	bool inherited;		 /* this is a forked child's copy: all that it has is what was mapped apart */
};

/* Takes over nothing: the mapping is the store's to close from success on. -ENOMEM. */
int crew__store_open(struct result_store **ret, const struct mapping *mapping, size_t arena_at, size_t arena_size, struct orders *orders);

/* The executor is closed: every worker is gone, its stocks and grants were dropped. What is on lease stays. NULL is allowed. */
void crew__store_close(struct result_store *store);

/* A stock for a worker, of at least n bytes, as its slot's. It is told to the worker by the caller. NULL: no memory. */
struct stock *crew__stock_new(struct result_store *store, uint32_t worker, uint32_t slot, size_t n);

/* Its worker has it no more. NULL is allowed. */
void crew__stock_drop(struct result_store *store, struct stock *stock);

/* A result in the stock becomes a lease; NULL: it cannot be one, for somebody has it already or it does not lie there. When the stock was for this result
   alone, it is dropped: *stock is NULL then. */
unsigned char *crew__stock_lease(struct result_store *store, struct stock **stock, const struct extent *extent);

#endif
