/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * passing.c: how dear is it to pass 8 bytes from one process to another? Q1 by a queue, Q2 by a pipe: a stream one way, nanoseconds an item; and
 * there and back, microseconds, one at a time.
 *
 *	Q1 Q2			a stream
 *	Q1/echo Q2/echo		there and back
 *	…/one-cpu		--one-cpu: both sides share a CPU
 *
 * --bench says which. The same by hand: baselines/passing_by_hand.c, by CPython: baselines/passing.py.
 */
#include <crew/crew.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

enum { ITEMS = 1000000, ECHOES = 50000, CAPACITY = 1024 };

static bool by_queue;
static crew_queue there, back;
static crew_pipe end[2];

static void put(crew_queue q, crew_pipe p, long x)
{
	int rc = by_queue ? crew_put(q, &x) : crew_pipe_send(p, &x, sizeof x, CREW_FOREVER);

	measure_require(rc == 0, "could not put: %s", crew_strerror(rc));
}

static long get(crew_queue q, crew_pipe p)
{
	long x = -1, rc = by_queue ? crew_get(q, &x) : crew_pipe_recv(p, &x, sizeof x, CREW_FOREVER);

	measure_require(rc >= 0, "could not get: %s", crew_strerror((int)rc));
	return x;
}

static pid_t start(bool echo, long n)
{
	pid_t pid = fork();

	measure_require(pid >= 0, "fork failed");
	if (pid)
		return pid;
	for (long i = 0; i < n; i++)
		put(echo ? back : there, end[1], echo ? get(there, end[1]) + 1 : i);
	_exit(0);
}

static double round_of(bool echo, long n)
{
	pid_t pid = start(echo, n);
	int64_t begin = measure_now(), took;
	int status;

	for (long i = 0; i < n; i++) {
		if (echo)
			put(there, end[0], i);
		long x = get(echo ? back : there, end[0]);

		measure_require(x == i + echo, "%ld came as %ld", i + echo, x);
	}
	took = measure_now() - begin;
	waitpid(pid, &status, 0);
	measure_require(status == 0, "the other side failed");
	return (double)took / (double)n;
}

int main(int argc, char **argv)
{
	struct measure_options o;
	char bench[32];
	bool echo;
	long n;

	measure_options(&o, argc, argv);
	by_queue = strncmp(o.bench, "Q1", 2) == 0;
	echo = strstr(o.bench, "/echo") != NULL;
	measure_require(by_queue || strncmp(o.bench, "Q2", 2) == 0, "--bench is Q1, Q2, Q1/echo or Q2/echo, not %s", o.bench);
	n = measure_scaled(&o, echo ? ECHOES : ITEMS);
	there = crew_queue_make(.item = sizeof(long), .capacity = CAPACITY);
	back = crew_queue_make(.item = sizeof(long), .capacity = CAPACITY);
	crew_must(crew_pipe_make(end, 0));
	snprintf(bench, sizeof bench, "%.20s%s", o.bench, o.one_cpu ? "/one-cpu" : "");
	round_of(echo, n / 10 + 1);
	for (int i = 0; i < o.rounds; i++) {
		double ns = round_of(echo, n);

		measure_print(bench, by_queue ? "crew queue" : "crew pipe", 2, echo ? "us" : "ns/item", echo ? ns / 1000 : ns);
	}
	crew_queue_drop(there);
	crew_queue_drop(back);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
	return 0;
}
