/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * object.h: objects in the family's memory, and finding them from a handle that may be anything.
 *
 * A handle is a place and a stamp. The object there begins with the same stamp, for as long as it lives; no stamp is used twice in a family, and those
 * of two families begin far apart. So one comparison tells a live object from one that was dropped, from another that lies there now, and from a handle of
 * another program. The low byte is the kind. A handle whose make failed has place 0 and -errno for a stamp.
 *
 * Objects lie in cells: blocks of at most CELL_MAX bytes, whose memory is there also after they were freed. What is larger goes in a block of its own.
 */
#ifndef CREW_LIB_OBJECT_H
#define CREW_LIB_OBJECT_H

#include <crew/handle.h>

#include "ipc/family_memory.h"

enum handle_kind {
	HANDLE_LOCK = 1,
	HANDLE_RLOCK,
	HANDLE_SEMAPHORE,
	HANDLE_CONDITION,
	HANDLE_EVENT,
	HANDLE_BARRIER,
	HANDLE_RWLOCK,
	HANDLE_VALUE,
	HANDLE_ARRAY,
	HANDLE_BLOCK,
	HANDLE_LIST,
	HANDLE_QUEUE,
	HANDLE_PIPE,
	HANDLE_PROMISE
};

/* A new object of `size` zeroed bytes, the first 8 of which are its stamp. *ret is NULL when the handle is a failed one. */
crew_handle crew__handle_make(enum handle_kind kind, size_t size, void **ret);
crew_handle crew__handle_failed(int code);

/* Take the stamp away: from now on nobody finds it. The object, once: whoever gets it takes it apart, and crew__family_free()s handle.place. NULL: no
   such object. */
void *crew__handle_end(crew_handle handle, enum handle_kind kind);

/* Why handle is no object. Never 0. */
int crew__handle_reason(crew_handle handle);

static inline enum handle_kind handle_kind(crew_handle handle)
{
	return (enum handle_kind)(handle.stamp & 0xff);
}

/* Is it (still) what the handle says? For who slept meanwhile. Pairs with the barrier of the exchange in crew__handle_end(). */
static inline bool handle_alive(const void *object, crew_handle handle)
{
	return ck_pr_load_64((const uint64_t *)object) == handle.stamp;
}

/* The object, or NULL: then crew__handle_reason() says why. A dozen instructions. */
static inline void *handle_at(crew_handle handle, enum handle_kind kind)
{
	struct family *m = family_here();
	void *object;

	if (unlikely(!m || handle_kind(handle) != kind || handle.place >= m->size || handle.place % CREW__CACHELINE))
		return NULL;
	object = m->base + handle.place;
	return likely(handle_alive(object, handle)) ? object : NULL;
}

#endif
