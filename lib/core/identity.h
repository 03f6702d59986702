/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * identity.h: what a task or a function is called between processes: never an address, but its module (by build-id), its offset there, and for a task
 * its name to check it by; and the file of the module, for a process that has not loaded it.
 */
#ifndef CREW_LIB_IDENTITY_H
#define CREW_LIB_IDENTITY_H

#include <crew/task.h>
#include <limits.h>

struct task_identity {
	uint64_t module; /* hash of the module's build-id, or of its path when it has none */
	uint64_t offset; /* of the descriptor from the module's base */
	uint64_t name;	 /* hash of the task's name; of a function 0 */
};

struct module_file {
	char path[PATH_MAX]; /* absolute where that could be found out; "": the program itself */
};

/* CREW_ENOTASK: the descriptor lies in no loaded module (a heap copy). ret_file may be NULL. Any thread. */
int crew__identify(const crew_task *task, struct task_identity *ret, struct module_file *ret_file);

/* CREW_EPOINTER: the function lies in no loaded module. */
int crew__identify_function(void (*function)(void), struct task_identity *ret, struct module_file *ret_file);

/* The task in this process; NULL: its module is not loaded here, or what lies there is not that task. Any thread. Reads no address that is not in a
   loaded module's read-only or data segments. */
const crew_task *crew__identified(const struct task_identity *id);
void (*crew__identified_function(const struct task_identity *id))(void);

/* Load the module if that is what is missing. NULL: it is there now; else a sentence for people, valid until the thread's next call. May run the
   constructors of the module. */
const char *crew__identity_load(const struct task_identity *id, const char *path);

/* Keep the module of a task loaded as long as the caller holds this: dlclose() it. NULL: it cannot be unloaded anyway. */
void *crew__identity_hold(const struct module_file *file);

/* Around a fork: no other thread may be looking for modules when the child's copy is made. */
void crew__identity_before_fork(void);
void crew__identity_after_fork(void);

#endif
