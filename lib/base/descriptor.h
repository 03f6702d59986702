/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * descriptor.h: descriptors of ours in a program that may close them all, or have closed its own: where they are, and whether they still are what they were.
 */
#ifndef CREW_LIB_DESCRIPTOR_H
#define CREW_LIB_DESCRIPTOR_H

#include <stdbool.h>
#include <sys/types.h>

/* What a descriptor refers to. Not for what has no inode of its own: eventfds, timers, epolls, on older kernels pidfds. */
struct fd_mark {
	dev_t dev;
	ino_t ino;
};

/* The same descriptor, close-on-exec, but not 0, 1 or 2, which are the program's even when it closed them. -errno, of a call that gave no fd as well; fd is
   consumed. */
int crew__fd_keep(int fd);

/* Remember what it is. -errno. */
int crew__fd_mark(int fd, struct fd_mark *ret);
/* Is it that still? */
bool crew__fd_is(int fd, const struct fd_mark *mark);
void crew__fd_close(int fd, const struct fd_mark *mark); /* if it is */

#endif
