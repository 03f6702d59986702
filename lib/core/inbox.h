/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox.h: finished futures on their way to an event loop.
 */
#ifndef CREW_LIB_INBOX_H
#define CREW_LIB_INBOX_H

#include "core/executor_ops.h"

/* Count f in before it is submitted; a failed submit is delivered too. Any thread. */
void crew__inbox_expect(crew_inbox *inbox);

/* f is done: deliver it. The inbox takes over the executor's reference. Any thread, also the engine's: does not block. */
void crew__inbox_put(crew_inbox *inbox, crew_future *f);

/* The executor's own, made now if it is not there yet; NULL with errno. */
crew_inbox *crew__inbox_of(crew_executor *ex);

/* At close: deliver what has come, free. */
void crew__inbox_fini(crew_inbox *inbox);

#endif
