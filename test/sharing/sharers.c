/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sharers.c: threads and forked children under one face.
 */
#include "sharers.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/family.h"

bool crowd_forks;

static void *member_thread(void *arg)
{
	struct crowd_member *m = arg;

	m->body(m->i, m->arg);
	return NULL;
}

static void member_process(void *arg)
{
	struct crowd_member *m = arg;

	m->body(m->i, m->arg);
}

pid_t child_start(void (*body)(void *arg), void *arg)
{
	pid_t parent = getpid(), pid;

	CHECK_EQ(crew__family_join(), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			body(arg);
		_exit(0);
	}
	return pid;
}

void child_join(pid_t pid)
{
	int status;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

void child_kill(pid_t pid)
{
	int status;

	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
}

void child_await_sleep(pid_t pid)
{
	char path[64], state = 'R';

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	for (int seen = 0; seen < 3; seen += state == 'S') {
		FILE *file = fopen(path, "re");

		CHECK(file && fscanf(file, "%*d %*s %c", &state) == 1);
		fclose(file);
		sched_yield();
	}
}

void crowd_start(struct crowd *crowd, int n, void (*body)(int i, void *arg), void *arg)
{
	CHECK_LE(n, CROWD_MAX);
	crowd->n = n;
	for (int i = 0; i < n; i++) {
		struct crowd_member *m = &crowd->member[i];

		*m = (struct crowd_member){ .body = body, .arg = arg, .i = i };
		if (crowd_forks)
			m->pid = child_start(member_process, m);
		else
			CHECK_EQ(pthread_create(&m->thread, NULL, member_thread, m), 0);
	}
}

void crowd_join(struct crowd *crowd)
{
	for (int i = 0; i < crowd->n; i++) {
		if (crowd->member[i].pid)
			child_join(crowd->member[i].pid);
		else
			CHECK_EQ(pthread_join(crowd->member[i].thread, NULL), 0);
	}
}

void carried_register(const char *name, const char *file, int line, int seconds, void (*run)(const void *forks))
{
	test_register(&(struct test){ name, "threads", file, line, seconds, run, NULL });
	test_register(&(struct test){ name, "forked", file, line, seconds, run, &crowd_forks });
}

void carried_run(const void *forks, void (*body)(void))
{
	crowd_forks = forks != NULL;
	body();
}
