/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cell.h: small blocks: cells of one size in a chunk, sizes are powers of two from a cache line on.
 */
#ifndef CREW_LIB_CELL_H
#define CREW_LIB_CELL_H

#include "ipc/family_memory.h"

#define CELL_MAX ((size_t)1 << CELL_SHIFT_MAX)

int crew__cell_alloc(struct family *m, size_t n, uint64_t *ret_offset);

/* `word` is the chunk's. */
void crew__cell_free(struct family *m, uint64_t offset, uint64_t word);
size_t crew__cell_size(const struct family *m, uint64_t offset, uint64_t word);
size_t crew__cells_used(const struct family *m, uint32_t chunk, uint64_t word);

#endif
