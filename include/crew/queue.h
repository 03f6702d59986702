/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue.h: a queue between threads and processes, any number on either side.
 *
 *	crew_queue q = crew_queue_make(.item = sizeof(long), .capacity = 8);
 *	…
 *	long x = 12;
 *	crew_put(q, &x);		in one thread or process
 *	…
 *	while (crew_get(q, &x) == 0)	in others, until crew_queue_finish(q)
 *		…
 *
 * Items are bytes of one size, or, with .item 0, messages of any size. They lie in memory that all processes of the program share; the
 * handle is a value (handle.h): an argument of a task, an item of another queue, whatever. Python's Queue, JoinableQueue and SimpleQueue are this one: the
 * first has a .capacity, the second uses crew_queue_task_done(), the third has no bound.
 *
 * A put is complete when it returns: nothing is buffered in the process that made it, which may end, or be killed, at once. Order: what is put
 * first comes out first, over all producers; "first" is the one whose put was finished first.
 *
 * Deaths. Who is killed inside a put has put the whole item or nothing; inside a get, the item is still there, or gone with him. Nobody else is held
 * up: their calls go on. What they cannot know is that a consumer died after he got an item, before he did something with it: then task_done() is
 * never called, and a join with no time limit waits for ever. Work that must not be lost belongs to an executor. A process that is *stopped* (SIGSTOP, a debugger)
 * inside a call, which lasts some hundred instructions, holds up the others until it goes on, or their time is up.
 *
 * Every call: any thread of any process of the family, after a fork too; CREW_EHANDLE: not a live queue, or dropped meanwhile; what make failed
 * with, for a failed handle. `ms`: CREW_FOREVER, or 0: never waits for room or items, then -EAGAIN instead of -ETIMEDOUT.
 */
#pragma GCC system_header
#ifndef CREW_QUEUE_H
#define CREW_QUEUE_H

#include <crew/handle.h>
#include <crew/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct crew_queue_options {
	int reserved_;	 /* 0; the macro names it first, so that what follows may be positional */
	size_t item;	 /* bytes of each item; 0: messages of any size, for crew_queue_put_bytes() and _get_bytes() */
	size_t capacity; /* items that may wait; 0: any number */
	size_t bytes;	 /* bytes that may wait, but one message always may; 0: as many as there is memory for */
};

/* Never fails on the spot: crew_handle_error(q) tells. -EINVAL, -ENOMEM, -ENOSPC. */
#define crew_queue_make(...) crew_queue_open(&(struct crew_queue_options){ .reserved_ = 0, __VA_ARGS__ }, sizeof(struct crew_queue_options))
CREW_API crew_queue crew_queue_open(const struct crew_queue_options *options, size_t size);

/* Give it back, with what is in it: once, by anybody. Who sleeps in a call on it wakes up with CREW_EHANDLE; other calls must not be going on then. To end in order,
   crew_queue_finish() first and let the consumers leave. A queue that is not dropped lasts as long as the program's last process. */
CREW_API void crew_queue_drop(crew_queue q);

/*
 * Put and get an item. data points to n bytes, which must be the queue's .item: CREW_ETYPE. 0; -EAGAIN or -ETIMEDOUT: no room, nothing there;
 * CREW_ECLOSED: the queue was finished, and for a get: it is empty; put: -ENOMEM, -ENOSPC; -EINVAL: data is NULL. On failure nothing was put,
 * nothing taken, *data is as it was.
 */
CREW_API CREW_MUST_CHECK int crew_queue_put(crew_queue q, const void *data, size_t n, int ms);
CREW_API CREW_MUST_CHECK int crew_queue_get(crew_queue q, void *data, size_t n, int ms);

/* The same for messages, and for items as bytes. One that is longer than memory can be is -ENOMEM. *ret becomes yours: crew_bytes_free().
   A get without memory for the copy is -ENOMEM and takes nothing. */
CREW_API CREW_MUST_CHECK int crew_queue_put_bytes(crew_queue q, crew_bytes bytes, int ms);
CREW_API CREW_MUST_CHECK int crew_queue_get_bytes(crew_queue q, crew_bytes *ret, int ms);

/* No more puts: those that wait for room, and later ones, are CREW_ECLOSED; gets empty the queue, then are CREW_ECLOSED: the end of every consumer's loop. Again is
   allowed, and does nothing. */
CREW_API int crew_queue_finish(crew_queue q);

/* Every item that was put is one to be done. -EINVAL: more were done than were put. */
CREW_API int crew_queue_task_done(crew_queue q);

/* Until as many were done as were put. 0; -EAGAIN, -ETIMEDOUT. */
CREW_API int crew_queue_join(crew_queue q, int ms);

/* Items in it now, and whether a put would find no room: exact, at some instant of the call. Negative: the error. */
CREW_API ssize_t crew_queue_len(crew_queue q);
CREW_API int crew_queue_full(crew_queue q);

/*
 * A descriptor for event loops: readable when there is something to get, or the queue was finished. It stays readable until a get *of this process* finds
 * the queue empty (-EAGAIN): so when it is readable, get with ms 0 until that. Other consumers may be faster. The descriptor is the library's,
 * close-on-exec, the same at each call in this process, which has a thread of the library's for it; a forked child asks for its own.
 * It is closed by unfd, or when this process drops the queue. Negative: -EMFILE, -ENOMEM, -EAGAIN (no thread).
 */
CREW_API int crew_queue_fd(crew_queue q);
CREW_API void crew_queue_unfd(crew_queue q);

#ifndef __cplusplus
/* Of a pointer: what it points to. Of an array: all of it, so that crew_put(q, "hello") is six bytes, and not one. */
#define crew_put(q_, p_) crew_queue_put((q_), (p_), CREW__SIZE_BEHIND(p_), CREW_FOREVER)
#define crew_get(q_, p_) crew_queue_get((q_), (p_), CREW__SIZE_BEHIND(p_), CREW_FOREVER)
#define crew_put_within(q_, p_, ms_) crew_queue_put((q_), (p_), CREW__SIZE_BEHIND(p_), (ms_))
#define crew_get_within(q_, p_, ms_) crew_queue_get((q_), (p_), CREW__SIZE_BEHIND(p_), (ms_))
#define CREW__SIZE_BEHIND(p_) \
	__builtin_choose_expr(__builtin_types_compatible_p(__typeof__(p_), __typeof__(&(p_)[0])), sizeof *(p_), sizeof(p_))
#endif

#ifdef __cplusplus
}
#endif
#endif
