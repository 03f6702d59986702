/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crash.c: a task that crashes takes nobody with it. Its worker process dies; its future tells the signal
 * and the pid; the other tasks are right, and a new worker takes the place.
 */
#define _GNU_SOURCE
#include <crew/crew.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

CREW_TASK(int, parse, (int, number))
{
	if (number == 2)
		raise(SIGSEGV); /* as by a wild pointer */
	return number * 10;
}

int main(void)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_future *fs[5];
		int y;

		for (int i = 0; i < 5; i++)
			fs[i] = crew_submit(ex, parse, i);
		for (int i = 0; i < 5; i++) {
			const crew_error *error = crew_future_error(fs[i]);
			if (crew_result(fs[i], &y) == 0)
				printf("%d: %d\n", i, y);
			else if (error->code == CREW_EWORKER)
				printf("%d: %s in worker %d\n", i, strsignal(error->signal),
				       (int)error->worker);
		}
	}
}
