/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stepper.h: a process that makes one instruction at a time (ptrace), and is killed after any of them.
 *
 *	for (long k = stepper_first(stride); more; k += stride) {
 *		pid_t victim = stepper_fork(NULL, use_it, &scene);
 *
 *		more = stepper_kill_after(victim, k, true);	k instructions of use_it(&scene), then kill -9
 *		… judge what is left …
 *	}
 *
 * Sanitizers and single steps do not go together: killers run in plain builds. They are linked with -z now, as no symbol should be resolved under the steps.
 */
#ifndef CREW_TEST_STEPPER_H
#define CREW_TEST_STEPPER_H

#include <crew/process.h>
#include <stdbool.h>
#include <sys/types.h>

#include "../runner.h"

/*
 * A sentence about a victim of every start method: a fork of the test, a child of the server, a spawned one, which have the family's memory elsewhere, and are
 * registered in it by other ways. With a fault in the library (FAULTY) forks will do.
 */
#define TEST_VICTIM(name_)                                                                                                             \
	static void name_(void);                                                                                                       \
	static void name_##_run(const void *victims_)                                                                                  \
	{                                                                                                                              \
		stepper_victims = victims_;                                                                                            \
		name_();                                                                                                               \
	}                                                                                                                              \
	__attribute__((__constructor__)) static void name_##_register(void)                                                            \
	{                                                                                                                              \
		for (int i = 0; i < (FAULTY ? 1 : VICTIMS); i++)                                                                       \
			test_register(&(struct test){ #name_, stepper_kinds[i].name, __FILE__, __LINE__, 1800, name_##_run, &stepper_kinds[i] }); \
	}                                                                                                                              \
	static void name_(void)

enum { VICTIMS = 3 };
struct victims {
	const char *name;
	enum crew_start start; /* DEFAULT: forks of this process, by hand */
	int share;	       /* of so many kills one: it takes time to start one */
};
extern const struct victims stepper_kinds[VICTIMS], *stepper_victims; /* stepper_victims: what TEST_VICTIM says; forks before */

/* Every how manyth instruction: `usual` by default, as many times fewer as STRESS is more than 100; every one from 1000 on (test/run --long). */
long stepper_stride(long usual);

/*
 * What a killer does over and over: round(k, arg) kills after k instructions and judges; false: the victim was through before, or what it left was wrong.
 * As many kills as `kills` says (of victims that are no forks fewer), spread over all instructions there are, which a first round counts; as many times more as STRESS says, after every
 * one when STRESS is 1000, or kills is EVERY_STEP. For acts of very different lengths.
 */
#define EVERY_STEP (1L << 40)
struct sweep {
	long kills, steps;
};
struct sweep stepper_sweep(bool (*round)(long k, void *arg), void *arg, long kills);

/* Something is wrong after k steps; a code says more, 0 does not. Printed, and counted. */
void stepper_complain(long k, const char *what, long code);

/*
 * A sweep of rounds that complain, which ends with the first complaint. With a fault in the library (`faulty`) it comes by every step, and there
 * must be one; without, it makes so many kills, and there may be none. Once in a test.
 */
void stepper_judge(bool (*round)(long k), long kills, bool faulty);

/* Where to begin, so that many runs come by everywhere: from 0 to stride - 1. */
long stepper_first(long stride);

/* A child that does prepare(arg) at its usual pace (NULL: nothing), and is held before the first instruction of act(arg). It dies with its parent. */
pid_t stepper_fork(void (*prepare)(void *arg), void (*act)(void *arg), void *arg);

/* The same of TEST_VICTIM's kind. arg, `size` bytes, is copied. One at a time. */
pid_t stepper_start(void (*prepare)(void *arg), void (*act)(void *arg), const void *arg, size_t size);

/* A function, as it may be told to any image of this program: by how far behind the first byte of the program it is. 0: NULL. */
typedef void stepper_function(void);
size_t stepper_place_of(stepper_function *fn);
stepper_function *stepper_function_at(size_t place);

/* Hold a process that is no child of ours, or one that did not ask for it. */
void stepper_seize(pid_t pid);

/*
 * One instruction, however long it takes. False: it was the last; act is over, or the process is.
 * asleep, unless NULL, is asked when the process sleeps in it. False: nobody will wake it, and there it is left: for stepper_kill().
 */
bool stepper_step(pid_t pid, bool (*asleep)(void *arg), void *arg);

/*
 * To its next system call, before the first of its instructions is made, or, if it is held there, through that call: every other time it is about to call.
 * False: act is over, or the process is. Steps may follow in either place.
 */
bool stepper_call(pid_t pid);

/* Off it goes, and is killed at once, wherever it is by then; as after stepper_call(), in the middle of a call. */
void stepper_kill_running(pid_t pid);

/* It goes on, and is nobody's any more. */
void stepper_let_go(pid_t pid);

/* At its own pace, until it stops itself with that signal, which is withheld. */
void stepper_run(pid_t pid, int signal);

/* Is its next instruction the system call that waits for a futex? */
bool stepper_would_sleep(pid_t pid);

/* To its end. */
void stepper_kill(pid_t pid);

/* k instructions, then dead. False: it was over before; or, if `until_sleep`, about to wait for a futex. */
bool stepper_kill_after(pid_t pid, long k, bool until_sleep);

/* Does a process sleep? The letter in /proc/PID/stat; Z also for one that is gone. */
char stepper_state(pid_t pid);

/* Is a child through, well, within ms? Else it is killed. */
bool stepper_ends(pid_t pid, int ms);

#endif
