/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * executor.h: the one interface. Where the work runs is said once, when the executor is opened:
 *
 *	CREW_SCOPE (ex, crew_processes(.workers = 3))
 *		crew_map(ex, power, base, exp, y, 3);
 *
 * crew_processes(…) becomes crew_threads(…) or crew_inline() and nothing else changes.
 *
 * Invariants. Every submit gives a future that is completed exactly once, whatever dies. An opener and a submit never return
 * NULL: what failed to open or to submit is an object that has failed already. An executor owns its futures; a scope owns its
 * executor. Whatever one executor does here, every executor does, but where it is said.
 *
 * Threads. Any thread may submit to, wait on and ask any executor. Close is called once, by one thread, when no other uses it any
 * more. A task may do all that but shut down or close the executor that runs it, or wait for all of it (-EDEADLK).
 *
 * The vocabulary is that of Python's concurrent.futures.Executor.
 */
#pragma GCC system_header
#ifndef CREW_EXECUTOR_H
#define CREW_EXECUTOR_H

#include <crew/base.h>
#include <crew/future.h>
#include <crew/task.h>
#include <crew/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- life ---- */

/*
 * CREW_SCOPE (ex, opener) { … }: opens, runs the block, then waits for everything submitted, gives its futures back and closes,
 * on every way out: end, break, continue, return, goto. break and continue leave the block, not a loop around it. longjmp and
 * pthread_exit across it are undefined. (gcc at -O0 cannot see that a block which always
 * returns does not fall out of it: put a return behind it.) A failed opener does not skip the block: each submit in it fails, crew_executor_error() asks.
 */
#define CREW_SCOPE(ex_, opener_) CREW__SCOPE(ex_, opener_, CREW__PASTE(crew_scope_end_, __COUNTER__))
#define CREW__SCOPE(ex_, opener_, end_)                                                                       \
	for (crew_executor *ex_ __attribute__((__cleanup__(crew__executor_fini), __unused__)) = (opener_);; __extension__({ goto end_; })) \
		if (0) {                                                                                      \
		end_:                                                                                         \
			break;                                                                                \
		} else

/* CREW_AUTO (ex, opener); declares ex for the rest of the enclosing block and closes it on every way out of that. */
#define CREW_AUTO(ex_, opener_) \
	crew_executor *ex_ __attribute__((__cleanup__(crew__executor_fini), __unused__)) = (opener_)

/* Runs every task in the caller, at submit; futures come back done. The reference for all others. */
#define crew_inline() crew_inline_open()
CREW_API crew_executor *crew_inline_open(void);

/* Why the opener failed, or what broke the executor since: 0 and code 0 when it is well. ret may be NULL. */
CREW_API int crew_executor_error(crew_executor *ex, crew_error *ret);

enum crew_shutdown_flags {
	CREW_CANCEL_PENDING = 1, /* what has not started never will */
	CREW_KILL_RUNNING = 2	 /* that too, and ask what runs to stop; when the time is up kill it, where that can be done */
};

/*
 * Take no more work, and wait up to ms for what there is (0: do not wait; it goes on being worked off). Returns how many tasks are
 * unfinished: crew_executor_unfinished() names them. May be called again, with other flags, and inside a scope.
 * After CREW_KILL_RUNNING threads are only ever asked (crew_task_cancelled()); worker processes get SIGTERM, then SIGKILL, and their
 * futures are cancelled.
 * -EDEADLK from a task or callback of its own; CREW_EFORKED; CREW_EHANDLE.
 */
CREW_API int crew_executor_shutdown(crew_executor *ex, unsigned flags, int ms);

struct crew_unfinished {
	crew_future *future; /* NULL: posted, or detached */
	const char *task, *where;
	bool running;
	int age_ms; /* since it was started; since it was submitted while it waits; -1 unknown */
};

/* What a shutdown left undone: fills up to n, returns how many there are. */
CREW_API int crew_executor_unfinished(crew_executor *ex, struct crew_unfinished *ret, size_t n);

/* Shut down, wait for everything, run the callbacks that are still due, give all futures back, free. NULL is allowed. Returns NULL;
   ex itself when it refused (-EDEADLK: called from its own task or callback). Not inside its own CREW_SCOPE. */
CREW_API crew_executor *crew_executor_close(crew_executor *ex);

static inline void crew__executor_fini(crew_executor **ex)
{
	*ex = crew_executor_close(*ex);
}

/* ---- submit ---- */

/* How a task is run. Zero is the default of each. */
struct crew_submit_options {
	int reserved_;	      /* 0 */
	int timeout_ms;	      /* from submit to end; 0 none. A task whose time is up before it starts never does: CREW_EDEADLINE.
				 One that runs is told by crew_task_cancelled(); a worker process that does not end it within 20 ms is killed, its
				 future fails with CREW_EDEADLINE and a new worker takes the place. Threads are only told */
	int retries;	      /* run it again, up to so many times, when its worker dies under it. Only for tasks that may run twice */
	int priority;	      /* higher first among what waits; waiting raises it, so that nothing starves */
	void *data;	      /* crew_future_data() */
	crew_done_fn *on_done; /* called by crew_drain(), after which the future is given back */
	void *on_done_arg;
	crew_inbox *inbox; /* where on_done is delivered; NULL: the executor's own */
};

/* crew_submit(ex, T, A…): start T(A…) on ex. Never NULL; done with CREW_ESHUTDOWN, CREW_EBROKEN, CREW_EFORKED, CREW_ENOTASK,
   CREW_EPOINTER, CREW_EHANDLE, -ENOMEM in its error when it could not be submitted. Does not block. */
#define crew_submit(ex_, ...) \
	crew_executor_submit((ex_), CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__), (const struct crew_submit_options *)0, 0)

/* crew_submit_with(ex, (.timeout_ms = 500, .retries = 2), T, A…) */
#define crew_submit_with(ex_, options_, ...)                                                   \
	crew_executor_submit((ex_), CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__),       \
			     &(struct crew_submit_options){ .reserved_ = 0, CREW__UNWRAP options_ },           \
			     sizeof(struct crew_submit_options))

/* crew_submit_to(ex, on_done, arg, T, A…): on_done(f, arg) runs in crew_drain(ex), once, whatever happens, and not from here; but when there is no
   memory left to remember it by, or ex is no executor (CREW_EHANDLE, CREW_EFORKED), it is called at once, with a future that has failed. */
#define crew_submit_to(ex_, on_done_, arg_, ...)                                               \
	crew_executor_submit((ex_), CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__),       \
			     &(struct crew_submit_options){ .on_done = (on_done_), .on_done_arg = (arg_) }, \
			     sizeof(struct crew_submit_options))

/* crew_post(ex, T, A…): fire and forget. 0, or why it could not be submitted. */
#define crew_post(ex_, ...) crew_executor_post((ex_), CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__))

/* crew_run(ex, &y, T, A…): submit and crew_take() in one. */
#define crew_run(ex_, y_, ...)                                                                      \
	crew_executor_run((ex_), CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__), (y_), CREW__SIZE_AT(y_), \
			  CREW__TYPE_AT(y_), (crew_error *)0)

/* crew_submit_each(ex, T, in…, fs, n): n submits in one, T(in[0]…) … T(in[n-1]…), their futures to fs. One column of n values for
   each parameter (`const void *` for strings). The number that could be submitted; the others' futures have failed. */
#define crew_submit_each(ex_, T_, ...) T_##_crew_each((ex_), __VA_ARGS__)

CREW_API crew_future *crew_executor_submit(crew_executor *ex, const crew_task *task, const void *arguments,
					   const struct crew_submit_options *options, size_t size);
CREW_API int crew_executor_post(crew_executor *ex, const crew_task *task, const void *arguments);
CREW_API int crew_executor_run(crew_executor *ex, const crew_task *task, const void *arguments, void *y, size_t y_size,
			       int y_type, crew_error *err);

/* ---- many at once ---- */

/*
 * crew_map(ex, T, in…, out, n): out[i] = T(in[i]…) for all i < n, in chunks; one column for each parameter, all of n values. It is one
 * job in bounded memory: no future for each item. When items fail, the rest is finished all the same; it returns the
 * code in the error of the first failing item (by index; a positive code negated), whose out is untouched. 0: all is well. out may be NULL for void tasks. Bytes and
 * strings in out are yours: crew_bytes_free(), free(). Inside a worker, and where threads .help, the caller works along.
 */
#define crew_map(ex_, T_, ...) T_##_crew_map((ex_), (const struct crew_map_options *)0, 0, __VA_ARGS__)
/* crew_map_with(ex, (.errors = codes, .chunk = 64), T, in…, out, n) */
#define crew_map_with(ex_, options_, T_, ...)                                                    \
	T_##_crew_map((ex_), &(struct crew_map_options){ .reserved_ = 0, CREW__UNWRAP options_ },                \
		      sizeof(struct crew_map_options), __VA_ARGS__)

struct crew_map_options {
	int reserved_;	   /* 0 */
	int *errors;	   /* n codes, 0 for each item that is well */
	int timeout_ms;	   /* for the whole; then -ETIMEDOUT, and items that have not started never do: -ECANCELED in errors */
	size_t chunk;	   /* items to a chunk; 0: measured */
	bool stop_on_error; /* start no more chunks after a failure */
	crew_error *error; /* the first failing item's whole error */
};

/*
 * crew_for(ex, n, T, .name = value…): T(begin, end, value…) over ranges that cover 0 … n-1 once. T's first two parameters are size_t; the
 * others are given by name and are 0 if they are not. Ranges shrink as the work runs out; the caller works along as in crew_map(). On processes T's writes stay
 * in the worker, unless they go to memory of crew_shared_alloc(). Returns 0 or the first failing range's code (a positive one negated).
 *
 * crew_reduce(ex, n, &acc, combine, T, .name = value…): *acc = combine(*acc, part) for the T(begin, end, …) of each range, in order, so
 * that floating point gives the same answer every time on the same executor. combine: a function or macro, R combine(R, R), called in this thread.
 * On failure *acc is untouched.
 */
#define crew_for(ex_, n_, ...) \
	crew_executor_for((ex_), (n_), CREW__TASK_IN(__VA_ARGS__), CREW__RANGE(__VA_ARGS__), (const struct crew_for_options *)0, 0)
#define crew_reduce(ex_, n_, acc_, combine_, ...)                                                             \
	__extension__({                                                                                       \
		__typeof__(&*(acc_)) crew_acc_ = (acc_);                                                      \
		void *crew_parts_ = 0;                                                                        \
		size_t crew_count_ = 0, crew_i_;                                                              \
		int crew_code_ = crew_executor_reduce((ex_), (n_), CREW__TASK_IN(__VA_ARGS__), CREW__RANGE(__VA_ARGS__), \
						      CREW__TYPE_AT(crew_acc_), &crew_parts_, &crew_count_);  \
		if (crew_code_ == 0)                                                                          \
			for (crew_i_ = 0; crew_i_ < crew_count_; crew_i_++)                                   \
				*crew_acc_ = combine_(*crew_acc_, ((__typeof__(crew_acc_))crew_parts_)[crew_i_]); \
		crew_parts_free(crew_parts_);                                                                 \
		crew_code_;                                                                                   \
	})

struct crew_for_options {
	size_t grain;	/* the least number of indexes to a range; 0: 1 */
	int timeout_ms; /* for the whole; then -ETIMEDOUT */
};

/*
 * crew_imap(ex, T, feed, state, .window = 64): a stream of results, pulled one by one, over input that may never end, in bounded memory.
 * `int feed(void *state, CREW_ARGS(T) *args)` fills the next arguments and returns 1, or 0 at the end, or a negative code (an item that
 * has failed). It runs in crew_next(), in the caller's thread; what it fills is copied before its next call. At most `window` items are
 * on their way. Never NULL.
 *
 * crew_next(s, &y): 1 an item, 0 the end, negative: that item failed, with the code of its error (a positive one negated), and the stream goes on.
 * Bytes and strings are yours. crew_next_within(s, &y, ms): -ETIMEDOUT when the next item is not there in time; nothing is lost.
 */
#define crew_imap(ex_, T_, feed_, ...) \
	CREW__PASTE(CREW__IMAP_, CREW__MANY(__VA_ARGS__))(ex_, T_, feed_, __VA_ARGS__)
#define crew_next(s_, y_) crew_stream_next((s_), (y_), CREW__SIZE_AT(y_), CREW__TYPE_AT(y_))
#define crew_next_within(s_, y_, ms_) crew_stream_next_within((s_), (y_), CREW__SIZE_AT(y_), CREW__TYPE_AT(y_), (ms_))

struct crew_imap_options {
	size_t window;	/* items on their way at most; 0: 64, or four for each worker if that is more */
	bool unordered; /* as they complete */
	size_t chunk;	/* items to a task; 0: 1 */
};

typedef struct crew_stream crew_stream;
CREW_API crew_stream *crew_stream_open(crew_executor *ex, const crew_task *task, void (*feed)(void), void *state,
				       const struct crew_imap_options *options, size_t size);
CREW_API int crew_stream_next(crew_stream *s, void *y, size_t size, int type);
CREW_API int crew_stream_next_within(crew_stream *s, void *y, size_t size, int type, int ms);
CREW_API const crew_error *crew_stream_error(crew_stream *s); /* of the last item; code 0: it was well. Never NULL */
CREW_API crew_stream *crew_stream_close(crew_stream *s);      /* cancels what has not started, waits for the rest. NULL is allowed */

CREW_API int crew_executor_for(crew_executor *ex, size_t n, const crew_task *task, void *arguments,
			       const struct crew_for_options *options, size_t size);
CREW_API int crew_executor_reduce(crew_executor *ex, size_t n, const crew_task *task, void *arguments, int type,
				  void **ret_parts, size_t *ret_count);
CREW_API void crew_parts_free(void *parts);

/* ---- groups ---- */

/*
 * crew_group(ex, .on_error = CREW_CANCEL_SIBLINGS): an executor over an executor: futures, limits and an end of its own, the other's
 * workers. For nested work, one client's share, a library that was handed an executor. It must be closed before ex is.
 */
#define crew_group(...) CREW__PASTE(CREW__GROUP_, CREW__MANY(__VA_ARGS__))(__VA_ARGS__)

enum crew_on_error {
	CREW_CARRY_ON,
	CREW_CANCEL_SIBLINGS /* the first failure cancels what has not started and asks the rest to stop */
};
enum crew_when_full {
	CREW_BLOCK, /* the submitter waits; inside a worker it works along */
	CREW_REJECT, /* the future has failed with -EAGAIN */
	CREW_CALLER_RUNS,
	CREW_DROP_OLDEST /* the oldest that waits is cancelled */
};
struct crew_group_options {
	enum crew_on_error on_error;
	int timeout_ms;	 /* for the whole group, from its opening: then it is cancelled */
	int max_running; /* tasks of the group on their way in ex at a time; 0 no limit */
	int max_queued;	 /* waiting beyond those; 0 no limit */
	enum crew_when_full when_full;
};
CREW_API crew_executor *crew_group_open(crew_executor *ex, const struct crew_group_options *options, size_t size);

/* ---- the whole executor ---- */

/* Wait until all that was submitted so far is done, its callbacks included. The code of the first failure since the last such wait (a positive one
   negated), 0, -ETIMEDOUT, -EDEADLK. */
CREW_API int crew_executor_wait(crew_executor *ex, int ms);

/* Cancel what waits, ask what runs to stop. How many never start. */
CREW_API int crew_executor_cancel(crew_executor *ex, const char *reason);

struct crew_stats {
	int workers;	      /* alive now */
	uint64_t submitted;   /* all that was ever accepted */
	uint64_t queued;      /* waiting now */
	uint64_t running;     /* running now */
	uint64_t done;	      /* completed, however it went */
	uint64_t failed;      /* of those: failed */
	uint64_t cancelled;   /* of those: never started */
	uint64_t lost;	      /* of the failed: their worker died */
	uint64_t workers_lost; /* workers that died uncalled for */
};
/* A snapshot; each figure is right for itself. */
CREW_API int crew_executor_stats(crew_executor *ex, struct crew_stats *ret, size_t size);
CREW_API int crew_executor_workers(crew_executor *ex);
CREW_API const char *crew_executor_name(crew_executor *ex);

/* ---- event loops ---- */

/*
 * A file descriptor that is readable while futures submitted with an on_done wait to be delivered; it stays the executor's, for poll and epoll only.
 * crew_drain() delivers them in this thread and returns how many; level-triggered, so one may drain late or twice. Inside an
 * on_done it does nothing. Several loops on one executor take an inbox each: .inbox in crew_submit_with(). close returns inbox itself
 * (-EBUSY) while futures are under way to it.
 */
CREW_API int crew_executor_fd(crew_executor *ex);
CREW_API int crew_drain(crew_executor *ex);
CREW_API crew_inbox *crew_inbox_open(void); /* NULL: errno */
CREW_API int crew_inbox_fd(crew_inbox *inbox);
CREW_API int crew_inbox_drain(crew_inbox *inbox);
CREW_API crew_inbox *crew_inbox_close(crew_inbox *inbox);

/* ---- shared memory ---- */

/* Memory that the caller and every worker of ex see; as a crew_bytes argument, whole or in part, it is not copied, and a crew_bytes result that lies in
   such an argument stays there. It is freed when it was given back and no task uses it any more. {NULL, 0} with errno on failure. */
CREW_API crew_bytes crew_shared_alloc(crew_executor *ex, size_t n);
CREW_API void crew_shared_free(crew_executor *ex, crew_bytes bytes);

#ifndef __cplusplus
/* ---- how the macros are made ---- */

#define CREW__UNWRAP(...) __VA_ARGS__

#define CREW__RANGE(...) CREW__PASTE(CREW__RANGE_, CREW__MANY(__VA_ARGS__))(__VA_ARGS__)
#define CREW__RANGE_1(T_) &(struct T_##_crew_args){ 0 }
#define CREW__RANGE_M(T_, ...) &(struct T_##_crew_args){ 0, 0, __VA_ARGS__ }

/* sizeof a call that is never made checks the type of feed. */
#define CREW__IMAP(ex_, T_, feed_, state_, options_, size_)                                               \
	((void)sizeof((feed_)((void *)0, (struct T_##_crew_args *)0)),                                    \
	 crew_stream_open((ex_), &T_##_crew_task, (void (*)(void))(feed_), (state_), (options_), (size_)))
#define CREW__IMAP_1(ex_, T_, feed_, state_) \
	CREW__IMAP(ex_, T_, feed_, state_, (const struct crew_imap_options *)0, 0)
#define CREW__IMAP_M(ex_, T_, feed_, state_, ...)                                             \
	CREW__IMAP(ex_, T_, feed_, state_, (&(struct crew_imap_options){ __VA_ARGS__ }),      \
		   sizeof(struct crew_imap_options))

#define CREW__GROUP_1(ex_) crew_group_open((ex_), (const struct crew_group_options *)0, 0)
#define CREW__GROUP_M(ex_, ...) \
	crew_group_open((ex_), &(struct crew_group_options){ __VA_ARGS__ }, sizeof(struct crew_group_options))
#endif

#ifdef __cplusplus
}
#endif
#endif
