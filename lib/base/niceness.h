/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * niceness.h: how far this thread stands back for others. On Linux it is a thread's own, and a process's is that of its first thread.
 */
#ifndef CREW_BASE_NICENESS_H
#define CREW_BASE_NICENESS_H

#include <errno.h>
#include <stdbool.h>
#include <sys/resource.h>

/* There are 40 levels: what is added to one can be no more than leads from one end to the other. */
static inline bool niceness_is_possible(int added)
{
	return added >= -40 && added <= 40;
}

/* For the calling thread. -EACCES: less than it has takes CAP_SYS_NICE, or RLIMIT_NICE. */
static inline int niceness_add(int added)
{
	int old;

	if (added == 0)
		return 0;
	errno = 0;
	old = getpriority(PRIO_PROCESS, 0);
	return errno || setpriority(PRIO_PROCESS, 0, old + added) ? -errno : 0;
}

#endif
