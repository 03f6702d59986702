/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * passing_by_hand.c: Q1 and Q2 as the kernel offers them: --bench Q1 a POSIX message queue, Q2 a socketpair (SEQPACKET) and a pipe, each measured and printed
 * by itself; with /echo there and back.
 */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../measure.h"

enum { ITEMS = 300000, ECHOES = 20000 };

/* Descriptors to write to and read from: of the parent, of the child. */
struct way {
	const char *name;
	int to[2], from[2];
	bool queue;
};

static void put(const struct way *w, int side, long x)
{
	ssize_t rc = w->queue ? mq_send(w->to[side], (char *)&x, sizeof x, 0) : write(w->to[side], &x, sizeof x);

	measure_require(rc == (w->queue ? 0 : (ssize_t)sizeof x), "%s: %s", w->name, strerror(errno));
}

static long get(const struct way *w, int side)
{
	long x = -1;
	ssize_t rc = w->queue ? mq_receive(w->from[side], (char *)&x, sizeof x, NULL) : read(w->from[side], &x, sizeof x);

	measure_require(rc == (ssize_t)sizeof x, "%s: %s", w->name, strerror(errno));
	return x;
}

static double round_of(const struct way *w, bool echo, long n)
{
	pid_t pid = fork();
	int64_t begin = measure_now(), took;
	int status;

	measure_require(pid >= 0, "fork failed");
	if (pid == 0) {
		for (long i = 0; i < n; i++)
			put(w, 1, echo ? get(w, 1) + 1 : i);
		_exit(0);
	}
	for (long i = 0; i < n; i++) {
		if (echo)
			put(w, 0, i);
		measure_require(get(w, 0) == i + echo, "%s: a wrong answer", w->name);
	}
	took = measure_now() - begin;
	waitpid(pid, &status, 0);
	measure_require(status == 0, "the other side failed");
	return (double)took / (double)n;
}

static mqd_t queue_open(int i)
{
	struct mq_attr attributes = { .mq_maxmsg = 10, .mq_msgsize = sizeof(long) };
	char name[64];
	mqd_t q;

	snprintf(name, sizeof name, "/crew-bench-%d-%d", (int)getpid(), i);
	q = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
	mq_unlink(name);
	return q;
}

static void measure(const struct measure_options *o, const struct way *w)
{
	bool echo = strstr(o->bench, "/echo") != NULL;
	long n = measure_scaled(o, echo ? ECHOES : ITEMS);
	char bench[32];

	snprintf(bench, sizeof bench, "%.20s%s", o->bench, o->one_cpu ? "/one-cpu" : "");
	round_of(w, echo, n / 10 + 1);
	for (int i = 0; i < o->rounds; i++) {
		double ns = round_of(w, echo, n);

		measure_print(bench, w->name, 2, echo ? "us" : "ns/item", echo ? ns / 1000 : ns);
	}
}

int main(int argc, char **argv)
{
	struct measure_options o;
	int pair[2], a[2], b[2];

	measure_options(&o, argc, argv);
	if (strncmp(o.bench, "Q1", 2) == 0) {
		mqd_t there = queue_open(0), back = queue_open(1);

		if (there < 0 || back < 0)
			return MEASURE_SKIP;
		if (strstr(o.bench, "/echo"))
			measure(&o, &(struct way){ "POSIX message queue", { there, back }, { back, there }, true });
		else
			measure(&o, &(struct way){ "POSIX message queue", { there, there }, { there, there }, true });
		return 0;
	}
	measure_require(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0 && pipe(a) == 0 && pipe(b) == 0, "no descriptors");
	measure(&o, &(struct way){ "socketpair", { pair[0], pair[1] }, { pair[0], pair[1] }, false });
	measure(&o, &(struct way){ "pipe(2)", { a[1], b[1] }, { b[0], a[0] }, false });
	return 0;
}
