/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * identity.h: what a task is called between processes: never an address, but its module (by build-id), its offset there, and its name to
 * check it by.
 */
#ifndef CREW_LIB_IDENTITY_H
#define CREW_LIB_IDENTITY_H

#include <crew/task.h>

struct task_identity {
	uint64_t module; /* hash of the module's build-id, or of its path when it has none */
	uint64_t offset; /* of the descriptor from the module's base */
	uint64_t name;	 /* hash of the task's name */
};

/* CREW_ENOTASK: the descriptor lies in no loaded module (a heap copy). Any thread. */
int crew__identify(const crew_task *task, struct task_identity *ret);

/* The task in this process; NULL: its module is not loaded here, or what lies there is not that task. Any thread. Reads no address that is not in a
   loaded module's read-only or data segments. */
const crew_task *crew__identified(const struct task_identity *id);

#endif
