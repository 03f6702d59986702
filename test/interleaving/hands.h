/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hands.h: an executor whose workers are threads of the scenario. It does what an executor must do, in as few steps as can be, so that a schedule is
 * about core/, above it.
 */
#ifndef CREW_TEST_HANDS_H
#define CREW_TEST_HANDS_H

#include <crew/executor.h>

/* Bit i of `workers`: thread i calls hands_work(). Opened and closed in each schedule: records lie where they lay in the last one. */
crew_executor *hands_open(unsigned workers);

/* A worker's life, and its end: once nothing will be submitted any more. */
void hands_work(crew_executor *ex);
void hands_stop(crew_executor *ex);

#endif
