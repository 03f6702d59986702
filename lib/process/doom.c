/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doom.c: ending by force what runs: tasks whose deadline has passed, tasks that are killed, all of them at a shutdown.
 *
 * The difficulty is to kill a worker for *this* task and not for the next one, which it may have begun meanwhile. So the task is doomed first:
 *
 *	parent   RUNNING by w → DOOMED        (CAS)   its future fails now, nobody waits for a death
 *	worker   RUNNING by w → FINISHED      (CAS)   which fails then: it ends there, and never takes another task
 *	parent   SIGTERM, after the executor's grace SIGKILL, by pidfd and the timetable
 *
 * Whoever loses the first CAS does nothing: the task has finished, its answer counts. An answer that was written but not yet FINISHED when the task was doomed is
 * too late. So the worker that is killed has this very task, or has just ended by itself.
 *
 * It may go on running for as long as the grace. Until it is reaped it may read and write all that it was given: the slot, its arguments' extent,
 * shared blocks, its grant. They stay reserved until its burial, which then finds nobody to tell.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "core/shared_block.h"
#include "process/process_executor.h"

/* ---- dooming ---- */

/* Tell the worker to go, and see that it does. */
static void dismiss(struct process_executor *p, uint32_t worker, int code)
{
	struct seat *seat = &p->seats[worker];

	if (!seat->condemned)
		seat->condemned = code;
	if (seat->kill_at)
		return;
	seat->kill_at = crew__now() + p->grace;
	if (crew__timetable_push(p, seat->kill_at, appointment_of_seat(worker)))
		crew__seat_kill(p, seat, SIGTERM);
	else
		crew__seat_kill(p, seat, SIGKILL);
}

/* The CAS that decides. The worker; -1: the task does not run, or there is nobody to kill: then a burial or the sweep has the last word on it. */
static int set_doomed(struct process_executor *p, const struct entry *e)
{
	uint64_t *place = ring_claim(&p->ring, e->ticket), word = ck_pr_load_64(place);

	while (word_is_of(word, e->ticket) && word_status(word) == WORD_RUNNING) {
		uint32_t worker = word_worker(word);

		if (worker == 0 || worker > p->ring.geometry.workers || p->seats[worker - 1].state != SEAT_ALIVE)
			return -1;
		if (crew__errand_is_of(e->errand, worker - 1))
			return -1; /* it runs on the stack of the very task that submitted it, which is not to blame */
		if (ck_pr_cas_64_value(place, word, (word & ~(uint64_t)0xff) | WORD_DOOMED, &word))
			return (int)worker - 1;
	}
	return -1;
}

bool crew__doom(struct process_executor *p, struct entry *e, int code, const char *text, struct batch *batch)
{
	int worker = set_doomed(p, e);
	struct annex *a = annex_of(e->f);
	struct seat *seat;
	crew_error *error;

	if (worker < 0)
		return false;
	seat = &p->seats[worker];
	error = crew__error_make(task_of(e->f), code, "%s", text);
	if (error != crew__error_no_memory()) {
		error->worker = seat->pid;
		error->attempts = a ? (int)a->attempts + 1 : 1;
		crew__output_copy(&seat->output, error->output, sizeof error->output);
	}
	e->doomed = (uint16_t)(worker + 1);
	e->waiters++;
	seat->doomed++;
	crew__settle_doomed(p, e, error, batch);
	e->pins = a ? a->pins : NULL;
	if (a)
		a->pins = NULL;
	dismiss(p, (uint32_t)worker, code);
	return true;
}

/* ---- what was reserved ---- */

/* One slot of the dead worker's. Pins of shared blocks are for the caller to drop, not under the lock. */
static struct pins *release(struct process_executor *p, struct entry *e)
{
	const struct job *job = &ring_cell(&p->ring, e->ticket)->job;
	struct pins *pins = e->pins;

	if (job->flags & JOB_EXTENT)
		crew__free_extent(p, job->payload);
	p->seats[e->doomed - 1].doomed--;
	e->pins = NULL;
	e->doomed = 0;
	e->waiters--;
	return pins;
}

void crew__doom_end(struct process_executor *p, uint32_t worker)
{
	latch_take(&p->lock);
	for (uint32_t i = 0; i < p->ring.geometry.slots && p->seats[worker].doomed; i++) {
		struct pins *pins = p->entries[i].doomed == worker + 1 ? release(p, &p->entries[i]) : NULL;

		if (!pins)
			continue;
		latch_release(&p->lock);
		crew__shared_unpin(pins);
		latch_take(&p->lock);
	}
	latch_release(&p->lock);
}

/* ---- deadlines ---- */

static crew_error *expired(crew_future *f)
{
	struct annex *a = annex_of(f);
	crew_error *error = crew__error_make(task_of(f), CREW_EDEADLINE, "its time was up before it started");

	if (a->attempts && error != crew__error_no_memory()) {
		error->attempts = (int)a->attempts;
		snprintf(error->message, sizeof error->message, "its time was up before it could be tried again");
	}
	return error;
}

/* Its time is up and it runs: it has been told by the clock. If it goes on for longer than that takes, it is ended. */
static void expire_running(struct process_executor *p, struct entry *e, struct batch *batch)
{
	uint64_t end = annex_of(e->f)->deadline + COURTESY_MS * MS_TO_NS;

	if (crew__now() < end && crew__timetable_push(p, end, appointment_of(e->f, DUE_DEADLINE)))
		return;
	crew__doom(p, e, CREW_EDEADLINE, "its time was up and it did not end: its worker is killed", batch);
}

void crew__expire(struct process_executor *p, crew_future *f, struct batch *batch)
{
	struct entry *e = crew__entry_of(p, f);
	struct waiting *w = e ? NULL : crew__backlog_find(&p->backlog, f);

	if (w)
		crew__settle_waiting(p, w, expired(f), batch);
	else if (e && ring_answered(&p->ring, e->ticket))
		crew__settle_answer(p, e, batch);
	else if (e && crew__withdraw(p, e, WORD_CANCELLED))
		crew__settle_failed(p, e, expired(f), batch);
	else if (e)
		expire_running(p, e, batch);
}

/* ---- kills ---- */

void crew__carry_out_kill(struct process_executor *p, crew_future *f, struct batch *batch)
{
	struct entry *e = crew__entry_of(p, f);

	if (e && ring_answered(&p->ring, e->ticket))
		crew__settle_answer(p, e, batch);
	else if (e)
		crew__doom(p, e, -ECANCELED, annex_of(f)->kill->reason, batch);
}

static struct kill_order *order_new(const char *reason, uint64_t at)
{
	struct kill_order *order = malloc(sizeof *order);

	if (order) {
		order->at = at;
		snprintf(order->reason, sizeof order->reason, "%s", reason ? reason : "killed");
	}
	return order;
}

/* Of several orders the one that comes first is carried out. The lock is held; what is left over is the caller's to free. */
static int give_order(struct process_executor *p, crew_future *f, struct kill_order **order)
{
	struct annex *a = annex_of(f);
	struct kill_order *old = a->kill;
	struct entry *e = crew__entry_of(p, f);

	if (!e || ring_answered(&p->ring, e->ticket))
		return -EALREADY;
	if (old && old->at <= (*order)->at)
		return 0;
	if (!crew__timetable_push(p, (*order)->at, appointment_of(f, DUE_KILL)))
		return -ENOMEM;
	a->kill = *order;
	*order = old;
	return 0;
}

int crew__process_kill(crew_executor *ex, crew_future *f, const char *reason, uint64_t at)
{
	struct process_executor *p = process_executor_of(ex);
	struct kill_order *order = crew__annex(f) ? order_new(reason, at) : NULL;
	int rc;

	if (!order)
		return -ENOMEM;
	latch_take(&p->lock);
	rc = give_order(p, f, &order);
	latch_release(&p->lock);
	free(order);
	return rc;
}

/* ---- the end of a shutdown's patience ---- */

/* Every task that runs, as far as the batch goes. True: there may be more. */
static bool doom_running(struct process_executor *p, struct batch *batch)
{
	for (uint32_t i = 0; i < p->ring.geometry.slots; i++) {
		struct entry *e = &p->entries[i];

		if (batch->n == BATCH_ITEMS)
			return true;
		if (e->f && ring_answered(&p->ring, e->ticket))
			crew__settle_answer(p, e, batch);
		else if (e->f)
			crew__doom(p, e, -ECANCELED, "the executor was shut down, and its time was up", batch);
	}
	return false;
}

/* Is somebody there yet who is to go? */
static bool any_dismissed(struct process_executor *p)
{
	bool any = false;

	latch_take(&p->lock);
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		any |= p->seats[i].kill_at != 0 || p->seats[i].state == SEAT_DYING;
	latch_release(&p->lock);
	return any;
}

/* Nobody can refuse SIGKILL, but the kernel may hold somebody up: then the caller is not held up, too. */
static void await_burials(struct process_executor *p)
{
	uint64_t deadline = crew__now() + p->grace + 2000 * MS_TO_NS;
	uint32_t signal;

	for (;;) {
		signal = load_acquire_32(&p->settled_signal);
		if (!any_dismissed(p) || crew__now() >= deadline)
			return;
		crew__futex_wait(&p->settled_signal, signal, deadline, false); /* woken by crew__bury */
	}
}

void crew__kill_running(struct process_executor *p)
{
	struct batch batch;
	bool more = true;

	batch.n = 0;
	while (more) {
		latch_take(&p->lock);
		more = doom_running(p, &batch);
		latch_release(&p->lock);
		crew__deliver(p, &batch);
	}
	await_burials(p);
}

/* ---- signals to all ---- */

int crew__process_signal(crew_executor *ex, int signal)
{
	struct process_executor *p = process_executor_of(ex);
	int count = 0;

	latch_take(&p->lock);
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		count += p->seats[i].state == SEAT_ALIVE && crew__seat_kill(p, &p->seats[i], signal) == 0;
	latch_release(&p->lock);
	return count;
}
