/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thread_worker.c: the life of a worker's thread.
 *
 *	start → initializer → [ look → run ]… → nothing: spin → park …
 *	      → finalizer → leave (shut down), or hand over (max_tasks_per_child) → end
 *
 * A look takes up to 32 hints from one queue with one CAS: the worker's own first (what its tasks
 * submitted), then everybody's, in a round that goes on where it stood. Every 61st look begins with the
 * others, so that a task that submits itself again for ever starves nobody. The hints go to `batch`,
 * from where idle workers claim them too: a batch never traps a task behind one that blocks.
 *
 * Who finds nothing looks on for a while, for the next task of a conversation comes within a
 * microsecond and a nap costs five; but one thread at most (the token), only while a CPU is free for
 * it, and then it parks.
 *
 * A worker is a place (its index, its word of bits) that threads follow each other in: each new thread
 * joins its predecessor first, so the closer has one thread to join for each.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/niceness.h"
#include "base/signals.h"
#include "thread/thread_pool.h"

#define OTHERS_FIRST 61
#define URGENT_AT_ONCE 16     /* with a priority, between two tasks of a batch */
#define SPIN_SHORT_NS 3000    /* what a nap costs */
#define TIGHT_LOOKS 64	      /* at the last queue only */
#define CROWDED_AFTER 4
#define MOVE_AGAIN_NS 1000000

/* ---- failing ---- */

static void fail_hint(struct thread_pool *pool, crew_future *f)
{
	if (f && crew__claim(f))
		crew__fail_code(f, CREW_EBROKEN, "%s", pool->base.error.message);
}

static void fail_lane(struct thread_pool *pool, int which);

/* Everything that waits, wherever it waits. Any thread; several at a time. */
void crew__fail_waiting(struct thread_pool *pool)
{
	struct port *port = load_acquire_ptr((void *const *)&pool->base.ports);
	uint32_t high = load_acquire_32(&pool->high);
	crew_future *batch[BATCH_MAX];
	bool left;
	int n;

	for (; port; port = load_acquire_ptr((void *const *)&port->next))
		while ((n = crew__injection_take(&((struct thread_port *)port)->queue, batch, BATCH_MAX, 1, &left)))
			for (int i = 0; i < n; i++)
				fail_hint(pool, batch[i]);
	fail_lane(pool, LANE_URGENT);
	fail_lane(pool, LANE_LATE);
	for (uint32_t i = 0; i < high; i++)
		for (uint32_t j = 0; j < BATCH_MAX; j++)
			fail_hint(pool, ck_pr_load_ptr(&pool->workers[i].batch[j])); /* an old one is merely stale */
}

void crew__pool_break(struct thread_pool *pool, int code, const char *format, ...)
{
	char text[256];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	crew__executor_break(&pool->base, code, "%s", text);
	ck_pr_or_32(&pool->notice, NOTICE_BROKEN);
	ck_pr_or_32(&pool->parked, POOL_BROKEN);
	crew__heavy_fence_last(pool); /* pairs with the light fence in submit: what is not seen below sees POOL_BROKEN */
	crew__fail_waiting(pool);
}

/* ---- running ---- */

/* f is claimed. */
static void run(struct thread_worker *w, crew_future *f)
{
	if (unlikely(ck_pr_load_32(&w->pool->notice) & NOTICE_BROKEN)) {
		crew__fail_code(f, CREW_EBROKEN, "%s", w->pool->base.error.message);
		return;
	}
	ck_pr_store_32(&w->runs, w->runs + 1);
	w->quota -= w->quota != INT_MAX;
	crew__run(&w->context, f);
}

/* After the token was given back: what comes after is seen after. Where a CAS is a full barrier the claim was one. */
static void fence_after_claim(bool claimed)
{
#ifdef CK_MD_TSO
	if (claimed)
		return;
#else
	(void)claimed;
#endif
	full_fence();
}

/* One task that was found outside of the queues; `claimed`: already. */
static bool run_single(struct thread_worker *w, crew_future *f, bool claimed)
{
	crew__stop_search(w);
	claimed = claimed || crew__claim(f);
	full_fence();
	if (crew__want_wake(w->pool) && crew__any_work(w->pool))
		crew__wake_one(w->pool);
	w->relied_on = false;
	if (!claimed)
		return false;
	ck_pr_store_32(&w->next, 1); /* a batch of one, of which nothing is left */
	store_release_32(&w->end, 1);
	run(w, f);
	ck_pr_store_32(&w->end, 0);
	return true;
}

static void notice(struct priority_lane *lane, int which, bool used)
{
	struct thread_pool *pool = (struct thread_pool *)((char *)lane - offsetof(struct thread_pool, lane));

	if (used)
		ck_pr_or_32(&pool->notice, 1u << which);
	else
		ck_pr_and_32(&pool->notice, ~(1u << which));
}

static void fail_lane(struct thread_pool *pool, int which)
{
	crew_future *f;

	while ((f = crew__lane_take(&pool->lane, which, notice)))
		fail_hint(pool, f);
}

int crew__submit_priority(struct thread_pool *pool, crew_future *f, int priority)
{
	return crew__lane_put(&pool->lane, f, priority, crew__now(), notice);
}

static bool run_lane(struct thread_worker *w, int which)
{
	crew_future *f;

	if (!(ck_pr_load_32(&w->pool->notice) & 1u << which))
		return false;
	while ((f = crew__lane_take(&w->pool->lane, which, notice)))
		if (run_single(w, f, false))
			return true;
	return false;
}

/* Urgent tasks that came while a batch runs. Not through run_single: `next` and `end` describe the batch. */
static void run_urgent(struct thread_worker *w, int left_in_batch)
{
	crew_future *f;

	for (int i = 0; i < URGENT_AT_ONCE && w->quota > left_in_batch; i++) {
		f = crew__lane_take(&w->pool->lane, LANE_URGENT, notice);
		if (!f)
			return;
		if (crew__claim(f))
			run(w, f);
	}
}

static void run_batch(struct thread_worker *w, int n, bool left)
{
	struct thread_pool *pool = w->pool;

	crew__stop_search(w);
	ck_pr_store_32(&w->next, 0);
	store_release_32(&w->end, (uint32_t)n);
	for (int i = 0; i < n; i++) {
		crew_future *f = w->batch[i];
		bool claimed;

		if (unlikely(ck_pr_load_32(&pool->notice) & NOTICE_URGENT))
			run_urgent(w, n - i);
		ck_pr_store_32(&w->next, (uint32_t)i + 1);
		claimed = crew__claim(f);
		if (i == 0) {
			fence_after_claim(claimed);
			if (crew__want_wake(pool) && (n > 1 || left || (w->relied_on && crew__any_work(pool))))
				crew__wake_one(pool);
			w->relied_on = false;
		}
		if (claimed)
			run(w, f);
	}
	ck_pr_store_32(&w->end, 0);
}

/* ---- looking ---- */

static int take(struct thread_worker *w, struct injection *queue, bool *left)
{
	int max = w->quota < BATCH_MAX ? w->quota : BATCH_MAX;

	return crew__injection_take(queue, w->batch, max, w->pool->sharers, left);
}

/* Ports in the order of their list, from `from` (or its beginning) up to `to` (or its end). */
static int take_from_ports(struct thread_worker *w, struct thread_port *from, struct thread_port *to, bool *left)
{
	struct port *port = from ? &from->base : load_acquire_ptr((void *const *)&w->pool->base.ports);
	int n;

	for (; port && (struct thread_port *)port != to; port = load_acquire_ptr((void *const *)&port->next)) {
		n = take(w, &((struct thread_port *)port)->queue, left);
		if (n) {
			w->cursor = (struct thread_port *)port;
			w->last_queue = &w->cursor->queue;
			return n;
		}
	}
	return 0;
}

static int take_hints(struct thread_worker *w, bool others_first, bool *left)
{
	int n;

	if (!w->port && crew__last_id == w->pool->base.id)
		w->port = (struct thread_port *)crew__last_port;
	if (!others_first && w->port && (n = take(w, &w->port->queue, left))) {
		w->last_queue = &w->port->queue;
		return n;
	}
	if (others_first && w->cursor)
		w->cursor = load_acquire_ptr((void *const *)&w->cursor->base.next);
	n = take_from_ports(w, w->cursor, NULL, left);
	if (!n && w->cursor)
		n = take_from_ports(w, NULL, w->cursor, left);
	return n;
}

/* What others have in their batches, from the end that they reach last. */
static bool steal_hint(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;
	uint32_t high = load_acquire_32(&pool->high);

	for (uint32_t i = 0; i < high; i++) {
		struct thread_worker *victim = &pool->workers[i];
		uint32_t next = load_acquire_32(&victim->next), end = load_acquire_32(&victim->end);

		if (victim == w)
			continue;
		while (end > next) {
			crew_future *f = ck_pr_load_ptr(&victim->batch[--end]);

			if (f && phase_of(ck_pr_load_32(&f->state)) == PHASE_PENDING && crew__claim(f))
				return run_single(w, f, true);
		}
	}
	return false;
}

static void run_found(struct thread_worker *w, int n, bool left)
{
	int cpu = w->waker_cpu;

	w->waker_cpu = -1;
	if (cpu >= 0 && left)
		crew__leave_waker(w, cpu); /* the waker goes on submitting */
	run_batch(w, n, left);
	if (cpu >= 0 && !left && w->conversation)
		crew__leave_waker(w, cpu); /* the waker spins on this CPU */
	if (!left && w->quota > 0)
		crew__announce_search(w);
}

bool crew__look(struct thread_worker *w)
{
	bool others_first = ++w->looks % OTHERS_FIRST == 0, left = false;
	int n;

	if (unlikely(ck_pr_load_32(&w->pool->notice)) && run_lane(w, others_first ? LANE_LATE : LANE_URGENT))
		return true;
	n = take_hints(w, others_first, &left);
	if (n) {
		run_found(w, n, left);
		return true;
	}
	if (unlikely(ck_pr_load_32(&w->pool->notice)) && (run_lane(w, LANE_URGENT) || run_lane(w, LANE_LATE)))
		return true;
	return w->pool->count > 1 && (crew__frames_steal(w) || steal_hint(w));
}

/* ---- waiting for work ---- */

static void pause_for(int n)
{
	while (n-- > 0)
		ck_pr_stall();
}

/* A look after giving way, while workers have all CPUs: see spin_for in waiting.c. Work that came while somebody else ran here: the submitter shares this CPU. */
static bool look_after_yield(struct thread_worker *w)
{
	int cpu = sched_getcpu();
	uint64_t before = crew__now();
	bool others_ran;

	sched_yield();
	others_ran = crew__now() - before > 500;
	if (!crew__look(w))
		return false;
	if (others_ran && ++w->crowded >= CROWDED_AFTER && before - w->moved_at > MOVE_AGAIN_NS) {
		w->crowded = 0;
		w->moved_at = before;
		crew__cpu_leave(cpu);
	}
	return true;
}

static bool spin(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;
	int limit = pool->limit, awake, pauses = 2;
	uint64_t end;

	crew__announce_search(w);
	awake = crew__awake(pool);
	if (limit < 2 || ck_pr_load_32(&pool->stop) || (!w->searching && awake > limit))
		return false;
	for (int i = 0; w->last_queue && i < TIGHT_LOOKS; i++) {
		ck_pr_stall();
		if (crew__injection_any(w->last_queue) && crew__look(w))
			return true;
	}
	end = crew__now() + ((w->searching || pool->count == 1) && awake < limit ? SPIN_NS : SPIN_SHORT_NS);
	for (uint32_t round = 1; crew__now() < end; round++) {
		pause_for(pauses);
		if (pauses < 8)
			pauses++;
		else if (round % 8 == 0 && crew__awake(pool) >= limit && look_after_yield(w))
			return true;
		if (crew__look(w)) {
			w->crowded = 0;
			return true;
		}
	}
	return false;
}

/* Nothing was found. After a single batch since it was woken, a spin may keep whom that was for from this CPU: see base/spinning.h. */
static bool look_on(struct thread_worker *w)
{
	bool found;

	if (w->batches != 1 || w->conversation)
		return spin(w);
	if (!spin_is_worth(&w->spins))
		return false;
	found = spin(w);
	spin_ended(&w->spins, found);
	w->batches = 2;
	return found;
}

/* True: this thread has run its share of tasks; false: shut down and nothing left. */
static bool work(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;

	for (;;) {
		if (w->quota <= 0)
			return true;
		if (crew__look(w)) {
			w->batches += w->batches < 2;
			continue;
		}
		if (look_on(w))
			continue;
		if (ck_pr_load_32(&pool->stop)) {
			crew__stop_search(w);
			full_fence();
			if (!crew__any_work(pool))
				return false;
			continue;
		}
		crew__park(w);
	}
}

/* ---- a thread's beginning and end ---- */

static void name_thread(const struct thread_worker *w)
{
	char name[16] = "", number[16];
	size_t digits = (size_t)snprintf(number, sizeof number, "/%d", w->index);

	memcpy(name, w->pool->base.name, sizeof name - 1 - digits); /* the number is never cut */
	strcat(name, number);
	pthread_setname_np(pthread_self(), name);
}

/* False: the executor is broken now. */
static bool begin(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;
	const struct crew_threads_options *options = &pool->options;
	int rc;

	crew__frames_attach(w);
	w->quota = options->max_tasks_per_child ? options->max_tasks_per_child : INT_MAX;
	w->port = NULL;
	rc = options->initializer ? options->initializer(options->arg, w->index) : 0;
	if (rc) {
		crew__pool_break(pool, CREW_EBROKEN, "the initializer of worker %d failed with %d", w->index, rc);
		return false;
	}
	crew__context_init(&w->context, &pool->base, w->index);
	w->context.backend = w;
	return true;
}

static void finish(struct thread_worker *w)
{
	crew__context_fini(&w->context);
	w->context.future = NULL;
	if (w->pool->options.finalizer)
		w->pool->options.finalizer(w->pool->options.arg, w->index);
	crew__frames_detach(w);
}

/* What belongs to the thread rather than to the worker's tasks. */
static bool settle_in(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;
	int rc;

	if (w->joinable)
		pthread_join(w->thread, NULL); /* the predecessor, which has nothing left to do but to end */
	w->thread = pthread_self();
	w->joinable = true;
	name_thread(w);
	w->stack_floor = NULL;
	rc = crew__place_first(pool);
	if (rc) {
		crew__pool_break(pool, rc, "worker %d cannot run on the CPUs it was given: %s", w->index, crew_strerror(rc));
		return false;
	}
	rc = niceness_add(pool->options.nice);
	if (rc)
		crew__pool_break(pool, rc, "worker %d cannot be given nice %+d: %s", w->index, pool->options.nice,
				 crew_strerror(rc));
	return rc == 0;
}

static void *worker_main(void *arg);

static int create(struct thread_worker *w)
{
	sigset_t before = signals_block();
	pthread_t thread;
	int rc;

	rc = pthread_create(&thread, &w->pool->attributes, worker_main, w);
	signals_restore(&before);
	return -rc;
}

int crew__worker_start(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;
	uint32_t high = ck_pr_load_32(&pool->high);

	while (high <= (uint32_t)w->index && !ck_pr_cas_32_value(&pool->high, high, (uint32_t)w->index + 1, &high))
		;
	return create(w);
}

/* The successor waits for this thread's end. False: it cannot be had, so this thread goes on in its place. */
static bool hand_over(struct thread_worker *w)
{
	w->role = ROLE_WORKER;
	w->waker_cpu = -1;
	return create(w) == 0;
}

static void *worker_main(void *arg)
{
	struct thread_worker *w = arg;
	bool retired, well = settle_in(w);

	while (well) {
		if (!begin(w)) {
			crew__frames_detach(w);
			break;
		}
		crew__woken(w);
		retired = work(w);
		w->role = ROLE_WORKER;
		finish(w);
		if (retired ? hand_over(w) : crew__leave(w))
			return NULL;
	}
	if (w->role == ROLE_SEARCHER)
		ck_pr_store_32(&w->pool->search, 0);
	crew__leave(w);
	return NULL;
}
