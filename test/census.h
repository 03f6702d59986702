/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * census.h: what a process has that a library could leave behind: file descriptors, threads, children, shared mappings.
 */
#ifndef CREW_TEST_CENSUS_H
#define CREW_TEST_CENSUS_H

#include <stdbool.h>
#include <stddef.h>

enum { CENSUS_MAX = 1024 };

struct census {
	int fds[CENSUS_MAX], fd_count;
	unsigned long mappings[CENSUS_MAX]; /* start addresses of those that are shared */
	int mapping_count;
	int threads;
	int children;
};

void census_take(struct census *ret);

/* Wait until nothing is there now that was not there before; a joined thread takes a moment to leave /proc. False when something stays:
   what it is, is written to text. */
bool census_settled(const struct census *before, char *text, size_t size);

#endif
