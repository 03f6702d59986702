/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * socket_pool.c: a process pool as one writes it by hand in C: a socketpair to each worker, poll(), a window
 * of requests on their way, requests and answers in batches of one write each, or, as most such pools do it,
 * one by one. Asked P1–P6.
 *
 *	submit → backlog → request ring of a worker → write ─ socketpair ─ read, run, write → poll, read → future
 *
 * A worker that dies closes its end: the request it was in (the oldest on its way) fails, the others go back
 * to the backlog, and another worker is forked. With a window of one that blames nobody wrongly; with a wider
 * one it is a guess, which is why P5 is asked with one.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../measure.h"

enum { WORKERS_MAX = 64, WINDOW_MAX = 64 };
enum operation { INCREMENT, LAST_20_MS, ECHO };
enum state { WAITING, DONE, FAILED };

struct request {
	int64_t id, x;
	uint64_t bytes; /* that follow, for ECHO */
	enum operation operation;
};
struct reply {
	int64_t id, y;
};
struct future {
	struct request request;
	int64_t y;
	enum state state;
};
struct worker {
	pid_t pid;
	int fd;
	int64_t on_their_way[WINDOW_MAX];
	int first, count;
	size_t partial; /* bytes of a reply that came without its rest */
	struct reply replies[WINDOW_MAX];
};

static struct worker workers[WORKERS_MAX];
static int worker_count, window;
static bool batching;
static struct future *futures;
static int64_t submitted, sent, finished;
static int64_t again[WINDOW_MAX]; /* given back by the dead */
static int again_count;

/* ---- the worker ---- */

static void write_all(int fd, const void *data, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t k = send(fd, (const char *)data + done, n - done, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return; /* its death is seen by the reader */
		done += (size_t)k;
	}
}

static bool read_all(int fd, void *data, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t k = read(fd, (char *)data + done, n - done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		done += (size_t)k;
	}
	return true;
}

static void echo(int fd, uint64_t n)
{
	static char *data;
	static uint64_t size;

	if (size < n) {
		data = realloc(data, n);
		size = n;
	}
	if (!data || !read_all(fd, data, n))
		_exit(1);
	write_all(fd, data, n);
}

static int64_t perform(const struct request *r)
{
	if (r->operation == LAST_20_MS)
		measure_last(20 * 1000000);
	return r->x + 1;
}

/* Reads what there is, answers all of it. */
static void serve(int fd)
{
	struct request requests[WINDOW_MAX];
	struct reply replies[WINDOW_MAX];
	size_t have = 0;
	ssize_t k;

	while ((k = read(fd, (char *)requests + have, sizeof(requests) - have)) > 0) {
		size_t n = (have + (size_t)k) / sizeof(struct request);

		have = (have + (size_t)k) % sizeof(struct request);
		for (size_t i = 0; i < n; i++) {
			replies[i] = (struct reply){ .id = requests[i].id, .y = perform(&requests[i]) };
			if (!batching)
				write_all(fd, &replies[i], sizeof(*replies));
		}
		if (batching)
			write_all(fd, replies, n * sizeof(*replies));
		memmove(requests, requests + n, have);
	}
	_exit(0);
}

static void serve_echoes(int fd)
{
	struct request request;

	while (read_all(fd, &request, sizeof(request)))
		echo(fd, request.bytes);
	_exit(0);
}

/* ---- the pool ---- */

static bool echoing;

static void start(struct worker *w)
{
	int ends[2];

	measure_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no socketpair");
	*w = (struct worker){ .fd = ends[0], .pid = fork() };
	measure_require(w->pid >= 0, "no process");
	if (w->pid == 0) {
		for (int i = 0; i < worker_count; i++)
			if (workers[i].fd > 0)
				close(workers[i].fd);
		if (echoing)
			serve_echoes(ends[1]);
		serve(ends[1]);
	}
	close(ends[1]);
}

static void open_pool(int n, int requests_each)
{
	measure_require(n <= WORKERS_MAX && requests_each <= WINDOW_MAX, "too many workers");
	memset(workers, 0, sizeof(workers));
	worker_count = n;
	window = requests_each;
	submitted = sent = finished = 0;
	for (int i = 0; i < n; i++)
		start(&workers[i]);
}

static void close_pool(void)
{
	for (int i = 0; i < worker_count; i++)
		close(workers[i].fd);
	for (int i = 0; i < worker_count; i++)
		waitpid(workers[i].pid, NULL, 0);
}

static bool next_request(int64_t *ret_id)
{
	if (again_count)
		*ret_id = again[--again_count];
	else if (sent < submitted)
		*ret_id = sent++;
	else
		return false;
	return true;
}

static void fill(struct worker *w)
{
	struct request batch[WINDOW_MAX];
	int n = 0;
	int64_t id;

	if (batching && w->count > window / 2)
		return; /* wait until a batch is worth its system call */
	while (w->count < window && next_request(&id)) {
		w->on_their_way[(w->first + w->count++) % WINDOW_MAX] = id;
		batch[n++] = futures[id].request;
		if (!batching)
			write_all(w->fd, &batch[--n], sizeof(*batch));
	}
	if (n)
		write_all(w->fd, batch, (size_t)n * sizeof(*batch));
}

static void finish(int64_t id, int64_t y, enum state state)
{
	futures[id].y = y;
	futures[id].state = state;
	finished++;
}

static void bury(struct worker *w)
{
	close(w->fd);
	w->fd = 0;
	waitpid(w->pid, NULL, 0);
	for (int i = 0; i < w->count; i++) {
		int64_t id = w->on_their_way[(w->first + i) % WINDOW_MAX];

		if (i == 0)
			finish(id, w->pid, FAILED);
		else
			again[again_count++] = id;
	}
	start(w);
}

static void collect(struct worker *w)
{
	ssize_t k = read(w->fd, (char *)w->replies + w->partial, sizeof(w->replies) - w->partial);
	size_t n;

	if (k < 0 && errno == EINTR)
		return;
	if (k <= 0) {
		bury(w);
		return;
	}
	n = (w->partial + (size_t)k) / sizeof(struct reply);
	w->partial = (w->partial + (size_t)k) % sizeof(struct reply);
	for (size_t i = 0; i < n; i++) {
		measure_require(w->replies[i].id == w->on_their_way[w->first], "replies out of order");
		finish(w->replies[i].id, w->replies[i].y, DONE);
		w->first = (w->first + 1) % WINDOW_MAX;
		w->count--;
	}
	memmove(w->replies, w->replies + n, w->partial);
}

static void pump(void)
{
	struct pollfd fds[WORKERS_MAX];

	for (int i = 0; i < worker_count; i++) {
		fill(&workers[i]);
		fds[i] = (struct pollfd){ .fd = workers[i].fd, .events = POLLIN };
	}
	poll(fds, (nfds_t)worker_count, -1);
	for (int i = 0; i < worker_count; i++)
		if (fds[i].revents)
			collect(&workers[i]);
}

static void submit(enum operation operation, int64_t x)
{
	futures[submitted].request = (struct request){ .id = submitted, .x = x, .operation = operation };
	futures[submitted].state = WAITING;
	submitted++;
}

static void take_all(void)
{
	while (finished < submitted)
		pump();
}

static void reset(void)
{
	submitted = sent = finished = 0;
}

/* ---- the questions ---- */

static const char peer_name[] = "socketpair pool";

static double submit_round(long n)
{
	int64_t begin = measure_now(), time;

	reset();
	for (long i = 0; i < n; i++)
		submit(INCREMENT, i);
	take_all();
	time = measure_now() - begin;
	for (long i = 0; i < n; i++)
		measure_require(futures[i].state == DONE && futures[i].y == i + 1, "result %ld is wrong", i);
	return (double)time / (double)n;
}

static void submit_rounds(const struct measure_options *o, const char *name, long n)
{
	long repeats = measure_repeats(o);
	double *ns = calloc((size_t)repeats, sizeof(*ns));

	measure_require(ns != NULL, "out of memory");
	open_pool(o->workers, 32);
	submit_round(n);
	for (int round = 0; round < o->rounds; round++) {
		for (long i = 0; i < repeats; i++)
			ns[i] = submit_round(n);
		measure_print(measure_name(o, o->bench), name, o->workers, "ns/task", measure_quantile(ns, (size_t)repeats, 0.5));
	}
	close_pool();
	free(ns);
}

static void ask_submit(const struct measure_options *o)
{
	long n = measure_tasks(o, 200000);

	futures = calloc((size_t)n, sizeof(*futures));
	measure_require(futures != NULL, "out of memory");
	submit_rounds(o, peer_name, n);
	batching = true;
	submit_rounds(o, "socketpair pool, batched", n);
}

static void ask_pingpong(const struct measure_options *o)
{
	long n = measure_scaled(o, o->idle_us ? 300 : 20000);
	double *us = calloc((size_t)n, sizeof(*us));

	futures = calloc(1, sizeof(*futures));
	open_pool(o->workers, 1);
	for (int round = -1; round < o->rounds; round++) {
		for (long i = 0; i < n; i++) {
			int64_t begin;

			if (o->idle_us)
				measure_pause(o->idle_us * 1000);
			begin = measure_now();
			reset();
			submit(INCREMENT, i);
			take_all();
			us[i] = (double)(measure_now() - begin) / 1e3;
			measure_require(futures[0].y == i + 1, "ping %ld is wrong", i);
		}
		if (round >= 0)
			measure_latencies(o->bench, peer_name, o->workers, us, (size_t)n);
	}
	close_pool();
	free(us);
}

/* The worker reads all of the payload before it answers, so neither side can block the other for ever. */
static double echo_turn(char *out, char *back, size_t n)
{
	struct request request = { .bytes = n, .operation = ECHO };
	int64_t begin = measure_now(), time;

	write_all(workers[0].fd, &request, sizeof(request));
	write_all(workers[0].fd, out, n);
	measure_require(read_all(workers[0].fd, back, n), "the worker died");
	time = measure_now() - begin;
	measure_require(memcmp(out, back, n) == 0, "the echo is wrong");
	return (double)time;
}

static void ask_payload(const struct measure_options *o)
{
	size_t n = (size_t)o->size;
	long turns = measure_scaled(o, (256l << 20) / o->size > 2000 ? 2000 : (256l << 20) / o->size) + 4;
	char *out = malloc(n), *back = malloc(n);
	double *ns = calloc((size_t)turns, sizeof(*ns));

	for (size_t i = 0; i < n; i++)
		out[i] = (char)(i * 7);
	echoing = true;
	open_pool(o->workers, 1);
	for (int round = -1; round < o->rounds; round++) {
		for (long i = 0; i < turns; i++) {
			out[0]++;
			ns[i] = echo_turn(out, back, n);
		}
		if (round >= 0)
			measure_print(o->bench, peer_name, o->workers, "GB/s",
				      2 * (double)n / measure_quantile(ns, (size_t)turns, 0.5));
	}
	close_pool();
	free(out);
	free(back);
	free(ns);
}

static void ask_life(const struct measure_options *o)
{
	enum { RUNS = 50 };
	double ms[RUNS];

	futures = calloc(4, sizeof(*futures));
	for (int round = -1; round < o->rounds; round++) {
		for (int run = 0; run < RUNS; run++) {
			int64_t begin = measure_now();

			open_pool(o->workers, 1);
			for (long i = 0; i < 4; i++)
				submit(INCREMENT, i);
			take_all();
			close_pool();
			ms[run] = (double)(measure_now() - begin) / 1e6;
			for (long i = 0; i < 4; i++)
				measure_require(futures[i].y == i + 1, "result %ld is wrong", i);
		}
		if (round >= 0)
			measure_print(o->bench, peer_name, o->workers, "ms", measure_quantile(ms, RUNS, 0.5));
	}
}

static void ask_crash(const struct measure_options *o)
{
	enum { TASKS = 100 };
	long n = o->scale < 1 ? 30 : TASKS;

	futures = calloc(TASKS, sizeof(*futures));
	open_pool(o->workers, 1);
	for (int round = 0; round < o->rounds; round++) {
		int64_t begin = measure_now();
		long failed = 0;
		pid_t victim = workers[0].pid;

		reset();
		for (long i = 0; i < n; i++)
			submit(LAST_20_MS, i);
		while (finished < submitted) {
			if (victim && measure_now() - begin > 185 * INT64_C(1000000)) {
				measure_pause(begin + 190 * INT64_C(1000000) - measure_now());
				kill(victim, SIGKILL);
				victim = 0;
			}
			pump();
		}
		double ms = (double)(measure_now() - begin) / 1e6 - (double)n * 10;
		for (long i = 0; i < n; i++) {
			failed += futures[i].state == FAILED;
			measure_require(futures[i].state == FAILED || futures[i].y == i + 1,
					"result %ld is wrong", i);
		}
		measure_require(failed == 1, "%ld tasks failed instead of one", failed);
		measure_print(o->bench, peer_name, o->workers, "ms over the ideal", ms);
	}
	close_pool();
}

static void ask_footprint(const struct measure_options *o)
{
	double kib[WORKERS_MAX];

	futures = calloc(400, sizeof(*futures));
	open_pool(o->workers, 1);
	for (long i = 0; i < 400; i++)
		submit(INCREMENT, i);
	take_all();
	for (int i = 0; i < o->workers; i++)
		kib[i] = measure_private_kib(workers[i].pid);
	measure_print(o->bench, peer_name, o->workers, "KiB/worker",
		      measure_quantile(kib, (size_t)o->workers, 0.5));
	close_pool();
}

int main(int argc, char **argv)
{
	struct measure_options o;

	measure_options(&o, argc, argv);
	if (strcmp(o.bench, "P1") == 0)
		ask_submit(&o);
	else if (strncmp(o.bench, "P2", 2) == 0)
		ask_pingpong(&o);
	else if (strncmp(o.bench, "P3", 2) == 0)
		ask_payload(&o);
	else if (strcmp(o.bench, "P4") == 0)
		ask_life(&o);
	else if (strcmp(o.bench, "P5") == 0)
		ask_crash(&o);
	else if (strcmp(o.bench, "P6") == 0)
		ask_footprint(&o);
	else
		return MEASURE_SKIP;
	free(futures);
	return 0;
}
