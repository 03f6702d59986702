/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gate.c: words in shared memory and the futex on them. Sequentially consistent atomics throughout: a test has no reason for anything weaker.
 */
#include "gate.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kinds.h"

static void sleep_on(uint32_t *word, uint32_t value, long ns)
{
	struct timespec t = { 0, ns };

	syscall(SYS_futex, word, FUTEX_WAIT, value, ns ? &t : NULL, NULL, 0);
}

static void wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, 1 << 20, NULL, NULL, 0);
}

static uint32_t load(uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

void gate_open(struct gate *g)
{
	__atomic_store_n(&g->opened, 1, __ATOMIC_SEQ_CST);
	wake(&g->opened);
}

void gate_await(struct gate *g, uint32_t n)
{
	uint32_t now;

	while ((now = load(&g->arrived)) < n)
		sleep_on(&g->arrived, now, 0);
}

uint32_t gate_arrivals(struct gate *g)
{
	return load(&g->arrived);
}

void gate_arrive(struct gate *g)
{
	__atomic_add_fetch(&g->arrived, 1, __ATOMIC_SEQ_CST);
	wake(&g->arrived);
}

void gate_wait(struct gate *g)
{
	while (!load(&g->opened))
		sleep_on(&g->opened, 0, 0);
}

void gate_pass(struct gate *g)
{
	gate_arrive(g);
	gate_wait(g);
}

void gate_add(struct gate *g, int i)
{
	__atomic_add_fetch(&g->count[i], 1, __ATOMIC_SEQ_CST);
}

uint32_t gate_count(struct gate *g, int i)
{
	return load(&g->count[i]);
}

void gate_write(struct gate *g, int32_t value)
{
	g->log[__atomic_fetch_add(&g->log_count, 1, __ATOMIC_SEQ_CST)] = value;
}

struct shared_gate gate_make(crew_executor *ex)
{
	struct shared_gate g = { NULL, crew_shared_alloc(ex, sizeof(struct gate)), ex };

	CHECK(g.bytes.data != NULL);
	CHECK_EQ(g.bytes.len, sizeof(struct gate));
	g.at = g.bytes.data;
	memset(g.at, 0, sizeof *g.at);
	if (kind->traits & IMMEDIATE)
		gate_open(g.at);
	return g;
}

void gate_fini(struct shared_gate *g)
{
	gate_open(g->at);
	crew_shared_free(g->ex, g->bytes);
}

void gate_occupy(struct shared_gate *g)
{
	uint32_t before = load(&g->at->arrived);

	for (int i = 0; i < kind->workers; i++)
		CHECK_EQ(crew_post(g->ex, held, g->bytes, 0), 0);
	gate_await(g->at, before + (uint32_t)kind->workers);
}

CREW_TASK_DEFINE(int, held, (crew_bytes, gate), (int, value))
{
	gate_pass(gate.data);
	return value;
}

CREW_TASK_DEFINE(int, stoppable, (crew_bytes, gate))
{
	struct gate *g = gate.data;

	gate_arrive(g);
	while (!crew_task_cancelled() && !load(&g->opened))
		sleep_on(&g->opened, 0, 1000000); /* to be asked is no event one could wait for */
	return crew_task_cancelled();
}

CREW_TASK_DEFINE(int, counted, (crew_bytes, gate), (int, i))
{
	gate_add(gate.data, i);
	return i;
}

CREW_TASK_DEFINE(int, logged, (crew_bytes, gate), (int, value))
{
	gate_write(gate.data, value);
	return value;
}

CREW_TASK_DEFINE(int, held_failure, (crew_bytes, gate), (int, code))
{
	gate_pass(gate.data);
	return crew_raise(code, "failed with %d", code);
}
