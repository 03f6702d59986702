/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limits.c: what the machine allows, with no pool around it. Nobody beats these; they tell how much a pool
 * adds.
 *
 *	T2, P2			a word goes to and fro between two threads, two processes, that spin briefly, then sleep in a futex
 *	T2/line, P2/line	the same, spinning for ever: one round trip of a cache line
 *	…/cold, …/one-cpu	the other side sleeps; both share a CPU. No spinning: a bare futex
 *	T3			fib() by plain calls
 *	P2			also by two pipes and by two eventfds, one system call to write and one to read on each side
 *	T9			create and join so many threads; P4: fork and reap so many processes; M1: one
 *	T10			futex wake to running
 *	P3			memcpy of --size bytes there and back
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../measure.h"

enum { PINGS = 20000, COLD_PINGS = 300, SPIN_NS = 20000 };

/* One word: its value counts the passes; even: the ball is with ping, odd: with pong. Sleepers say so. */
struct table {
	_Alignas(64) _Atomic uint32_t ball;
	_Alignas(64) _Atomic uint32_t sleeper;
	int64_t woken_at; /* written by pong before it passes the ball */
	bool spin, for_ever;
	uint32_t end;
};

static void sleep_on(struct table *t, uint32_t seen)
{
	atomic_store(&t->sleeper, 1); /* pairs with the exchange in pass() */
	syscall(SYS_futex, &t->ball, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void await(struct table *t, uint32_t value)
{
	int64_t begin = t->spin ? measure_now() : 0;
	uint32_t seen;

	while ((seen = atomic_load_explicit(&t->ball, memory_order_acquire)) !=
	       value) { /* pairs with the store in pass() */
		if (t->for_ever || (t->spin && measure_now() - begin < SPIN_NS))
			__builtin_ia32_pause();
		else
			sleep_on(t, seen);
	}
}

static void pass(struct table *t, uint32_t value)
{
	atomic_store(&t->ball, value);
	if (!t->for_ever && atomic_load(&t->sleeper) && atomic_exchange(&t->sleeper, 0))
		syscall(SYS_futex, &t->ball, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void *pong(void *arg)
{
	struct table *t = arg;

	for (uint32_t value = 1; value < t->end; value += 2) {
		await(t, value);
		t->woken_at = measure_now();
		pass(t, value + 1);
	}
	return NULL;
}

static void ping(struct table *t, const struct measure_options *o, double *round_trip_us, double *wake_us,
		 long n, long idle_us)
{
	for (long i = 0; i < n; i++) {
		uint32_t value = (uint32_t)(2 * i + 1);
		int64_t begin;

		if (idle_us)
			measure_pause(idle_us * 1000);
		begin = measure_now();
		pass(t, value);
		await(t, value + 1);
		round_trip_us[i] = (double)(measure_now() - begin) / 1e3;
		wake_us[i] = (double)(t->woken_at - begin) / 1e3;
		measure_require(t->woken_at >= begin, "the ball came back too early");
	}
	measure_require(atomic_load(&t->ball) == t->end - 1, "%s: a pass was lost", o->bench);
}

static void rally(const struct measure_options *o, bool process)
{
	bool wake = strcmp(o->bench, "T10") == 0, cold = o->idle_us || wake;
	long n = measure_scaled(o, cold ? COLD_PINGS : PINGS);
	double *us = calloc((size_t)n * 2, sizeof(*us)), *wake_us = us + n;
	struct table *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;
	pid_t pid = 0;

	measure_require(us && t != MAP_FAILED, "out of memory");
	t->for_ever = strstr(o->bench, "/line") != NULL;
	t->spin = !cold && !o->one_cpu;
	t->end = (uint32_t)(2 * n + 1);
	if (process && (pid = fork()) == 0) {
		pong(t);
		_exit(0);
	}
	if (!process)
		measure_require(pthread_create(&thread, NULL, pong, t) == 0, "no thread");
	ping(t, o, us, wake_us, n, wake ? 5000 : o->idle_us);
	if (process)
		waitpid(pid, NULL, 0);
	else
		pthread_join(thread, NULL);
	measure_latencies(o->bench, "limit", 1, wake ? wake_us : us, (size_t)n);
	munmap(t, sizeof(*t));
	free(us);
}

/* What goes to and fro is one word in a descriptor: of a pipe, of an eventfd. */
struct channel {
	const char *peer;
	int there[2], back[2]; /* read, write */
};

static struct channel channel_open(bool event)
{
	struct channel c = { event ? "limit: eventfd" : "limit: pipe", { -1, -1 }, { -1, -1 } };

	if (event) {
		c.there[0] = c.there[1] = eventfd(0, EFD_CLOEXEC);
		c.back[0] = c.back[1] = eventfd(0, EFD_CLOEXEC);
	} else {
		measure_require(pipe2(c.there, O_CLOEXEC) == 0 && pipe2(c.back, O_CLOEXEC) == 0, "no pipe");
	}
	measure_require(c.there[0] >= 0 && c.back[0] >= 0, "no descriptors");
	return c;
}

static void channel_close(const struct channel *c)
{
	close(c->there[0]);
	close(c->back[0]);
	if (c->there[1] != c->there[0]) {
		close(c->there[1]);
		close(c->back[1]);
	}
}

static void carry(int fd, uint64_t x)
{
	measure_require(write(fd, &x, sizeof(x)) == sizeof(x), "a word was not written");
}

static uint64_t fetch(int fd)
{
	uint64_t x = 0;

	measure_require(read(fd, &x, sizeof(x)) == sizeof(x), "a word was not read");
	return x;
}

static void round_trips(const struct measure_options *o, bool event)
{
	long n = measure_scaled(o, o->idle_us ? COLD_PINGS : PINGS);
	double *us = calloc((size_t)n, sizeof(*us));
	struct channel c = channel_open(event);
	int status = 1;
	pid_t pid = fork();

	measure_require(us && pid >= 0, "no memory, no process");
	for (long i = 0; pid == 0 && i < n; i++)
		carry(c.back[1], fetch(c.there[0]) + 1);
	if (pid == 0)
		_exit(0);
	for (long i = 0; i < n; i++) {
		int64_t begin;
		uint64_t x;

		if (o->idle_us)
			measure_pause(o->idle_us * 1000);
		begin = measure_now();
		carry(c.there[1], (uint64_t)i + 1);
		x = fetch(c.back[0]);
		us[i] = (double)(measure_now() - begin) / 1e3;
		measure_require(x == (uint64_t)i + 2, "a word came back wrong");
	}
	waitpid(pid, &status, 0);
	measure_require(status == 0, "the other side failed");
	measure_latencies(o->bench, c.peer, 1, us, (size_t)n);
	channel_close(&c);
	free(us);
}

static __attribute__((noinline)) long fib(long n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static void plain_calls(const struct measure_options *o)
{
	double ns[9];

	for (int i = 0; i < 9; i++) {
		int64_t begin = measure_now();

		measure_require(fib(30) == 832040, "fib(30) is wrong");
		ns[i] = (double)(measure_now() - begin) / 2692537;
	}
	measure_print(o->bench, "limit", 1, "ns/call", measure_quantile(ns, 9, 0.5));
}

static void *nothing(void *arg)
{
	return arg;
}

static void create_and_join(const struct measure_options *o)
{
	enum { RUNS = 50 };
	double us[RUNS];
	pthread_t threads[o->workers];

	for (int run = 0; run < RUNS; run++) {
		int64_t begin = measure_now();

		for (int i = 0; i < o->workers; i++)
			measure_require(pthread_create(&threads[i], NULL, nothing, NULL) == 0, "no thread");
		for (int i = 0; i < o->workers; i++)
			pthread_join(threads[i], NULL);
		us[run] = (double)(measure_now() - begin) / 1e3;
	}
	measure_print(o->bench, "limit", o->workers, "us", measure_quantile(us, RUNS, 0.5));
}

static double fork_and_reap(int count)
{
	enum { RUNS = 50 };
	double ms[RUNS];
	pid_t pids[count];

	for (int run = 0; run < RUNS; run++) {
		int64_t begin = measure_now();

		for (int i = 0; i < count; i++)
			if ((pids[i] = fork()) == 0)
				_exit(i);
		for (int i = 0; i < count; i++) {
			int status;

			measure_require(waitpid(pids[i], &status, 0) == pids[i] && WEXITSTATUS(status) == i,
					"a child is wrong");
		}
		ms[run] = (double)(measure_now() - begin) / 1e6;
	}
	return measure_quantile(ms, RUNS, 0.5);
}

static void copy(const struct measure_options *o)
{
	enum { RUNS = 50 };
	size_t n = (size_t)o->size;
	char *in = malloc(n), *out = malloc(n);
	double ns[RUNS];

	measure_require(in && out, "out of memory");
	memset(in, 1, n);
	memset(out, 2, n);
	for (int run = 0; run < RUNS; run++) {
		int64_t begin = measure_now();

		in[run % n] = (char)run;
		memcpy(out, in, n);
		memcpy(in, out, n);
		ns[run] = (double)(measure_now() - begin);
		measure_require(out[run % n] == (char)run && in[n - 1] == out[n - 1], "memcpy is wrong");
	}
	measure_print(o->bench, "limit", 1, "GB/s", 2 * (double)n / measure_quantile(ns, RUNS, 0.5));
	free(in);
	free(out);
}

static void rally_processes(const struct measure_options *o)
{
	rally(o, true);
	if (strstr(o->bench, "/line"))
		return;
	round_trips(o, false);
	round_trips(o, true);
}

static bool answer(const struct measure_options *o)
{
	const char *b = o->bench;

	if (strncmp(b, "T2", 2) == 0 || strcmp(b, "T10") == 0)
		rally(o, false);
	else if (strncmp(b, "P2", 2) == 0)
		rally_processes(o);
	else if (strcmp(b, "T3") == 0)
		plain_calls(o);
	else if (strcmp(b, "T9") == 0)
		create_and_join(o);
	else if (strcmp(b, "P4") == 0)
		measure_print(b, "limit", o->workers, "ms", fork_and_reap(o->workers));
	else if (strcmp(b, "M1") == 0)
		measure_print(b, "limit", 1, "us", 1e3 * fork_and_reap(1));
	else if (strncmp(b, "P3", 2) == 0)
		copy(o);
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	struct measure_options o;

	measure_options(&o, argc, argv);
	for (int round = 0; round < o.rounds; round++)
		if (!answer(&o))
			return MEASURE_SKIP;
	return 0;
}
