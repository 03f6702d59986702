/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * threads.h: an executor whose workers are threads of this process.
 *
 *	CREW_SCOPE (ex, crew_threads(4)) …			four workers
 *	CREW_SCOPE (ex, crew_threads(.name = "io", .workers = 8)) …
 *	CREW_SCOPE (ex, crew_threads()) …			as many as CPUs this process may use
 *
 * A worker thread is started when there is work for it. An idle pool uses no CPU, a pool that was never used has no thread. More workers
 * than CPUs are for tasks that block. Workers block every signal: handlers run in the program's own threads. A task that
 * waits for another runs it itself if it has not started, so a pool of one cannot deadlock; a wait for itself, or one that closes a circle of
 * waits within the pool, is -EDEADLK.
 *
 * Threads cannot be killed: a deadline or a cancel is told to the task (crew_task_cancelled()), no more. A crash of a task is a
 * crash of the program; that is what crew_processes() is for.
 *
 * A module (dlopen) whose tasks are under way must stay loaded: threads run its very code. When their futures are done and given back nothing here
 * refers to it. Processes keep what they need.
 */
#pragma GCC system_header
#ifndef CREW_THREADS_H
#define CREW_THREADS_H

#include <crew/executor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Called in each worker, as it starts and as it ends; worker counts from 0. */
typedef int crew_initializer_fn(void *arg, int worker);
typedef void crew_finalizer_fn(void *arg, int worker);

struct crew_threads_options {
	int reserved_;		/* 0; the macro names it first, so that what follows may be positional */
	int workers;		/* 0: crew_cpu_count(); negative or above 4096: -EINVAL */
	const char *name;	/* of the threads: "name/0"; default "crew". Copied, cut at 15 characters */
	crew_initializer_fn *initializer; /* not 0: this worker does not start. The executor is broken, what waits fails with CREW_EBROKEN */
	crew_finalizer_fn *finalizer;	  /* only where the initializer succeeded */
	void *arg;		 /* of both */
	int max_tasks_per_child; /* a fresh thread (and initializer) after so many tasks; 0: never */
	int nice;		 /* added to each worker's; -40 to 40 */
	const char *cpus;	 /* the workers' affinity: "0-3,8"; NULL: as the opener's */
	size_t stack_size;	 /* bytes; 0: the system's default */
	bool help;		 /* a thread that waits for a task that has not started runs it itself, outside the workers too, and works along
				  in its crew_map() and crew_for(), as one worker more: crew_task_worker() is `workers` there */
};

#define crew_threads(...) \
	crew_threads_open(&(struct crew_threads_options){ .reserved_ = 0, __VA_ARGS__ }, sizeof(struct crew_threads_options))
CREW_API crew_executor *crew_threads_open(const struct crew_threads_options *options, size_t size);

#ifdef __cplusplus
}
#endif
#endif
