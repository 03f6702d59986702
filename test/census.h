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

/* Where the first mapping begins whose line in /proc/self/maps has this in it, as "/memfd:crew-rw"; NULL: there is none. For tests that look at, or write over,
   what the library keeps to itself. */
void *census_mapping(const char *name);

/* Wait until nothing is there now that was not there before; a joined thread takes a moment to leave /proc. False when something stays:
   what it is, is written to text. */
bool census_settled(const struct census *before, char *text, size_t size);

#endif
