/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tasks.h: tasks that are asked of workers and of children alike.
 */
#ifndef CREW_TEST_TASKS_H
#define CREW_TEST_TASKS_H

#include <crew/crew.h>

CREW_TASK_DECLARE(const char *, no_text); /* NULL */
CREW_TASK_DECLARE(crew_bytes, no_bytes);  /* NULL, 0 */
CREW_TASK_DECLARE(long, stack_size);	  /* of the thread that runs it */

/* For CREW_RAW_TASK: its bytes from the last to the first; E2BIG, "N bytes", for more than 64. */
int raw_reverse(crew_call *call);


#endif
