/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * copy.h: memcpy() for bytes that another process will read.
 */
#ifndef CREW_LIB_COPY_H
#define CREW_LIB_COPY_H

#include <stddef.h>

/* As memcpy(); n may be 0, and both pointers anything then. */
void crew__copy(void *to, const void *from, size_t n);

#endif
