/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * own_files.c: see own_files.h.
 */
#include "own_files.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "runner.h"

enum kind { FILE_WITH_TEXT, EVENTS, TIMER, POLLED, SOCKET, PROCESS };

void close_all(void)
{
	CHECK_EQ(close_range(3, ~0u, 0), 0);
}

static enum kind kind_of(const struct own_files *own, int i)
{
	return (enum kind)((i + own->shift) % OWN_KINDS);
}

static int open_one(enum kind kind)
{
	switch (kind) {
	case FILE_WITH_TEXT:
		return memfd_create("own", MFD_CLOEXEC);
	case EVENTS:
		return eventfd(7, EFD_CLOEXEC);
	case TIMER:
		return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	case POLLED:
		return epoll_create1(EPOLL_CLOEXEC);
	case SOCKET:
		return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	case PROCESS:
		break;
	}
	return (int)syscall(SYS_pidfd_open, getpid(), 0);
}

void own_files_open(struct own_files *own, int shift)
{
	own->shift = shift;
	for (int i = 0; i < OWN_FILES; i++) {
		own->fd[i] = open_one(kind_of(own, i));
		CHECK(own->fd[i] >= 3);
		CHECK(kind_of(own, i) != FILE_WITH_TEXT || write(own->fd[i], "text", 4) == 4);
	}
}

static void check_one(int fd, enum kind kind)
{
	struct itimerspec armed;
	char text[8] = "";
	struct stat st;
	uint64_t n;

	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	if (kind == FILE_WITH_TEXT) {
		CHECK(fstat(fd, &st) == 0 && st.st_size == 4 && st.st_blocks > 0);
		CHECK(pread(fd, text, 4, 0) == 4 && memcmp(text, "text", 4) == 0);
	} else if (kind == EVENTS) {
		CHECK(read(fd, &n, sizeof n) == sizeof n && n == 7);
	} else if (kind == TIMER) {
		CHECK(timerfd_gettime(fd, &armed) == 0 && armed.it_value.tv_sec == 0 && armed.it_value.tv_nsec == 0);
	}
}

void own_files_check(const struct own_files *own)
{
	for (int i = 0; i < OWN_FILES; i++)
		check_one(own->fd[i], kind_of(own, i));
}
