/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * roster.c: who of the living works, and who is a spare.
 *
 *	born ─> a number is free? ─yes─> it works under that number until it dies
 *	              └─no─> spare: initialized, asleep on its `go`, until a number becomes free
 *
 * Workers are known to the program by number, 0 to workers - 1; a seat is where a process writes in shared memory. Each has a seat, and there are more seats than
 * numbers when there are spares. A number passes to a spare as soon as its worker is known to be dead, before anybody knows how it died: the dead one's seat,
 * with all that it left behind, waits for its burial, and then for a newborn that becomes a spare.
 *
 * All is guarded by the executor's lock.
 */
#include <stdlib.h>

#include "base/futex.h"
#include "process/process_executor.h"

#define GO_NEVER UINT32_MAX

/* NOBODY: no seat, no number. */
int crew__roster_init(struct process_executor *p)
{
	const struct geometry *g = &p->ring.geometry;

	p->seat_of = calloc(g->active, sizeof *p->seat_of);
	if (!p->seat_of)
		return -1;
	for (uint32_t i = 0; i < g->active; i++)
		p->seat_of[i] = NOBODY;
	for (uint32_t i = 0; i < g->workers; i++)
		p->seats[i].number = NOBODY;
	return 0;
}

static void tell(struct process_executor *p, uint32_t worker, uint32_t go)
{
	struct orders *orders = &p->ring.orders[worker];

	store_release_32(&orders->go, go); /* pairs with the load in wait_for_go (process_worker.c) */
	crew__futex_wake(&orders->go, 1, true);
}

static void employ(struct process_executor *p, uint32_t worker, uint32_t number)
{
	p->seats[worker].number = number;
	p->seat_of[number] = worker;
	tell(p, worker, p->seats[worker].incarnation);
}

void crew__roster_enter(struct process_executor *p, uint32_t worker)
{
	for (uint32_t i = 0; i < p->ring.geometry.active; i++)
		if (p->seat_of[i] == NOBODY) {
			employ(p, worker, i);
			return;
		}
}

/* One that is ready is better than one that still starts. */
static uint32_t a_spare(const struct process_executor *p)
{
	uint32_t any = NOBODY;

	for (uint32_t i = 0; i < p->ring.geometry.workers; i++) {
		if (p->seats[i].state != SEAT_ALIVE || p->seats[i].number != NOBODY || p->seats[i].condemned)
			continue;
		if (crew__is_ready(p, i))
			return i;
		any = i;
	}
	return any;
}

void crew__roster_leave(struct process_executor *p, uint32_t worker)
{
	uint32_t number = p->seats[worker].number, spare;

	if (number == NOBODY)
		return;
	p->seats[worker].number = NOBODY;
	p->seat_of[number] = NOBODY;
	spare = p->closing || p->failed || p->zygote.pidfd < 0 ? NOBODY : a_spare(p); /* without a zygote all are about to die */
	if (spare != NOBODY)
		employ(p, spare, number);
}

void crew__roster_dismiss(struct process_executor *p)
{
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		if (p->seats[i].number == NOBODY)
			tell(p, i, GO_NEVER);
}
