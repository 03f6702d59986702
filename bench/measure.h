/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * measure.h: what every benchmark and every baseline shares: the clock, the options, quantiles, memory, the
 * line that is printed.
 *
 * A program measures one question (throughput.c) or one peer (baselines/). It runs a round that is not
 * printed, to touch its memory and start its workers, then --rounds that are, and prints a line of JSON for
 * each figure:
 *
 *	{"bench":"T1","peer":"crew threads","workers":2,"unit":"ns/task","value":31.4}
 *
 * Where a round has many latencies their distribution is a line more (measure_latencies()).
 *
 * It checks the answer of each round and ends with status 1 when one is wrong: a figure of wrong answers is
 * none. Status 77 says that it does not apply here. How rounds of several programs are interleaved, and how
 * quiet the machine was, is the business of driver.py.
 */
#ifndef CREW_BENCH_MEASURE_H
#define CREW_BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MEASURE_SKIP = 77 };

struct measure_options {
	const char *bench;   /* --bench T1: which question, for programs that know several */
	const char *backend; /* --backend inline, threads, processes */
	int workers;	     /* --workers */
	int rounds;	     /* --rounds that are printed */
	int producers;	     /* --producers: threads that submit */
	long tasks;	     /* --tasks: of a round, instead of what the question says; the figure is named for it */
	long size;	     /* --size: bytes of a payload */
	long idle_us;	     /* --idle-us: pause before each ping */
	double scale;	     /* --scale: of the amount of work; a smoke test says 0.01 */
	bool helping;	     /* --helping: a waiter may run the task itself */
	bool futures;	     /* --futures: by futures instead of frames */
	bool one_cpu;	     /* --one-cpu: everything on the first CPU that we may use */
	bool idle_workers;   /* --idle-workers: the pool is never used */
};

/* Read the options; an unknown one ends the program with a usage. Applies --one-cpu. */
void measure_options(struct measure_options *o, int argc, char **argv);

/* n scaled by --scale, at least 1. */
long measure_scaled(const struct measure_options *o, long n);

/* Nanoseconds on CLOCK_MONOTONIC, which all processes share. */
int64_t measure_now(void);

/* The q-quantile of n values, which it sorts. The median is q = 0.5. */
double measure_quantile(double *values, size_t n, double q);

void measure_print(const char *bench, const char *peer, int workers, const char *unit, double value);

/*
 * The median of n latencies as `bench`, their 99th percentile as `bench`/p99, and the whole distribution, as a line with
 * "quantiles" in place of "value": 0 %, 1 % … 100 %, then 99.5 % and 99.9 %. Sorts them.
 */
void measure_latencies(const char *bench, const char *peer, int workers, double *us, size_t n);

/* The name of T1 or P1: as it is, or T1/at 1000 tasks with --tasks 1000. Lasts until the next call. */
const char *measure_name(const struct measure_options *o, const char *bench);

/* How often to repeat a round of --tasks so that the sum of all can be timed, and the tasks of one. */
long measure_repeats(const struct measure_options *o);
long measure_tasks(const struct measure_options *o, long n);

/* Run fn on each of n items of `size` bytes, each in a thread of its own. Nanoseconds from their common start, when all are there, to the end of the last. */
int64_t measure_together(void (*fn)(void *item), void *items, size_t size, int n);

/* End with status 1 and a sentence on stderr unless ok. */
void measure_require(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* CPUs that this process may use. */
int measure_cpus(void);

/* Bytes resident now; private KiB of a process (0: this one). CPU time in ns of another process; of this one's
   threads but the caller, who is the measurer, give or take 0.5 us. */
size_t measure_resident(void);
double measure_private_kib(pid_t pid);
int64_t measure_cpu_time(pid_t pid);
int64_t measure_cpu_time_of_others(void);

/* Sleep at least so long; with a timer slack of 1 ns after the first call of measure_precise() in this thread. */
void measure_pause(int64_t ns);
void measure_precise(void);

/* Take so long and hardly longer, whatever the sleeps of this machine are late by: sleep for most of it, spin for the rest. For tasks of a known length. */
void measure_last(int64_t ns);

/* A chain of n dependent multiplications that no compiler shortens: the work of a task. Returns what the caller adds up. */
static inline uint64_t measure_spin(uint64_t x, long n)
{
	for (long i = 0; i < n; i++)
		x = x * 6364136223846793005u + 1442695040888963407u;
	return x;
}

#ifdef __cplusplus
}
#endif
#endif
