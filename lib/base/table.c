/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * table.c: pages straight from the kernel, which clears each when it is touched for the first time, and gives them back at once.
 *
 * Under AddressSanitizer a table is a heap block: its ends are guarded then, and what is reachable only through it is not taken for a leak.
 */
#include "base/table.h"

#include <stdlib.h>
#include <sys/mman.h>

#if defined __has_feature
#if __has_feature(address_sanitizer)
#define GUARDED 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define GUARDED 1
#endif

#ifdef GUARDED

void *crew__table_new(size_t count, size_t size)
{
	return calloc(count, size);
}

void crew__table_free(void *table, size_t count, size_t size)
{
	(void)count, (void)size;
	free(table);
}

#else

void *crew__table_new(size_t count, size_t size)
{
	void *table = mmap(NULL, count * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return table == MAP_FAILED ? NULL : table;
}

void crew__table_free(void *table, size_t count, size_t size)
{
	if (table)
		munmap(table, count * size);
}

#endif
