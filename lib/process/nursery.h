/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nursery.h: the thread that executes programs. A program's death signal comes when the thread that made it ends, so it is made by one that does not end
 * as long as any of them is there.
 */
#ifndef CREW_LIB_NURSERY_H
#define CREW_LIB_NURSERY_H

#include "process/kin.h"

struct launch {
	const struct birth *birth;
	char *const *argv, *const *environment; /* NULL: ours */
	const char *directory;			/* NULL: ours */
	bool inherit_fds;
	int stdio[3]; /* -1: as ours */
};

/* Run it: the pid, and its descriptor, or -errno of whatever went wrong up to and including the exec. One that is not detached is to be given back.
   Any thread. */
pid_t crew__nursery_launch(const struct launch *launch, int *ret_pidfd);
void crew__nursery_release(void);

void crew__nursery_forked(void); /* in the child of a fork */

#endif
