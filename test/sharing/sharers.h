/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sharers.h: one sentence, in threads and in forked children.
 *
 *	TEST_CARRIED(no_count_is_lost)
 *	{
 *		struct crowd crowd;
 *
 *		crowd_start(&crowd, 4, count, &arg);	count(0, &arg) … count(3, &arg), each in a thread or a process of its own
 *		crowd_join(&crowd);
 *	}
 */
#ifndef CREW_TEST_SHARERS_H
#define CREW_TEST_SHARERS_H

#include <crew/crew.h>
#include <errno.h>
#include <pthread.h>
#include <sys/types.h>

#include "../runner.h"

enum { CROWD_MAX = 64 };

struct crowd {
	int n;
	struct crowd_member {
		void (*body)(int i, void *arg);
		void *arg;
		int i;
		pthread_t thread;
		pid_t pid; /* 0: a thread */
	} member[CROWD_MAX];
};

/* Are those of the running test processes? */
extern bool crowd_forks;

void crowd_start(struct crowd *crowd, int n, void (*body)(int i, void *arg), void *arg);
void crowd_join(struct crowd *crowd);

/* One forked child, whatever the carrier; killed; waited for, and right to have ended with 0. */
pid_t child_start(void (*body)(void *arg), void *arg);
void child_kill(pid_t pid);
void child_join(pid_t pid);

/* Until it has been seen asleep: its last step is done, as far as it goes. */
void child_await_sleep(pid_t pid);

void carried_register(const char *name, const char *file, int line, int seconds, void (*run)(const void *forks));
void carried_run(const void *forks, void (*body)(void));

#define TEST_CARRIED(name_)                                                                         \
	static void name_(void);                                                                    \
	static void name_##_run(const void *forks_)                                                 \
	{                                                                                           \
		carried_run(forks_, name_);                                                         \
	}                                                                                           \
	__attribute__((__constructor__)) static void name_##_register(void)                         \
	{                                                                                           \
		carried_register(#name_, __FILE__, __LINE__, 60, name_##_run);                      \
	}                                                                                           \
	static void name_(void)

#endif
