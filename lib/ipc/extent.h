/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * extent.h: runs of whole chunks: large blocks, and what cells are cut from.
 */
#ifndef CREW_LIB_EXTENT_H
#define CREW_LIB_EXTENT_H

#include "ipc/family_memory.h"

/* Take n chunks in a row, all TAKEN now, with no pages yet. Their first; 0: there are none. */
uint32_t crew__extent_claim(struct family *m, uint32_t n);
void crew__extent_release(struct family *m, uint32_t first, uint32_t n);

int crew__extent_alloc(struct family *m, size_t n, uint64_t *ret_offset);
void crew__extent_free(struct family *m, uint64_t offset, uint64_t word);

#endif
