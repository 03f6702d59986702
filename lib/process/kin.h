/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kin.h: what a creator keeps of a single child, what travels to it, and what comes back.
 *
 *	creator ── birth (bytes), descriptors ──> child
 *	creator <── letter (a memfd both have): arguments first, then the answer ──> child
 *
 * The letter has no name and no size that a pipe would have: a child never waits for its creator to read, and what a killed child had not finished
 * writing does not count.
 */
#ifndef CREW_LIB_KIN_H
#define CREW_LIB_KIN_H

#include <crew/process.h>
#include <pthread.h>
#include <sched.h>

#include "base/descriptor.h"
#include "core/context.h"
#include "core/identity.h"

enum { NAME_ROOM = 64, PATH_ROOM = 64 };

enum kin_kind {
	KIN_FAILED,
	KIN_FORKED,	/* our own child: waitid */
	KIN_SERVED,	/* the server's child: its obituary */
	KIN_DETACHED,	/* nobody's: its descriptor, and its letter */
	KIN_THREAD,
	KIN_SELF,	/* crew_process_current() */
	KIN_PARENT
};

/* How a child is to be, as bytes: the same for every start method. */
struct birth {
	char name[NAME_ROOM], creator_name[NAME_ROOM];
	char path[PATH_ROOM]; /* "1:2": of its name and its children's */
	pid_t creator;
	int nice;
	bool daemon, detach, placed;
	bool watch;	/* nobody else sees to its end when the creator dies */
	bool silent[3]; /* /dev/null */
	bool piped[3];	/* its end of a descriptor is among the passed ones, in this order */
	uint64_t max_memory;
	int max_cpu_s, max_files;
	cpu_set_t cpus;
};

/* The descriptors that travel, in this order; then those of birth.piped; detached: a socket at the end. */
enum { FD_LETTER, FD_CREATOR, FD_STDIO };

struct crew_process {
	uint32_t magic; /* PROCESS_MAGIC while it lives */
	/* fixed at the start */
	enum kin_kind kind;
	uint32_t generation;
	pid_t pid;
	int fd;	    /* pidfd; of a thread a socket; -1 */
	int status; /* of the server's, else -1 */
	int letter; /* -1: a program, a thread */
	struct fd_mark mark; /* what it is; of a thread, what fd is */
	char name[NAME_ROOM];
	bool daemon, detached;
	bool nursed; /* a program that has to be given back to the nursery */
	const crew_task *task; /* NULL: a program */
	/* guarded by mutex */
	pthread_mutex_t mutex;
	int pipes[3];
	bool ended;
	bool answered;	    /* a result is there */
	struct crew_status end;
	crew_error error;
	void *value;	    /* the result, malloc'ed; what a string or bytes point to lies behind it */
	/* the thread that this is the handle of */
	uint32_t over; /* it has said all; futex */
	/* guarded by the kin's mutex */
	crew_process *next, *previous;
	bool abandoned; /* closed while it ran: freed by who reaps it */
	uint32_t refs; /* of a thread: the handle's and its own; any thread, by faa */
};
#define PROCESS_MAGIC 0x6b696e21u

/* ---- kin.c: who we are and who our children are ---- */

int crew__kin_install(void); /* the hooks for fork and the end of the program; -ENOMEM. Idempotent */
void crew__kin_add(crew_process *p);
void crew__kin_remove(crew_process *p);
void crew__kin_abandon(crew_process *p); /* to be freed once it has ended */
void crew__kin_path(char *name, char *path, const char *kind, bool thread); /* for the next child: "Process-1:2" and "1:2" */
const char *crew__kin_name(void);
bool crew__kin_daemonic(void);
void crew__kin_become(const struct birth *birth, int creator); /* in the child: this is who we are. The descriptor is consumed */
void crew__kin_end(void); /* terminate our daemonic children and wait for the others, and for our threads */
void crew__kin_reap(void); /* those that have ended, without waiting */
void crew__kin_enter_thread(crew_process *p); /* crew_process_current() of this thread */
void crew__kin_thread_begins(void); /* one that holds up the end of the program; before it is made */
void crew__kin_thread_ends(void);

/* ---- process.c ---- */

crew_process *crew__process_new(enum kin_kind kind, const char *name); /* NULL: out of memory */
void crew__process_free(crew_process *p);
crew_process *crew__process_failed(crew_process *p, int code, const char *format, ...) CREW_PRINTF(3, 4); /* p, or a fixed one when that is NULL */
int crew__process_settle(crew_process *p, int ms); /* wait, and learn how it ended: 0, -ETIMEDOUT */
bool crew__process_owns(const crew_process *p); /* has the program left us the descriptors of this child? */
void crew__process_unref(crew_process *p); /* of a thread */
int crew__process_check(const crew_process *p);

/* ---- birth.c ---- */

void crew__child_detach(int socket); /* in a child that is to be detached: returns in one that is */

/* ---- letter.c ---- */

/* state of an answer */
enum { ANSWER_NONE, ANSWER_VALUE, ANSWER_RAISED, ANSWER_EXIT };

int crew__letter_open(void);
int crew__letter_write(int fd, const crew_task *task, const void *arguments);
/* In the child: the task, and its arguments in malloc'ed memory. CREW_ENOTASK, -ENOMEM, CREW_EPROTO. */
int crew__letter_read(int fd, const crew_task **ret_task, void **ret_arguments);
int crew__letter_answer(int fd, const crew_task *task, const void *value);
void crew__letter_raise(int fd, const crew_error *error);
void crew__letter_exit(int fd, int status);
/* In the creator, after the end: which of the answers, and what it says. */
int crew__letter_open_answer(int fd, const crew_task *task, void **ret_value, crew_error *ret_error, int *ret_status);

/* A value of `task`'s result type with all it points to, malloc'ed; NULL: out of memory. */
void *crew__value_keep(const crew_task *task, const void *value);

/* ---- child_life.c ---- */

/* The child's whole life; arguments are malloc'ed or the caller's. fds as above. */
_Noreturn void crew__child_live(const struct birth *b, const int *fds, const crew_task *task, void *arguments);
void crew__child_prepare(const struct birth *b); /* signals, limits, niceness; async-signal-safe */

#endif
