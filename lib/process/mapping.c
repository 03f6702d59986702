/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mapping.c: memfds: made, sealed, filled and emptied in parts.
 *
 * They are as large as they will ever be from the start, but sparse: growth is posix_fallocate() of a part, which needs neither a new descriptor nor a new
 * mapping in anybody. ftruncate() alone would promise pages that are not there.
 */
#include "process/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { LARGE = 1 << 20, CHECKED = 64 << 20 };

static int seal(int fd, size_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < size)
		return -EFBIG; /* the kernel would say so by SIGXFSZ */
	if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	return 0;
}

int crew__mapping_open(struct mapping *m, const char *name, size_t size)
{
	int rc;

	*m = MAPPING_NULL;
	m->fd = crew__fd_keep(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
	if (m->fd < 0)
		return m->fd;
	rc = seal(m->fd, size);
	if (rc == 0)
		rc = crew__fd_mark(m->fd, &m->mark);
	if (rc == 0) {
		m->base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, 0);
		if (m->base == MAP_FAILED)
			rc = -errno;
	}
	if (rc) {
		close(m->fd);
		*m = MAPPING_NULL;
		return rc;
	}
	m->size = size;
	madvise(m->base, size, MADV_DONTFORK);
	madvise(m->base, size, MADV_DONTDUMP);
	return 0;
}

void crew__mapping_close(struct mapping *m)
{
	if (m->fd < 0)
		return;
	munmap(m->base, m->size);
	crew__mapping_punch(m, 0, m->size); /* a forked child may have the descriptor, and must not keep the pages */
	crew__fd_close(m->fd, &m->mark);
	*m = MAPPING_NULL;
}

/* Does the machine have so much? The kernel would look for it among the processes, and kill one. */
static bool is_available(size_t n)
{
	FILE *info = fopen("/proc/meminfo", "re");
	char line[128];
	size_t kib = SIZE_MAX;

	while (info && kib == SIZE_MAX && fgets(line, sizeof line, info))
		if (sscanf(line, "MemAvailable: %zu", &kib) != 1)
			kib = SIZE_MAX;
	if (info)
		fclose(info);
	return n / 1024 < kib;
}

/* Large parts by way of the mapping: that spares us a fault for each page. */
static int populate_large(const struct mapping *m, size_t offset, size_t n)
{
	int rc;

	if (n >= CHECKED && !is_available(n))
		return -ENOMEM;
	do
		rc = madvise(m->base + offset, n, MADV_POPULATE_WRITE) ? -errno : 0;
	while (rc == -EINTR || rc == -EAGAIN);
	return rc == -EFAULT ? -ENOMEM : rc;
}

int crew__mapping_populate(const struct mapping *m, size_t offset, size_t n)
{
	int rc = n >= LARGE ? populate_large(m, offset, n) : -EINVAL;

	if (rc != -EINVAL) /* Linux before 5.14 */
		return rc;
	if (!crew__fd_is(m->fd, &m->mark))
		return -EBADF;
	do
		rc = posix_fallocate(m->fd, (off_t)offset, (off_t)n);
	while (rc == EINTR);
	return -rc;
}

void crew__mapping_punch(const struct mapping *m, size_t offset, size_t n)
{
	if (!crew__fd_is(m->fd, &m->mark))
		return; /* whoever has the last mapping frees them */
	while (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)n) && errno == EINTR)
		;
}

void crew__mapping_unmap(const struct mapping *m, size_t offset, size_t n)
{
	if (n == 0)
		return;
	crew__mapping_punch(m, offset, n);
	munmap(m->base + offset, n);
}

/* A descriptor that was opened for reading cannot be mapped otherwise, not even by mprotect(). */
int crew__mapping_restrict(struct mapping *m)
{
	char path[32];
	int fd;

	snprintf(path, sizeof path, "/proc/self/fd/%d", m->fd);
	fd = crew__fd_keep(open(path, O_RDONLY | O_CLOEXEC));
	if (fd < 0)
		return fd == -EMFILE || fd == -ENFILE ? fd : 0;
	close(m->fd);
	m->fd = fd;
	return 0;
}

void *crew__mapping_adopt(const struct mapping *m, bool writable)
{
	struct mapping own = *m;
	void *base;

	if (!writable)
		crew__mapping_restrict(&own); /* if not: mapped read-only all the same */
	base = mmap(own.base, own.size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_NORESERVE, own.fd, 0);
	close(own.fd);
	return base == MAP_FAILED ? NULL : base;
}
