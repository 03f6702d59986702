/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pidfd.h: descriptors that stand for processes: readable at their end, and what is sent to them reaches nobody else.
 */
#ifndef CREW_LIB_PIDFD_H
#define CREW_LIB_PIDFD_H

#include <stdbool.h>
#include <sys/types.h>

/* Close-on-exec, and not 0, 1 or 2. -errno. */
int crew__pidfd_of(pid_t pid);

/* Does this number stand for that process still, be it dead or alive? The program may have closed it and opened something else. */
bool crew__pidfd_is(int fd, pid_t pid);

/* Of a child that was forked just now and that nobody has waited for, so it is this very process. When none can be had the child is killed and reaped:
   it must not live unwatched. -errno. */
int crew__pidfd_of_child(pid_t pid);

/* One whose pidfd was lost, but that is about to end: if it is a child of ours still and has this name, wait for it, kill it when it does not end, and reap
   it. If not, its number may be somebody else's by now. */
void crew__pidfd_reap_lost(pid_t pid, const char *name);

#endif
