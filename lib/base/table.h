/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * table.h: memory for tables of which most is never used: all zero, and only the pages that are written to exist.
 *
 * calloc() is not that. It clears what it has recycled, so a table of two megabytes costs them again and again as soon as the heap has grown that far, and in a
 * forked process each page so touched is its own.
 */
#ifndef CREW_LIB_TABLE_H
#define CREW_LIB_TABLE_H

#include <stddef.h>

/* NULL: out of memory. */
void *crew__table_new(size_t count, size_t size);

/* Of the same count and size. NULL is fine. */
void crew__table_free(void *table, size_t count, size_t size);

#endif
