/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * digest_tree.c: a lazy walk in the byte order of whole paths.
 *
 * Sorting each folder by name is not enough: "a-b" comes before "a/x", though "a" comes before "a-b". The
 * paths below a folder all begin with its name and a '/', and nothing else does; so a folder sorts as its
 * name with that '/' behind it, and whole paths come out in order. (git sorts its trees so, for the same
 * reason.)
 *
 *	folder  { "a-b", "a/", "a0" }           entries of one open folder, sorted; "a/" is a folder
 *	   └─ folder  { "x", "y" }              opened when the walk reaches it, freed when it leaves it
 *
 * Each argument is one such walk. They may overlap (find a a/b names a file twice), hence cannot follow one
 * after another: a heap gives the walk whose present path is least. A walk that has not begun stands at its
 * argument's own name, with which all its paths begin, so it is opened no sooner than it is needed.
 *
 * Memory: the names in the folders that are open, that is, along one path for each walk that has begun.
 */
#define _GNU_SOURCE
#include "digest_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct folder {
	struct folder *parent;
	size_t prefix; /* how much of the walk's path is this folder's, with its '/' */
	size_t next, count;
	char **entries; /* into names; a folder's ends in '/' */
	char *names;
};

struct walk {
	char *path; /* where it is; begins with its argument */
	size_t room;
	struct folder *top;
	bool begun;
	int at; /* 1: at a file. -errno: at something unreadable. 0: at its end */
};

struct digest_tree {
	size_t count; /* walks that have not ended, least path first, as a binary heap */
	struct walk walks[];
};

/* ---- one folder ---- */

static struct folder *folder_free(struct folder *folder)
{
	struct folder *parent = folder->parent;

	free(folder->entries);
	free(folder->names);
	free(folder);
	return parent;
}

/* 'f' a regular file, 'd' a folder, 0 something else or gone already. */
static char kind_of(int fd, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type == DT_REG)
		return 'f';
	if (entry->d_type == DT_DIR)
		return 'd';
	if (entry->d_type != DT_UNKNOWN || fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return S_ISREG(st.st_mode) ? 'f' : S_ISDIR(st.st_mode) ? 'd' : 0;
}

/* All names, each with its 0, one behind the other. */
static int read_names(DIR *dir, struct folder *folder)
{
	size_t used = 0, room = 0;

	for (;;) {
		errno = 0;
		const struct dirent *entry = readdir(dir);
		if (!entry)
			return -errno;
		char kind = kind_of(dirfd(dir), entry);
		if (!kind || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		size_t len = strlen(entry->d_name);
		if (used + len + 2 > room) {
			char *names = realloc(folder->names, room = 2 * room + 1024);
			if (!names)
				return -ENOMEM;
			folder->names = names;
		}
		memcpy(folder->names + used, entry->d_name, len);
		used += len;
		if (kind == 'd')
			folder->names[used++] = '/';
		folder->names[used++] = 0;
		folder->count++;
	}
}

/* strcmp() compares unsigned bytes, and the 0 at an end is less than any: as sort -z does in the C locale. */
static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int sort_names(struct folder *folder)
{
	char *name = folder->names;

	folder->entries = malloc((folder->count + 1) * sizeof *folder->entries);
	if (!folder->entries)
		return -ENOMEM;
	for (size_t i = 0; i < folder->count; i++, name += strlen(name) + 1)
		folder->entries[i] = name;
	qsort(folder->entries, folder->count, sizeof *folder->entries, by_bytes);
	return 0;
}

static int read_folder(int fd, struct folder *folder)
{
	DIR *dir = fdopendir(fd);
	int code;

	if (!dir) {
		code = -errno;
		close(fd);
		return code;
	}
	code = read_names(dir, folder);
	closedir(dir);
	return code < 0 ? code : sort_names(folder);
}

/* ---- one argument ---- */

/* Put name behind the first `at` bytes of the path; there is always room for one more byte. */
static int walk_set_path(struct walk *walk, size_t at, const char *name)
{
	size_t len = strlen(name) + 1;

	if (at + len + 1 > walk->room) {
		char *path = realloc(walk->path, at + len + 256);
		if (!path)
			return -ENOMEM;
		walk->path = path;
		walk->room = at + len + 256;
	}
	memcpy(walk->path + at, name, len);
	return 0;
}

/* Step into the folder at the path, which ends without a '/' but for an argument's own. */
static int walk_enter(struct walk *walk)
{
	int fd = open(walk->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), code;
	struct folder *folder;

	if (fd < 0)
		return -errno;
	folder = calloc(1, sizeof *folder);
	if (!folder) {
		close(fd);
		return -ENOMEM;
	}
	code = read_folder(fd, folder);
	if (code < 0) {
		folder_free(folder);
		return code;
	}
	folder->prefix = strlen(walk->path);
	if (walk->path[folder->prefix - 1] != '/') {
		walk->path[folder->prefix++] = '/';
		walk->path[folder->prefix] = 0;
	}
	folder->parent = walk->top;
	walk->top = folder;
	return 0;
}

/* To the next file or failure: what walk->at is to be. */
static int walk_advance(struct walk *walk)
{
	while (walk->top) {
		struct folder *folder = walk->top;
		if (folder->next == folder->count) {
			walk->top = folder_free(folder);
			continue;
		}
		int code = walk_set_path(walk, folder->prefix, folder->entries[folder->next++]);
		if (code < 0)
			return code;
		size_t len = strlen(walk->path);
		if (walk->path[len - 1] != '/')
			return 1;
		walk->path[len - 1] = 0;
		code = walk_enter(walk);
		if (code < 0)
			return code;
	}
	return 0;
}

static int walk_begin(struct walk *walk)
{
	struct stat st;
	int code;

	walk->begun = true;
	if (lstat(walk->path, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode))
		return 1;
	if (!S_ISDIR(st.st_mode))
		return 0;
	code = walk_enter(walk);
	return code < 0 ? code : walk_advance(walk);
}

static void walk_fini(struct walk *walk)
{
	while (walk->top)
		walk->top = folder_free(walk->top);
	free(walk->path);
}

/* ---- all of them ---- */

/* The walk at i may stand too high in the heap: let it sink. */
static void tree_sink(struct digest_tree *tree, size_t i)
{
	struct walk *walks = tree->walks;

	for (;;) {
		size_t least = i;
		for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < tree->count; child++)
			if (strcmp(walks[child].path, walks[least].path) < 0)
				least = child;
		if (least == i)
			return;
		struct walk moved = walks[i];
		walks[i] = walks[least];
		walks[least] = moved;
		i = least;
	}
}

/* The least walk has moved on: find its new place, or drop it. */
static void tree_settle(struct digest_tree *tree)
{
	if (tree->walks[0].at == 0) {
		walk_fini(&tree->walks[0]);
		tree->walks[0] = tree->walks[--tree->count];
	}
	tree_sink(tree, 0);
}

struct digest_tree *digest_tree_open(char *const *names, size_t n)
{
	struct digest_tree *tree = calloc(1, sizeof *tree + n * sizeof tree->walks[0]);

	if (!tree)
		return NULL;
	for (; tree->count < n; tree->count++)
		if (walk_set_path(&tree->walks[tree->count], 0, names[tree->count]) < 0)
			return digest_tree_close(tree);
	for (size_t i = n / 2; i-- > 0;)
		tree_sink(tree, i);
	return tree;
}

int digest_tree_next(struct digest_tree *tree, char **path)
{
	while (tree->count > 0) {
		struct walk *least = &tree->walks[0];
		if (!least->begun) {
			least->at = walk_begin(least);
			tree_settle(tree);
			continue;
		}
		int at = least->at;
		*path = strdup(least->path);
		least->at = walk_advance(least);
		tree_settle(tree);
		return *path ? at : -ENOMEM;
	}
	return 0;
}

struct digest_tree *digest_tree_close(struct digest_tree *tree)
{
	if (tree)
		for (size_t i = 0; i < tree->count; i++)
			walk_fini(&tree->walks[i]);
	free(tree);
	return NULL;
}
