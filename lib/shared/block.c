/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block.c: blocks: in the family's memory, or files in /dev/shm.
 *
 * A named block is made without its name (O_TMPFILE), gets its size and pages, is told to the tracker by its inode, and only then linked under the name: whoever
 * attaches finds it whole, and a kill at any moment leaves nothing.
 *
 * The object that handles name has the name in it and the inode. Each process maps it for itself, when it first asks, and notes where; a name that is another
 * file's by now is not taken for it.
 */
#include <crew/shared.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ipc/object.h"
#include "shared/tracker.h"

#define DIRECTORY "/dev/shm/"

struct named_block {
	uint64_t stamp;

	/* fixed */
	uint64_t size, place; /* in the family's memory; 0: it is a file */
	uint64_t dev, ino;
	char name[BLOCK_NAME_MOST + 1]; /* "": none */
};

/* ---- what this process has mapped ---- */

struct view {
	struct view *next;
	uint64_t stamp;
	crew_bytes run;
};

static struct {
	pthread_mutex_t mutex;
	pthread_once_t once;
	struct view *first; /* guarded by mutex */
} views = { .mutex = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT };

static void before_fork(void)
{
	pthread_mutex_lock(&views.mutex);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&views.mutex);
}

static void after_fork_child(void)
{
	pthread_mutex_init(&views.mutex, NULL); /* the list is right; the mappings are inherited */
}

static void install(void)
{
	pthread_atfork(before_fork, after_fork, after_fork_child);
}

static struct view **view_of(uint64_t stamp)
{
	struct view **place = &views.first;

	while (*place && (*place)->stamp != stamp)
		place = &(*place)->next;
	return place;
}

/* The mutex is held. Takes fd over. */
static int add_view(uint64_t stamp, int fd, size_t size)
{
	struct view *view = malloc(sizeof *view);
	void *p = view ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

	close(fd);
	if (p == MAP_FAILED) {
		free(view);
		return -ENOMEM;
	}
	*view = (struct view){ views.first, stamp, { p, size } };
	views.first = view;
	return 0;
}

static int keep_view(uint64_t stamp, int fd, size_t size)
{
	int rc;

	pthread_once(&views.once, install);
	pthread_mutex_lock(&views.mutex);
	rc = add_view(stamp, fd, size);
	pthread_mutex_unlock(&views.mutex);
	return rc;
}

static void drop_view(uint64_t stamp)
{
	struct view **place, *view;

	pthread_mutex_lock(&views.mutex);
	place = view_of(stamp);
	view = *place;
	if (view)
		*place = view->next;
	pthread_mutex_unlock(&views.mutex);
	if (view)
		munmap(view->run.data, view->run.len);
	free(view);
}

/* ---- names ---- */

static int check_name(const char *name)
{
	size_t n = name ? strlen(name) : 0;

	if (n > BLOCK_NAME_MOST)
		return -ENAMETOOLONG;
	return n == 0 || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ? -EINVAL : 0;
}

static void path_for(char path[sizeof DIRECTORY + BLOCK_NAME_MOST], const char *name)
{
	snprintf(path, sizeof DIRECTORY + BLOCK_NAME_MOST, "%s%s", DIRECTORY, name);
}

static int open_named(const char *name, struct stat *ret)
{
	char path[sizeof DIRECTORY + BLOCK_NAME_MOST];
	int fd;

	path_for(path, name);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, ret) == 0 && S_ISREG(ret->st_mode) && ret->st_size > 0)
		return fd;
	close(fd);
	return -EINVAL;
}

/* A file of this size without a name. */
static int open_nameless(size_t size, struct stat *ret)
{
	struct rlimit limit;
	int fd, rc;

	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && size > limit.rlim_cur)
		return -EFBIG; /* else it would be a signal */
	fd = open(DIRECTORY, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	do
		rc = posix_fallocate(fd, 0, (off_t)size);
	while (rc == EINTR);
	if (rc == 0 && fstat(fd, ret))
		rc = errno;
	if (rc == 0)
		return fd;
	close(fd);
	return -rc;
}

static int give_name(int fd, const char *name, const struct stat *file, unsigned flags)
{
	char path[sizeof DIRECTORY + BLOCK_NAME_MOST], self[32];
	int rc;

	path_for(path, name);
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
#ifdef CREW_FAULT_NAME_FIRST /* for test/fault, which must find it */
	(void)!linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
#endif
	rc = flags & CREW_UNTRACKED ? 0 : crew__tracker_add(name, file);
	if (rc)
		return rc;
	if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	rc = -errno;
	if (!(flags & CREW_UNTRACKED))
		crew__tracker_forget(name);
	return rc;
}

/* A name that nobody has. */
static int give_any_name(int fd, char name[BLOCK_NAME_MOST + 1], const struct stat *file, unsigned flags)
{
	int rc = -EEXIST;

	for (int i = 0; i < 100 && rc == -EEXIST; i++) {
		uint64_t random[2];

		if (getrandom(random, sizeof random, 0) != sizeof random)
			return -EAGAIN;
		snprintf(name, BLOCK_NAME_MOST + 1, "crew-%016llx%016llx", (unsigned long long)random[0], (unsigned long long)random[1]);
		rc = give_name(fd, name, file, flags);
	}
	return rc;
}

/* ---- life cycle ---- */

/* An object for a file that fd, which is taken over, is open on. */
static crew_block new_named(int fd, const char *name, const struct stat *file)
{
	struct named_block *b;
	crew_block ret = { crew__handle_make(HANDLE_BLOCK, sizeof *b, (void **)&b) };
	int rc;

	if (!b) {
		close(fd);
		return ret;
	}
	b->size = (uint64_t)file->st_size;
	b->dev = file->st_dev;
	b->ino = file->st_ino;
	strncpy(b->name, name, BLOCK_NAME_MOST);
	rc = keep_view(ret.handle.stamp, fd, (size_t)file->st_size);
	if (rc == 0)
		return ret;
	crew_block_drop(ret);
	return (crew_block){ crew__handle_failed(rc) };
}

static crew_block new_anonymous(size_t size)
{
	struct named_block *b;
	crew_block ret;
	uint64_t place;
	int rc = crew__family_alloc(size, &place);

	if (rc)
		return (crew_block){ crew__handle_failed(rc) };
	ret.handle = crew__handle_make(HANDLE_BLOCK, sizeof *b, (void **)&b);
	if (b) {
		b->size = size;
		b->place = place;
	} else {
		crew__family_free(place);
	}
	return ret;
}

crew_block crew_block_make_with(const char *name, size_t size, unsigned flags)
{
	char random[BLOCK_NAME_MOST + 1];
	bool any = name && !name[0];
	crew_block block;
	struct stat file;
	int rc = size == 0 || size > PTRDIFF_MAX || flags & ~(unsigned)CREW_UNTRACKED ? -EINVAL : 0, fd;

	if (rc == 0 && !name)
		return new_anonymous(size);
	if (rc == 0 && !any)
		rc = check_name(name);
	fd = rc ? rc : open_nameless(size, &file);
	if (fd < 0)
		return (crew_block){ crew__handle_failed(fd) };
	rc = any ? give_any_name(fd, random, &file, flags) : give_name(fd, name, &file, flags);
	if (rc) {
		close(fd);
		return (crew_block){ crew__handle_failed(rc) };
	}
	block = new_named(fd, any ? random : name, &file);
	if (block.handle.place == 0)
		crew_block_unlink(any ? random : name);
	return block;
}

crew_block crew_block_make(const char *name, size_t size)
{
	return crew_block_make_with(name, size, 0);
}

crew_block crew_block_attach(const char *name)
{
	struct stat file;
	int fd = check_name(name);

	if (fd == 0)
		fd = open_named(name, &file);
	if (fd < 0)
		return (crew_block){ crew__handle_failed(fd) };
	return new_named(fd, name, &file);
}

int crew_block_drop(crew_block block)
{
	struct named_block *b = crew__handle_end(block.handle, HANDLE_BLOCK);

	if (!b)
		return crew__handle_reason(block.handle);
	if (b->place)
		crew__family_free(b->place);
	else
		drop_view(block.handle.stamp);
	crew__family_free(block.handle.place);
	return 0;
}

int crew_block_unlink(const char *name)
{
	char path[sizeof DIRECTORY + BLOCK_NAME_MOST];
	int rc = check_name(name);

	if (rc)
		return rc;
	path_for(path, name);
	if (unlink(path))
		return -errno;
	crew__tracker_forget(name);
	return 0;
}

/* ---- looking ---- */

/* Map it here. The mutex is held. */
static crew_bytes view_anew(const struct named_block *b, uint64_t stamp)
{
	struct stat file;
	int fd = open_named(b->name, &file);

	if (fd < 0)
		return (crew_bytes){ NULL, 0 };
	if (file.st_dev != b->dev || file.st_ino != b->ino || (uint64_t)file.st_size < b->size) {
		close(fd);
		return (crew_bytes){ NULL, 0 };
	}
	return add_view(stamp, fd, b->size) ? (crew_bytes){ NULL, 0 } : views.first->run;
}

crew_bytes crew_block_at(crew_block block)
{
	struct named_block *b = handle_at(block.handle, HANDLE_BLOCK);
	crew_bytes run;
	struct view *view;

	if (!b)
		return (crew_bytes){ NULL, 0 };
	if (b->place)
		return (crew_bytes){ crew__family_at(b->place), b->size };
	pthread_once(&views.once, install);
	pthread_mutex_lock(&views.mutex);
	view = *view_of(block.handle.stamp);
	run = view ? view->run : view_anew(b, block.handle.stamp);
	pthread_mutex_unlock(&views.mutex);
	return run;
}

int crew_block_name(crew_block block, char *buf, size_t size)
{
	struct named_block *b = handle_at(block.handle, HANDLE_BLOCK);
	size_t n = b ? strnlen(b->name, BLOCK_NAME_MOST) : 0;

	if (!b)
		return crew__handle_reason(block.handle);
	if (!buf || n >= size)
		return -ERANGE;
	memcpy(buf, b->name, n);
	buf[n] = '\0';
	return (int)n;
}
