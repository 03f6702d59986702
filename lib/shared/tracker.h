/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tracker.h: a process that outlives this one for a moment, and takes the names away that it has left in /dev/shm.
 */
#ifndef CREW_LIB_TRACKER_H
#define CREW_LIB_TRACKER_H

#include <sys/stat.h>
#include <sys/types.h>

enum { BLOCK_NAME_MOST = 250 };

/* From now on the name goes with this process, if it is (still) the file of this inode then. May be told before the name is there, so that there is no moment at
   which a kill would leave it. 0; -EAGAIN: no tracker. Any thread. */
int crew__tracker_add(const char *name, const struct stat *file);
void crew__tracker_forget(const char *name);

/* For tests. 0: there is none. */
pid_t crew__tracker_pid(void);

#endif
