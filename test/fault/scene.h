/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scene.h: one of everything that locks, and what happens in it for each k: see lock_killer.c.
 */
#ifndef CREW_TEST_SCENE_H
#define CREW_TEST_SCENE_H

#include <crew/crew.h>

#include "runner.h"
#include "stepper.h"

/* What is put into the library says which of these must find it. */
#if defined(CREW_FAULT_NO_INHERITANCE) || defined(CREW_FAULT_SILENT_DEATH) || defined(CREW_FAULT_SOUND_SLEEP) || defined(CREW_FAULT_DEAD_SLEEPERS) || \
	defined(CREW_FAULT_NO_BURIAL) || defined(CREW_FAULT_DEAD_READERS) || defined(CREW_FAULT_TAKES_ALL) || defined(CREW_FAULT_NAMELESS_ACTION) || \
	defined(CREW_FAULT_FORGOTTEN_DEATH) || defined(CREW_FAULT_DIRTY_CELL) || defined(CREW_FAULT_DIRTY_EXTENT)
#define FAULTY 1
#else
#define FAULTY 0
#endif

enum { PATIENCE_MS = FAULTY ? 1500 : 20000 };

struct scene {
	crew_lock lock;
	crew_rlock rlock;
	crew_semaphore semaphore, units; /* one; three */
	crew_event event, away;
	crew_condition condition;
	crew_barrier barrier, three; /* of two; of three */
	crew_rwlock rwlock;
	crew_value a, b; /* int; equal whenever nobody is between them */
	crew_value begun;
	pid_t sleeper; /* who slept there before; 0: nobody */
	long k;
};

/* One thing that may be interrupted. */
struct part {
	void (*setup)(struct scene *s);	 /* here, before all; NULL: nothing, as the others */
	void (*before)(struct scene *s); /* in the victim, as it is */
	void (*victim)(struct scene *s); /* step by step */
	void (*sleeper)(struct scene *s); /* another, asleep when the steps begin; NULL: none */
	void (*rouse)(struct scene *s);	 /* when the victim sleeps; NULL: it is killed there */
	void (*judge)(struct scene *s);
};

void complain(struct scene *s, const char *what, int rc);

/* A child that does this; is it through, well and in time? */
pid_t child_of(void (*body)(struct scene *s), struct scene *s);
bool ends(pid_t pid);

/* For each k. With a fault in the library it must be found, without one nothing may be. */
void kill_each_step(const struct part *part);

/* a and b are changed one after the other. Whoever gets their lock with 0 finds them equal; with -EOWNERDEAD he makes them so. */
void change_inside(struct scene *s);
void look_inside(struct scene *s, int rc);

/* Wakes one who sleeps on the condition. */
void notify_condition(struct scene *s);

#endif
