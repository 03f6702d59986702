/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * start_gun.c: four runners wait for an event and an array that all of them see: each has a lane to write into. Nobody runs
 * before the gun.
 */
#include <crew/crew.h>
#include <stdio.h>

enum { RUNNERS = 4 };

CREW_TASK(void, run, (int, lane), (crew_semaphore, ready), (crew_event, gun), (crew_array, track), (crew_value, finished))
{
	crew_release(ready);
	if (crew_event_wait(gun, CREW_FOREVER) == 0)
		crew_array_as(int, track)[lane] = (int)crew_value_add(finished, 1) + 1;
}

int main(void)
{
	crew_semaphore ready = crew_semaphore_make(0, 0);
	crew_event gun = crew_event_make();
	crew_array track = crew_array_make(int, RUNNERS);
	crew_value finished = crew_value_make(int, 0);
	crew_process *runner[RUNNERS];
	int sum = 0;

	for (int i = 0; i < RUNNERS; i++)
		runner[i] = crew_start(run, i, ready, gun, track, finished);
	for (int i = 0; i < RUNNERS; i++)
		crew_acquire(ready);
	printf("all are ready, %d have finished\n", (int)crew_value_load(finished));
	crew_event_set(gun);
	for (int i = 0; i < RUNNERS; i++)
		crew_process_close(runner[i]);
	for (int i = 0; i < RUNNERS; i++)
		sum += crew_array_as(int, track)[i];
	printf("%d have finished, their places add up to %d\n", (int)crew_value_load(finished), sum);
	crew_drop(ready), crew_drop(gun), crew_drop(track), crew_drop(finished);
}
