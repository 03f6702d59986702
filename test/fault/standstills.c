/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * standstills.c: workers that are stopped, not dead: nobody is told, and others go on.
 */
#include <crew/crew.h>
#include <signal.h>

#include "runner.h"
#include "vitals.h"

CREW_TASK(int, which_worker)
{
	return crew_task_worker();
}

/* On one CPU a waiter relies on the worker that has made way for it with its answer, once. */
TEST(a_worker_that_is_stopped_after_its_answer_holds_up_nobody)
{
	test_have_one_cpu();
	CREW_SCOPE (ex, crew_processes(2))
		for (int i = 0; i < 20; i++) {
			crew_future *f;
			pid_t pid;
			int y = -1;

			for (int k = 0; k < 50; k++)
				CHECK_EQ(crew_run(ex, &y, which_worker), 0);
			pid = crew_executor_worker_pid(ex, y);
			vitals_stop(pid);
			f = crew_submit(ex, which_worker);
			CHECK_EQ(crew_future_wait(f, 10000), 0);
			kill(pid, SIGCONT);
			crew_future_free(f);
		}
}
