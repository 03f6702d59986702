/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * own_files.h: what a program opens after it has closed everything, under the numbers that the library's descriptors had.
 *
 *	close_all();
 *	own_files_open(&own, shift);
 *	…					whatever the library does now
 *	own_files_check(&own);			nothing of it was touched
 */
#ifndef CREW_TEST_OWN_FILES_H
#define CREW_TEST_OWN_FILES_H

enum { OWN_FILES = 48, OWN_KINDS = 6 };

struct own_files {
	int fd[OWN_FILES], shift;
};

/* All above 2. */
void close_all(void);

/* Some of each kind that the library has, too. With shifts from 0 to OWN_KINDS - 1 each number is had by each kind once. */
void own_files_open(struct own_files *own, int shift);

/* They are open, and neither written to, nor read from, nor armed. The test fails otherwise. */
void own_files_check(const struct own_files *own);

#endif
