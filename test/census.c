/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * census.c: reads /proc/self. Counting is done before and after a test in the same process, so what sanitizers, the runner or libc
 * keep for themselves is on both sides and cancels out.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "census.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runner.h"

enum { SETTLE_MS = 3000 };

/* The memory that handles live in stays to the end of a process once it has joined its family, on purpose (lib/ipc/family.h). */
#define FAMILY "/memfd:crew-family"
#define COUNTS ".profraw" /* test/coverage: a module that stays loaded has a file of its own */

static bool is_family(int fd)
{
	char path[64], target[64] = "";

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return readlink(path, target, sizeof target - 1) > 0 && strncmp(target, FAMILY, strlen(FAMILY)) == 0;
}

/* What the library keeps on purpose until the program ends; missing from programs that use no processes. */
bool crew__server_keeps(int fd, pid_t pid) __attribute__((__weak__));

static bool kept(int fd, pid_t pid)
{
	return crew__server_keeps && crew__server_keeps(fd, pid);
}

static int numbers_in(const char *path, int *numbers)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int count = 0;

	while (dir && (entry = readdir(dir)) && count < CENSUS_MAX)
		if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(dir))
			numbers[count++] = atoi(entry->d_name);
	if (dir)
		closedir(dir);
	return count;
}

static void take_mappings(struct census *c)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], mode[8];
	unsigned long start;

	while (maps && fgets(line, sizeof line, maps))
		if (c->mapping_count < CENSUS_MAX && !strstr(line, FAMILY) && !strstr(line, COUNTS) && sscanf(line, "%lx-%*x %7s", &start, mode) == 2 &&
		    (mode[3] == 's' || strstr(line, "/memfd:") || strstr(line, "/dev/shm/")))
			c->mappings[c->mapping_count++] = start;
	if (maps)
		fclose(maps);
}

void *census_mapping(const char *name)
{
	void *found = NULL;
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	while (maps && !found && fgets(line, sizeof line, maps))
		if (strstr(line, name))
			found = (void *)strtoul(line, NULL, 16);
	if (maps)
		fclose(maps);
	return found;
}

/* Children of any thread, the dead that nobody has waited for among them. */
static int count_children(const int *tasks, int task_count)
{
	char path[64];
	int count = 0, pid;

	for (int i = 0; i < task_count; i++) {
		FILE *children;

		snprintf(path, sizeof path, "/proc/self/task/%d/children", tasks[i]);
		children = fopen(path, "re");
		while (children && fscanf(children, "%d", &pid) == 1)
			count += !kept(-1, pid);
		if (children)
			fclose(children);
	}
	return count;
}

void census_take(struct census *ret)
{
	int tasks[CENSUS_MAX];

	memset(ret, 0, sizeof *ret);
	take_mappings(ret);
	ret->fd_count = numbers_in("/proc/self/fd", ret->fds);
	ret->threads = numbers_in("/proc/self/task", tasks);
	ret->children = count_children(tasks, ret->threads);
}

static int new_fd(const struct census *before, const struct census *after)
{
	for (int i = 0, k; i < after->fd_count; i++) {
		for (k = 0; k < before->fd_count && before->fds[k] != after->fds[i]; k++)
			;
		if (k == before->fd_count && !is_family(after->fds[i]) && !kept(after->fds[i], 0))
			return after->fds[i];
	}
	return -1;
}

static unsigned long new_mapping(const struct census *before, const struct census *after)
{
	for (int i = 0, k; i < after->mapping_count; i++) {
		for (k = 0; k < before->mapping_count && before->mappings[k] != after->mappings[i]; k++)
			;
		if (k == before->mapping_count)
			return after->mappings[i];
	}
	return 0;
}

static void name_mapping(unsigned long start, char *text, size_t size)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned long at;

	snprintf(text, size, "a shared mapping is left");
	while (maps && fgets(line, sizeof line, maps))
		if (sscanf(line, "%lx", &at) == 1 && at == start) {
			line[strcspn(line, "\n")] = 0;
			snprintf(text, size, "a shared mapping is left: %.200s", line);
		}
	if (maps)
		fclose(maps);
}

static bool grown(const struct census *before, const struct census *now, char *text, size_t size)
{
	char path[64], target[200] = "";
	int fd = new_fd(before, now);
	unsigned long mapping = new_mapping(before, now);

	if (fd >= 0) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		if (readlink(path, target, sizeof target - 1) < 0)
			target[0] = 0;
		snprintf(text, size, "file descriptor %d is left: %s", fd, target);
	} else if (now->children > before->children) {
		snprintf(text, size, "a child process is left");
	} else if (now->threads > before->threads) {
		snprintf(text, size, "%d threads are left", now->threads - before->threads);
	} else if (mapping) {
		name_mapping(mapping, text, size);
	} else {
		return false;
	}
	return true;
}

bool census_settled(const struct census *before, char *text, size_t size)
{
	static struct census now; /* large */
	int64_t end = test_now_ms() + SETTLE_MS;

	for (;;) {
		census_take(&now);
		if (!grown(before, &now, text, size))
			return true;
		if (test_now_ms() >= end)
			return false;
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	}
}
