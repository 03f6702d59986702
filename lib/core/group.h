/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * group.h: an executor over an executor. Its futures are records of the executor below, with an annex that names the group; that is all the
 * rest of core needs to know about it.
 */
#ifndef CREW_LIB_GROUP_H
#define CREW_LIB_GROUP_H

#include "core/executor_ops.h"

extern const struct executor_ops crew__group_ops;

static inline bool is_group(const crew_executor *ex)
{
	return ex->ops == &crew__group_ops;
}

/* The executor at the bottom, whose workers do the work. */
crew_executor *crew__group_base(crew_executor *group);

/* A new future of the group joins it, before it is submitted below. 1: submit it now; 0: it is held back, or was run or cancelled here;
   -EAGAIN: the group is full and says no; it has not joined. */
int crew__group_enter(crew_executor *group, crew_future *f);

/* Does it cancel all its futures when one fails? */
bool crew__group_cancels(crew_executor *group);

/* From the completer: first, before anybody else is told; last, after everybody was. */
void crew__group_failed(crew_executor *group, crew_future *f, uint32_t state);
void crew__group_done(crew_executor *group, crew_future *f);

/* A member is recycled before its group is closed. */
void crew__group_forget(crew_executor *base, crew_future *f);

/* Until all its futures are done; in a worker of the executor below it works along. -ETIMEDOUT, -EDEADLK. */
int crew__group_wait(crew_executor *group, uint64_t deadline);
int crew__group_each(crew_executor *group, int (*fn)(crew_future *f, void *arg), void *arg);

#endif
