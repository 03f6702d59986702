/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * future.h: the outcome of a task that was submitted, or of a promise that somebody keeps by hand.
 *
 * A future moves once: PENDING → RUNNING → FINISHED, or PENDING → CANCELLED. It is completed exactly once,
 * whatever dies. Nothing here returns or accepts a NULL future as a value: a submit that failed gives a future
 * that has already failed, so a program checks in one place.
 *
 * Who owns it. A future belongs to the executor that made it, until that executor is closed (the end of its
 * CREW_SCOPE) or until you give it back: crew_take(), crew_future_free(). crew_future_ref() keeps one longer.
 * Futures of crew_submit_to() and crew_post() give themselves back.
 *
 * Threads. Any thread may use any future; giving it back while another thread still uses it is an error of the
 * program, for which crew_future_ref() is there. A pointer that is no live future answers CREW_EHANDLE.
 *
 * The vocabulary is that of Python's concurrent.futures; docs/python.md has the two side by side.
 */
#pragma GCC system_header
#ifndef CREW_FUTURE_H
#define CREW_FUTURE_H

#include <crew/base.h>
#include <crew/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crew_future crew_future;
typedef struct crew_inbox crew_inbox;

/* Called when f is done. It may use f, not give it back unless it is its own; it may submit and register; it
   must not block for long and must not close f's executor (-EDEADLK). A crew_raise() in it is dropped. */
typedef void crew_done_fn(crew_future *f, void *arg);

/*
 * The result.
 *
 * Wait until f is done, then copy the result to *y: 0. When the task failed: CREW_ERAISED; when it was cancelled:
 * -ECANCELED; when *y is not of the result's type: CREW_ETYPE (class and size count: int64_t reads a long long, an
 * int does not read a double; signedness is not looked at; structs are compared by size). -ETIMEDOUT: still going on,
 * nothing happened to it. -EDEADLK: a wait for oneself, or one that closes a circle of waiting workers. *y is untouched on any failure. May be called again.
 *
 * A crew_bytes or const char * result is borrowed: it points into the future and goes with it. (A child of fork() has neither.)
 */
#define crew_result(f_, y_) crew_result_within(f_, y_, CREW_FOREVER)
#define crew_result_within(f_, y_, ms_) \
	crew_future_result((f_), (y_), CREW__SIZE_AT(y_), CREW__TYPE_AT(y_), (ms_))

/* crew_result(), after which f is given back, whatever the answer (but -ETIMEDOUT and -EDEADLK cannot come: it waits; a
   future that can never be waited for here is detached). Bytes and strings become yours: crew_bytes_free(), and
   free() for a string. *err, unless NULL, receives the task's error. */
#define crew_take(f_, y_, err_) crew_future_take((f_), (y_), CREW__SIZE_AT(y_), CREW__TYPE_AT(y_), (err_))

CREW_API int crew_future_result(crew_future *f, void *y, size_t size, int type, int ms) CREW_MUST_CHECK;
CREW_API int crew_future_take(crew_future *f, void *y, size_t size, int type, crew_error *err);

/* crew_result() without the value: for tasks that return void, and to know only how it went. */
CREW_API int crew_future_wait(crew_future *f, int ms);

/* How the task failed; waits for it. Never NULL: code 0 says that it did not fail. Lives as long as f. */
CREW_API const crew_error *crew_future_error(crew_future *f);

/* What f is doing now. None of them blocks. done: finished or cancelled. running: a worker has started it. */
CREW_API bool crew_future_done(crew_future *f);
CREW_API bool crew_future_running(crew_future *f);
CREW_API bool crew_future_cancelled(crew_future *f);

/* Cancel. 1: it had not started and never will (also when it was cancelled before); its error's message is the reason (which may be NULL, and is copied).
   0: it runs; crew_task_cancelled() now says true in it, no more is done: see crew_future_kill(). -EALREADY: it is done. */
CREW_API int crew_future_cancel(crew_future *f, const char *reason);
CREW_API int crew_cancel(crew_future *const *fs, size_t n); /* all of them; how many never start */

/* Cancel, and when f runs and has not ended grace_ms from now, end it by force where that can be done: its worker process is killed and replaced, f fails
   with -ECANCELED and the reason. Threads are only ever asked. Does not wait. Killed several times, the earliest end counts; CREW_FOREVER only asks.
   1, 0, -EALREADY as crew_future_cancel(); -ENOMEM: it was only asked; -EINVAL. */
CREW_API int crew_future_kill(crew_future *f, const char *reason, int grace_ms);

/* Have fn(f, arg) called once f is done, in the thread that completes it, or at once in this one if it is done.
   Callbacks run in the order of registration, after the threads that wait for f were woken; one that comes when f is
   done does not wait for those before it. The same fn may be registered twice and runs twice. -ENOMEM: not registered. For an event loop use crew_submit_to(). */
CREW_API int crew_future_on_done(crew_future *f, crew_done_fn *fn, void *arg);

/* One pointer of your own that travels with f: Python's dictionary {future: url}. NULL until set. -ENOMEM. */
CREW_API int crew_future_set_data(crew_future *f, void *data);
CREW_API void *crew_future_data(crew_future *f);

/* The name of the task f came from ("" for a promise); static storage of the task. */
CREW_API const char *crew_future_task(crew_future *f);

/* Give f back in any state; what has started or is queued goes on, detached. f is invalid afterwards. NULL and a
   future given back already are ignored. Returns NULL. */
CREW_API crew_future *crew_future_free(crew_future *f);

/* Keep f beyond its executor's close and crew_future_free(), until as many unrefs. ref returns f; unref NULL. */
CREW_API crew_future *crew_future_ref(crew_future *f);
CREW_API crew_future *crew_future_unref(crew_future *f);

/*
 * Waiting for several. Entries may repeat and may belong to different executors; NULL entries are skipped. Inside a
 * worker, awaited tasks that have not started are run here, so that a pool of one cannot deadlock.
 */
enum crew_when {
	CREW_ALL_COMPLETED,
	CREW_FIRST_COMPLETED,
	CREW_FIRST_EXCEPTION /* a task failed (a cancelled one did not), or all are done */
};

/* The number of entries that are done when it returns; a timeout is no error. CREW_EHANDLE, CREW_EFORKED, -EINVAL. */
CREW_API int crew_wait(crew_future *const *fs, size_t n, enum crew_when when, int ms);

/* The index of an entry that is done (the lowest, if several are). -ETIMEDOUT; -ENOENT when all are NULL. */
CREW_API int crew_wait_any(crew_future *const *fs, size_t n, int ms);

/*
 * CREW_AS_COMPLETED (f, fs, n) { … }: each future of fs once (a repeated one once), those that are done first, then
 * in the order of completion; O(1) for each. break, continue, return and goto leave it properly. The _WITHIN form stops
 * after ms in total and then *left says how many were not done. fs must stay until the loop ends.
 */
#define CREW_AS_COMPLETED(f_, fs_, n_) CREW_AS_COMPLETED_WITHIN (f_, fs_, n_, CREW_FOREVER, (size_t *)0)
#define CREW_AS_COMPLETED_WITHIN(f_, fs_, n_, ms_, left_)                                               \
	for (crew_completions *CREW__OWN(f_, stream) __attribute__((__cleanup__(crew__completions_fini))) = \
		     crew_completions_open((fs_), (n_), (ms_), (left_)),                                \
		     *CREW__OWN(f_, once) = CREW__OWN(f_, stream);                                      \
	     CREW__OWN(f_, once) != 0; CREW__OWN(f_, once) = 0)                                         \
		for (crew_future *f_; (f_ = crew_completions_next(CREW__OWN(f_, stream))) != 0;)
#define CREW__OWN(f_, what_) crew_##f_##_##what_

typedef struct crew_completions crew_completions;
CREW_API crew_completions *crew_completions_open(crew_future *const *fs, size_t n, int ms, size_t *left);
CREW_API crew_future *crew_completions_next(crew_completions *); /* NULL: the end, or out of time */
CREW_API crew_completions *crew_completions_close(crew_completions *);

static inline void crew__completions_fini(crew_completions **c)
{
	*c = crew_completions_close(*c);
}

/*
 * Promises: a future that is completed by hand. `type` as CREW_TYPE_OF(double); 0 for no value. It is PENDING
 * until a set; -EALREADY when it was completed before (the first stays), CREW_ETYPE, -ENOMEM. Bytes and strings
 * are copied. Never NULL. It belongs to nobody's scope: give it back with crew_future_free(). A promise whose last
 * reference is given back before it was kept fails with CREW_EBROKEN.
 */
CREW_API crew_future *crew_future_new(int type);
CREW_API int crew_future_set_result(crew_future *f, const void *value, int type);
CREW_API int crew_future_set_error(crew_future *f, int code, const char *format, ...) CREW_PRINTF(3, 4);
CREW_API int crew_future_set_running(crew_future *f); /* 0; -ECANCELED: cancelled meanwhile; -EALREADY */

/*
 * Futures that travel. crew_future_share(f) gives a handle, a value: it may be an argument or a result, lie in a struct, go through a queue, to any
 * process of the program's family: workers and children of every start method, and back. There crew_promise_future(p) gives a future that stands
 * for f: it is waited for, watched, cancelled and asked as f is, and if f is a promise it may be kept: the first set wins, wherever it is made, and f is
 * done everywhere. If f is a task's, setting is CREW_EHANDLE; a cancel is passed on to the process that submitted it, which may take a moment, and answers
 * 0 when no answer comes within a second; a kill is a cancel there; that it runs is known a moment later; crew_future_task() is "".
 *
 * It belongs to the caller: crew_future_free(). A handle that could not be made gives a future that has failed already with the reason. Neither call blocks.
 *
 * Results travel by copy; one that holds pointers is CREW_EPOINTER elsewhere. When f is cancelled or fails, its error travels whole.
 *
 * Keep f until its handles were opened: the handle of a future that was given back everywhere is CREW_EHANDLE. A handle may be opened more than once, but
 * share once for each receiver: a handle on its way counts as somebody who may keep the promise, until it is opened.
 *
 * A promise is broken (CREW_EBROKEN) when nobody is left who could keep it: no handle is on its way, and no process has more references to
 * it than threads that wait for it. So who means to keep it while another thread of his process waits has a reference of his own (crew_future_ref()). A
 * loop of CREW_AS_COMPLETED counts as waiting; a callback does not: a process that only wants to be told gives f back when it has registered. Processes
 * that die are noticed, at the latest half a second later; so is one that dies while it sets the promise. What a task was to bring fails with CREW_EBROKEN
 * when the process that submitted it has died. When all workers of an executor wait for shared futures that are queued there, a wait of one is -EDEADLK.
 */
typedef struct crew_promise {
	uint64_t id_, type_;
} crew_promise;
CREW_API crew_promise crew_future_share(crew_future *f);
CREW_API crew_future *crew_promise_future(crew_promise p);

#ifdef __cplusplus
}
#endif
#endif
