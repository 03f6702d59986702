/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chunk.h: several items of one task as one raw task: how maps and streams travel to where memory is not shared.
 *
 *	request: header {task's identity, count} · path of its module · for each item: its size, its packed arguments (packing.h)
 *	answer:  header {count, nanoseconds} · for each item: {code, size} and its value, or its error
 */
#ifndef CREW_LIB_CHUNK_H
#define CREW_LIB_CHUNK_H

#include "core/executor_ops.h"
#include "core/identity.h"

extern const crew_task crew__chunk_task;

/* A request being written. */
struct chunk {
	const crew_task *task;
	struct shared_range shared; /* bytes in it are not copied; their owner must keep them */
	unsigned char *data; /* malloc'ed, grows */
	size_t size, capacity;
	uint32_t count;
};

int crew__chunk_begin(struct chunk *chunk, crew_executor *ex, const crew_task *task); /* CREW_ENOTASK, -ENOMEM */
int crew__chunk_add(struct chunk *chunk, const void *arguments);   /* -ENOMEM, -E2BIG: not added */
crew_future *crew__chunk_submit(struct chunk *chunk, crew_executor *ex); /* and empties it */
void crew__chunk_fini(struct chunk *chunk);

/* An answer being read; it lies in its future. */
struct chunk_answer {
	const crew_task *task;
	const unsigned char *at;
	size_t left;
	uint32_t count;
	uint64_t nanoseconds;
};

int crew__chunk_open(struct chunk_answer *answer, const crew_task *task, crew_bytes data); /* CREW_EPROTO */

/* The next item: 0 and its value to *value, which is the caller's (bytes and strings too); or the code of its error, *error filled. */
int crew__chunk_next(struct chunk_answer *answer, void *value, crew_error *error);

/* Copy a value of the result type of `task` from where the task left it to where the user keeps it: bytes and strings become the
   user's. -ENOMEM. */
int crew__value_out(const crew_task *task, const void *from, void *to);

/* The error of a call that failed as a whole, for items that have none of their own. */
void crew__error_fill(crew_error *error, const crew_task *task, int code);

#endif
