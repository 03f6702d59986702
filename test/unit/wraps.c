/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wraps.c: counters of 32 bits that run over. Tickets are 64 bits wide, but claims, cells and answers carry their lower half; logs, bells and requests are
 * counted in 32 bits. Here they start a little before their end, which a program reaches after hours.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <crew/crew.h>

#include "../runner.h"
#include "process/process_executor.h"

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

CREW_TASK(crew_bytes, fill, (long, n))
{
	crew_bytes out = crew_result_alloc((size_t)n);

	memset(out.data, (int)n, out.len);
	return out;
}

/* No task is under way. */
static void begin_before_the_end(struct process_executor *p)
{
	uint64_t tail = ((uint64_t)1 << 32) - 2 * p->ring.geometry.slots;

	latch_take(&p->lock);
	p->tail = p->head_seen = p->swept_head = tail;
	ck_pr_store_64(&p->ring.rw->head, tail);
	ck_pr_store_64(&p->ring.pub->tail, tail);
	ck_pr_store_32(&p->settled_signal, UINT32_MAX - 5);
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++) {
		p->seats[i].logged = UINT32_MAX - 100;
		ck_pr_store_32(&p->ring.reports[i].logged, UINT32_MAX - 100);
		ck_pr_store_32(&p->ring.reports[i].bell, UINT32_MAX - 3);
	}
	latch_release(&p->lock);
}

static uint64_t tail_of(struct process_executor *p)
{
	uint64_t tail;

	latch_take(&p->lock);
	tail = p->tail;
	latch_release(&p->lock);
	return tail;
}

static void check_all(crew_executor *ex, size_t n)
{
	crew_future **fs = calloc(n, sizeof *fs);
	crew_bytes bytes;
	long y;

	for (size_t i = 0; i < n; i++)
		fs[i] = i % 50 ? crew_submit(ex, square, (long)i) : crew_submit(ex, fill, (long)i);
	for (size_t i = 0; i < n; i++) {
		CHECK_EQ(crew_future_wait(fs[i], 20000), 0);
		if (i % 50)
			CHECK(crew_result(fs[i], &y) == 0 && y == (long)(i * i));
		else
			CHECK(crew_result(fs[i], &bytes) == 0 && bytes.len == i);
		crew_future_free(fs[i]);
	}
	free(fs);
}

TEST_WITHIN(tickets_may_run_over, 120)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		struct process_executor *p = process_executor_of(ex);
		uint64_t end = ((uint64_t)1 << 32) + 2 * p->ring.geometry.slots;

		begin_before_the_end(p);
		while (tail_of(p) < end)
			check_all(ex, 3000);
		CHECK_EQ(crew_executor_wait(ex, 20000), 0);
	}
}

/* Ones and twos, so that somebody goes to sleep and is woken around each end; and a worker dies there. */
TEST_WITHIN(tickets_may_run_over_one_by_one, 120)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		struct process_executor *p = process_executor_of(ex);
		uint64_t end = (uint64_t)1 << 32;

		begin_before_the_end(p);
		while (tail_of(p) < end - 20)
			check_all(ex, end - 20 - tail_of(p) < 1000 ? end - 20 - tail_of(p) : 1000);
		for (size_t i = 0; i < 200; i++) {
			check_all(ex, 1 + i % 2);
			if (i % 20 == 19)
				CHECK_GE(crew_executor_kill(ex, 9), 0);
		}
	}
}
