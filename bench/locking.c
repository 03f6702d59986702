/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locking.c: L1–L3 put to crew's locks and values; L3 to an atomic count as well.
 */
#include <crew/crew.h>
#include <stdlib.h>
#include <string.h>

#include "exclusion.h"

static crew_lock lock;
static crew_rlock rlock;
static crew_semaphore semaphore;
static crew_value value;

#define TAKE_AND_GIVE(noun_)                                                    \
	static void take_##noun_(void *unused)                                  \
	{                                                                       \
		(void)unused;                                                   \
		measure_require(crew_acquire(noun_) == 0, "not acquired");      \
	}                                                                       \
	static void give_##noun_(void *unused)                                  \
	{                                                                       \
		(void)unused;                                                   \
		measure_require(crew_release(noun_) == 0, "not released");      \
	}
TAKE_AND_GIVE(lock)
TAKE_AND_GIVE(rlock)
TAKE_AND_GIVE(semaphore)
TAKE_AND_GIVE(value)

static void add(void *unused)
{
	(void)unused;
	crew_value_add(value, 1);
}

static void nothing(void *unused)
{
	(void)unused;
}

int main(int argc, char **argv)
{
	static const struct exclusion locks[] = {
		{ "crew lock", take_lock, give_lock, NULL },
		{ "crew rlock", take_rlock, give_rlock, NULL },
		{ "crew semaphore", take_semaphore, give_semaphore, NULL },
		{ "crew value", take_value, give_value, NULL },
	};
	static const struct exclusion atomic = { "crew value, atomic", add, nothing, NULL };
	struct measure_options o;

	measure_options(&o, argc, argv);
	lock = crew_lock_make();
	rlock = crew_rlock_make();
	semaphore = crew_semaphore_make(1, 1);
	value = crew_value_make(long, 0);
	for (size_t i = 0; i < sizeof(locks) / sizeof(locks[0]); i++)
		exclusion_ask(&o, &locks[i]);
	if (strcmp(o.bench, "L1") == 0)
		exclusion_ask(&o, &atomic);
	return 0;
}
