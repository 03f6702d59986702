/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handle.h: what locks, queues, values and promises are to their users: small structs, passed by value, that name an object in memory which all
 * processes of the program share.
 *
 *	crew_lock lock = crew_lock_make();
 *	crew_submit(ex, deposit, lock, 100);	a task's argument, on threads and processes alike
 *	…
 *	crew_drop(lock);
 *
 * A handle is numbers, not memory: copies of it are the same object, in every thread and process, also in one that was forked by the
 * program itself, and may be put into structs, queues and shared memory. The family, the processes that share, are: the first of them that made a handle
 * or opened an executor of processes, and all that came from it since. Elsewhere a handle is CREW_EHANDLE.
 *
 * make gives an object, drop gives it back; either in any process. make never fails on the spot: the handle then carries its error, which every
 * call with it answers. A handle that was dropped, was never made (all zero) or is of another kind is CREW_EHANDLE. Whoever sleeps in
 * a call when its object is dropped wakes up with CREW_EHANDLE; apart from that nobody may be inside a call then, as with a pthread mutex.
 *
 * Objects do not belong to the process that made them: they last until they are dropped or the last process of the family has ended.
 */
#pragma GCC system_header
#ifndef CREW_HANDLE_H
#define CREW_HANDLE_H

#include <crew/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What every handle is inside, as its member `handle`. */
typedef struct crew_handle {
	uint64_t place, stamp;
} crew_handle;

/* 0: it is an object; else why not: what make failed with, or CREW_EHANDLE. Never blocks. */
#define crew_handle_error(h_) crew_handle_check((h_).handle)
CREW_API int crew_handle_check(crew_handle handle);

#ifdef __cplusplus
}
#endif
#endif
