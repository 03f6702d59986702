/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool.h: Python's multiprocessing.Pool and ThreadPool, word for word, over an executor.
 *
 *	CREW_POOL_SCOPE (pool, crew_pool(4)) {
 *		crew_future *f = crew_pool_apply_async(pool, power, 2.0, 8);
 *		crew_pool_map(pool, square, x, y, n);
 *	}
 *
 * crew_pool becomes crew_threadpool and nothing else changes. New programs have less to learn with CREW_SCOPE and crew_processes(): this is for those
 * who think in Python's words, and it has what they know the executor by another name for.
 *
 * Leaving the scope terminates, as Python's `with Pool` does: what has not started never does, what runs is killed (on threads: asked to stop, and waited
 * for). CREW_SCOPE waits instead. To have the work finished: crew_pool_finish(), crew_pool_join().
 *
 * Where Python's pool hangs this one fails. A worker that dies fails the task it ran (CREW_EWORKER) and is replaced; so does one whose task calls exit().
 * A callback that raises harms nobody. What is unfinished when the pool goes is cancelled (-ECANCELED). An initializer that fails breaks the pool
 * (CREW_EBROKEN); it is not tried for ever.
 *
 * Futures belong to the pool, as those of an executor do: until it is closed, or until they are given back. Any thread may use a pool; close is called
 * once. After fork(): CREW_EFORKED.
 */
#pragma GCC system_header
#ifndef CREW_POOL_H
#define CREW_POOL_H

#include <crew/executor.h>
#include <crew/processes.h>
#include <crew/threads.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crew_pool crew_pool;

struct crew_pool_options {
	int reserved_;
	int processes; /* workers; 0: crew_cpu_count() */
	crew_initializer_fn *initializer;
	void *arg;     /* of the initializer */
	size_t arg_size; /* as in processes.h; a pool of threads ignores it */
	int maxtasksperchild; /* a chunk of a map counts as one task */
	enum crew_start context; /* start method of processes; a pool of threads ignores it */
	const char *name;
	int grace_ms;  /* from SIGTERM to SIGKILL when it is terminated; 0: 1000 */
};

/* Never NULL: a pool that could not be opened fails what it is given; crew_pool_error() says why. */
#define crew_pool(...) crew_pool_open(&(struct crew_pool_options){ .reserved_ = 0, __VA_ARGS__ }, sizeof(struct crew_pool_options))
#define crew_threadpool(...) \
	crew_pool_open_threads(&(struct crew_pool_options){ .reserved_ = 0, __VA_ARGS__ }, sizeof(struct crew_pool_options))
CREW_API crew_pool *crew_pool_open(const struct crew_pool_options *options, size_t size);
CREW_API crew_pool *crew_pool_open_threads(const struct crew_pool_options *options, size_t size);

/* A pool over any executor, whose workers it borrows: it terminates its own tasks only. To be closed before ex is. */
CREW_API crew_pool *crew_pool_over(crew_executor *ex);

/* CREW_POOL_SCOPE (pool, opener) { … }: opens, runs the block, terminates and closes on every way out of it, as CREW_SCOPE says. */
#define CREW_POOL_SCOPE(pool_, opener_) CREW__POOL_SCOPE(pool_, opener_, CREW__PASTE(crew_pool_end_, __COUNTER__))
#define CREW__POOL_SCOPE(pool_, opener_, end_)                                                                \
	for (crew_pool *pool_ __attribute__((__cleanup__(crew__pool_fini), __unused__)) = (opener_);; __extension__({ goto end_; })) \
		if (0) {                                                                                      \
		end_:                                                                                         \
			break;                                                                                \
		} else

/* The executor behind it, for all that has no word here. */
CREW_API crew_executor *crew_pool_executor(crew_pool *pool);

/* 0, or why the pool could not be opened or what broke it. ret may be NULL. */
CREW_API int crew_pool_error(crew_pool *pool, crew_error *ret);

/* ---- one ---- */

/* crew_pool_apply(pool, &y, T, A…): run T(A…) and wait: crew_run(). crew_pool_apply_async(pool, T, A…): a future, Python's AsyncResult: crew_submit(). */
#define crew_pool_apply(pool_, y_, ...) crew_run(crew_pool_executor(pool_), y_, __VA_ARGS__)
#define crew_pool_apply_async(pool_, ...) crew_submit(crew_pool_executor(pool_), __VA_ARGS__)

/*
 * crew_pool_apply_async_with(pool, (.callback = store, .error_callback = complain, .arg = &table), T, A…)
 *
 * When it is done callback(f, arg) is called if it went well, error_callback(f, arg) if it failed or was cancelled; f is done and can be asked, and goes when the
 * callback returns. It runs in a thread of the library's (threads: in the worker; done already: in the caller), and before the future that was returned is
 * done: who has that future's result knows that the callback has run. So it must not wait for it. Callbacks of several futures may run at the same
 * time. It must not block for long nor close the pool. A crew_raise() in it is dropped.
 *
 * Cancelling the returned future gives up on the result only; the task goes on.
 */
struct crew_pool_call {
	int reserved_;
	crew_done_fn *callback, *error_callback;
	void *arg;
	size_t chunksize; /* of maps; 0: the items shared out in four chunks for each worker, as Python does */
};
#define crew_pool_apply_async_with(pool_, options_, ...)                                                          \
	crew_pool_submit((pool_), CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__),                            \
			 &(struct crew_pool_call){ .reserved_ = 0, CREW__UNWRAP options_ }, sizeof(struct crew_pool_call))
CREW_API crew_future *crew_pool_submit(crew_pool *pool, const crew_task *task, const void *arguments, const struct crew_pool_call *options,
				       size_t size);

/* ---- many ---- */

/* crew_pool_map(pool, T, in…, out, n): crew_map(). One column for each parameter, so starmap is the same word. Chunks are measured; crew_pool_map_with(pool,
   (.chunk = 8), T, in…, out, n) fixes them. All items are worked off before it returns the first failing item's code. */
#define crew_pool_map(pool_, T_, ...) crew_map(crew_pool_executor(pool_), T_, __VA_ARGS__)
#define crew_pool_map_with(pool_, options_, T_, ...) crew_map_with(crew_pool_executor(pool_), options_, T_, __VA_ARGS__)
#define crew_pool_starmap(pool_, T_, ...) crew_pool_map(pool_, T_, __VA_ARGS__)

/*
 * crew_pool_map_async(pool, T, in…, out, n): the same without waiting. The future has no value; it is done when every item is, and has failed
 * with the error of the first failing item, by index, whose out is untouched. `in` is copied at once, `out` must stay.
 * crew_pool_map_async_with(pool, (.callback = …), T, in…, out, n): one callback for the whole.
 */
#define crew_pool_map_async(pool_, T_, ...) T_##_crew_map_async((pool_), (const struct crew_pool_call *)0, 0, __VA_ARGS__)
#define crew_pool_map_async_with(pool_, options_, T_, ...)                                            \
	T_##_crew_map_async((pool_), &(struct crew_pool_call){ .reserved_ = 0, CREW__UNWRAP options_ }, \
			    sizeof(struct crew_pool_call), __VA_ARGS__)
#define crew_pool_starmap_async(pool_, T_, ...) crew_pool_map_async(pool_, T_, __VA_ARGS__)

/* crew_pool_imap(pool, T, feed, state, .chunk = 16): crew_imap(); _unordered: as they complete. Pulled by crew_next(s, &y), crew_next_within(s, &y, ms). Unlike
   Python's it reads no further ahead than .window. */
#define crew_pool_imap(pool_, T_, ...) crew_imap(crew_pool_executor(pool_), T_, __VA_ARGS__)
#define crew_pool_imap_unordered(pool_, T_, feed_, ...) \
	CREW__PASTE(CREW__IMAP_ANY_, CREW__MANY(__VA_ARGS__))(crew_pool_executor(pool_), T_, feed_, __VA_ARGS__)
#define CREW__IMAP_ANY_1(ex_, T_, feed_, state_) CREW__IMAP_M(ex_, T_, feed_, state_, .unordered = true)
#define CREW__IMAP_ANY_M(ex_, T_, feed_, state_, ...) CREW__IMAP_M(ex_, T_, feed_, state_, .unordered = true, __VA_ARGS__)

/* ---- the end ---- */

/* Python's close(): no more work (CREW_ESHUTDOWN), what there is is done. Does not wait. */
CREW_API int crew_pool_finish(crew_pool *pool);

/* Stop: what has not started is cancelled, what runs is killed. Idempotent. -EDEADLK from a task or callback of the pool. */
CREW_API int crew_pool_terminate(crew_pool *pool);

/* Wait until all is done, callbacks included: 0; -ETIMEDOUT; -EINVAL before one of the two above; -EDEADLK. */
CREW_API int crew_pool_join(crew_pool *pool, int ms);

/* Terminate, give all futures back, free. NULL is allowed. Returns NULL; pool itself on -EDEADLK. */
CREW_API crew_pool *crew_pool_close(crew_pool *pool);

static inline void crew__pool_fini(crew_pool **pool)
{
	*pool = crew_pool_close(*pool);
}

#ifdef __cplusplus
}
#endif
#endif
