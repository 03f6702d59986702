/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tutorial.c: the classic: six tasks on three workers, polled with done() and stopped with cancel() until
 * all have finished. The same on threads and on processes:
 *
 *	tutorial threads; tutorial processes
 *
 * 0, 1 and 2 take the three workers and would run for ever; 3, 4 and 5 wait behind them. What has not
 * started can be cancelled; what runs can only be asked to stop, and a well-behaved task looks, with
 * crew_task_cancelled().
 */
#define _GNU_SOURCE
#include <crew/crew.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

CREW_TASK(int, work, (int, number))
{
	if (number >= 3)
		return number * number;
	while (!crew_task_cancelled())
		sched_yield(); /* in place of real work */
	return crew_raise(ECANCELED, "told to stop");
}

static int count(crew_future **fs, int n, bool (*is)(crew_future *))
{
	int found = 0;

	for (int i = 0; i < n; i++)
		found += is(fs[i]);
	return found;
}

static void tutorial(crew_executor *ex)
{
	crew_future *fs[6];
	int y;

	for (int i = 0; i < 3; i++)
		fs[i] = crew_submit(ex, work, i);
	while (count(fs, 3, crew_future_running) < 3)
		sched_yield();
	for (int i = 3; i < 6; i++)
		fs[i] = crew_submit(ex, work, i);
	printf("running %d, done %d\n", count(fs, 6, crew_future_running), count(fs, 6, crew_future_done));
	if (crew_future_cancel(fs[5], "not needed") == 1)
		printf("5 never starts\n");
	for (int i = 0; i < 3; i++)
		if (crew_future_cancel(fs[i], NULL) == 0)
			printf("%d runs, and was asked to stop\n", i);
	while (count(fs, 6, crew_future_done) < 6)
		sched_yield(); /* crew_wait() would sleep; this program polls */
	for (int i = 0; i < 6; i++) {
		const char *cancelled = crew_future_cancelled(fs[i]) ? " (cancelled)" : "";
		if (crew_result(fs[i], &y) == 0)
			printf("%d: %d\n", i, y);
		else
			printf("%d: %s%s\n", i, crew_future_error(fs[i])->message, cancelled);
	}
}

int main(int argc, char **argv)
{
	CREW_SCOPE (ex, argc > 1 && strcmp(argv[1], "processes") == 0 ? crew_processes(3) : crew_threads(3))
		tutorial(ex);
}
