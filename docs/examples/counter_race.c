/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * counter_race.c: a number that two processes count up, three times: by reading it and writing it back, where some steps are
 * lost; the same under its lock; and by an atomic add, which needs none. So that the race shows on any machine, a step of the first
 * kind waits between its read and its write until the other one has come in between.
 */
#include <crew/crew.h>
#include <stdio.h>

enum { STEPS = 20000 };

/* Each reads, then both wait for each other, then each writes: of two steps one is lost. */
CREW_TASK(void, count_badly, (crew_value, n), (crew_barrier, both), (int, steps))
{
	for (int i = 0; i < steps; i++) {
		long seen = crew_value_as(long, n);

		crew_barrier_wait(both, CREW_FOREVER);
		crew_value_as(long, n) = seen + 1;
		crew_barrier_wait(both, CREW_FOREVER);
	}
}

CREW_TASK(void, count_locked, (crew_value, n))
{
	for (int i = 0; i < STEPS; i++)
		CREW_WITH (n)
			crew_value_as(long, n) += 1;
}

CREW_TASK(void, count_atomically, (crew_value, n))
{
	for (int i = 0; i < STEPS; i++)
		crew_value_add(n, 1);
}

static void finish(const char *how, crew_process *p, crew_process *q, crew_value n, long expected)
{
	crew_process_close(p); /* waits */
	crew_process_close(q);
	printf("%-15s %6ld of %ld\n", how, crew_value_as(long, n), expected);
	crew_value_store(n, 0);
}

int main(void)
{
	crew_value n = crew_value_make(long, 0);
	crew_barrier both = crew_barrier_make(2);

	finish("without a lock:", crew_start(count_badly, n, both, 100), crew_start(count_badly, n, both, 100), n, 200);
	finish("under its lock:", crew_start(count_locked, n), crew_start(count_locked, n), n, 2 * STEPS);
	finish("atomic:", crew_start(count_atomically, n), crew_start(count_atomically, n), n, 2 * STEPS);
	crew_drop(both);
	crew_drop(n);
}
