/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * peer.h: what a thread pool of somebody else has to offer to be asked the questions that crew is asked.
 *
 * A peer is one file that defines `peer`; questions.c holds main() and asks. The calls go through pointers,
 * which costs a nanosecond or two to a task that costs the quickest of them more than a hundred. An operation
 * that a peer lacks is NULL: the program then ends with status 77.
 */
#ifndef CREW_BENCH_PEER_H
#define CREW_BENCH_PEER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The peer's way to learn that one task is done and what came out. Each peer defines its own. */
struct peer_future;

typedef long peer_task_fn(long x);

struct peer {
	const char *name;
	/* Once, or again and again where reopens is set; never nested. */
	void (*open)(int workers);
	void (*close)(void);
	int reopens;
	/* Any thread. take blocks until the task is done, frees the future and returns the task's result; the same thread takes what it submitted. */
	struct peer_future *(*submit)(peer_task_fn *fn, long x);
	long (*take)(struct peer_future *future);
	/* Whole questions, where a peer has words of its own for them. */
	long (*fib)(long n);
	void (*scale)(const double *in, double *out, size_t n); /* out = in * 1.5 + 2 */
	uint64_t (*spin)(long tasks, long spins);		/* sum of measure_spin(i, spins) */
};

extern const struct peer peer;

#ifdef __cplusplus
}
#endif
#endif
