/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * carriers.c: the table of those who may be on the other side.
 *
 * A function is named to another process by its distance from one of this program: they run the same program, if not at the same address. What a new program
 * image does not know either is which of the carriers it is: that travels along.
 */
#include "carriers.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CARRIED_MAX = 64, WORKERS = 8 };

struct carried {
	carried_fn *fn;
	void *arg;
	size_t size;
	pid_t pid;
	crew_process *child;
	crew_future *future;
};

struct carrier {
	const char *name;
	void (*start)(struct carried *c);
	void (*join)(struct carried *c);
	enum crew_start method;
	bool separate;
};

static const struct carrier *carrier;
static struct carried carried[CARRIED_MAX];
static int carried_count;
static crew_executor *workers;
static const struct carrier *carrier_at(int which);

CREW_TASK(int, call_carried, (int, which), (long, distance), (crew_bytes, arg))
{
	if (carrier != carrier_at(which)) /* a new program image */
		carrier = carrier_at(which);
	((carried_fn *)(uintptr_t)((intptr_t)(uintptr_t)carry + distance))(arg.data);
	return 1;
}

static long distance_of(carried_fn *fn)
{
	return (long)((intptr_t)(uintptr_t)fn - (intptr_t)(uintptr_t)carry);
}

static int which_one(void)
{
	return (int)(carrier - carrier_at(0));
}

static void start_thread(struct carried *c)
{
	c->child = crew_thread_start(call_carried, which_one(), distance_of(c->fn), crew_bytes_make(c->arg, c->size));
}

static void start_child(struct carried *c)
{
	c->child = crew_start_with((.start = carrier->method), call_carried, which_one(), distance_of(c->fn), crew_bytes_make(c->arg, c->size));
}

static void join_child(struct carried *c)
{
	int y = 0;

	CHECK_EQ(crew_process_result(c->child, &y), 0);
	CHECK_EQ(y, 1);
	CHECK(crew_process_close(c->child) == NULL);
}

static void start_fork(struct carried *c)
{
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

static void start_worker(struct carried *c)
{
	c->future = crew_submit(workers, call_carried, which_one(), distance_of(c->fn), crew_bytes_make(c->arg, c->size));
}

static void join_worker(struct carried *c)
{
	int y = 0;

	CHECK_EQ(crew_take(c->future, &y, NULL), 0);
	CHECK_EQ(y, 1);
}

static const struct carrier carriers[] = {
	{ "thread", start_thread, join_child, CREW_START_DEFAULT, false },
	{ "forked_child", start_fork, join_fork, CREW_START_DEFAULT, true },
	{ "server_child", start_child, join_child, CREW_START_SERVER, true },
	{ "spawned_child", start_child, join_child, CREW_START_SPAWN, true },
	{ "process_worker", start_worker, join_worker, CREW_START_DEFAULT, true },
};

static const struct carrier *carrier_at(int which)
{
	return &carriers[which];
}

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
	c->size = n;
	carrier->start(c);
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
