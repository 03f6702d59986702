/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mapping.h: anonymous memory that several processes map: a sealed memfd. It has no name, so a kill leaves nothing behind; it cannot shrink, so
 * nobody gets a SIGBUS from it.
 *
 * A program may close every descriptor it does not know, these among them, and open files of its own that get the numbers. So the memory is
 * used through a descriptor only while that is what it was when it was opened; afterwards some things cannot be had any more (-EBADF), and nothing is done
 * to files of the program's.
 */
#ifndef CREW_LIB_MAPPING_H
#define CREW_LIB_MAPPING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/descriptor.h"

struct mapping {
	int fd; /* -1: none */
	unsigned char *base;
	size_t size;
	struct fd_mark mark; /* of fd */
};
#define MAPPING_NULL ((struct mapping){ .fd = -1 })

/* A sparse file of `size`, mapped, not inherited over fork. Nothing of it may be touched before crew__mapping_populate(). -errno. */
int crew__mapping_open(struct mapping *m, const char *name, size_t size);
void crew__mapping_close(struct mapping *m); /* gives the memory back even if some other process has the fd still */

/* Have pages for this part: -ENOSPC, -ENOMEM now instead of a signal later. */
int crew__mapping_populate(const struct mapping *m, size_t offset, size_t n);
/* Give the pages of this part back. */
void crew__mapping_punch(const struct mapping *m, size_t offset, size_t n);
/* And its addresses, for good. n may be 0. */
void crew__mapping_unmap(const struct mapping *m, size_t offset, size_t n);

/* Only for reading from now on: a descriptor of that kind in place of its own. Where there is no /proc it stays what it was. -errno. */
int crew__mapping_restrict(struct mapping *m);

/* In a forked process: map it (where the parent has it, if that is free there) and close the fd. NULL on failure. */
void *crew__mapping_adopt(const struct mapping *m, bool writable);

#endif
