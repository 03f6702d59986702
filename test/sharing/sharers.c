/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sharers.c: several at once, over one carrier; and single forked children, to be killed.
 */
#include "sharers.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/family.h"

pid_t child_start(void (*body)(void *arg), void *arg)
{
	pid_t parent = getpid(), pid;

	CHECK_EQ(crew__family_join(), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			body(arg);
		_exit(0);
	}
	return pid;
}

void child_join(pid_t pid)
{
	int status;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

void child_kill(pid_t pid)
{
	int status;

	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
}

void child_await_sleep(pid_t pid)
{
	char path[64], state = 'R';

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	for (int seen = 0; seen < 3; seen += state == 'S') {
		FILE *file = fopen(path, "re");

		CHECK(file && fscanf(file, "%*d %*s %c", &state) == 1);
		fclose(file);
		sched_yield();
	}
}

/* A member's number and what it does, before its argument. */
struct member {
	int i;
	long distance; /* of its function from crowd_join */
	uint64_t arg[];
};

static void be_member(const void *arg)
{
	struct member *m = (struct member *)(uintptr_t)arg; /* our own copy */

	((void (*)(int i, void *arg))(uintptr_t)((intptr_t)(uintptr_t)crowd_join + m->distance))(m->i, m->arg);
}

void crowd_start_with(int n, void (*body)(int i, void *arg), const void *arg, size_t size)
{
	struct member *m = calloc(1, sizeof *m + size);

	CHECK(m != NULL);
	memcpy(m->arg, arg, size);
	m->distance = (long)((intptr_t)(uintptr_t)body - (intptr_t)(uintptr_t)crowd_join);
	for (m->i = 0; m->i < n; m->i++)
		carry(be_member, m, sizeof *m + size);
	free(m);
}

void crowd_join(void)
{
	carried_join();
}
