/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * carriers.c: the table of those who may be on the other side.
 *
 * A function is named to a worker by its distance from one of this program: workers run the same program.
 */
#include "carriers.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CARRIED_MAX = 64, WORKERS = 8 };

struct carried {
	carried_fn *fn;
	void *arg;
	pthread_t thread;
	pid_t pid;
	crew_future *future;
};

struct carrier {
	const char *name;
	void (*start)(struct carried *c, size_t n);
	void (*join)(struct carried *c);
	bool separate;
};

static const struct carrier *carrier;
static struct carried carried[CARRIED_MAX];
static int carried_count;
static crew_executor *workers;

static void *in_thread(void *argument)
{
	struct carried *c = argument;

	c->fn(c->arg);
	return NULL;
}

static void start_thread(struct carried *c, size_t n)
{
	(void)n;
	CHECK_EQ(pthread_create(&c->thread, NULL, in_thread, c), 0);
}

static void join_thread(struct carried *c)
{
	pthread_join(c->thread, NULL);
}

static void start_fork(struct carried *c, size_t n)
{
	(void)n;
	c->pid = fork();
	CHECK(c->pid >= 0);
	if (c->pid == 0) {
		c->fn(c->arg);
		_exit(0);
	}
}

static void join_fork(struct carried *c)
{
	int status;

	CHECK_EQ(waitpid(c->pid, &status, 0), c->pid);
	CHECK_EQ(status, 0);
}

CREW_TASK(int, call_carried, (long, distance), (crew_bytes, arg))
{
	((carried_fn *)(uintptr_t)((intptr_t)(uintptr_t)carry + distance))(arg.data);
	return 1;
}

static void start_worker(struct carried *c, size_t n)
{
	long distance = (long)((intptr_t)(uintptr_t)c->fn - (intptr_t)(uintptr_t)carry);

	c->future = crew_submit(workers, call_carried, distance, crew_bytes_make(c->arg, n));
}

static void join_worker(struct carried *c)
{
	int y = 0;

	CHECK_EQ(crew_take(c->future, &y, NULL), 0);
	CHECK_EQ(y, 1);
}

static const struct carrier carriers[] = {
	{ "thread", start_thread, join_thread, false },
	{ "forked_child", start_fork, join_fork, true },
	{ "process_worker", start_worker, join_worker, true },
};

bool carrier_is_thread(void)
{
	return !carrier->separate;
}

void carry(carried_fn *fn, const void *arg, size_t n)
{
	struct carried *c = &carried[carried_count++];

	CHECK(carried_count <= CARRIED_MAX);
	c->fn = fn;
	c->arg = malloc(n);
	CHECK(c->arg != NULL);
	memcpy(c->arg, arg, n);
	carrier->start(c, n);
}

void carried_join(void)
{
	while (carried_count > 0) {
		struct carried *c = &carried[--carried_count];

		carrier->join(c);
		free(c->arg);
	}
}

void carrier_register(const char *name, const char *file, int line, int seconds, void (*run)(const void *carrier))
{
	for (size_t i = 0; i < sizeof carriers / sizeof carriers[0]; i++)
		test_register(&(struct test){ name, carriers[i].name, file, line, seconds, run, &carriers[i] });
}

void carrier_run(const void *which, void (*body)(void))
{
	carrier = which;
	if (carrier->start == start_worker) {
		workers = crew_processes(WORKERS);
		CHECK_EQ(crew_executor_error(workers, NULL), 0);
	}
	body();
	carried_join();
	crew_executor_close(workers);
}
