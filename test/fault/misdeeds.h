/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * misdeeds.h: a table of what tasks may do to their worker, and how each ends.
 */
#ifndef CREW_TEST_MISDEEDS_H
#define CREW_TEST_MISDEEDS_H

#include <crew/crew.h>

#include "runner.h"

enum { WORKERS = 2, MISDEEDS = 30 };

enum end {
	RETURNS,
	DIES,
	MAY_DIE, /* after its answer */
	TAKES_OTHERS_ALONG, /* as their zygote dies */
	NEVER_ENDS, /* but by its deadline */
	GOES_AWAY, /* likewise, or it dies, as what was done to this worker before will have it */
	SPOILS
};

extern const struct misdeed {
	const char *name;
	void (*act)(void);
	enum end end;
} misdeeds[MISDEEDS];

/* The initializer of workers that are to misbehave: finds all that there is to harm. */
int look_around(void *arg, int worker);

/* Set in the worker: the process that opened the executor. */
extern pid_t misdeed_program;

/* Some, for tests of their own. */
_Noreturn void sleep_for_ever(void);
void be_traced(void);
void cut_ties(void);
void turn_deaf(void);

#endif
