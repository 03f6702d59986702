/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * processes.h: an executor whose workers are processes: a crash, a leak or a kill in a task stays there.
 *
 *	CREW_SCOPE (ex, crew_processes(4)) …
 *	CREW_SCOPE (ex, crew_processes(.workers = 4, .max_tasks_per_child = 1000)) …
 *
 * When a worker dies, the task that ran in it fails with CREW_EWORKER, the signal or exit status, and the pid; every other task goes on and a
 * new worker takes the place. Nothing runs twice unless .retries allows it. Workers die with this process, also when
 * it is killed. The library installs no SIGCHLD handler, waits for no child but its own, leaves no name in the file system, and all its file
 * descriptors are close-on-exec.
 *
 * The workers' parent is a small process of the library's own. Should that be killed, all workers go with it, their tasks fail, and the rest goes on under
 * another. Only when none can be had is the executor broken: every future that is not done fails with CREW_EBROKEN. Callbacks run in a thread of the library's own.
 * One executor runs at most 8192 different tasks (-ENOSPC).
 *
 * Arguments travel by copy, or by crew_shared_alloc() with none; results of crew_result_alloc() by no copy when they are large. Pointers are refused:
 * CREW_EPOINTER. A task must lie in a module. Workers load it from its file when they do not have it; CREW_ENOTASK when they cannot, or find
 * another build there. It stays loaded in this process until the executor is closed. Inside a worker crew_task_executor() submits
 * to the whole pool: an idle worker runs what a task submits, or whoever waits for it; a task is not done before what it submitted has at least
 * begun. When a worker dies, every task on its stack fails with it, and what those had submitted and nobody began is cancelled. Workers
 * ignore SIGINT (Ctrl-C reaches the whole terminal; the parent decides) and have every other signal at its default.
 */
#pragma GCC system_header
#ifndef CREW_PROCESSES_H
#define CREW_PROCESSES_H

#include <crew/executor.h>
#include <crew/threads.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * How workers come to be. Whichever it is, every worker is forked by a small process of the library's own that has one thread, so no lock of the
 * program's is ever copied in the middle of something, and watched before a task can reach it.
 *
 * SERVER  that process, the server, is forked once, at the first open of this kind, while the program has one thread, and
 *         serves all executors, also of SPAWN, and single children from then on. Workers see the program as it was at that moment: what was
 *         written to memory later, files that were opened, threads that were started are not there. A program that has other threads at that
 *         moment fails with CREW_ETHREADED, unless it called crew_init(): then the server is a fresh execution of it.
 * FORK    the opener is forked, at each open: workers see the program as it is then, `arg` included. A program that has other threads fails
 *         with CREW_ETHREADED unless FORK is asked for by name. (crew's own threads do not count.)
 * SPAWN   each worker is a fresh execution of the program, in which crew_init() does not return: it must be the first thing main() does.
 *         Nothing is inherited but the server's standard streams, environment and working directory. An open without crew_init() fails with CREW_EINIT.
 */
enum crew_start {
	CREW_START_DEFAULT, /* SERVER */
	CREW_START_FORK,
	CREW_START_SERVER,
	CREW_START_SPAWN
};

/* To be called first in main(): what main() does before it, every process does that is executed. In one that was executed to be a worker, a child or the server it
   does not return. Else it notes how to execute this program, from /proc/self/exe with these arguments, and returns 0; -errno. */
CREW_API int crew_init(int argc, char **argv);

struct crew_processes_options {
	int reserved_;		/* 0; the macro names it first, so that what follows may be positional */
	int workers;		/* 0: crew_cpu_count(); negative or above 1024: -EINVAL */
	const char *name;	/* of the processes, as ps shows them: "name/0"; default "crew" */
	/* both: of a module (but for FORK), else CREW_EPOINTER */
	crew_initializer_fn *initializer; /* in each worker as it starts; not 0, or its death, three times in a row: the executor is broken */
	crew_finalizer_fn *finalizer;	  /* in each worker that ends in order */
	void *arg;		/* of both; see arg_size */
	int max_tasks_per_child; /* a fresh process after so many tasks; 0: never */
	int nice;
	const char *cpus;
	size_t stack_size;
	enum crew_start start;
	int grace_ms; /* from SIGTERM to SIGKILL when a worker is to go; at close, what its finalizer may take; 0: 1000 */
	size_t arg_size; /* arg points to so many bytes, each worker gets a copy of them; 0: the pointer is passed on as it is, which only FORK can
			    (else CREW_EPOINTER, unless it is NULL) */
	int spares;	 /* processes beyond those, started and initialized, that take the place of one that dies or retires; 0: none, a dead one is
			    replaced by a fresh fork */
	int task_timeout_ms; /* of every task that has no .timeout_ms of its own, but the pieces of a map; 0: none */
	int retries;	     /* likewise for .retries. Only for tasks that may run twice */
	bool raw_stderr;     /* workers write to the program's stderr by themselves. Else it passes through the library, which keeps the last of
				each worker's for crew_error.output */
};

#define crew_processes(...) \
	crew_processes_open(&(struct crew_processes_options){ .reserved_ = 0, __VA_ARGS__ }, sizeof(struct crew_processes_options))
CREW_API crew_executor *crew_processes_open(const struct crew_processes_options *options, size_t size);

/* The pid of worker i, 0 when it is being replaced; -EINVAL when there is none or ex has no processes. */
CREW_API pid_t crew_executor_worker_pid(crew_executor *ex, int i);

/* Send `signal` to every worker process; how many got it. Tasks it kills fail with CREW_EWORKER and their workers are replaced: to end the
   executor use crew_executor_shutdown(). 0 when ex has no processes of its own, as a group; -EINVAL: no such signal. Any thread; does not block. */
CREW_API int crew_executor_kill(crew_executor *ex, int signal);

#ifdef __cplusplus
}
#endif
#endif
