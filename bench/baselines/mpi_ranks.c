/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mpi_ranks.c: Open MPI on one machine, as a pool of processes and as a pipe: rank 0 asks, the others add one. Asked P1 to P3 and Q2, with the work
 * and the checks of throughput.c, pingpong.c, payload.c and passing.c.
 *
 *	mpirun -n 3 mpi_ranks --bench P1
 *
 * P1 keeps WINDOW requests on their way to each worker. Nothing parks here: a rank that waits for a message polls, and where there are more ranks
 * than CPUs it yields between the polls.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../measure.h"

enum { WINDOW = 32, TASK = 1, DATA, END };
enum { PINGS = 20000, COLD_PINGS = 300, ITEMS = 300000, ECHOES = 20000 };

static const char peer_name[] = "Open MPI";

struct task {
	long id, x;
};

/* ---- ranks 1 and up ---- */

static void answer_task(void)
{
	struct task t;

	MPI_Recv(&t, sizeof(t), MPI_BYTE, 0, TASK, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	t.x++;
	MPI_Send(&t, sizeof(t), MPI_BYTE, 0, TASK, MPI_COMM_WORLD);
}

static void answer_data(char *data, int size)
{
	MPI_Recv(data, size, MPI_BYTE, 0, DATA, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	MPI_Send(data, size, MPI_BYTE, 0, DATA, MPI_COMM_WORLD);
}

static void serve(long size)
{
	char *data = malloc((size_t)size);
	MPI_Status status;

	measure_require(data != NULL, "out of memory");
	for (;;) {
		MPI_Probe(0, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
		if (status.MPI_TAG == TASK)
			answer_task();
		else if (status.MPI_TAG == DATA)
			answer_data(data, (int)size);
		else
			break;
	}
	MPI_Recv(NULL, 0, MPI_BYTE, 0, END, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	free(data);
}

/* ---- rank 0: P1, P2, P3 ---- */

static int workers;

static void send_task(int rank, long id)
{
	struct task t = { id, id };

	MPI_Send(&t, sizeof(t), MPI_BYTE, rank, TASK, MPI_COMM_WORLD);
}

static double submit_round(long *results, long n)
{
	int64_t begin = measure_now(), time;
	long sent = 0;

	memset(results, 0, (size_t)n * sizeof(*results));
	for (int i = 0; i < workers * WINDOW && sent < n; i++)
		send_task(1 + i % workers, sent++);
	for (long done = 0; done < n; done++) {
		MPI_Status status;
		struct task t;

		MPI_Recv(&t, sizeof(t), MPI_BYTE, MPI_ANY_SOURCE, TASK, MPI_COMM_WORLD, &status);
		results[t.id] = t.x;
		if (sent < n)
			send_task(status.MPI_SOURCE, sent++);
	}
	time = measure_now() - begin;
	for (long i = 0; i < n; i++)
		measure_require(results[i] == i + 1, "result %ld is wrong", i);
	return (double)time / (double)n;
}

static void ask_submit(const struct measure_options *o)
{
	long n = measure_tasks(o, 200000);
	long *results = calloc((size_t)n, sizeof(*results));

	measure_require(results != NULL, "out of memory");
	submit_round(results, n);
	for (int round = 0; round < o->rounds; round++)
		measure_print(measure_name(o, "P1"), peer_name, workers, "ns/task", submit_round(results, n));
	free(results);
}

static void ping_round(const struct measure_options *o, double *us, long n)
{
	for (long i = 0; i < n; i++) {
		struct task t;
		int64_t begin;

		if (o->idle_us)
			measure_pause(o->idle_us * 1000);
		begin = measure_now();
		send_task(1, i);
		MPI_Recv(&t, sizeof(t), MPI_BYTE, 1, TASK, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		us[i] = (double)(measure_now() - begin) / 1e3;
		measure_require(t.x == i + 1, "ping %ld is wrong", i);
	}
}

static void ask_pingpong(const struct measure_options *o)
{
	long n = measure_scaled(o, o->idle_us ? COLD_PINGS : PINGS);
	double *us = calloc((size_t)n, sizeof(*us));

	measure_require(us != NULL, "out of memory");
	ping_round(o, us, n);
	for (int round = 0; round < o->rounds; round++) {
		ping_round(o, us, n);
		measure_latencies(o->bench, peer_name, workers, us, (size_t)n);
	}
	free(us);
}

static double echo_turn(char *out, char *back, int n)
{
	int64_t begin = measure_now(), time;

	MPI_Send(out, n, MPI_BYTE, 1, DATA, MPI_COMM_WORLD);
	MPI_Recv(back, n, MPI_BYTE, 1, DATA, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	time = measure_now() - begin;
	measure_require(memcmp(out, back, (size_t)n) == 0, "the echo is wrong");
	return (double)time;
}

static void ask_payload(const struct measure_options *o)
{
	long n = o->size, turns = measure_scaled(o, (256l << 20) / n > 2000 ? 2000 : (256l << 20) / n) + 4;
	char *out = malloc((size_t)n), *back = malloc((size_t)n);
	double *ns = calloc((size_t)turns, sizeof(*ns));

	measure_require(out && back && ns, "out of memory");
	for (long i = 0; i < n; i++)
		out[i] = (char)(i * 7);
	for (int round = -1; round < o->rounds; round++) {
		for (long i = 0; i < turns; i++) {
			out[0]++;
			ns[i] = echo_turn(out, back, (int)n);
		}
		if (round >= 0)
			measure_print(o->bench, peer_name, workers, "GB/s", 2 * (double)n / measure_quantile(ns, (size_t)turns, 0.5));
	}
	free(out);
	free(back);
	free(ns);
}

/* ---- rank 0 and rank 1: Q2 ---- */

static double pass_round(int rank, bool echo, long n)
{
	int64_t begin;

	MPI_Barrier(MPI_COMM_WORLD);
	if (rank > 1)
		return 0;
	begin = measure_now();
	for (long i = 0; i < n; i++) {
		long x = i;

		if (echo ? rank == 0 : rank == 1)
			MPI_Send(&x, sizeof(x), MPI_BYTE, 1 - rank, DATA, MPI_COMM_WORLD);
		if (echo || rank == 0)
			MPI_Recv(&x, sizeof(x), MPI_BYTE, 1 - rank, DATA, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		measure_require(x == i + (echo && rank == 0), "%ld came as %ld", i, x);
		x++;
		if (echo && rank == 1)
			MPI_Send(&x, sizeof(x), MPI_BYTE, 0, DATA, MPI_COMM_WORLD);
	}
	return (double)(measure_now() - begin) / (double)n;
}

static void ask_passing(const struct measure_options *o, int rank)
{
	bool echo = strstr(o->bench, "/echo") != NULL;
	long n = measure_scaled(o, echo ? ECHOES : ITEMS);

	pass_round(rank, echo, n / 10 + 1);
	for (int round = 0; round < o->rounds; round++) {
		double ns = pass_round(rank, echo, n);

		if (rank == 0)
			measure_print(o->bench, peer_name, 2, echo ? "us" : "ns/item", echo ? ns / 1000 : ns);
	}
}

static bool ask(const struct measure_options *o)
{
	if (strcmp(o->bench, "P1") == 0)
		ask_submit(o);
	else if (strncmp(o->bench, "P2", 2) == 0)
		ask_pingpong(o);
	else if (strncmp(o->bench, "P3", 2) == 0)
		ask_payload(o);
	else
		return false;
	return true;
}

static bool take_part(const struct measure_options *o, int rank)
{
	bool known = true;

	if (strncmp(o->bench, "Q2", 2) == 0) {
		ask_passing(o, rank);
		return true;
	}
	if (rank != 0) {
		serve(o->size);
		return true;
	}
	known = ask(o);
	for (int i = 1; i <= workers; i++)
		MPI_Send(NULL, 0, MPI_BYTE, i, END, MPI_COMM_WORLD);
	return known;
}

int main(int argc, char **argv)
{
	struct measure_options o;
	int rank, size;
	bool known;

	MPI_Init(&argc, &argv);
	measure_options(&o, argc, argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	workers = size - 1;
	measure_require(workers > 0, "start it as mpirun -n 2 and up");
	known = take_part(&o, rank);
	MPI_Finalize();
	return known ? 0 : MEASURE_SKIP;
}
