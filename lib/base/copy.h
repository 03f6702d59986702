/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * copy.h: memcpy() for bytes that another process will read.
 */
#ifndef CREW_LIB_COPY_H
#define CREW_LIB_COPY_H

#include <stddef.h>

/* As memcpy(); n may be 0, and both pointers anything then. */
void crew__copy(void *to, const void *from, size_t n);

/* Called once when all but the last quarter of a megabyte is copied; not at all for less, nor from 8 MiB on. */
struct herald {
	void (*announce)(void *arg);
	void *arg;
};

/* The same; who waits for large ones is told a little before they are there. NULL: nobody is. */
void crew__copy_announced(void *to, const void *from, size_t n, const struct herald *herald);

#endif
