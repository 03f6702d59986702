/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue_storms.c: producers and consumers killed at random, all the time, and others in their place. What was put is got once, by
 * somebody; of what was got, at most one for each kill is not accounted for. The books are in shared memory, written by each around his step.
 */
#include <crew/crew.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

enum { SIDE = 4, ROUNDS_MAX = 4096, IDS = 2 * ROUNDS_MAX };

struct item {
	uint32_t producer, number;
};

/* Each entry by one process. */
struct books {
	uint32_t put[IDS];	/* how many it is sure to have put: it may be one more */
	uint32_t got[IDS];	/* how many of that producer's were got; by whoever did, one at a time */
	uint32_t consumed;
};

static void produce(crew_queue q, struct books *b, uint32_t id)
{
	for (uint32_t i = 0;; i++) {
		struct item item = { id, i };
		int rc = crew_put(q, &item);

		if (rc)
			_exit(rc == CREW_ECLOSED ? 0 : 1);
		__atomic_store_n(&b->put[id], i + 1, __ATOMIC_SEQ_CST);
	}
}

static void consume(crew_queue q, struct books *b)
{
	struct item item;
	int rc;

	while ((rc = crew_get(q, &item)) == 0) {
		__atomic_add_fetch(&b->got[item.producer], 1, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&b->consumed, 1, __ATOMIC_SEQ_CST);
	}
	_exit(rc == CREW_ECLOSED ? 0 : 1);
}

static pid_t start(crew_queue q, struct books *b, bool producer, uint32_t id)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0 && producer)
		produce(q, b, id);
	if (pid == 0)
		consume(q, b);
	return pid;
}

static void await_consumed(struct books *b, uint32_t n)
{
	uint32_t from = __atomic_load_n(&b->consumed, __ATOMIC_SEQ_CST);
	int64_t limit = test_now_ms() + 20000;

	while (__atomic_load_n(&b->consumed, __ATOMIC_SEQ_CST) - from < n) {
		CHECK(test_now_ms() < limit); /* the others go on, always */
		sched_yield();
	}
}

static void run_storm(size_t capacity)
{
	crew_queue q = crew_queue_make(.item = sizeof(struct item), .capacity = capacity);
	struct books *b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t rounds = (uint32_t)test_scaled(150), ids = 0, missing = 0;
	pid_t pids[2 * SIDE];

	CHECK(b != MAP_FAILED);
	rounds = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
	for (int i = 0; i < 2 * SIDE; i++)
		pids[i] = start(q, b, i < SIDE, ids++);
	for (uint32_t r = 0; r < rounds; r++) {
		int victim = (int)(test_random() % (2 * SIDE));

		await_consumed(b, (uint32_t)(test_random() % 200));
		kill(pids[victim], SIGKILL);
		CHECK_EQ(waitpid(pids[victim], NULL, 0), pids[victim]);
		pids[victim] = start(q, b, victim < SIDE, ids++);
	}
	await_consumed(b, 100);
	CHECK_EQ(crew_queue_finish(q), 0);
	for (int i = 0; i < 2 * SIDE; i++) {
		int status;

		CHECK_EQ(waitpid(pids[i], &status, 0), pids[i]);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(crew_queue_len(q), 0);
	for (uint32_t i = 0; i < ids; i++) {
		CHECK_LE(b->got[i], b->put[i] + 1);
		missing += b->put[i] > b->got[i] ? b->put[i] - b->got[i] : 0;
	}
	printf("%u items, %u kills, %u items gone with their consumers\n", b->consumed, rounds, missing);
	CHECK_LE(missing, rounds);
	crew_queue_drop(q);
	munmap(b, sizeof *b);
}

TEST_WITHIN(a_short_queue_survives_kills_on_both_sides, 120)
{
	run_storm(4);
}
TEST_WITHIN(a_long_queue_survives_kills_on_both_sides, 120)
{
	run_storm(10000);
}
