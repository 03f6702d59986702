/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock_object.h: what a lock and an rlock are in the family's memory; for lock.c, and for conditions, which give rlocks up and take them again.
 */
#ifndef CREW_LIB_LOCK_OBJECT_H
#define CREW_LIB_LOCK_OBJECT_H

#include <crew/lock.h>

#include "ipc/object.h"
#include "ipc/lock_word.h"

struct lock {
	uint64_t stamp;
	struct lock_word lock;
};

static inline struct lock *rlock_at(crew_rlock lock)
{
	return handle_at(lock.handle, HANDLE_RLOCK);
}

static inline struct lock_place rlock_place(struct lock *l, crew_rlock lock)
{
	return (struct lock_place){ &l->lock, l, lock.handle, true };
}

#endif
