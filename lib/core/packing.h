/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * packing.h: arguments as one run of bytes: the struct, then the strings and bytes it points to, each pointer replaced by its offset from the start of
 * the run + 1 (0: NULL). Bytes that lie in a shared block of the executor stay where they are: their pointer becomes
 * PACKED_SHARED | offset in the shared mapping (only when the caller gives one).
 */
#ifndef CREW_LIB_PACKING_H
#define CREW_LIB_PACKING_H

#include <crew/task.h>

#define PACKED_SHARED ((uint64_t)1 << 63)

/* A mapping that both sides see, at different addresses. */
struct shared_range {
	const unsigned char *base;
	size_t size;
};

/* In a process worker: its executor's shared blocks, as mapped here. Empty elsewhere. Set once, before the first task. */
extern struct shared_range crew__shared_here;

/* Size of the run for these arguments; a multiple of 8, at least task->arguments. -E2BIG when it does not fit in 63 bits. */
int crew__packed_size(const crew_task *task, const void *arguments, const struct shared_range *shared, size_t *ret);

/* What a task is called with: where it has no parameters, NULL is a struct that has nothing in it. NULL: they are missing. */
const void *crew__arguments(const crew_task *task, const void *arguments);

/* Write the run; buf has that size and is aligned to 8. */
void crew__pack(const crew_task *task, const void *arguments, const struct shared_range *shared, void *buf);

/* The same; somebody who sleeps until he gets the run is told of long bytes a little before: see copy.h. */
struct herald;
void crew__pack_announced(const crew_task *task, const void *arguments, const struct shared_range *shared, void *buf, const struct herald *herald);

/* Turn the struct at `arguments` (a private copy of the run's first task->arguments bytes) into one with pointers into the run at [buf, buf+size).
   -EINVAL when an offset or a length leads out of the run or the range: it came from somebody who may be mad. */
int crew__unpack(const crew_task *task, void *arguments, const void *buf, size_t size, const struct shared_range *shared);

#endif
