/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared_block.h: memory of crew_shared_alloc(): who has it, and who still uses it.
 *
 * A block is freed when the user gave it back and no future has an argument in it. Each such future holds a pin until it is recycled.
 */
#ifndef CREW_LIB_SHARED_BLOCK_H
#define CREW_LIB_SHARED_BLOCK_H

#include "core/executor_ops.h"

/* Does this run lie in one block of ex? */
bool crew__shared_find(crew_executor *ex, crew_bytes bytes);

/* Pin every block that the BYTES arguments of f lie in; f gets an annex if there are any. -ENOMEM. */
int crew__shared_pin(crew_executor *ex, crew_future *f, const void *arguments);
void crew__shared_unpin(struct pins *pins);

/* Does this run lie in one of those blocks? */
bool crew__shared_pinned(const struct pins *pins, crew_bytes bytes);

/* At close: all that is left goes; who borrowed from it was told that it lasts as long as the executor. */
void crew__shared_fini(crew_executor *ex);

#endif
