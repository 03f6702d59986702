/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * first_failure.c: the first failure cancels its siblings. A group is an executor over an executor: futures
 * and an end of its own, the other's workers. What ends early for the group goes on for everybody else.
 */
#define _GNU_SOURCE
#include <crew/crew.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>

/* Looks for something that is in no place but number 3, and that place is broken. */
CREW_TASK(int, search, (int, place))
{
	if (place == 3)
		return crew_raise(EIO, "place %d is broken", place);
	while (!crew_task_cancelled())
		sched_yield(); /* in place of a long search */
	return crew_raise(ECANCELED, "stopped");
}

CREW_TASK(int, other)
{
	return 42;
}

int main(void)
{
	CREW_SCOPE (ex, crew_threads(8)) {
		CREW_SCOPE (group, crew_group(ex, .on_error = CREW_CANCEL_SIBLINGS)) {
			crew_future *fs[8];
			int stopped = 0, y;

			for (int i = 0; i < 8; i++)
				fs[i] = crew_submit(group, search, i);
			/* Nothing but the failure of one ends these. */
			crew_wait(fs, 8, CREW_ALL_COMPLETED, CREW_FOREVER);
			printf("%s\n", crew_future_error(fs[3])->message);
			for (int i = 0; i < 8; i++)
				stopped += i != 3 && crew_result(fs[i], &y) != 0;
			printf("%d others stopped\n", stopped);
		}
		int y = 0;
		crew_must(crew_run(ex, &y, other));
		printf("the executor goes on: %d\n", y);
	}
}
