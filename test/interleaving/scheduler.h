/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scheduler.h: run a few threads over the real sources of lib/ in every order that matters.
 *
 *	static void begin(void) { f = crew_future_new(CREW_TYPE_INT); }
 *	static void setter(void) { crew_future_set(f, …); }
 *	static void waiter(void) { EXPECT(crew_future_wait(f, -1) == 0); }
 *	static const struct scenario set_and_wait = { .begin = begin, .thread = { setter, waiter }, .preemptions = 2 };
 *
 *	SEARCH(a_promise_wakes_whoever_waits) { explore(&set_and_wait); }
 *	SEARCH(a_set_without_a_wake_is_found) { find(&set_and_wait, &(struct fault){ "crew__completed", NO_WAKE }); }
 *
 * Every atomic operation, fence, mutex, futex and thread call of lib/ is a step; between two steps another thread may go on. The search is depth first over
 * all schedules with at most so many preemptions (a switch from a thread that could go on; others are free), so many delayed stores (TSO) and so
 * many kills. What is wrong: EXPECT, a crash, memory used after free or left behind, nobody can go on (a lost wake), somebody goes on for ever.
 * The schedule is printed then, each step of it, and as numbers that repeat it: SCHEDULE='…' in the environment.
 */
#ifndef CREW_TEST_SCHEDULER_H
#define CREW_TEST_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "interleaving/operations.h"
#include "runner.h"

#define SCENARIO_THREADS 4

/* When the time of a sleep with a deadline is up. */
enum timeouts {
	TIMEOUTS_AT_REST, /* when nobody else can go on */
	TIMEOUTS_NEVER,	  /* so that no timeout hides a lost wake */
	TIMEOUTS_ANY	  /* whenever it sleeps */
};

struct scenario {
	const char *name;
	void (*open)(void);  /* once, before all schedules; may be NULL, as the next two */
	void (*begin)(void); /* before each schedule */
	void (*end)(void);   /* after each, when every thread has returned, or was killed */
	void (*thread[SCENARIO_THREADS])(void);
	void (*killed)(int thread); /* right after a kill, by nobody: what the kernel does then */
	void (*signalled)(int pidfd, int signal); /* in who sends it */
	void (*written)(int fd);		  /* in who has written; may be NULL */
	unsigned mortal; /* bit i: thread i may be killed */
	unsigned idle;	 /* bit i: thread i may sleep in the end */
	int preemptions, delays, kills;
	enum timeouts timeouts;
	long schedules; /* no more than that, scaled as other sizes are (STRESS); 0: all of them */
	bool keeps;	/* memory: a schedule may leave some behind */
};

/*
 * What is broken on purpose: every operation of a kind in a function of lib/. Without a fence, updates are none either. A blind CAS takes what it finds
 * for what it looks for, and writes; a deaf one says that it has written, and has not; a blind load finds 0 (a wide one: of 64 bits). What is late, an update or a
 * read, comes behind the next unlock. Without its exit a worker goes on where it should have ended.
 */
enum fault_kind { NO_FAULT, NO_FENCE, NO_WAKE, NO_STORE, NO_UPDATE, BLIND_CAS, DEAF_CAS, NO_LOCK, BLIND_LOAD, BLIND_WIDE_LOAD, LATE, NO_EXIT };
struct fault {
	const char *function;
	enum fault_kind kind;
};

/* A test that searches: a second of processor time, however long that is on a machine with other things to do. */
#define SEARCH(name_) TEST_WITHIN(name_, 180)

void explore(const struct scenario *scenario); /* the test fails when something is wrong in any schedule */
void find(const struct scenario *scenario, const struct fault *fault); /* the test fails when nothing is */

/* In threads, begin and end: what must hold. */
#define EXPECT(condition_)                                                          \
	do {                                                                        \
		if (!(condition_))                                                  \
			schedule_failed("%s:%d: %s", __FILE__, __LINE__, #condition_); \
	} while (0)
_Noreturn void schedule_failed(const char *format, ...) __attribute__((__format__(printf, 1, 2)));
_Noreturn void schedule_unfit(const char *format, ...) __attribute__((__format__(printf, 1, 2)));

/* Which thread is this? -1: none of them. */
int schedule_thread(void);
bool schedule_killed(int thread);
bool schedule_ended(int thread);
/* From here on no thread gives way unless it must, and nothing is chosen (quiet), or all is as ever again. Each schedule begins loud. For what leads to the interesting part. */
void schedule_quiet(bool quiet);

/* This thread is killed, here and now; that one is, wherever it is. */
_Noreturn void schedule_exit(void);
void schedule_kill(int thread);
/* Time goes by. */
void schedule_pass(int ms);

/* Sleep until this thread was roused, perhaps before. For what the kernel tells: a death, a descriptor. */
void schedule_sleep(void);
void schedule_rouse(int thread);

#endif
