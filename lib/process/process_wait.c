/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process_wait.c: threads of the parent that want to know: is it done, tell me when it is, wait for it, stop it.
 *
 * Answers lie where they were written until somebody looks: the thread that wants a future settles it, and those behind it while it is there. Only
 * what nobody waits for in person (callbacks, inboxes, the backlog's room) is the engine's.
 *
 * A waiter for a ticket in the ring spins on the answer while a CPU is free, then sets WAIT in the claim word and sleeps on that: the worker wakes
 * it without the parent's help. A waiter for a future that is in the backlog, or on its way to completion, sleeps on the future's own word;
 * being placed with a sleeper gives a ticket its NOTE. Every sleep ends after 100 ms to look again, whatever a worker did to the words.
 *
 * When this thread's own submit has woken a worker, that worker may be queued on this very CPU, and spinning would keep it from running. So after a pause
 * it sleeps at once (the cold rule); right after an answer it spins, since this is a conversation and the worker will move; and in between as the last
 * time taught (base/spinning.h). The worker has the same rules (look_on in process_worker.c).
 */
#include <errno.h>

#include "base/futex.h"
#include "process/process_executor.h"

#ifdef CREW_WITHOUT_NET /* tests that prove wakes */
#define SLICE (100000 * MS_TO_NS)
#else
#define SLICE (100 * MS_TO_NS)
#endif
#define ALL_EPOCHS ((1u << EPOCHS) - 1)
enum { LINGER_BEHIND = 8, LINGER_STALLS = 16 };

static uint64_t slice(uint64_t deadline)
{
	uint64_t end = crew__now() + SLICE;

	return deadline < end ? deadline : end;
}

/* e is answered: settle it and those right behind it, and use the room. The lock is held. */
static uint64_t collect(struct process_executor *p, struct entry *e, struct batch *batch)
{
	uint64_t ticket = e->ticket;

	crew__settle_answer(p, e, batch);
	while (batch->n < BATCH_ITEMS / 2 && ++ticket < p->tail) {
		e = &p->entries[ticket & p->ring.mask];
		if (!e->f || e->ticket != ticket || !ring_answered(&p->ring, ticket))
			break;
		crew__settle_answer(p, e, batch);
	}
	return p->backlog.count && crew__pump(p, batch, BATCH_ITEMS) ? p->tail : 0;
}

/* After the lock: wake for what was published, complete what was settled. */
static void carry_out(struct process_executor *p, uint64_t tail, struct batch *batch)
{
	if (tail)
		crew__ring_published(&p->ring, tail);
	if (batch->n)
		crew__deliver(p, batch);
}

/* ---- refresh ---- */

void crew__process_refresh(crew_executor *ex, crew_future *f)
{
	struct process_executor *p = process_executor_of(ex);
	struct batch batch;
	uint64_t tail = 0, word;
	struct entry *e;

	batch.n = 0;
	latch_take(&p->lock);
	e = crew__entry_of(p, f);
	if (e && ring_answered(&p->ring, e->ticket)) {
		tail = collect(p, e, &batch);
	} else if (e) {
		word = ck_pr_load_64(ring_claim(&p->ring, e->ticket));
		if (word_is_of(word, e->ticket) && word_status(word) == WORD_RUNNING)
			crew__mark_running(f);
	}
	latch_release(&p->lock);
	carry_out(p, tail, &batch);
}

/* ---- wait ---- */

static void sleep_on_state(crew_future *f, uint64_t deadline)
{
	uint32_t s = load_acquire_32(&f->state);

	if (!phase_done(s) && (s & STATE_WAITER))
		crew__futex_wait(&f->state, s, slice(deadline), false); /* woken by crew__completed */
}

static void mark_sleeper(crew_future *f)
{
	uint32_t s = ck_pr_load_32(&f->state);

	while (!phase_done(s) && !(s & STATE_WAITER))
		if (ck_pr_cas_32_value(&f->state, s, s | STATE_WAITER, &s))
			return;
}

/* Where f is: its ticket, or 0 when there is none to wait for: it has been answered, and is settled now, or it has a mark that whoever completes it
   wakes us. */
static uint64_t locate(struct process_executor *p, crew_future *f)
{
	uint64_t tail = 0, ticket = 0;
	struct batch batch;
	struct entry *e;

	batch.n = 0;
	latch_take(&p->lock);
	if (crew__backlog_find(&p->backlog, f) && crew__pump(p, &batch, BATCH_ITEMS))
		tail = p->tail;
	e = crew__entry_of(p, f);
	if (e && batch.n == 0 && ring_answered(&p->ring, e->ticket)) {
		uint64_t more = collect(p, e, &batch);

		tail = more ? more : tail;
	} else if (e) {
		ticket = e->ticket;
	} else {
		mark_sleeper(f);
	}
	latch_release(&p->lock);
	carry_out(p, tail, &batch);
	return ticket;
}

/* Up to where this thread published when it last woke a worker, where nobody was awake; when that was, and what spins for such answers have taught.
   initial-exec: no call, no allocation. */
struct rousing {
	const struct process_executor *p;
	uint64_t tail, at;
	bool talks, cold;
	struct spin_memory spins;
};
static __thread struct rousing rousing __attribute__((__tls_model__("initial-exec")));

void crew__roused(const struct process_executor *p, uint64_t tail)
{
	uint64_t now = crew__now();

	rousing.p = p;
	rousing.tail = tail;
	rousing.talks = is_conversation(now);
	rousing.cold = !rousing.talks && now - rousing.at > COLD_NS;
	rousing.at = now;
}

/* Have we woken a worker for this very ticket, and is it still on its way? */
static bool is_roused(const struct process_executor *p, uint64_t ticket)
{
	return rousing.tail == ticket + 1 && rousing.p == p && ck_pr_load_64(&p->ring.rw->head) == ticket;
}

/* Where many come one after the other, those behind this one are about to be answered, too. A moment later they are settled with it, instead of one by one
   out of a line that workers are writing. */
static void linger(const struct process_executor *p, uint64_t ticket)
{
	if (ck_pr_load_64(&p->ring.pub->tail) <= ticket + LINGER_BEHIND)
		return;
	for (int i = 0; i < LINGER_STALLS; i++)
		ck_pr_stall();
}

static bool spin(struct process_executor *p, crew_future *f, uint64_t ticket, uint64_t deadline)
{
	uint64_t end = 0, now;

	if (p->ring.geometry.cpus == 1) /* it is whoever answers that needs it */
		return false;
	for (uint32_t i = 1;; i++) {
		if (ring_answered(&p->ring, ticket) || phase_done(ck_pr_load_32(&f->state))) {
			linger(p, ticket);
			return true;
		}
		ck_pr_stall();
		if (i % 32)
			continue;
		now = crew__now();
		if (end == 0)
			end = now + SPIN_NS;
		if (now >= end || now >= deadline || crew__ring_awake(&p->ring) + 1 > p->ring.geometry.cpus)
			return false;
	}
}

/* Who was woken for it is on its way. True: it is answered. */
static bool spin_for_roused(struct process_executor *p, crew_future *f, uint64_t ticket, uint64_t deadline)
{
	bool found;

	if (rousing.cold || (!rousing.talks && !spin_is_worth(&rousing.spins)))
		return false;
	found = spin(p, f, ticket, deadline);
	if (!rousing.talks)
		spin_ended(&rousing.spins, found);
	return found;
}

static bool all_answered(const struct ring *ring, uint64_t journal)
{
	uint64_t first = journal >> 16, n = journal & 0xffff;

	if (n > BATCH_MAX)
		return false; /* scribbled */
	while (n && ring_answered(ring, first + n - 1))
		n--;
	return n == 0;
}

static bool is_awake(const struct ring *ring, uint32_t worker)
{
	uint64_t asleep = ck_pr_load_64(&ring->rw->parked[worker / 64]) | ck_pr_load_64(&ring->rw->blocked[worker / 64]);

	return !(asleep >> worker % 64 & 1);
}

/*
 * On one CPU: our ticket is the next, and a worker that has answered all that it took is still awake. As a rule that is who has woken us with its answer, and
 * has had no CPU since. It looks at the tail before it parks; we have seen its journal, so it ends that after our barrier, and comes to the one in park later
 * still: it sees our ticket. Another's wake would cost two switches more.
 *
 * Nobody is relied on twice after the same batch, by whatever thread: it may be stopped, dead, or busy with something else than tasks. Who may leave after a task
 * is not relied on at all.
 */
static bool made_way(struct process_executor *p, uint64_t ticket, uint64_t head)
{
	uint64_t relied = ck_pr_load_64(&p->relied);

	if (p->ring.geometry.cpus > 1 || p->plan.max_tasks || head != ticket)
		return false;
	ck_pr_fence_memory(); /* the tail, then journals: pairs with park (process_worker.c) */
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++) {
		uint64_t journal = ck_pr_load_64(&p->ring.reports[i].journal);

		if (journal > relied && is_awake(&p->ring, i) && all_answered(&p->ring, journal))
			return ck_pr_cas_64(&p->relied, relied, journal);
	}
	return false;
}

/* Before we sleep: somebody must be at work for us. */
static void wake_for(struct process_executor *p, uint64_t ticket)
{
	uint64_t head = ck_pr_load_64(&p->ring.rw->head), tail = ck_pr_load_64(&p->ring.pub->tail);

	if (head >= tail || !crew__ring_any(p->ring.rw->parked, &p->ring))
		return;
	if (is_roused(p, ticket)) {
		rousing.tail = 0; /* for once: it may have been stopped */
		return;
	}
	if (made_way(p, ticket, head))
		return;
	if (head <= ticket || crew__ring_awake(&p->ring) == 0 || (tail - head) * ck_pr_load_32(&p->ring.rw->average) > WORTH_NS)
		crew__ring_wake_one(&p->ring);
}

/* Set WAIT in the word of a ticket that is not over. The lower half as it is then; 0: it is over. */
static uint32_t set_wait(struct process_executor *p, uint64_t ticket)
{
	uint64_t *place = ring_claim(&p->ring, ticket), word = ck_pr_load_64(place), next;

	for (;;) {
		if (!word_is_of(word, ticket))
			next = word_make(ticket, 0, WORD_QUEUED | WORD_WAIT);
		else if (word_status(word) == WORD_QUEUED || word_status(word) == WORD_RUNNING)
			next = word | WORD_WAIT;
		else
			return 0;
		if (next == word || ck_pr_cas_64_value(place, word, next, &word))
			return (uint32_t)next;
	}
}

static void sleep_on_claim(struct process_executor *p, crew_future *f, uint64_t ticket, uint64_t deadline)
{
	struct entry *e;
	uint32_t value;

	latch_take(&p->lock);
	e = crew__entry_of(p, f);
	if (!e || e->ticket != ticket) {
		latch_release(&p->lock);
		return;
	}
	e->waiters++; /* the slot stays what it is until we leave */
	latch_release(&p->lock);
	value = set_wait(p, ticket);
	if (value) {
		ck_pr_inc_32(&p->ring.pub->sleeps);
		ck_pr_inc_32(&p->ring.pub->sleepers);
		wake_for(p, ticket);
		crew__futex_wait(word_futex(ring_claim(&p->ring, ticket)), value, slice(deadline), true); /* woken by finish, take_out, bury */
		ck_pr_dec_32(&p->ring.pub->sleepers);
	}
	latch_take(&p->lock);
	e->waiters--;
	latch_release(&p->lock);
}

int crew__process_wait(crew_executor *ex, crew_future *f, uint64_t deadline)
{
	struct process_executor *p = process_executor_of(ex);
	uint64_t ticket = locate(p, f);
	bool roused = ticket && is_roused(p, ticket), found = false;

	if (ticket)
		found = roused ? spin_for_roused(p, f, ticket, deadline) : spin(p, f, ticket, deadline);
	if (ticket && !found)
		sleep_on_claim(p, f, ticket, deadline);
	else if (!ticket)
		sleep_on_state(f, deadline);
	if (roused)
		crew__answered = crew__now();
	if (found)
		return 0;
	if (unlikely(!phase_done(ck_pr_load_32(&f->state)) && !(ticket && ring_answered(&p->ring, ticket)) && crew__deprived(p)))
		crew__abandon(p);
	return 0;
}

/* ---- being told ---- */

/* The engine must hear of its end, if it is not over already. */
static void set_note(struct process_executor *p, uint64_t ticket)
{
	uint64_t *place = ring_claim(&p->ring, ticket), word = ck_pr_load_64(place), next;

	for (;;) {
		if (!word_is_of(word, ticket))
			next = word_make(ticket, 0, WORD_QUEUED | WORD_NOTE);
		else if (word_status(word) == WORD_QUEUED || word_status(word) == WORD_RUNNING)
			next = word | WORD_NOTE;
		else
			return;
		if (ck_pr_cas_64_value(place, word, next, &word))
			return;
	}
}

void crew__process_watch(crew_executor *ex, crew_future *f)
{
	struct process_executor *p = process_executor_of(ex);
	struct batch batch;
	uint64_t tail = 0;
	struct entry *e;

	batch.n = 0;
	latch_take(&p->lock);
	e = crew__entry_of(p, f); /* in the backlog its state is looked at when it is placed */
	if (e)
		set_note(p, e->ticket);
	if (e && ring_answered(&p->ring, e->ticket)) /* too late for the note, perhaps */
		tail = collect(p, e, &batch);
	latch_release(&p->lock);
	carry_out(p, tail, &batch);
}

/* ---- stopping ---- */

/* 1: nobody will run it, and it is in no entry any more; 0: it runs and is told to stop. The lock is held. */
static int take_back(struct process_executor *p, struct entry *e)
{
	uint64_t *place = ring_claim(&p->ring, e->ticket), word;
	struct job *job = &ring_cell(&p->ring, e->ticket)->job;

	if (crew__withdraw(p, e, WORD_CANCELLED)) {
		e->f = NULL;
		if (job->flags & JOB_EXTENT)
			crew__free_extent(p, job->payload);
		if (e->waiters)
			crew__futex_wake(word_futex(place), INT_MAX, true);
		crew__settle_gone(p, e->epoch);
		return 1;
	}
	word = ck_pr_load_64(place);
	while (word_status(word) == WORD_RUNNING && !(word & WORD_STOP))
		if (ck_pr_cas_64_value(place, word, word | WORD_STOP, &word))
			break;
	return 0;
}

int crew__process_cancel(crew_executor *ex, crew_future *f)
{
	struct process_executor *p = process_executor_of(ex);
	struct waiting *w;
	struct batch batch;
	struct entry *e;
	uint64_t tail = 0;
	int rc = 0;

	batch.n = 0;
	latch_take(&p->lock);
	e = crew__entry_of(p, f);
	w = e ? NULL : crew__backlog_find(&p->backlog, f);
	if (w) {
		if (w->flags & JOB_EXTENT)
			crew__free_extent(p, w->payload);
		crew__settle_gone(p, w->epoch);
		crew__backlog_drop(&p->backlog, w);
		rc = 1;
	} else if (e && ring_answered(&p->ring, e->ticket)) {
		tail = collect(p, e, &batch);
		rc = -EALREADY;
	} else if (e) {
		rc = take_back(p, e);
	}
	if (rc == 1)
		crew__take_marked(f, STATE_REVOKED);
	else if (!e && !w) /* not here: not submitted yet, or being completed by who took it out */
		rc = crew__take_marked(f, STATE_REVOKED) ? 1 : -EALREADY;
	latch_release(&p->lock);
	carry_out(p, tail, &batch);
	return rc;
}

/* ---- waiting for all ---- */

/* Epochs tell what was submitted before from what comes after. The set of those to wait for; the lock is held. */
static uint32_t begin_drain(struct process_executor *p)
{
	uint32_t epochs = 0;

	if (p->of_epoch[(p->epoch + 1) % EPOCHS] == 0)
		p->epoch++;
	for (uint32_t i = 0; i < EPOCHS; i++)
		if (p->of_epoch[i])
			epochs |= 1u << i;
	p->drainers++;
	crew__tell_hunger(p); /* and only then look at the answers */
	return epochs;
}

static uint32_t still(const struct process_executor *p, uint32_t epochs)
{
	for (uint32_t i = 0; i < EPOCHS; i++)
		if (p->of_epoch[i] == 0)
			epochs &= ~(1u << i);
	return epochs;
}

/* Settle what is answered, refill, sleep until an epoch is over. everything: also what is submitted meanwhile. */
static bool drain(struct process_executor *p, uint64_t deadline, bool everything)
{
	struct batch batch;
	uint32_t epochs, signal;
	uint64_t tail;
	bool more;

	batch.n = 0;
	latch_take(&p->lock);
	epochs = begin_drain(p);
	while ((epochs = still(p, everything ? ALL_EPOCHS : epochs))) {
		signal = load_acquire_32(&p->settled_signal);
		more = crew__settle_all(p, &batch);
		tail = crew__pump(p, &batch, p->ring.geometry.slots) ? p->tail : 0;
		more |= batch.n > 0;
		latch_release(&p->lock);
		carry_out(p, tail, &batch);
		if (!more && crew__now() < deadline)
			crew__futex_wait(&p->settled_signal, signal, slice(deadline), false); /* woken by crew__settle_gone */
		if (!more && unlikely(crew__deprived(p)))
			crew__abandon(p);
		latch_take(&p->lock);
		if (deadline != NEVER && crew__now() >= deadline && (epochs = still(p, everything ? ALL_EPOCHS : epochs)))
			break;
	}
	p->drainers--;
	crew__tell_hunger(p);
	latch_release(&p->lock);
	return epochs == 0;
}

int crew__process_drain(crew_executor *ex, uint64_t deadline)
{
	return drain(process_executor_of(ex), deadline, false) ? 0 : -ETIMEDOUT;
}

bool crew__await_empty(struct process_executor *p, uint64_t deadline)
{
	return drain(p, deadline, true);
}
