/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pidfd.c: see pidfd.h. glibc 2.36 of Debian 12 has the call only in a header of its own, and older ones not at all: hence syscall().
 */
#include "process/pidfd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/descriptor.h"

#include "process/parcel.h"

enum { LOST_MS = 200 }; /* for it to end by itself */

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

/* "…\nPid:\t1234\n…"; -1 when it was waited for. Where that cannot be read, without /proc or with no descriptor left, any pidfd will do. */
bool crew__pidfd_is(int fd, pid_t pid)
{
	char path[40], text[512] = "";
	const char *line;
	int info, named = 0;

	if (syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) && errno == EBADF)
		return false;
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	if (info < 0)
		return true;
	(void)!read(info, text, sizeof text - 1);
	close(info);
	line = strstr(text, "\nPid:");
	return line && sscanf(line, "\nPid: %d", &named) == 1 && (named == pid || named == -1);
}

/* "1234 (name) Z 1230 …" */
static bool is_child(pid_t pid, const char *name)
{
	char path[32], text[128] = "", called[32];
	int fd, parent = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	(void)!read(fd, text, sizeof text - 1);
	close(fd);
	return sscanf(text, "%*d (%31[^)]) %*c %d", called, &parent) == 2 && parent == getpid() && strcmp(called, name) == 0;
}

void crew__pidfd_reap_lost(pid_t pid, const char *name)
{
	int fd = crew__pidfd_of(pid);

	if (fd < 0)
		return;
	if (is_child(pid, name)) { /* and what has that number has had it since the pidfd was opened: nobody else waits for it now */
		if (crew__parcel_await(fd, LOST_MS))
			syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
		waitid(P_PIDFD, (id_t)fd, &(siginfo_t){ 0 }, WEXITED);
	}
	close(fd);
}
