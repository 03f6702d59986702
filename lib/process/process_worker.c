/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process_worker.c: a worker's life: take tickets, run them, answer.
 *
 *	journal → head (CAS) → claim (CAS) → run → answer → FINISHED (CAS) → wake, log, ring
 *
 * It is written as if it died at every instruction, because it does. What was taken from head and not claimed stands in the journal; what was
 * claimed carries our number in its claim word; what was answered counts, even if the word never says FINISHED. The journal is stored before the
 * CAS that it speaks of; an answer's ticket after the answer. Nothing here takes a lock, owns a list, or frees anything of the parent's.
 *
 * An idle worker first looks for tickets that a peer has taken and not begun (one long task may hold up fifteen others), spins while a CPU is
 * free, and parks on its bell: bell read, bit set, barrier, look again, sleep. An idle pool uses no CPU.
 *
 * What is in pub can be trusted, we cannot write it. What is in rw may have been scribbled by a peer: here that can cost answers, never the parent.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <ucontext.h>

#include "base/cpu.h"
#include "base/futex.h"
#include "base/niceness.h"
#include "base/table.h"
#include "core/packing.h"
#include "process/process_worker.h"
#include "process/worker_executor.h"

enum { UNTIMED = 8 }; /* of so many tiny tasks that come one by one, one is measured */

/* ---- telling ---- */

/* Pairs with the barrier between parked = 1 and the last look in park (engine.c). */
static void ring_parked_engine(struct worker *w)
{
	ck_pr_fence_memory();
	if (ck_pr_load_32(&w->ring->pub->engine_parked))
		ring_engine(w);
}

static void clear_bit(uint64_t *bits, const struct worker *w)
{
	ck_pr_and_64(&bits[w->index / 64], ~((uint64_t)1 << (w->index % 64)));
}

/* ---- claim and finish ---- */

/* Ours? Not if it is a hole, was cancelled or moved, or a peer was faster. Pairs with the release of the cell's ticket in place (intake.c). */
bool crew__claim_ticket(struct worker *w, uint64_t ticket)
{
	uint64_t *place = ring_claim(w->ring, ticket);
	uint64_t word = ck_pr_load_64(place);

	for (;;) {
		uint32_t flags = word_is_of(word, ticket) ? word & WORD_FLAGS : 0;

		ck_pr_fence_load();
		if (!word_is_open(word, ticket) || load_acquire_32(&ring_cell(w->ring, ticket)->ticket) != (uint32_t)ticket)
			return false;
		if (ck_pr_cas_64_value(place, word, word_make(ticket, w->index + 1, flags | WORD_RUNNING), &word)) {
			ck_pr_fence_acquire();
			return true;
		}
	}
}

/* RUNNING by us → FINISHED; the flags it had. When the word is of a later ticket, the parent has seen the answer and used the slot again: all was
   said. Anything else means that we were given up, most likely doomed: whoever kills us now must not meet us in another task. */
static uint32_t set_finished(struct worker *w, uint64_t ticket)
{
	uint64_t *place = ring_claim(w->ring, ticket);
	uint64_t word = ck_pr_load_64(place);

	while (word_is_of(word, ticket)) {
#ifndef CREW_FAULT_DEAF
		if (word_status(word) != WORD_RUNNING || word_worker(word) != w->index + 1)
			_exit(1);
#endif
		if (ck_pr_cas_64_value(place, word, (word & ~(uint64_t)0xff) | WORD_FINISHED, &word))
			return word & WORD_FLAGS;
	}
	return 0;
}

static void log_finished(struct worker *w, uint64_t ticket)
{
	uint32_t n = w->report->logged;

	ck_pr_store_32(&w->report->log[n % LOG_SIZE], (uint32_t)ticket);
	store_release_32(&w->report->logged, n + 1); /* pairs with the load in read_log (engine.c) */
}

/* The engine wants to know when the ring runs low. */
static bool is_low(const struct worker *w)
{
	uint32_t hungry = ck_pr_load_32(&w->ring->pub->hungry);

	return unlikely(hungry) && (int64_t)(ck_pr_load_64(&w->ring->pub->tail) - ck_pr_load_64(&w->ring->rw->head)) < (int64_t)hungry;
}

static void finish(struct worker *w, uint64_t ticket, uint32_t noted)
{
	struct answer *a = ring_answer(w->ring, ticket);
	uint32_t flags;

#ifndef CREW_FAULT_RESULT_AFTER_DONE
	store_release_32(&a->ticket, (uint32_t)ticket); /* publishes the answer; pairs with ring_answered */
#endif
	ck_pr_fence_store_atomic();
	flags = set_finished(w, ticket);
	if (flags & WORD_WAIT) {
		w->woken = ck_pr_load_32(&w->ring->pub->sleeps);
		crew__futex_wake(word_futex(ring_claim(w->ring, ticket)), INT_MAX, true); /* by address: whoever has the slot now looks again */
	}
	log_finished(w, ticket);
	if (unlikely((noted & JOB_NOTE) || (flags & WORD_NOTE) || is_low(w)))
		ring_parked_engine(w);
}

void crew__errand_ran_here(struct worker *w, uint64_t ticket)
{
	ring_answer(w->ring, ticket)->about = ANSWER_HOME;
	finish(w, ticket, 0);
}

static bool run_ticket(struct worker *w, uint64_t ticket)
{
	const struct job *job = &ring_cell(w->ring, ticket)->job;
	uint32_t noted;

	if (!crew__claim_ticket(w, ticket))
		return false;
	noted = job->flags;
	w->ticket = ticket;
#ifdef CREW_FAULT_RESULT_AFTER_DONE
	store_release_32(&ring_answer(w->ring, ticket)->ticket, (uint32_t)ticket);
#endif
	crew__job_run(w, job);
	crew__run_leftovers(w->executor);
	finish(w, ticket, noted);
	w->done++;
	return true;
}

/* ---- taking ---- */

/* Half of our share of what is there: so the last ones are shared out one by one. Batches of 8 and more end with a line of claim words. */
static uint64_t batch(const struct worker *w, uint64_t head, uint64_t there)
{
	uint64_t n = there / (2 * w->ring->geometry.active);

	if (n < 1 || w->average > TINY_NS || w->plan->max_tasks)
		return 1;
	if (n > BATCH_MAX)
		n = BATCH_MAX;
	return n >= 8 ? n - ((head + n) & 7) : n;
}

/* The parent has nobody asleep but the one whom we woke ourselves: it needs a CPU. */
static uint32_t parent_on_cpu(const struct worker *w)
{
	const struct pub *pub = w->ring->pub;

	return ck_pr_load_32(&pub->sleepers) == 0 || ck_pr_load_32(&pub->sleeps) == w->woken;
}

static bool cpu_is_free(const struct worker *w)
{
	return crew__ring_awake(w->ring) + parent_on_cpu(w) <= w->ring->geometry.cpus;
}

/* More is waiting than what we took: wake another, as a submitter would. */
static void pass_on(struct worker *w, uint64_t left)
{
	const struct rw *rw = w->ring->rw;

	if (left == 0 || !crew__ring_any(rw->parked, w->ring) || crew__ring_any(rw->searching, w->ring))
		return;
	if (w->average >= TINY_NS ||
	    (crew__ring_awake(w->ring) + parent_on_cpu(w) < w->ring->geometry.cpus && left * w->average > WORTH_NS))
		crew__ring_wake_one(w->ring);
}

/* Our average follows fast upwards, slowly down; the shared one changes only when it is far off, so that its line stays where it is read. */
static void measure(struct worker *w, uint64_t began, uint64_t count)
{
	uint64_t ns = (crew__now() - began) / count;
	uint32_t shared = ck_pr_load_32(&w->ring->rw->average);

	if (ns > w->average)
		w->average = ns < 2ull * w->average + 100 ? (uint32_t)ns : 2 * w->average + 100;
	else
		w->average = (uint32_t)((3ull * w->average + ns) / 4);
	if (w->average > 1000000000)
		w->average = 1000000000;
	if (w->average > shared + shared / 2 || w->average < shared / 2)
		ck_pr_store_32(&w->ring->rw->average, w->average);
}

/* Take a batch and run it. False: there is none. */
static bool take(struct worker *w)
{
	struct rw *rw = w->ring->rw;
	uint64_t head = ck_pr_load_64(&rw->head), n, began;
	bool timed;

	if (head >= w->tail)
		w->tail = load_acquire_64(&w->ring->pub->tail); /* pairs with publish (intake.c) */
	if (head >= w->tail)
		return false;
	n = batch(w, head, w->tail - head);
	__builtin_prefetch(ring_cell(w->ring, head), 0);
	__builtin_prefetch(ring_answer(w->ring, head), 1);
	ck_pr_store_64(&w->report->journal, head << 16 | n); /* before the CAS: pairs with bury, which reads it when we are dead */
	ck_pr_fence_store_atomic();
	if (!ck_pr_cas_64(&rw->head, head, head + n)) {
		ck_pr_store_64(&w->report->journal, 0); /* it is another's: waiters take our journal for what we have just done */
		return true;
	}
	if (w->average >= TINY_NS)
		w->tail = load_acquire_64(&w->ring->pub->tail); /* again: a submitter may have relied on our searching */
	pass_on(w, w->tail - head - n);
	timed = n > 1 || w->average >= TINY_NS || ++w->singles % UNTIMED == 0; /* two looks at the clock are a tenth of a round trip */
	began = timed ? crew__now() : 0;
	for (uint64_t i = 0; i < n; i++) {
		__builtin_prefetch(ring_cell(w->ring, head + i + 4), 0);
		if ((i & 3) == 0)
			__builtin_prefetch(ring_answer(w->ring, head + i + 4), 1);
		run_ticket(w, head + i);
	}
	if (timed)
		measure(w, began, n);
	ck_pr_store_64(&w->report->journal, 0);
	return true;
}

/* What a peer has taken and not begun, but its first, which it is about to. The claim decides, and the peer's journal covers what we do not get. */
static bool steal(struct worker *w)
{
	bool any = false;

	for (uint32_t i = 0; i < w->ring->geometry.workers; i++) {
		uint64_t journal = i == w->index ? 0 : ck_pr_load_64(&w->ring->reports[i].journal);
		uint64_t first = journal >> 16, n = journal & 0xffff;

		for (uint64_t k = n <= BATCH_MAX ? n : 0; k > 1; k--)
			any |= run_ticket(w, first + k - 1);
	}
	return any;
}

/* ---- idle ---- */

static bool visible(struct worker *w)
{
	uint64_t head = ck_pr_load_64(&w->ring->rw->head);

	if (head < w->tail)
		return true;
	if (load_acquire_32(&ring_cell(w->ring, head)->ticket) == (uint32_t)head && (uint32_t)head) {
		w->tail = head + 1; /* published, if tail does not say so yet */
		return true;
	}
	return false;
}

/* A few microseconds of looking, before sleep that takes tens to wake from. True: there is something. */
static bool spin(struct worker *w)
{
	uint64_t end = crew__now() + SPIN_NS;
	bool flagged = false, found = false;

	if (w->average >= TINY_NS) {
		set_bit(w->ring->rw->searching, w);
		flagged = true;
	}
	for (uint32_t i = 1; !(found = visible(w)); i++) {
		ck_pr_stall();
		if (i % 32)
			continue;
		w->tail = load_acquire_64(&w->ring->pub->tail);
		if (crew__now() >= end || ck_pr_load_32(&w->ring->pub->stop) || !cpu_is_free(w))
			break;
	}
	if (flagged) {
		clear_bit(w->ring->rw->searching, w);
		ck_pr_fence_memory(); /* a submitter that saw the bit published before this; we look again in take or park */
	}
	return found;
}

/* While tasks are tiny a submitter trusts whoever is awake. One of those who sleep looks up now and then, in case that one is stuck. */
static uint64_t lookout(const struct worker *w, uint32_t turns)
{
	const uint64_t *parked = w->ring->rw->parked;
	uint32_t i = 0;

	if (crew__ring_awake(w->ring) == 0 || ck_pr_load_32(&w->ring->rw->average) >= TINY_NS)
		return NEVER;
	while (i < w->index / 64 && ck_pr_load_64(&parked[i]) == 0)
		i++;
	if (i < w->index / 64 || (ck_pr_load_64(&parked[i]) & (((uint64_t)1 << (w->index % 64)) - 1)))
		return NEVER; /* somebody before us does it */
	return crew__now() + (2 * MS_TO_NS << (turns < 6 ? turns : 6));
}

static void park(struct worker *w, uint32_t *turns)
{
	struct rw *rw = w->ring->rw;
	uint32_t bell = ck_pr_load_32(&w->report->bell);
	uint64_t began, slept;

	ck_pr_fence_load();
	set_bit(rw->parked, w);
	ck_pr_fence_memory(); /* pairs with the barrier between tail and the bits, see crew__ring_published (ring.c) */
	if (crew__ring_any(rw->offering, w->ring))
		ring_parked_engine(w); /* we are idle: pairs with the barrier in announce (offer.c) */
	if (load_acquire_64(&w->ring->pub->tail) <= ck_pr_load_64(&rw->head) && !ck_pr_load_32(&w->ring->pub->stop) &&
	    (!has_errands(w->executor) || ck_pr_load_32(&w->orders->replied) == w->replied)) {
		began = crew__now();
		crew__futex_wait(&w->report->bell, bell, lookout(w, *turns), true); /* woken by crew__ring_bell */
		slept = crew__now() - began;
		w->cold = slept > COLD_NS;
		w->batches = 0;
		w->waker = w->cold ? 0 : ck_pr_load_32(&rw->waker);
		*turns = ck_pr_load_32(&w->report->bell) == bell ? *turns + 1 : 0;
	}
	clear_bit(rw->parked, w);
}

/* Out of work: look for more, before a sleep? Not after a long one (the cold rule, see process_wait.c), and after a single batch since it was woken as the last time
   taught: whom that was for may be queued on this CPU. */
static bool look_on(struct worker *w)
{
	bool single = w->batches == 1, found;

	if (w->cold || !cpu_is_free(w) || (single && !spin_is_worth(&w->spins)))
		return false;
	found = spin(w);
	if (single) {
		spin_ended(&w->spins, found);
		w->batches = 2;
	}
	return found;
}

/* After the first batch for somebody who talks: it spins for the answer, which must not be on our CPU, and we for its next question. */
static void talk_on(struct worker *w)
{
	if (w->ring->geometry.cpus > 1)
		crew__cpu_leave(WAKER_CPU(w->waker));
	w->waker = 0;
	w->batches = 2;
}

/* The parent may have more than fits into the ring. */
static void tell_hunger(struct worker *w)
{
	if (ck_pr_load_32(&w->ring->pub->hungry))
		ring_parked_engine(w);
}

static void work(struct worker *w)
{
	uint32_t turns = 0;

	for (;;) {
		bool any = take(w) || steal(w);

		if (unlikely(has_errands(w->executor))) {
			w->replied = load_acquire_32(&w->orders->replied);
			crew__look_after_errands(w->executor);
		}
		if (unlikely(w->mute))
			return;
		if (any) {
			turns = 0;
			w->batches += w->batches < 2;
			if (unlikely(w->waker & WAKER_TALKS))
				talk_on(w);
			if (unlikely(w->plan->max_tasks) && w->done >= w->plan->max_tasks)
				return;
			continue;
		}
		if (ck_pr_load_32(&w->ring->pub->stop))
			return;
		if (look_on(w))
			continue;
		w->cold = false;
		tell_hunger(w);
		park(w, &turns);
	}
}

/* ---- life ---- */

static void set_phase(struct worker *w, uint32_t phase)
{
	store_release_32(&w->report->phase, w->incarnation << 8 | phase); /* pairs with phase_of_worker (bury.c) */
}

/* How it was asked to be placed; a wish that the system does not grant is none of the tasks' business. */
static void settle_down(const struct worker_plan *plan, uint32_t index)
{
	char name[16], number[12];

	snprintf(number, sizeof number, "/%u", index);
	snprintf(name, sizeof name, "%.*s%s", (int)(sizeof name - 1 - strlen(number)), plan->name, number);
	prctl(PR_SET_NAME, name);
	niceness_add(plan->nice);
	if (plan->placed)
		sched_setaffinity(0, sizeof plan->cpus, &plan->cpus);
}

static _Noreturn void leave(struct worker *w, bool finalize)
{
	if (finalize && w->plan->finalizer)
		w->plan->finalizer(w->plan->arg, (int)w->index);
	fflush(NULL); /* what the tasks printed; the zygote's buffers were empty at the fork */
	_exit(0);
}

/* Not before the parent has our pidfd may we take what could die with us. */
static void wait_for_go(struct worker *w)
{
	uint32_t go;

	while ((go = load_acquire_32(&w->orders->go)) != w->incarnation && !ck_pr_load_32(&w->ring->pub->stop))
		crew__futex_wait(&w->orders->go, go, NEVER, true); /* woken by tell (roster.c), which changes it after `stop` too */
}

static _Noreturn void live(struct worker *w)
{
	const struct worker_plan *plan = w->plan;
	int code;

	set_phase(w, WORKER_STARTING);
	settle_down(plan, w->index);
	w->generation = crew__fork_generation;
	w->average = ck_pr_load_32(&w->ring->rw->average);
	w->tasks = crew__table_new(TASKS_MAX, sizeof *w->tasks);
	if (!w->tasks)
		_exit(1);
	w->executor = crew__worker_executor_new(w);
	if (!w->executor)
		_exit(1);
	crew__context_init(&w->context, &w->executor->base, (int)w->index);
	w->context.stopping = crew__job_stopping;
	w->context.backend = w;
	code = crew__plan_settle(w->plan);
	if (code == 0 && plan->initializer)
		code = plan->initializer(plan->arg, (int)w->index);
	if (code) {
		w->report->code = code;
		set_phase(w, WORKER_REFUSED);
		leave(w, false);
	}
	crew__blocks_free(&w->context);
	w->context.memory = &crew__rooms; /* not before: who is not admitted yet is granted nothing */
	set_phase(w, WORKER_READY);
	wait_for_go(w);
	work(w);
	if (!ck_pr_load_32(&w->ring->pub->stop))
		crew__finish_errands(w->executor);
	if (!ck_pr_load_32(&w->ring->pub->stop))
		set_phase(w, WORKER_RETIRED);
	leave(w, true);
}

/* makecontext() passes ints. */
static void on_own_stack(unsigned high, unsigned low)
{
	live((struct worker *)((uintptr_t)((uint64_t)high << 32 | low)));
}

/* The zygote's stack is the opener's, whatever that was. */
static _Noreturn void live_on_stack(struct worker *w, size_t size)
{
	ucontext_t here, there;
	void *stack;

	size = size < 65536 ? 65536 : size;
	stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED || getcontext(&there))
		live(w);
	mprotect(stack, 4096, PROT_NONE);
	w->stack = stack;
	there.uc_stack.ss_sp = stack;
	there.uc_stack.ss_size = size;
	there.uc_link = NULL;
	makecontext(&there, (void (*)(void))on_own_stack, 2, (unsigned)((uint64_t)(uintptr_t)w >> 32), (unsigned)(uintptr_t)w);
	swapcontext(&here, &there);
	_exit(1);
}

void crew__worker_main(struct worker_plan *plan, uint32_t index, uint32_t incarnation)
{
	struct worker *w = calloc(1, sizeof *w);

	if (!w)
		_exit(1);
	w->ring = &plan->ring;
	w->plan = plan;
	w->orders = &w->ring->orders[index];
	w->report = &w->ring->reports[index];
	crew__fd_mark(plan->bell, &w->bell);
	w->index = index;
	w->incarnation = incarnation;
	w->rooms.put = w->orders->released;
	w->rooms.asked = w->orders->granted;
	crew__shared_here = (struct shared_range){ w->ring->blocks, w->ring->geometry.blocks_size };
	if (plan->stack_size)
		live_on_stack(w, plan->stack_size);
	live(w);
}
