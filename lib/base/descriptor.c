/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * descriptor.c: keeps our descriptors off the numbers that are the program's, and knows them again.
 *
 * A number may be anything by the time it is used: the program closes all it does not know, and opens its own. So what a number stood for is remembered by
 * device and inode, and nothing is read, written or closed that is not that any more.
 */
#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int crew__fd_keep(int fd)
{
	int kept;

	if (fd < 0)
		return -errno;
	if (fd > 2)
		return fd;
	kept = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (kept < 0)
		kept = -errno;
	close(fd);
	return kept;
}

int crew__fd_mark(int fd, struct fd_mark *ret)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*ret = (struct fd_mark){ st.st_dev, st.st_ino };
	return 0;
}

bool crew__fd_is(int fd, const struct fd_mark *mark)
{
	struct fd_mark now;

	return fd >= 0 && crew__fd_mark(fd, &now) == 0 && now.dev == mark->dev && now.ino == mark->ino;
}

void crew__fd_close(int fd, const struct fd_mark *mark)
{
	if (crew__fd_is(fd, mark))
		close(fd);
}
