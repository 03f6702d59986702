/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exclusion.c: how L1–L3 are asked; see exclusion.h.
 */
#include "exclusion.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TAKES = 2000000, TURNS = 5000, COUNTS = 500000 };

static void *stand_by(void *arg)
{
	pause();
	return arg;
}

static double alone(const struct exclusion *e, long n)
{
	int64_t begin = measure_now();

	for (long i = 0; i < n; i++) {
		e->take(e->lock);
		e->give(e->lock);
	}
	return (double)(measure_now() - begin) / (double)n;
}

/* Ours are the turns that are even or odd as `self` is. */
static void play(const struct exclusion *e, long *turn, long self, long end)
{
	for (bool more = true; more;) {
		e->take(e->lock);
		if (*turn % 2 == self && *turn < end)
			*turn += 1;
		more = *turn < end;
		e->give(e->lock);
	}
}

static void count(const struct exclusion *e, long *total, long n)
{
	for (long i = 0; i < n; i++) {
		e->take(e->lock);
		*total += 1;
		e->give(e->lock);
	}
}

static double together(const struct exclusion *e, bool turns, long n)
{
	long *shared = mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int64_t begin = measure_now(), time;
	int status = 1;
	pid_t pid;

	measure_require(shared != MAP_FAILED, "out of memory");
	pid = fork();
	if (pid == 0) {
		if (turns)
			play(e, shared, 1, n);
		else
			count(e, shared, n / 2);
		_exit(0);
	}
	if (turns)
		play(e, shared, 0, n);
	else
		count(e, shared, n / 2);
	waitpid(pid, &status, 0);
	time = measure_now() - begin;
	measure_require(status == 0 && *shared == (turns ? n : n / 2 * 2), "%s counted %ld of %ld", e->peer, *shared, n);
	munmap(shared, sizeof(long));
	return (double)time / (double)n;
}

void exclusion_ask(const struct measure_options *o, const struct exclusion *e)
{
	bool single = strcmp(o->bench, "L1") == 0, turns = strcmp(o->bench, "L2") == 0;
	pthread_t other;

	measure_require(single || turns || strcmp(o->bench, "L3") == 0, "no such question: %s", o->bench);
	if (single)
		measure_require(pthread_create(&other, NULL, stand_by, NULL) == 0, "no thread");
	for (int round = -1; round < o->rounds; round++) {
		double ns = single ? alone(e, measure_scaled(o, TAKES)) : together(e, turns, measure_scaled(o, turns ? TURNS : COUNTS));

		if (round >= 0)
			measure_print(o->bench, e->peer, single ? 1 : 2, single ? "ns" : turns ? "ns/turn" : "ns/count", ns);
	}
}
