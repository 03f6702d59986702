/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pidfd.c: see pidfd.h. glibc 2.36 of Debian 12 has the call only in a header of its own, and older ones not at all: hence syscall().
 */
#include "process/pidfd.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process/mapping.h"

int crew__pidfd_of(pid_t pid)
{
	return crew__fd_keep((int)syscall(SYS_pidfd_open, pid, 0));
}

int crew__pidfd_of_child(pid_t pid)
{
	int fd = crew__pidfd_of(pid);

	if (fd >= 0)
		return fd;
	kill(pid, SIGKILL);
	waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED);
	return fd;
}
