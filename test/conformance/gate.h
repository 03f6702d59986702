/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gate.h: hold tasks at a place until the test lets them go, and see what they did, on any executor.
 *
 *	GATE (g, ex);						memory that every worker sees; opened and given back at the block's end
 *	crew_future *f = crew_submit(ex, held, g.bytes, 7);
 *	gate_await(g.at, 1);					it has started …
 *	gate_open(g.at);					… and now goes on: its result is 7
 *
 * Where a task runs at its submit the gate is open from the start, so the same sentence works there.
 */
#ifndef CREW_TEST_GATE_H
#define CREW_TEST_GATE_H

#include <crew/crew.h>

enum { GATE_LOG = 1000 };

struct gate {
	uint32_t arrived, opened, log_count;
	uint32_t count[64];
	int32_t log[GATE_LOG];
};

struct shared_gate {
	struct gate *at;
	crew_bytes bytes;
	crew_executor *ex;
};

#define GATE(name_, ex_) struct shared_gate name_ __attribute__((__cleanup__(gate_fini))) = gate_make(ex_)
struct shared_gate gate_make(crew_executor *ex);
void gate_fini(struct shared_gate *g);

void gate_open(struct gate *g);
void gate_await(struct gate *g, uint32_t n); /* until n have arrived */
void gate_arrive(struct gate *g);
uint32_t gate_arrivals(struct gate *g); /* so far */
void gate_wait(struct gate *g); /* until it is open */
void gate_pass(struct gate *g); /* arrive and wait */
void gate_add(struct gate *g, int i);
uint32_t gate_count(struct gate *g, int i);
void gate_write(struct gate *g, int32_t value); /* append to the log */

/* Have every worker of ex stand at the gate. */
void gate_occupy(struct shared_gate *g);

/* Arrive, pass, and return value. */
CREW_TASK_DECLARE(int, held, (crew_bytes, gate), (int, value));
/* Arrive and wait to be asked to stop: 1 when asked, 0 when the gate was opened. */
CREW_TASK_DECLARE(int, stoppable, (crew_bytes, gate));
/* Count at index i: how often did it run? */
CREW_TASK_DECLARE(int, counted, (crew_bytes, gate), (int, i));
/* Append value to the log. */
CREW_TASK_DECLARE(int, logged, (crew_bytes, gate), (int, value));
/* Pass the gate, then fail with code. */
CREW_TASK_DECLARE(int, held_failure, (crew_bytes, gate), (int, code));

#endif
