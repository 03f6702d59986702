/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * family.c: making, finding and filling the memory of a family.
 *
 * The memory is as large as it will ever be from the start: address space is reserved, pages come when blocks are handed out. Where 64 GiB of
 * addresses cannot be had (RLIMIT_AS, RLIMIT_FSIZE, valgrind) it is half of it, and half of that. Its seals keep any member from changing the size under
 * the others. The mapping is inherited by fork and left out of core dumps.
 *
 * Pages are asked for by address (MADV_POPULATE_WRITE, Linux 5.14) and given back by address (MADV_REMOVE): the descriptor may have been closed by a
 * program that closes them all, and its number may be a file of the program's by now. Older kernels are asked through the descriptor, after
 * a look at what it is.
 */
#include "ipc/family.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"
#include "ipc/cell.h"
#include "ipc/extent.h"
#include "ipc/family_memory.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* since glibc 2.35 in the headers */
#endif

#define SIZE_MOST ((size_t)64 << 30)
#define SIZE_LEAST ((size_t)1 << 20)

struct family *crew__family;

/* ---- pages ---- */

static bool ours(const struct family *m)
{
	return crew__fd_is(m->fd, &m->mark);
}

static int populate_by_fd(const struct family *m, const unsigned char *p, size_t n)
{
	int rc;

	if (!ours(m))
		return -ENOMEM;
	do
		rc = posix_fallocate(m->fd, p - m->base, (off_t)n);
	while (rc == EINTR);
	return -rc;
}

int crew__family_populate(const struct family *m, void *p, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), before = (size_t)((unsigned char *)p - m->base) & (page - 1);
	unsigned char *start = (unsigned char *)p - before;
	size_t length = (n + before + page - 1) & ~(page - 1);

	while (madvise(start, length, MADV_POPULATE_WRITE)) {
		if (errno == EINVAL)
			return populate_by_fd(m, start, length);
		if (errno != EINTR && errno != EAGAIN)
			return errno == EFAULT || errno == EHWPOISON ? -ENOMEM : -errno;
	}
	return 0;
}

bool crew__family_give_back(void *p, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return madvise(p, (n + page - 1) & ~(page - 1), MADV_REMOVE) == 0;
}

/* ---- the mapping ---- */

static struct family *discard(struct family *m)
{
	if (m && m->base)
		munmap(m->base, m->size);
	if (m && m->fd >= 0)
		close(m->fd);
	free(m);
	return NULL;
}

/* Take over fd: -errno, and it is closed. */
static int map(int fd, size_t size, struct family **ret)
{
	struct family *m = calloc(1, sizeof *m);
	void *base;

	if (!m || crew__fd_mark(fd, &m->mark)) {
		free(m);
		close(fd);
		return -ENOMEM;
	}
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED) {
		int rc = -errno;

		free(m);
		close(fd);
		return rc;
	}
	m->base = base;
	m->size = size;
	m->fd = fd;
	madvise(base, size, MADV_DONTDUMP);
	*ret = m;
	return 0;
}

/* At most what RLIMIT_FSIZE lets us; asking for more would be a signal. */
static size_t size_limit(void)
{
	struct rlimit limit;
	size_t size = SIZE_MOST;

	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		while (size > limit.rlim_cur)
			size /= 2;
	return size;
}

static int create(size_t size, struct family **ret)
{
	int fd = crew__fd_keep(memfd_create("crew-family", MFD_CLOEXEC | MFD_ALLOW_SEALING));

	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return map(fd, size, ret);
}

static int furnish(struct family *m)
{
	struct family_head *head = head_of(m);
	size_t table;
	int rc = crew__family_populate(m, m->base, TABLE_OFFSET);

	if (rc)
		return rc;
	head->chunk_count = (uint32_t)(m->size >> CHUNK_SHIFT);
	table = TABLE_OFFSET + head->chunk_count * sizeof(uint64_t);
	head->first_chunk = (uint32_t)((table + CHUNK_SIZE - 1) >> CHUNK_SHIFT);
	head->hint = head->first_chunk;
	for (int i = 0; i < CELL_CLASSES; i++)
		head->cell_hint[i] = head->first_chunk;
	if (getrandom(&head->next_stamp, sizeof head->next_stamp, GRND_NONBLOCK) != sizeof head->next_stamp)
		head->next_stamp = crew__now() << 20 ^ (uint64_t)getpid();
	return 0;
}

/* Be of this family, unless another thread was faster. True: it is ours. */
static bool settle(struct family *m)
{
	ck_pr_fence_release();
	if (ck_pr_cas_ptr(&crew__family, NULL, m)) /* pairs with the acquire in family_here() */
		return true;
	discard(m);
	return false;
}

int crew__family_join(void)
{
	struct family *m = NULL;
	int rc = -ENOMEM;

	if (family_here())
		return 0;
	for (size_t size = size_limit(); rc && size >= SIZE_LEAST; size /= 2) {
		rc = create(size, &m);
		if (rc == -EMFILE || rc == -ENFILE)
			break;
	}
	if (rc == 0)
		rc = furnish(m);
	if (rc) {
		discard(m);
		return rc;
	}
	settle(m);
	return 0;
}

int crew__family_fd(void)
{
	struct family *m = family_here();

	return !m ? -ENOENT : ours(m) ? m->fd : -EBADF;
}

/* By what nobody can change: a process gone mad may have written over what lies in it, and who is executed afterwards need not suffer for that. */
static bool is_family(const struct family *m)
{
	const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int seals = fcntl(m->fd, F_GET_SEALS);

	return seals >= 0 && (seals & all) == all && m->size % CHUNK_SIZE == 0;
}

int crew__family_adopt(int fd)
{
	struct family *m = NULL;
	struct stat st;
	int rc;

	if (fstat(fd, &st) || st.st_size < (off_t)SIZE_LEAST) {
		close(fd);
		return -EINVAL;
	}
	rc = map(fd, (size_t)st.st_size, &m);
	if (rc)
		return rc;
	if (!is_family(m)) {
		discard(m);
		return -EINVAL;
	}
	return settle(m) ? 0 : -EALREADY;
}

/* ---- blocks ---- */

int crew__family_alloc(size_t n, uint64_t *ret_offset)
{
	int rc = n == 0 ? -EINVAL : crew__family_join();

	if (rc)
		return rc;
	return n <= CELL_MAX ? crew__cell_alloc(family_here(), n, ret_offset) : crew__extent_alloc(family_here(), n, ret_offset);
}

int crew__family_root(enum family_root which, size_t n, uint64_t *ret_offset)
{
	int rc = crew__family_join();
	uint64_t *root = rc ? NULL : &head_of(family_here())->root[which], seen = root ? load_acquire_64(root) : 0, mine;

	if (rc == 0 && seen == 0) {
		rc = crew__family_alloc(n, &mine);
		if (rc)
			return rc;
		ck_pr_fence_release();
		if (ck_pr_cas_64_value(root, 0, mine, &seen)) /* pairs with the acquire above */
			seen = mine;
		else
			crew__family_free(mine);
	}
	*ret_offset = seen;
	return rc;
}

/* The word of the chunk that offset lies in; 0: it lies in none. */
static uint64_t chunk_word(const struct family *m, uint64_t offset)
{
	struct family_head *head;

	if (!m || offset >= m->size || offset % CREW__CACHELINE)
		return 0;
	head = head_of(m);
	if (offset >> CHUNK_SHIFT < head->first_chunk || offset >> CHUNK_SHIFT >= ck_pr_load_32(&head->ready))
		return 0;
	return load_acquire_64(word_of(m, (uint32_t)(offset >> CHUNK_SHIFT))); /* pairs with the release in extent.c and cell.c */
}

void crew__family_free(uint64_t offset)
{
	struct family *m = family_here();
	uint64_t word = chunk_word(m, offset);

	if (CHUNK_KIND(word) == CHUNK_CELLS)
		crew__cell_free(m, offset, word);
	else if (CHUNK_KIND(word) == CHUNK_EXTENT && offset % CHUNK_SIZE == 0)
		crew__extent_free(m, offset, word);
}

void *crew__family_at(uint64_t offset)
{
	struct family *m = family_here();

	return m && offset >= TABLE_OFFSET && offset < m->size ? m->base + offset : NULL;
}

size_t crew__family_size(uint64_t offset)
{
	struct family *m = family_here();
	uint64_t word = chunk_word(m, offset);

	if (CHUNK_KIND(word) == CHUNK_CELLS)
		return crew__cell_size(m, offset, word);
	return CHUNK_KIND(word) == CHUNK_EXTENT && offset % CHUNK_SIZE == 0 ? (size_t)(word >> 8) : 0;
}

size_t crew__family_used(void)
{
	struct family *m = family_here();
	size_t used = 0;

	for (uint32_t i = m ? head_of(m)->first_chunk : 0; m && i < ck_pr_load_32(&head_of(m)->ready); i++) {
		uint64_t word = load_acquire_64(word_of(m, i)); /* as above */

		if (CHUNK_KIND(word) == CHUNK_CELLS)
			used += crew__cells_used(m, i, word);
		else if (CHUNK_KIND(word) != CHUNK_FREE)
			used += CHUNK_SIZE;
	}
	return used;
}
