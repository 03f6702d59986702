/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crew.h: executors and futures for C, all of it, in reading order.
 *
 *	#include <crew/crew.h>
 *
 *	CREW_TASK(long, square, (long, x)) { return x * x; }
 *
 *	CREW_SCOPE (ex, crew_processes(4)) {
 *		crew_future *f = crew_submit(ex, square, 12);
 *		long y;
 *		if (crew_result(f, &y) == 0) …
 *	}
 */
#ifndef CREW_CREW_H
#define CREW_CREW_H

#include <crew/base.h>
#include <crew/types.h>
#include <crew/task.h>
#include <crew/future.h>
#include <crew/executor.h>
#include <crew/threads.h>
#include <crew/processes.h>
#include <crew/process.h>
#include <crew/pool.h>
#include <crew/handle.h>
#include <crew/lock.h>
#include <crew/shared.h>
#include <crew/queue.h>
#include <crew/pipe.h>

#endif
