/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * burial.c: what becomes of the tasks when a worker dies, and what is put right when nobody died but something is odd.
 *
 * A dead worker can have left behind, at whatever instruction it died:
 *
 *	tickets in its journal that nobody began      → offered again
 *	a task that it claimed and did not answer     → fails with CREW_EWORKER, or is offered again when it may be tried again
 *	answers that nobody has taken                 → count
 *	a wake it had begun, a wake meant for it      → every bell is rung
 *
 * The sweep looks at the same words from time to time, as long as anything is outstanding: it bounds what a stopped worker, a swallowed wake or a scribbled
 * word can cost. It decides by compare-and-swap like everybody else, so it may be wrong about what it suspects without harm.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/futex.h"
#include "process/process_executor.h"

/* ---- errors ---- */

static void describe(char *text, size_t size, pid_t pid, struct cause cause)
{
	const char *name;

	if (cause.code == CLD_EXITED) {
		snprintf(text, size, "worker %d exited with status %d", (int)pid, cause.status);
	} else if (cause.code == CLD_KILLED || cause.code == CLD_DUMPED) {
		name = sigabbrev_np(cause.status);
		snprintf(text, size, "worker %d was killed by signal %d (%s%s)", (int)pid, cause.status, name ? "SIG" : "", name ? name : "?");
	} else {
		snprintf(text, size, "worker %d died, it is not known how,", (int)pid);
	}
}

static crew_error *epitaph(const struct seat *seat, crew_future *f, struct cause cause)
{
	const crew_task *task = task_of(f);
	struct annex *a = annex_of(f);
	char how[120];
	crew_error *error;

	describe(how, sizeof how, seat->pid, cause);
	if (seat->condemned == CREW_EPROTO)
		error = crew__error_make(task, CREW_EPROTO, "worker %d wrote into shared memory what it may not, while it ran '%s'",
					 (int)seat->pid, task->name);
	else
		error = crew__error_make(task, CREW_EWORKER, "%s while it ran '%s'", how, task->name);
	if (error == crew__error_no_memory())
		return error;
	error->worker = seat->pid;
	error->attempts = a ? (int)a->attempts + 1 : 1;
	if (cause.code == CLD_EXITED)
		error->exit_status = cause.status;
	else if (cause.code)
		error->signal = cause.status;
	error->user_ms = cause.user_ms;
	error->system_ms = cause.system_ms;
	error->max_rss_kib = cause.max_rss_kib;
	crew__output_copy(&seat->output, error->output, sizeof error->output);
	return error;
}

/* ---- one entry ---- */

static void offer_or_fail(struct process_executor *p, struct entry *e, struct batch *batch)
{
	if (!crew__offer_again(p, e))
		crew__settle_failed(p, e, crew__error_no_memory(), batch);
}

/* Whoever took it from head does not begin it: another may. */
static void take_from(struct process_executor *p, struct entry *e, struct batch *batch)
{
	if (e->errand)
		crew__move_errand(p, e, batch);
	else if (crew__withdraw(p, e, WORD_MOVED))
		offer_or_fail(p, e, batch);
}

/* Not when the task was to blame or was asked to stop: it might end the next worker, too. */
static bool may_try_again(struct process_executor *p, const struct seat *seat, crew_future *f)
{
	struct annex *a = annex_of(f);
	uint32_t retries = a && a->retries ? a->retries : p->retries;

	if (retries == 0 || p->failed || seat->condemned || (ck_pr_load_32(&f->state) & STATE_STOP))
		return false;
	a = crew__annex(f);
	return a && a->attempts < retries;
}

/* The task that the dead worker ran. */
static void end_of(struct process_executor *p, const struct seat *seat, struct entry *e, struct cause cause, struct batch *batch)
{
	bool orphan = crew__errand_is_of(e->errand, (uint32_t)(seat - p->seats)); /* who submitted it is dead as well */

	if (!orphan && may_try_again(p, seat, e->f)) {
		annex_of(e->f)->attempts++;
		if (e->errand) {
			ck_pr_store_64(ring_claim(&p->ring, e->ticket), word_make(e->ticket, 0, WORD_QUEUED)); /* its owner is dead: no race */
			crew__move_errand(p, e, batch);
			return;
		}
		ck_pr_store_64(ring_claim(&p->ring, e->ticket), word_make(e->ticket, 0, WORD_MOVED)); /* its owner is dead: no race */
		offer_or_fail(p, e, batch);
		return;
	}
	p->lost += !orphan;
	crew__settle_failed(p, e, epitaph(seat, e->f, cause), batch);
}

static void bury_entry(struct process_executor *p, uint32_t worker, struct entry *e, struct cause cause, uint64_t head,
		       struct batch *batch)
{
	struct seat *seat = &p->seats[worker];
	uint64_t word = ck_pr_load_64(ring_claim(&p->ring, e->ticket));
	bool owned = word_is_of(word, e->ticket) && word_worker(word) == worker + 1;

#ifdef CREW_FAULT_HEIRLESS
	owned = owned && e->ticket - (ck_pr_load_64(&p->ring.reports[worker].journal) >> 16) < (ck_pr_load_64(&p->ring.reports[worker].journal) & 0xffff);
#endif
	if (owned && ring_answered(&p->ring, e->ticket)) {
		crew__settle_answer(p, e, batch);
	} else if (owned) {
		end_of(p, seat, e, cause, batch);
	} else {
#ifndef CREW_FAULT_NO_REOFFER
		uint64_t journal = ck_pr_load_64(&p->ring.reports[worker].journal), first = journal >> 16, n = journal & 0xffff;

		if (n <= BATCH_MAX && e->ticket - first < n && e->ticket < head)
			take_from(p, e, batch);
#else
		(void)head;
#endif
	}
}

/* All entries, as far as the batch goes. True: there may be more. */
static bool bury_entries(struct process_executor *p, uint32_t worker, struct cause cause, struct batch *batch)
{
	uint64_t head = load_acquire_64(&p->ring.rw->head);

	for (uint32_t i = 0; i < p->ring.geometry.slots && p->outstanding; i++) {
		if (batch->n == BATCH_ITEMS)
			return true;
		if (p->entries[i].f)
			bury_entry(p, worker, &p->entries[i], cause, head, batch);
	}
	return false;
}

/* ---- a worker's end ---- */

int crew__seat_kill(struct process_executor *p, const struct seat *seat, int signal)
{
	if (seat->pidfd < 0 || crew__deprived(p))
		return -EBADF;
	return syscall(SYS_pidfd_send_signal, seat->pidfd, signal, NULL, 0) ? -errno : 0;
}

void crew__condemn(struct process_executor *p, uint32_t worker, int code)
{
	struct seat *seat = &p->seats[worker];

	if (seat->state != SEAT_ALIVE || seat->condemned)
		return;
	seat->condemned = code;
	crew__seat_kill(p, seat, SIGKILL);
}

void crew__wake_workers(struct process_executor *p)
{
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		crew__ring_bell(&p->ring, i);
}

static uint32_t phase_of_worker(const struct process_executor *p, uint32_t worker)
{
	uint32_t phase = load_acquire_32(&p->ring.reports[worker].phase); /* pairs with set_phase (process_worker.c) */

	return phase >> 8 == (p->seats[worker].incarnation & 0xffffff) ? phase & 0xff : WORKER_STARTING;
}

bool crew__is_ready(const struct process_executor *p, uint32_t worker)
{
	return phase_of_worker(p, worker) == WORKER_READY;
}

bool crew__has_begun(const struct process_executor *p, uint32_t worker)
{
	return load_acquire_32(&p->ring.reports[worker].phase) >> 8 == (p->seats[worker].incarnation & 0xffffff);
}

/* It did not get so far as to take tasks. Those that did since the last such death end the row. */
static void strike(struct process_executor *p, uint32_t worker)
{
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++) {
		struct seat *seat = &p->seats[i];

		if (i != worker && !seat->counted && phase_of_worker(p, i) == WORKER_READY) {
			seat->counted = true;
			p->strikes = 0;
		}
	}
	p->strikes++;
}

/* Nothing of the dead one is left in shared memory when its place is used again. */
static void clear_seat(struct process_executor *p, uint32_t worker)
{
	struct seat *seat = &p->seats[worker];
	struct report *report = &p->ring.reports[worker];
	uint64_t bit = (uint64_t)1 << (worker % 64);

	ck_pr_and_64(&p->ring.rw->parked[worker / 64], ~bit);
	ck_pr_and_64(&p->ring.rw->searching[worker / 64], ~bit);
	ck_pr_and_64(&p->ring.rw->asking[worker / 64], ~bit);
	ck_pr_and_64(&p->ring.rw->offering[worker / 64], ~bit);
	ck_pr_and_64(&p->ring.rw->blocked[worker / 64], ~bit);
	ck_pr_store_64(&report->journal, 0);
	ck_pr_store_32(&report->asked, p->ring.orders[worker].granted);
	ck_pr_store_32(&report->room_asked, p->ring.orders[worker].room_granted);
	ck_pr_store_32(&report->waits, 0);
	ck_pr_store_64(&report->awaits, 0);
	seat->logged = ck_pr_load_32(&report->logged);
	crew__grants_drop(p, worker);
	if (seat->pidfd >= 0) {
		epoll_ctl(p->epoll, EPOLL_CTL_DEL, seat->pidfd, NULL); /* explicitly: a forked child may hold a copy */
		close(seat->pidfd);
	}
	seat->pidfd = -1;
	ck_pr_store_int(&seat->pid, 0);
	seat->state = SEAT_EMPTY;
	crew__roster_leave(p, worker);
	seat->condemned = 0;
	seat->kill_at = 0;
	seat->counted = false;
	seat->strange = 0;
	seat->incarnation++;
}

static void replace(struct process_executor *p, uint32_t worker)
{
	struct seat *seat = &p->seats[worker];

	if (p->closing || p->failed)
		return;
	crew__keep_ticking(p);
	if (crew__zygote_ask(p->zygote.socket, ZYGOTE_FORK, worker, seat->incarnation) == 0)
		seat->state = SEAT_ASKED;
	seat->since = crew__now();
}

/* Why workers do not get ready, when it has happened too often; code 0: it has not. */
static int too_often(struct process_executor *p, uint32_t worker, struct cause cause, char *text, size_t size)
{
	struct seat *seat = &p->seats[worker];
	uint32_t phase = phase_of_worker(p, worker), limit = p->plan.initializer ? STRIKES : STRIKES_WITHOUT;
	char how[120];

	if (p->zygote.pidfd < 0)
		return 0; /* it went with its zygote */
	if (phase == WORKER_READY || phase == WORKER_RETIRED) {
		if (!seat->counted)
			p->strikes = 0; /* it did get ready, whatever came then */
		return 0;
	}
	strike(p, worker);
	if (p->strikes < limit || p->failed)
		return 0;
	describe(how, sizeof how, seat->pid, cause);
	if (phase == WORKER_REFUSED)
		snprintf(text, size, "the initializer failed with %d in %d workers in a row", ck_pr_load_int(&p->ring.reports[worker].code), (int)limit);
	else
		snprintf(text, size, "%s before it was ready, and %d before it", how, (int)limit - 1);
	return CREW_EBROKEN;
}

void crew__bury(struct process_executor *p, uint32_t worker, struct cause cause)
{
	struct seat *seat = &p->seats[worker];
	char text[200];
	struct batch batch;
	char output[sizeof((crew_error *)0)->output];
	bool called_for, closing, more;
	int broken;

	batch.n = 0;
	crew__output_detach(p, worker);
	crew__errands_bury(p, worker, phase_of_worker(p, worker) == WORKER_RETIRED);
	latch_take(&p->lock);
	do { /* its futures are done before its place is seen to be free */
		more = bury_entries(p, worker, cause, &batch);
		latch_release(&p->lock);
		crew__deliver(p, &batch);
		latch_take(&p->lock);
	} while (more);
	latch_release(&p->lock);
	crew__doom_end(p, worker);
	latch_take(&p->lock);
	closing = p->closing;
	called_for = closing || p->failed || seat->condemned || phase_of_worker(p, worker) == WORKER_RETIRED;
	p->workers_lost += !called_for;
	broken = closing ? 0 : too_often(p, worker, cause, text, sizeof text);
	crew__output_copy(&seat->output, output, sizeof output);
	clear_seat(p, worker);
	if (!broken)
		replace(p, worker);
	crew__pump(p, &batch, BATCH_ITEMS);
	ck_pr_inc_32(&p->settled_signal); /* a shutdown may wait for this death */
	crew__futex_wake(&p->settled_signal, INT_MAX, false);
	latch_release(&p->lock);
	crew__deliver(p, &batch);
	if (!closing)
		crew__wake_workers(p);
	if (broken)
		crew__give_up(p, broken, output, "%s", text);
}

/* ---- the end of all ---- */

static crew_error *last_words(const crew_future *f, const crew_error *why)
{
	crew_error *error = crew__error_make(task_of(f), why->code, "%s", why->message);

	if (error != crew__error_no_memory())
		memcpy(error->output, why->output, sizeof error->output);
	return error;
}

/* A task that nobody will run, or a whole executor's. True: the batch is full. */
static bool fail_entries(struct process_executor *p, const crew_error *why, struct batch *batch)
{
	for (uint32_t i = 0; i < p->ring.geometry.slots; i++) {
		struct entry *e = &p->entries[i];

		if (batch->n == BATCH_ITEMS)
			return true;
		if (!e->f)
			continue;
		if (ring_answered(&p->ring, e->ticket))
			crew__settle_answer(p, e, batch);
		else if (crew__withdraw(p, e, WORD_CANCELLED))
			crew__settle_failed(p, e, last_words(e->f, why), batch);
	}
	return false;
}

static bool fail_backlog(struct process_executor *p, const crew_error *why, struct batch *batch)
{
	struct waiting *w;

	while ((w = crew__backlog_first(&p->backlog))) {
		if (batch->n == BATCH_ITEMS)
			return true;
		crew__settle_waiting(p, w, last_words(w->f, why), batch);
	}
	return false;
}

void crew__give_up(struct process_executor *p, int code, const char *output, const char *format, ...)
{
	crew_error why = { .code = code, .exit_status = -1 };
	struct batch batch;
	va_list list;
	bool more = true;

	va_start(list, format);
	vsnprintf(why.message, sizeof why.message, format, list);
	va_end(list);
	if (output)
		snprintf(why.output, sizeof why.output, "%s", output);
	crew__executor_break_with(&p->base, &why);
	batch.n = 0;
	while (more) {
		latch_take(&p->lock);
		p->failed = true;
		more = fail_entries(p, &why, &batch) || fail_backlog(p, &why, &batch);
		latch_release(&p->lock);
		crew__deliver(p, &batch);
	}
}

/* ---- the sweep ---- */

/* head says what cannot be. Every ticket nobody has begun is offered again from here on. */
static void repair_head(struct process_executor *p, uint64_t bad)
{
	ck_pr_cas_64(&p->ring.rw->head, bad, p->tail);
	p->head_seen = p->tail;
	if (++p->scribbles % STRIKES == 0)
		for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
			crew__condemn(p, i, CREW_EPROTO);
}

/* What is odd about a task that somebody is said to run: who owns it is not there, or sleeps. */
static void sweep_owned(struct process_executor *p, struct entry *e, uint64_t word, struct batch *batch)
{
	uint32_t worker = word_worker(word);
	struct seat *seat = worker > 0 && worker <= p->ring.geometry.workers ? &p->seats[worker - 1] : NULL;
	const crew_task *task = task_of(e->f);

	if (word_status(word) == WORD_RUNNING && seat && (seat->state == SEAT_ALIVE || seat->state == SEAT_DYING)) {
		worker--;
		if (!(ck_pr_load_64(&p->ring.rw->parked[worker / 64]) >> (worker % 64) & 1))
			seat->strange = 0;
		else if (++seat->strange > 2)
			crew__condemn(p, worker, CREW_EPROTO);
		return;
	}
	if (++e->suspect < 2)
		return;
	crew__settle_failed(p, e, crew__error_make(task, CREW_EPROTO, "a worker wrote over the state of '%s'", task->name), batch);
}

static void sweep_entry(struct process_executor *p, struct entry *e, uint64_t head, bool repaired, struct batch *batch)
{
	uint64_t word = ck_pr_load_64(ring_claim(&p->ring, e->ticket));

	if (ring_answered(&p->ring, e->ticket)) {
		crew__settle_answer(p, e, batch);
	} else if (!word_is_open(word, e->ticket)) {
		sweep_owned(p, e, word, batch);
	} else if (repaired || (e->ticket < head && ++e->suspect > 2)) {
		take_from(p, e, batch);
	}
}

/* Places that nobody was asked to fill, or could; and those whose obituary does not come. */
static void sweep_seats(struct process_executor *p)
{
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++) {
		bool overdue;

		latch_take(&p->lock);
		if (p->seats[i].state == SEAT_EMPTY)
			replace(p, i);
		overdue = p->seats[i].state == SEAT_DYING && crew__now() >= p->seats[i].dying_until;
		latch_release(&p->lock);
		if (overdue)
			crew__bury(p, i, (struct cause){ 0 });
	}
}

void crew__sweep(struct process_executor *p)
{
	struct batch batch;
	uint64_t head, tail;
	bool repaired = false, stuck;

	batch.n = 0;
	crew__check_births(p);
	sweep_seats(p);
	latch_take(&p->lock);
	head = load_acquire_64(&p->ring.rw->head);
	if (head > p->tail || head < p->head_seen) {
		repair_head(p, head);
		repaired = true;
		head = p->tail;
	}
	stuck = head < p->tail && head == p->swept_head;
	p->swept_head = head;
	for (uint32_t i = 0; i < p->ring.geometry.slots && p->outstanding; i++) {
		if (batch.n == BATCH_ITEMS) {
			latch_release(&p->lock);
			crew__deliver(p, &batch);
			latch_take(&p->lock);
		}
		if (p->entries[i].f)
			sweep_entry(p, &p->entries[i], head, repaired, &batch);
	}
	tail = crew__pump(p, &batch, BATCH_ITEMS) ? p->tail : 0;
	latch_release(&p->lock);
	crew__deliver(p, &batch);
	if (tail)
		crew__ring_published(&p->ring, tail);
	if (stuck || repaired)
		crew__wake_workers(p);
}
