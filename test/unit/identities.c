/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * identities.c: what a task is called between processes, looked for while a thread forks.
 */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <crew/crew.h>

#include "../runner.h"
#include "core/identity.h"

CREW_TASK(int, sought)
{
	return 1;
}

static uint32_t stop;

static void *look_all_the_time(void *arg)
{
	struct task_identity id;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		CHECK_EQ(crew__identify(CREW_TASK_OF(sought), &id, NULL), 0);
	return arg;
}

/* The loader's lock is not taken in the child by a thread that is not there: that is how a server comes to be forked while the program submits. */
TEST_WITHIN(a_fork_comes_when_nobody_looks_for_a_module, 60)
{
	size_t forks = test_scaled(200);
	struct task_identity id;
	pthread_t thread;
	int status;

	crew_executor_close(crew_processes_open(NULL, 0)); /* or nobody would watch over forks */
	CHECK_EQ(crew__identify(CREW_TASK_OF(sought), &id, NULL), 0);
	CHECK_EQ(pthread_create(&thread, NULL, look_all_the_time, NULL), 0);
	for (size_t i = 0; i < forks; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			alarm(30);
			_exit(crew__identified(&id) == CREW_TASK_OF(sought) ? 0 : 1);
		}
		CHECK(pid > 0);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}
