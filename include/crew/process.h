/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process.h: one child: a process, or a thread with the same face, that runs one task.
 *
 *	crew_process *p = crew_start(greet, "world");		multiprocessing.Process(target=greet, args=("world",)).start()
 *	crew_process_join(p, CREW_FOREVER);
 *	crew_process_close(p);
 *
 * crew_start becomes crew_thread_start and the same program runs with threads. For many tasks on a few workers there are executors and pool.h.
 *
 * Invariants. A start never returns NULL: a child that could not be started is an object that carries the reason, and every call on it answers
 * that. A child that was started ends once; whoever reaps it (a join, crew_process_alive(), crew_children(), the next start, the end of the program)
 * does so by its own process descriptor, never by waitpid(-1), and never takes another process for it. Where the status of its end cannot be had, because
 * the program ignores SIGCHLD or reaps whatever there is, the child has ended all the same and its status is `lost`.
 *
 * Who dies with whom. A child dies with its creator, also when that is killed, unless .detach was asked for. When a program ends in order its daemonic
 * children are terminated and all others are waited for, however long they take.
 *
 * Signals. A child starts with every signal at its default and none blocked. No handler is installed in it or here.
 *
 * Threads. Any thread may call anything here; close is called once, when no other uses the object. After fork() a child's objects are the parent's:
 * CREW_EFORKED. The vocabulary is that of Python's multiprocessing.Process; docs/children.md shows it at work.
 */
#pragma GCC system_header
#ifndef CREW_PROCESS_H
#define CREW_PROCESS_H

#include <crew/base.h>
#include <crew/executor.h>
#include <crew/pipe.h>
#include <crew/processes.h>
#include <crew/task.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crew_process crew_process;

/* In place of a descriptor. */
#define CREW_PIPE (-2)	 /* a pipe; our end: crew_process_pipe() */
#define CREW_DEVNULL (-3) /* nothing to read, nobody to read it */

/* How a child is started. Zero is the default of each. */
struct crew_start_options {
	int reserved_;	  /* 0; the macros name it first */
	const char *name; /* default "Process-1", its children "Process-1:1"; "Thread-1". ps and top show 15 characters of it */
	bool daemon;	  /* ended by force when its creator ends; must not start processes itself (-EPERM), executors it may open */
	enum crew_start start; /* as in processes.h; default: crew_start_method(). Threads have none */
	int nice;	  /* added to the creator's; -40 to 40. Threads: on Linux the thread's own */
	const char *cpus; /* affinity: "0-3,8"; NULL: as the creator's */
	int stdin_fd, stdout_fd, stderr_fd; /* 0: as the creator's; a descriptor, which stays yours; CREW_PIPE; CREW_DEVNULL. Processes only */
	uint64_t max_memory; /* bytes of address space, more is ENOMEM; 0: no limit of its own, as the next two. Processes only */
	int max_cpu_s;	     /* seconds of CPU time, then SIGXCPU, SIGKILL a second later */
	int max_files;	     /* open descriptors */
	bool detach;	  /* a session of its own, and it outlives its creator. Its status is known only if it ends in order */
	size_t stack_size; /* of a thread; 0: the system's default */
};

/*
 * crew_start(T, A…): a process that runs T(A…). crew_start_with((.name = "reader", .daemon = true), T, A…). Does not wait for T to begin.
 *
 * FORK    a fork of the caller as it is now: pointers may be passed, they point into the child's copy. Only the calling thread is there. Asked for by
 *         name it works in a program with threads too; T must then do with what other threads may have locked as after any fork.
 * SERVER, SPAWN   see processes.h: arguments travel as bytes, pointers are refused with CREW_EPOINTER.
 *
 * The child's exit status is that of a main(): the value of T if that is an int (its low 8 bits), 1 when it raises, what it passes to exit(), else 0. At its
 * end its own daemonic children are terminated, the others waited for, its non-daemonic threads too, stdio is flushed, and it leaves by _exit: atexit
 * handlers run only when T calls exit().
 *
 * Buffered output of the creator is flushed before a fork, so that nothing is printed twice; in a program with threads stdout and stderr only.
 */
#define crew_start(...) \
	crew_process_start(CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__), (const struct crew_start_options *)0, 0)
#define crew_start_with(options_, ...)                                                 \
	crew_process_start(CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__),        \
			   &(struct crew_start_options){ .reserved_ = 0, CREW__UNWRAP options_ }, sizeof(struct crew_start_options))
CREW_API crew_process *crew_process_start(const crew_task *task, const void *arguments, const struct crew_start_options *options, size_t size);

/*
 * crew_thread_start(T, A…), crew_thread_start_with((.name = "reader"), T, A…): a thread of this process. Every call below works on it, but that nobody
 * can signal or kill it (-ENOTSUP), and its pid is ours. Signals are blocked in it. A daemonic thread does not hold up the end of the program; closing it
 * lets it go on by itself.
 */
#define crew_thread_start(...) \
	crew_process_start_thread(CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__), (const struct crew_start_options *)0, 0)
#define crew_thread_start_with(options_, ...)                                                 \
	crew_process_start_thread(CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__),        \
				  &(struct crew_start_options){ .reserved_ = 0, CREW__UNWRAP options_ }, sizeof(struct crew_start_options))
CREW_API crew_process *crew_process_start_thread(const crew_task *task, const void *arguments, const struct crew_start_options *options,
						 size_t size);

/*
 * crew_process_exec(argv), crew_process_exec_with((.stdout_fd = CREW_PIPE), argv): another program. argv ends with NULL; argv[0] is looked for
 * in PATH if it has no slash. Never NULL; that it cannot be executed (-ENOENT, -EACCES, …) is known on return. It gets the descriptors 0, 1 and 2
 * and no others, unless .inherit_fds.
 */
struct crew_exec_options {
	int reserved_;
	const char *name;      /* default: argv[0] without its folders */
	bool daemon;
	int nice;
	const char *cpus;
	int stdin_fd, stdout_fd, stderr_fd;
	uint64_t max_memory;
	int max_cpu_s, max_files;
	bool detach;
	const char *directory; /* to work in; NULL: as ours */
	char *const *environment; /* "NAME=value"…, NULL; NULL: as ours */
	bool inherit_fds;      /* those of ours that are not close-on-exec */
};
#define crew_process_exec(argv_) crew_process_start_program((argv_), (const struct crew_exec_options *)0, 0)
#define crew_process_exec_with(options_, argv_)                                                                              \
	crew_process_start_program((argv_), &(struct crew_exec_options){ .reserved_ = 0, CREW__UNWRAP options_ },            \
				   sizeof(struct crew_exec_options))
CREW_API crew_process *crew_process_start_program(char *const *argv, const struct crew_exec_options *options, size_t size);

/* ---- its end ---- */

enum crew_process_state {
	CREW_PROCESS_FAILED, /* it never started */
	CREW_PROCESS_RUNNING,
	CREW_PROCESS_STOPPED, /* by SIGSTOP and its like */
	CREW_PROCESS_ENDED
};

struct crew_status {
	enum crew_process_state state;
	int exit_code; /* 0 … 255; -1: it did not exit, or that is not known */
	int signal;    /* that killed it, else 0 */
	bool core;     /* and it left a core */
	bool lost;     /* it has ended, and how is not known */
	int user_ms, system_ms; /* CPU time, its own children's that it waited for included; 0 when unknown */
	long max_rss_kib;
};

/* Wait until it has ended: 0, however it ended. -ETIMEDOUT; why it could not be started; -EDEADLK: it is the caller; CREW_EFORKED, CREW_EHANDLE. May be
   called again, by several threads at once. */
CREW_API int crew_process_join(crew_process *p, int ms);

/* Has it started and not ended? Never blocks. A process whose status is lost is not alive. */
CREW_API bool crew_process_alive(crew_process *p);

/* How it is, now. Never blocks. 0, or why it could not be started (then *ret says FAILED). */
CREW_API int crew_process_status(crew_process *p, struct crew_status *ret);

/* Python's exitcode: n, or -N when signal N killed it. -EAGAIN: it runs; -ENODATA: lost; otherwise 0 and *ret. */
CREW_API int crew_process_exitcode(crew_process *p, int *ret);

/* Wait for it, and copy T's result to *y, as crew_result() does: 0; CREW_ERAISED: see crew_process_error(); -ENODATA: it ended without one, by exit(0); CREW_ETYPE;
   -ETIMEDOUT. Bytes and strings are borrowed: they go with p. */
#define crew_process_result(p_, y_) crew_process_result_within(p_, y_, CREW_FOREVER)
#define crew_process_result_within(p_, y_, ms_) crew_process_take_result((p_), (y_), CREW__SIZE_AT(y_), CREW__TYPE_AT(y_), (ms_))
CREW_API int crew_process_take_result(crew_process *p, void *y, size_t size, int type, int ms) CREW_MUST_CHECK;

/*
 * How it failed; waits for its end. Never NULL; code 0: it did not. What T raised, as a future's error has it; CREW_EWORKER: a signal killed it or it ended
 * with a status that is not 0 and not T's value; -ENODATA: lost; or why it could not be started. Lives as long as p.
 */
CREW_API const crew_error *crew_process_error(crew_process *p);

/* ---- signals ---- */

/* Send it a signal, by its descriptor: never to another process that got its number. 0, also when it has ended already. -ENOTSUP: a thread; -EINVAL: no such
   signal; -EPERM. terminate: SIGTERM, kill: SIGKILL, interrupt: SIGINT. What the child has open or locked is left as it is. */
CREW_API int crew_process_signal(crew_process *p, int signal);
CREW_API int crew_process_terminate(crew_process *p);
CREW_API int crew_process_kill(crew_process *p);
CREW_API int crew_process_interrupt(crew_process *p);

/* Signals to read instead of handlers. Blocks these in the calling thread, and so in the threads and not in the processes it starts from then on: to be
   called first in main(), or in a child's task. A descriptor for poll and epoll, which is yours to close; -EINVAL, -EMFILE. crew_signal_read: the number of
   the next one that has come; -ETIMEDOUT. */
CREW_API int crew_signal_fd(const int *signals, size_t n);
CREW_API int crew_signal_read(int fd, int ms);

/* ---- what it is ---- */

CREW_API pid_t crew_process_pid(crew_process *p);	    /* 0: it could not be started */
CREW_API const char *crew_process_name(crew_process *p);   /* lives as long as p */
CREW_API bool crew_process_daemon(crew_process *p);

/* A descriptor that is readable once it has ended, for poll and epoll; it stays p's. Negative: a code. */
CREW_API int crew_process_fd(crew_process *p);

/* For crew_wait_ready(): its end, beside pipes, queues, futures and sockets. One that could not be started is ready. */
static inline crew_waitable crew_on_process(crew_process *p)
{
	return crew_on_fd(crew_process_fd(p));
}

/* Our end of the pipe that was asked for as its descriptor 0, 1 or 2: close-on-exec, and yours from now on, so that closing it is the end of file there.
   -EBADF: none was asked for, or it was taken before. What is not taken goes with p. */
CREW_API int crew_process_pipe(crew_process *p, int which);

/* Give it back. It is waited for, a daemonic one is terminated first (SIGTERM, SIGKILL a second later); a detached one and a daemonic thread go on alone.
   NULL is allowed. Returns NULL; p itself when the caller is that child (-EDEADLK). */
CREW_API crew_process *crew_process_close(crew_process *p);

/* ---- family ---- */

/* The process or crew_thread_start() thread that calls: "MainProcess", "MainThread"'s is that. Not to be closed. Never NULL. */
CREW_API crew_process *crew_process_current(void);

/* The creator of this child process, as an object that can be asked for its pid and name, signalled, and joined; its status stays its creator's. Not to be
   closed. NULL: this is the main process, or it was forked by hand. */
CREW_API crew_process *crew_process_parent(void);
CREW_API int crew_parent_fd(void); /* crew_process_fd() of it; -ESRCH: there is none */

/* The children of this process that are alive, threads not among them: fills up to n, returns how many there are. Reaps those that have ended. */
CREW_API int crew_children(crew_process **ret, size_t n);

/* What CREW_START_DEFAULT means from now on. It can be set once (-EALREADY) unless forced. What was asked for by name is not touched. */
CREW_API int crew_set_start_method(enum crew_start start, bool force);
CREW_API enum crew_start crew_start_method(void);

#ifdef __cplusplus
}
#endif
#endif
