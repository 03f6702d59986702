/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noise.c: see noise.h.
 *
 *	spinner    takes whole slices of a CPU: who is preempted is away for some milliseconds
 *	pair       a byte goes to and fro through two pipes: wakes, switches and migrations without end, and a run queue that is never twice the same
 */
#include "noise.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOISE_MAX = 256 };

static pid_t makers[NOISE_MAX];
static int maker_count;

static _Noreturn void spin(void)
{
	for (unsigned i = 0;; i++)
		__asm__ __volatile__("" : : "r"(i));
}

/* Who gets it gives it on. */
static _Noreturn void pass_on(int from, int to)
{
	char byte;

	while (read(from, &byte, 1) == 1 && write(to, &byte, 1) == 1)
		;
	_exit(1);
}

/* 0 in the one that was made. */
static pid_t make_one(void)
{
	pid_t self = getpid(), pid = fork();

	if (pid < 0) {
		perror("noise: fork");
		exit(2);
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != self)
			_exit(1);
		return 0;
	}
	makers[maker_count++] = pid;
	return pid;
}

static void make_pair(void)
{
	int there[2], back[2];

	if (pipe(there) || pipe(back) || write(there[1], "", 1) != 1) {
		perror("noise: pipe");
		exit(2);
	}
	if (make_one() == 0)
		pass_on(there[0], back[1]);
	if (make_one() == 0)
		pass_on(back[0], there[1]);
	for (int i = 0; i < 2; i++)
		close(there[i]), close(back[i]);
}

void noise_start(int n)
{
	if (n > NOISE_MAX / 2)
		n = NOISE_MAX / 2;
	fflush(NULL);
	for (int i = 0; i < n; i++)
		if (make_one() == 0)
			spin();
	for (int i = 0; i < n / 2; i++)
		make_pair();
}

void noise_stop(void)
{
	for (int i = 0; i < maker_count; i++)
		kill(makers[i], SIGKILL);
	for (; maker_count > 0; maker_count--)
		while (waitpid(makers[maker_count - 1], NULL, 0) < 0 && errno == EINTR)
			;
}
