/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fates.c: a round of all that may happen to a task, at once: runs, cancels, deadlines, kills, and deaths of its worker. What must hold is what storms.c asks:
 * every future ends once, with an end that it may have; as many fail with a worker as workers were killed; nothing runs twice; all who asked are told; the
 * pool is whole again.
 *
 * It is for programs that make the library slow at places of their choice (delays.c, test/pauses/).
 */
#include "fates.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dooms.h"

enum { NOTES = 8 };

/* In memory that outlives workers. */
struct board {
	uint32_t pid[NOTES]; /* of workers that have run something: they were ready, so their deaths are not counted as births that failed */
	unsigned char runs[];
};

/* What is done to a task, and what it does. */
enum fate { LEFT_ALONE, CANCELLED, OVERDUE, KILLED };
enum manner { ENDS, LISTENS, IS_DEAF };

CREW_TASK(long, live, (crew_bytes, at), (int, i), (int, manner))
{
	struct board *board = at.data;

	__atomic_add_fetch(&board->runs[i], 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&board->pid[i % NOTES], (uint32_t)getpid(), __ATOMIC_RELEASE);
	while (manner == LISTENS && !crew_task_cancelled())
		sched_yield();
	while (manner == IS_DEAF)
		pause();
	return (long)i * 3 + 1;
}

struct one {
	crew_future *f;
	enum fate fate;
	enum manner manner;
	bool withdrawn; /* its cancel said that it never runs */
};

struct round {
	crew_executor *ex;
	crew_bytes at;
	struct board *board;
	bool processes;
	size_t n;
	struct one *ones;
	uint32_t told;
	unsigned long kills, failed;
};

static void tell(crew_future *f, void *counter)
{
	(void)f;
	__atomic_add_fetch((uint32_t *)counter, 1, __ATOMIC_RELAXED);
}

static void submit_one(struct round *r, int i)
{
	struct one *one = &r->ones[i];
	uint64_t random = test_random();

	one->fate = random % 16 < 13 ? random % 16 % 8 == 0 ? CANCELLED : LEFT_ALONE : random % 16 == 13 ? KILLED : OVERDUE;
	one->manner = one->fate == OVERDUE || one->fate == KILLED ? r->processes && random >> 8 & 1 ? IS_DEAF : LISTENS : ENDS;
	if (one->fate == OVERDUE)
		one->f = crew_submit_with(r->ex, (.timeout_ms = 1 + (int)((random >> 16) % 8)), live, r->at, i, one->manner);
	else
		one->f = crew_submit(r->ex, live, r->at, i, one->manner);
	CHECK_EQ(crew_future_on_done(one->f, tell, &r->told), 0);
	if (one->fate == CANCELLED)
		one->withdrawn = crew_future_cancel(one->f, NULL) == 1;
	else if (one->fate == KILLED)
		one->withdrawn = crew_future_kill(one->f, NULL, (int)((random >> 16) % 4)) == 1;
}

/* One that has run something, and has its place still. */
static void kill_worker(struct round *r)
{
	pid_t pid = crew_executor_worker_pid(r->ex, (int)(test_random() % FATES_WORKERS));
	bool noted = false;

	for (int i = 0; i < NOTES; i++)
		noted |= (pid_t)__atomic_load_n(&r->board->pid[i], __ATOMIC_ACQUIRE) == pid;
	if (pid > 0 && noted)
		r->kills += kill(pid, SIGKILL) == 0;
}

static bool may_end_with(const struct round *r, const struct one *one, int code)
{
	if (code == 0)
		return !one->withdrawn && one->manner != IS_DEAF;
	if (code == CREW_EWORKER)
		return r->processes && !one->withdrawn;
	return one->fate == OVERDUE ? code == CREW_EDEADLINE : one->fate != LEFT_ALONE && code == -ECANCELED;
}

static void judge(struct round *r, int i)
{
	struct one *one = &r->ones[i];
	const crew_error *e = crew_future_error(one->f); /* waits */
	int runs = r->board->runs[i];
	long y;

	if (!may_end_with(r, one, e->code))
		test_fail(__FILE__, __LINE__, "task %d of fate %d ended with %d, %s", i, one->fate, e->code, e->message);
	CHECK_LE(runs, one->withdrawn ? 0 : 1);
	if (e->code == 0)
		CHECK(runs == 1 && crew_result(one->f, &y) == 0 && y == (long)i * 3 + 1);
	if (e->code == CREW_EWORKER)
		CHECK_EQ(e->signal, SIGKILL);
	r->failed += e->code == CREW_EWORKER;
}

void fates_meet(crew_executor *ex, bool processes, size_t n)
{
	struct round r = { .ex = ex, .processes = processes, .n = n };
	struct crew_stats stats;

	CHECK_EQ(crew_executor_error(ex, NULL), 0);
	r.ones = calloc(r.n, sizeof *r.ones);
	r.at = crew_shared_alloc(ex, sizeof *r.board + r.n);
	r.board = r.at.data;
	memset(r.board, 0, r.at.len);
	for (size_t i = 0; i < r.n; i++) {
		submit_one(&r, (int)i);
		if (i % 16 == 7 && processes)
			kill_worker(&r);
	}
	for (size_t i = 0; i < r.n; i++)
		judge(&r, (int)i);
	(void)crew_executor_wait(ex, CREW_FOREVER); /* callbacks come after those who wait */
	CHECK_EQ(__atomic_load_n(&r.told, __ATOMIC_RELAXED), r.n);
	CHECK_LE(r.failed, r.kills);
	if (processes)
		check_strength(ex, FATES_WORKERS);
	CHECK_EQ(crew_executor_stats(ex, &stats, sizeof stats), 0);
	CHECK_EQ(stats.lost, r.failed);
	for (size_t i = 0; i < r.n; i++)
		crew_future_free(r.ones[i].f);
	crew_shared_free(ex, r.at);
	free(r.ones);
	printf("%zu tasks, %lu kills, %lu lost with their workers\n", r.n, r.kills, r.failed);
}
