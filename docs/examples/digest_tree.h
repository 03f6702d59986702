/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * digest_tree.h: the regular files below some folders, one path after another, in the order of
 *
 *	find FOLDER… -type f -print0 | LC_ALL=C sort -z
 *
 * without ever holding the list: what is kept is the folders on the way to the present file.
 * Paths are spelled as find spells them. Symbolic links are not followed.
 */
#ifndef DIGEST_TREE_H
#define DIGEST_TREE_H

#include <stddef.h>

struct digest_tree;

/* NULL: no memory. The names must outlive the tree. */
struct digest_tree *digest_tree_open(char *const *names, size_t n);

/* 1: *path is the next file. 0: the end. -errno: *path is a folder or an argument that cannot be read; the walk
   goes on behind it. *path is the caller's to free(); NULL, with -ENOMEM, when even that could not be had. */
int digest_tree_next(struct digest_tree *tree, char **path);

/* NULL is allowed. Returns NULL. */
struct digest_tree *digest_tree_close(struct digest_tree *tree);

#endif
