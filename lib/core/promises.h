/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * promises.h: promises that belong to somebody, and promises that are broken with a whole error.
 */
#ifndef CREW_LIB_PROMISES_H
#define CREW_LIB_PROMISES_H

#include "core/executor_ops.h"

/* An executor that holds promises and does nothing. crew_executor_close() gives back those that the user did not; all must be done by then. NULL: out of
   memory. */
crew_executor *crew__promises_open(void);

/* As crew_future_new(), owned by that executor. Never NULL. */
crew_future *crew__promise_in(crew_executor *promises, int type);

/* As crew_future_set_error(), with all that the error says. -EALREADY. */
int crew__promise_fail(crew_future *promise, const crew_error *error);

#endif
