/* SPDX-License-Identifier: BSD-2-Clause */
/* shared_task.h: tasks of several files, one of which is C++. */
#ifndef SHARED_TASK_H
#define SHARED_TASK_H

#include <crew/crew.h>

CREW_TASK_DECLARE(long, product, (long, a), (int, b));

#endif
