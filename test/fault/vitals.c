/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vitals.c: see vitals.h. What is said is read from /proc.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "vitals.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runner.h"

enum { EXITING = 4 }; /* among the flags in /proc/PID/stat: the kernel's PF_EXITING */

static FILE *open_of(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	return fopen(path, "re");
}

static char look_at(pid_t pid, unsigned *ret_flags)
{
	FILE *file = open_of(pid, "stat");
	char state = 'Z';

	*ret_flags = EXITING;
	if (file && fscanf(file, "%*d (%*[^)]) %c %*d %*d %*d %*d %*d %u", &state, ret_flags) != 2)
		state = 'Z';
	if (file)
		fclose(file);
	return state;
}

char vitals_state(pid_t pid)
{
	unsigned flags;

	return look_at(pid, &flags);
}

static bool has_been_killed(pid_t pid)
{
	FILE *file = open_of(pid, "status");
	unsigned long long pending = 0;
	char line[256];

	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "ShdPnd: %llx", &pending) == 1)
			break;
	if (file)
		fclose(file);
	return pending >> (SIGKILL - 1) & 1;
}

bool vitals_dying(pid_t pid)
{
	unsigned flags;
	char state;

	if (has_been_killed(pid)) /* first: it is pending no more when it is carried out */
		return true;
	state = look_at(pid, &flags);
	return state == 'Z' || state == 'X' || flags & EXITING;
}

void vitals_stop(pid_t pid)
{
	CHECK_EQ(kill(pid, SIGSTOP), 0);
	while (vitals_state(pid) != 'T')
		sched_yield();
}

int vitals_watch(pid_t pid)
{
	return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

void vitals_await_end(int watch)
{
	struct pollfd end = { watch, POLLIN, 0 };

	if (watch < 0)
		return;
	while (poll(&end, 1, -1) != 1)
		CHECK_EQ(errno, EINTR);
	close(watch);
}
