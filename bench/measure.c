/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * measure.c: what measure.h says. Memory and CPU time come from /proc and from the clocks that the kernel
 * keeps for each process, so that a worker of ours and one of Python's are measured by the same ruler.
 */
#include "measure.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { TASKS_TIMED = 100000 };
enum { OPTION_SCALE = 256, OPTION_HELPING, OPTION_FUTURES, OPTION_ONE_CPU, OPTION_IDLE_WORKERS };

static const struct option table[] = {
	{ "bench", required_argument, NULL, 'q' },
	{ "backend", required_argument, NULL, 'b' },
	{ "workers", required_argument, NULL, 'w' },
	{ "rounds", required_argument, NULL, 'r' },
	{ "producers", required_argument, NULL, 'p' },
	{ "tasks", required_argument, NULL, 't' },
	{ "size", required_argument, NULL, 's' },
	{ "idle-us", required_argument, NULL, 'i' },
	{ "scale", required_argument, NULL, OPTION_SCALE },
	{ "helping", no_argument, NULL, OPTION_HELPING },
	{ "futures", no_argument, NULL, OPTION_FUTURES },
	{ "one-cpu", no_argument, NULL, OPTION_ONE_CPU },
	{ "idle-workers", no_argument, NULL, OPTION_IDLE_WORKERS },
	{ NULL, 0, NULL, 0 },
};

static void usage(const char *program)
{
	fprintf(stderr, "usage: %s [options]\n", program);
	for (const struct option *option = table; option->name; option++)
		fprintf(stderr, "\t--%s%s\n", option->name, option->has_arg ? " VALUE" : "");
	exit(2);
}

static void use_one_cpu(void)
{
	cpu_set_t all, one;
	int cpu = 0;

	measure_require(sched_getaffinity(0, sizeof(all), &all) == 0, "sched_getaffinity: %s",
			strerror(errno));
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	measure_require(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity: %s",
			strerror(errno));
}

static void set_option(struct measure_options *o, int option, const char *program)
{
	switch (option) {
	case 'q':
		o->bench = optarg;
		break;
	case 'b':
		o->backend = optarg;
		break;
	case 'w':
		o->workers = atoi(optarg);
		break;
	case 'r':
		o->rounds = atoi(optarg);
		break;
	case 'p':
		o->producers = atoi(optarg);
		break;
	case 't':
		o->tasks = atol(optarg);
		break;
	case 's':
		o->size = atol(optarg);
		break;
	case 'i':
		o->idle_us = atol(optarg);
		break;
	case OPTION_SCALE:
		o->scale = atof(optarg);
		break;
	case OPTION_HELPING:
		o->helping = true;
		break;
	case OPTION_FUTURES:
		o->futures = true;
		break;
	case OPTION_ONE_CPU:
		o->one_cpu = true;
		break;
	case OPTION_IDLE_WORKERS:
		o->idle_workers = true;
		break;
	default:
		usage(program);
	}
}

void measure_options(struct measure_options *o, int argc, char **argv)
{
	int option;

	*o = (struct measure_options){ .bench = "",
				       .backend = "threads",
				       .workers = 2,
				       .rounds = 1,
				       .producers = 1,
				       .size = 65536,
				       .scale = 1 };
	while ((option = getopt_long(argc, argv, "", table, NULL)) >= 0)
		set_option(o, option, argv[0]);
	if (optind != argc || o->workers < 1 || o->rounds < 1 || o->producers < 1 || o->tasks < 0 || o->size < 1 ||
	    o->scale <= 0)
		usage(argv[0]);
	if (o->one_cpu)
		use_one_cpu();
}

long measure_scaled(const struct measure_options *o, long n)
{
	long scaled = (long)((double)n * o->scale);

	return scaled < 1 ? 1 : scaled;
}

static int64_t read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int64_t measure_now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double sorted_quantile(const double *values, size_t n, double q)
{
	double position = q * (double)(n - 1);
	size_t below = (size_t)position;

	if (below + 1 >= n)
		return values[n - 1];
	return values[below] + (position - (double)below) * (values[below + 1] - values[below]);
}

double measure_quantile(double *values, size_t n, double q)
{
	qsort(values, n, sizeof(*values), compare_doubles);
	return sorted_quantile(values, n, q);
}

void measure_print(const char *bench, const char *peer, int workers, const char *unit, double value)
{
	printf("{\"bench\":\"%s\",\"peer\":\"%s\",\"workers\":%d,\"unit\":\"%s\",\"value\":%.6g}\n", bench,
	       peer, workers, unit, value);
	fflush(stdout);
}

void measure_latencies(const char *bench, const char *peer, int workers, double *us, size_t n)
{
	char tail[64];

	snprintf(tail, sizeof(tail), "%.50s/p99", bench);
	measure_print(bench, peer, workers, "us", measure_quantile(us, n, 0.5));
	measure_print(tail, peer, workers, "us", measure_quantile(us, n, 0.99));
	printf("{\"bench\":\"%s\",\"peer\":\"%s\",\"workers\":%d,\"unit\":\"us\",\"quantiles\":[", bench, peer, workers);
	for (int i = 0; i <= 100; i++)
		printf("%.4g,", sorted_quantile(us, n, i / 100.0));
	printf("%.4g,%.4g]}\n", sorted_quantile(us, n, 0.995), sorted_quantile(us, n, 0.999));
	fflush(stdout);
}

const char *measure_name(const struct measure_options *o, const char *bench)
{
	static char name[64];

	if (!o->tasks)
		return bench;
	snprintf(name, sizeof(name), "%.8s/at %ld tasks", bench, o->tasks);
	return name;
}

long measure_repeats(const struct measure_options *o)
{
	return o->tasks && o->tasks < TASKS_TIMED ? measure_scaled(o, TASKS_TIMED / o->tasks) : 1;
}

long measure_tasks(const struct measure_options *o, long n)
{
	return measure_scaled(o, o->tasks ? o->tasks : n);
}

void measure_require(bool ok, const char *format, ...)
{
	va_list arguments;

	if (ok)
		return;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

int measure_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

size_t measure_resident(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long total, resident = 0;

	measure_require(file && fscanf(file, "%lu %lu", &total, &resident) == 2,
			"/proc/self/statm cannot be read");
	fclose(file);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

double measure_private_kib(pid_t pid)
{
	char path[64], line[256];
	unsigned long kib, sum = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid ? (int)pid : (int)getpid());
	file = fopen(path, "re");
	measure_require(file != NULL, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Private_Clean: %lu", &kib) == 1 ||
		    sscanf(line, "Private_Dirty: %lu", &kib) == 1)
			sum += kib;
	fclose(file);
	return (double)sum;
}

int64_t measure_cpu_time(pid_t pid)
{
	clockid_t clock;

	measure_require(clock_getcpuclockid(pid, &clock) == 0, "no CPU clock of process %d", (int)pid);
	return read_clock(clock);
}

int64_t measure_cpu_time_of_others(void)
{
	int64_t own = 0, all = 0;

	for (int i = 0; i < 2; i++) { /* the first time after a sleep the way to the clocks takes some 40 us */
		own = read_clock(CLOCK_THREAD_CPUTIME_ID);
		all = read_clock(CLOCK_PROCESS_CPUTIME_ID);
	}
	return all - own;
}

struct runner {
	pthread_barrier_t *line;
	void (*fn)(void *item);
	void *item;
	pthread_t thread;
};

static void *run_one(void *arg)
{
	struct runner *r = arg;

	pthread_barrier_wait(r->line); /* all are there */
	pthread_barrier_wait(r->line); /* and the clock runs */
	r->fn(r->item);
	return NULL;
}

/* The clock is read while nobody can have begun, however late whoever reads it gets a CPU again. */
int64_t measure_together(void (*fn)(void *item), void *items, size_t size, int n)
{
	struct runner *runners = calloc((size_t)n, sizeof(*runners));
	pthread_barrier_t line;
	int64_t begin, time;

	measure_require(runners && pthread_barrier_init(&line, NULL, (unsigned)n + 1) == 0, "out of memory");
	for (int i = 0; i < n; i++) {
		runners[i] = (struct runner){ .line = &line, .fn = fn, .item = (char *)items + (size_t)i * size };
		measure_require(pthread_create(&runners[i].thread, NULL, run_one, &runners[i]) == 0, "no thread");
	}
	pthread_barrier_wait(&line);
	begin = measure_now();
	pthread_barrier_wait(&line);
	for (int i = 0; i < n; i++)
		pthread_join(runners[i].thread, NULL);
	time = measure_now() - begin;
	pthread_barrier_destroy(&line);
	free(runners);
	return time;
}

void measure_pause(int64_t ns)
{
	struct timespec until;
	int64_t end = measure_now() + ns;

	until.tv_sec = end / 1000000000;
	until.tv_nsec = end % 1000000000;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

void measure_precise(void)
{
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

void measure_last(int64_t ns)
{
	const int64_t end = measure_now() + ns, late = 500000;

	measure_precise();
	if (ns > late)
		measure_pause(ns - late);
	while (measure_now() < end)
		;
}
