/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * callback_pid.c: a callback runs in the program, not in the worker, and before the result can be had; one for
 * those that went well, one for those that did not.
 */
#define _GNU_SOURCE
#include <crew/crew.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static pid_t program;

CREW_TASK(pid_t, work, (int, i))
{
	return i == 3 ? crew_raise(EINVAL, "%d is not to my liking", i) : getpid();
}

static void went_well(crew_future *f, void *arg)
{
	pid_t worker;

	crew_must(crew_result(f, &worker));
	printf("%s: done %s, told %s\n", (const char *)arg, worker == program ? "here" : "elsewhere",
	       getpid() == program ? "here" : "elsewhere");
}

static void went_wrong(crew_future *f, void *arg)
{
	printf("%s: %s\n", (const char *)arg, crew_future_error(f)->message);
}

int main(void)
{
	static char *const names[] = { "one", "two", "three" };

	program = getpid();
	CREW_POOL_SCOPE (pool, crew_pool(2))
		for (int i = 0; i < 3; i++)
			crew_future_wait(crew_pool_apply_async_with(pool, (.callback = went_well, .error_callback = went_wrong, .arg = names[i]),
								    work, i + 1), CREW_FOREVER);
}
