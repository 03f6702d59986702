/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region.h: ranges of addresses whose blocks do not come from malloc: results that stayed where a worker process wrote them.
 *
 * A result's memory is known by its address alone, as with free(): it may be given back by any thread, with the record it belongs to or by the user
 * who took it, and after its executor was closed. So there is one list of such ranges for the whole process. One mutex guards it and
 * all that the ranges keep of their blocks; it is taken for blocks that may lie in a range, never for those of the heap below or above them all.
 */
#ifndef CREW_LIB_REGION_H
#define CREW_LIB_REGION_H

#include <stdbool.h>
#include <stddef.h>

/* What is left to be done for a block that was given back, without the mutex. */
struct leftover {
	size_t offset, size; /* 0: nothing */
};

struct region {
	struct region *next;
	unsigned char *base;
	size_t size;
	/* All with the mutex held. find: is there a block at data? Then `keep` and `give_back` may follow. */
	bool (*find)(struct region *r, const unsigned char *data);
	void (*keep)(struct region *r, const unsigned char *data); /* it is the user's now */
	void (*give_back)(struct region *r, const unsigned char *data, struct leftover *ret);
	void (*before_fork)(struct region *r); /* what is the user's must be in the child too */
	void (*in_child)(struct region *r);    /* all else is not */
	/* Without it. The region may be gone afterwards. */
	void (*finish)(struct region *r, const struct leftover *leftover);
};

void crew__regions_lock(void);
void crew__regions_unlock(void);
void crew__region_add(struct region *r);    /* takes the mutex */
void crew__region_remove(struct region *r); /* the mutex is held */

/* The memory of a value (STATE_HEAP), or bytes that somebody took: wherever it came from, give it back. NULL is allowed. */
void crew__memory_free(void *data);

/* Is it a region's? Then it cannot be moved by realloc(). */
bool crew__memory_is_lent(void *data);

/* It passes from a future to the user. */
void crew__memory_keep(void *data);

/* Around a fork. */
void crew__regions_before_fork(void);
void crew__regions_after_fork(bool child);

#endif
