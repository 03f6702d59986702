/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * registry.h: the one piece of static state in the library: which executors of this process are open, for the three moments when the process
 * itself changes: fork, the end of a thread, the end of the program.
 */
#ifndef CREW_LIB_REGISTRY_H
#define CREW_LIB_REGISTRY_H

#include "core/executor_ops.h"

/* Have the hooks in place, which see to it that a forked child knows that it is one. Any thread; idempotent. -ENOMEM. */
int crew__registry_install(void);

int crew__registry_add(crew_executor *ex); /* -ENOMEM: hooks could not be installed */
void crew__registry_remove(crew_executor *ex);

/* The calling thread took `port`; at its end the port is handed back, if its executor is still open then. -ENOMEM. */
int crew__thread_keep(crew_executor *ex, struct port *port);
struct port *crew__thread_port(crew_executor *ex); /* NULL: it has none */

/* The raise of a thread that runs no task; NULL: none. Taken by swapping. */
crew_error *crew__thread_swap_error(crew_error *error);

#endif
