/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * soak.h: the books that the soak keeps, what its processes share, and what they do with it.
 */
#ifndef CREW_TEST_SOAK_H
#define CREW_TEST_SOAK_H

#include <crew/crew.h>

#include "runner.h"

enum { SEATS = 16, MOMENT_MS = 5, UNITS = 4, PARTIES = 4, CELLS = 8, MARKS = 1024 };

enum act { NOTHING, LOCK, RLOCK, SEMAPHORE, MAKE, TAKE, SETTING, WAITING, MEETING, READING, WRITING, PUT, GET, ORDER, WORK, JOINING, SEND, RECEIVE, ADD, MOVE, ASK, ANSWER, NAME, ACTS };

/* Two counters that are equal whenever nobody is between them. */
struct pair {
	long a, b;
};

/* What passes through a line: items, work, messages. */
enum line { ITEMS, WORKS, MESSAGES, LINES };
struct item {
	uint32_t seat, number;
};

struct question {
	crew_promise promise;
	long x;
};

/* Plain shared memory, no object of the library. */
struct books {
	struct page {
		/* written by who sits there */
		uint32_t doing, parked; /* an act; the last pause he has parked for */
		unsigned long done[ACTS], passes[PARTIES];
		uint32_t numbers[LINES];
		/* the conductor's */
		unsigned long deaths[ACTS];
		pid_t pid;
	} page[SEATS];
	struct pair locked, rlocked, written; /* each guarded by its lock */
	long tokens, made, taken;	      /* by the condition's */
	uint32_t inside;		      /* atomic: who has a unit */
	uint32_t pause, over;		      /* the conductor's: how many pauses there were; go home */
	uint64_t marks[LINES][SEATS][MARKS];  /* atomic: which have come */
	char prefix[40]; /* of names in /dev/shm; fixed */
	unsigned long wrong;
	char what[200]; /* the first that was */
};

struct shared {
	crew_lock lock;
	crew_rlock rlock;
	crew_semaphore units;
	crew_condition condition;
	crew_event go, news;
	crew_barrier barrier;
	crew_rwlock rwlock;
	crew_queue items, work, questions;
	crew_pipe pipe[2];
	crew_value value;
	crew_array array;
};

extern struct books *books;
extern struct shared all;

/* The first to complain is heard. */
void wrong(const char *what, long x);

/* A worker's life. */
_Noreturn void soak_work(uint32_t seat, pid_t parent);

/* What is left in the lines, for the conductor. True: there was something. */
bool do_work(int ms);
bool receive_one(int ms);

#endif
