/* SPDX-License-Identifier: BSD-2-Clause */
/* shared_task.c: the C half of from_cxx: the body of a task that C++ submits. */
#include "shared_task.h"

CREW_TASK_DEFINE(long, product, (long, a), (int, b))
{
	return a * b;
}
