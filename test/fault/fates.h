/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fates.h: see fates.c.
 */
#ifndef CREW_TEST_FATES_H
#define CREW_TEST_FATES_H

#include <crew/executor.h>

enum { FATES_WORKERS = 3 };

/* n tasks on ex, which has so many workers and nothing else to do. The test fails when anything is wrong. */
void fates_meet(crew_executor *ex, bool processes, size_t n);

#endif
