/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handle.h: what locks and shared values are to their users: small structs, passed by value, that name an object in memory which all processes of
 * the program share.
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

/* lock.h */
typedef struct crew_lock { crew_handle handle; } crew_lock;
typedef struct crew_rlock { crew_handle handle; } crew_rlock;
typedef struct crew_semaphore { crew_handle handle; } crew_semaphore;
typedef struct crew_condition { crew_handle handle; } crew_condition;
typedef struct crew_event { crew_handle handle; } crew_event;
typedef struct crew_barrier { crew_handle handle; } crew_barrier;
typedef struct crew_rwlock { crew_handle handle; } crew_rwlock;
typedef struct crew_reader { crew_handle handle; } crew_reader; /* a crew_rwlock, for reading */

/* shared.h */
typedef struct crew_value { crew_handle handle; } crew_value;
typedef struct crew_array { crew_handle handle; } crew_array;
typedef struct crew_block { crew_handle handle; } crew_block;
typedef struct crew_shareable_list { crew_handle handle; } crew_shareable_list;

/* queue.h */
typedef struct crew_queue { crew_handle handle; } crew_queue;

/* 0: it is an object; else why not: what make failed with, or CREW_EHANDLE. Never blocks. */
#define crew_handle_error(h_) crew_handle_check((h_).handle)
CREW_API int crew_handle_check(crew_handle handle);

/* Give the object back. 0; CREW_EHANDLE: there is none (any more), or what make failed with: dropping such a one is fine. */
#ifndef __cplusplus
#define crew_drop(h_)                                                                                                          \
	_Generic((h_), crew_lock: crew_lock_drop, crew_rlock: crew_rlock_drop, crew_semaphore: crew_semaphore_drop,            \
		 crew_condition: crew_condition_drop, crew_event: crew_event_drop, crew_barrier: crew_barrier_drop,            \
		 crew_rwlock: crew_rwlock_drop, crew_value: crew_value_drop, crew_array: crew_array_drop, \
		 crew_block: crew_block_drop, crew_shareable_list: crew_shareable_list_drop,                                   \
		 crew_queue: crew_queue_drop)(h_)
#endif
CREW_API int crew_lock_drop(crew_lock lock);
CREW_API int crew_rlock_drop(crew_rlock lock);
CREW_API int crew_semaphore_drop(crew_semaphore semaphore);
CREW_API int crew_condition_drop(crew_condition condition);
CREW_API int crew_event_drop(crew_event event);
CREW_API int crew_barrier_drop(crew_barrier barrier);
CREW_API int crew_rwlock_drop(crew_rwlock lock);
CREW_API int crew_value_drop(crew_value value);
CREW_API int crew_array_drop(crew_array array);
CREW_API int crew_block_drop(crew_block block);
CREW_API int crew_shareable_list_drop(crew_shareable_list list);
CREW_API void crew_queue_drop(crew_queue queue); /* see queue.h for when */

#ifdef __cplusplus
}
#endif
#endif
