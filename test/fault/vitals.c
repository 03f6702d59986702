/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vitals.c: see vitals.h. All of it is read from /proc.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "vitals.h"

#include <signal.h>
#include <stdio.h>

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
