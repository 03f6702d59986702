/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * base.h: errors, bytes and time, the words every other header uses.
 *
 * Results. A call answers 0 or a count on success and a negative number on failure: -errno for what the
 * system said, a CREW_E… code (from -5000 down, so the two never meet) for what the library said. The number
 * speaks about the call; how a *task* failed is told by its future: crew_future_error().
 *
 * Time. Durations are int milliseconds: CREW_FOREVER (-1) waits for ever, 0 polls once. Deadlines are kept on
 * CLOCK_MONOTONIC, so a change of the wall clock moves none of them.
 *
 * After fork(). In the child every executor and future of the parent answers CREW_EFORKED and touches nothing.
 *
 * Signals. No call here is async-signal-safe. None installs a handler; every blocking call resumes after EINTR
 * with the time that is left.
 */
#ifndef CREW_BASE_H
#define CREW_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CREW_VERSION_MAJOR 0
#define CREW_VERSION_MINOR 1
#define CREW_VERSION_PATCH 0
#define CREW_VERSION "0.1.0"

#if defined(__GNUC__)
#define CREW_API __attribute__((visibility("default")))
#define CREW_PRINTF(format_, first_) __attribute__((format(printf, format_, first_)))
#define CREW_MUST_CHECK __attribute__((warn_unused_result))
#else
#error "crew needs gcc or clang"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define CREW_FOREVER (-1)

/* Every code of the library with its sentence. The enum, crew_strerror(), crew_errname() and docs/errors.md
   are all made from this list. */
#define CREW_CODES(X_)                                                                           \
	X_(CREW_ERAISED, -5000, "the task failed; crew_future_error() says how")                 \
	X_(CREW_EWORKER, -5001, "the worker process died while it ran the task")                 \
	X_(CREW_EDEADLINE, -5002, "the task's own deadline passed")                              \
	X_(CREW_ETYPE, -5003, "the value's type or size is not the one asked for")               \
	X_(CREW_EPOINTER, -5004, "a pointer cannot be passed to another process")                \
	X_(CREW_ENOTASK, -5005, "no such task here: it is missing or its module is not loaded")  \
	X_(CREW_ESHUTDOWN, -5006, "the executor has been shut down and takes no more work")      \
	X_(CREW_EBROKEN, -5007, "broken: an executor that failed to open or whose workers fail, a barrier, a promise") \
	X_(CREW_EFORKED, -5008, "the object belongs to the parent of this forked process")       \
	X_(CREW_ECLOSED, -5009, "the other side has finished; nothing more will come")           \
	X_(CREW_EHANDLE, -5010, "not a live object of this library")                             \
	X_(CREW_ETHREADED, -5011, "a process with several threads cannot fork workers safely")   \
	X_(CREW_EPROTO, -5012, "a worker wrote something into shared memory that it may not") \
	X_(CREW_EINIT, -5013, "crew_init() must be the first call of main() for this")   \
	X_(CREW_EAUTH, -5014, "one of the two sides does not know the key")

enum crew_code {
#define CREW__CODE(name_, value_, text_) name_ = value_,
	CREW_CODES(CREW__CODE)
#undef CREW__CODE
};

/* A run of bytes. As an argument it is read-only; from crew_result_alloc() it is writable. The struct owns
   nothing by itself: who owns what it points to is said wherever one is given or taken. */
typedef struct crew_bytes {
	void *data;
	size_t len;
} crew_bytes;

/*
 * How a task failed, by value: a copy outlives its future.
 *
 * code         0: it did not fail. Positive or negative: exactly as the task raised it. CREW_EWORKER: its worker
 *              died, see signal or exit_status. CREW_EDEADLINE, -ECANCELED, …: it never ran to its end.
 * signal       the signal that killed the worker, else 0
 * exit_status  what the worker passed to exit(), -1 when it did not exit
 * attempts     how often the task was started
 * worker       pid of the process that ran it (0: it never started)
 * where, task  "file.c:42" and the name of the task; for a raise, the line of the raise
 * message      a sentence for people, never empty when code is not 0
 * user_ms, system_ms, max_rss_kib
 *              what a worker that died had used of CPU and memory, else 0
 * output       the last that it wrote to stderr; "" when nothing
 */
typedef struct crew_error {
	int code, signal, exit_status, attempts;
	pid_t worker;
	char where[64], task[64], message[256];
	int user_ms, system_ms;
	long max_rss_kib;
	char output[256];
	uint64_t reserved_[4];
} crew_error;

/* The sentence and the name of a code; of an errno code too. Never NULL; static storage; any thread. */
CREW_API const char *crew_strerror(int code);
CREW_API const char *crew_errname(int code);

/* The version of the library that is linked, as CREW_VERSION is of the header. */
CREW_API const char *crew_version(void);

/* A view of n bytes at p, and of a string without its 0. Nothing is copied. */
CREW_API crew_bytes crew_bytes_make(const void *p, size_t n);
CREW_API crew_bytes crew_bytes_str(const char *s);

/* Give back bytes that are yours: those that crew_take(), crew_run() and crew_map() gave you, and those of
   crew_result_alloc() when a task's function is called directly, outside any executor. Bytes without memory
   ({NULL, 0}) are allowed. Nothing else may be passed. */
CREW_API void crew_bytes_free(crew_bytes bytes);

/* CPUs this process may use: the least of the machine, its affinity and its cgroup's quota, which is looked up
   once a second; at least 1. */
CREW_API int crew_cpu_count(void);

/* The "uncaught exception" of a small program: when x is negative, print where and why and exit(1). It is the
   only thing in the library that prints. Evaluates to x. */
#define crew_must(x_) crew_must_at((x_), #x_, __FILE__, __LINE__)
CREW_API int crew_must_at(int code, const char *expression, const char *file, int line);

#ifdef __cplusplus
}
#endif
#endif
