/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arguments.h: from the caller's struct of arguments, or from columns of them, to where a task finds them.
 */
#ifndef CREW_LIB_ARGUMENTS_H
#define CREW_LIB_ARGUMENTS_H

#include "core/executor_ops.h"

/* The struct is a plain copy that the record itself has room for. */
static inline bool crew__fits(const crew_task *task)
{
	return task->arguments <= sizeof ((crew_future *)0)->value.bytes && !(task->flags & CREW_TASK_DEEP);
}

static inline void crew__copy_small(uint64_t word[2], const void *arguments, const crew_task *task)
{
	const uint64_t *from = arguments;

	if (!task->parameter_count)
		return;
	word[0] = from[0];
	if (task->arguments > 8)
		word[1] = from[1];
}

/* Copy arguments to f, whole: into the record if they fit, else (or if `annexed`) into an annex, which f must not have yet. Strings and bytes are
   copied with them, bytes in a shared block of ex are not, but pinned. -ENOMEM, -E2BIG. */
int crew__store_arguments(crew_executor *ex, crew_future *f, const void *arguments, bool annexed);

/* Arguments of item i of the columns, into a zeroed struct. */
void crew__gather(const crew_task *task, const void *const *columns, size_t i, void *arguments);

/* Can task be applied to n items of these columns? 0; -EINVAL: a column or `out` is missing; CREW_ENOTASK; what is wrong with ex. */
int crew__map_check(crew_executor *ex, const crew_task *task, const void *const *columns, void *out, size_t n);

#endif
