/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * worker_executor.c: the executor that tasks in a process worker submit to. Its workers are the whole pool.
 *
 *	submit → offered (offer.c) ─┬─ nobody has taken it when somebody wants it, or the task ends → runs here, as a call
 *	                            └─ taken → in the ring ─┬─ not begun when it is wanted → claimed and run here, as a call
 *	                                                    └─ runs elsewhere → sleep until the parent replies
 *
 * So every wait ends on a task that runs on some stack, or the waiter runs what it waits for: a pool of one cannot hang. What is not awaited is never run
 * by a waiter: a stranger on top of it might need a lock that it holds. That leaves circles, which circle.c finds.
 *
 * Nobody but ourselves looks at the replies, so every sleep in a task ends when there is one (nap). A task is not done before what it offered and
 * nobody took: whatever runs in a worker runs under a claim of that worker's, which the parent can see, wait for and kill.
 */
#include "process/worker_executor.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/futex.h"
#include "core/waiting.h"

#ifdef CREW_WITHOUT_NET /* tests that prove wakes */
#define SLICE (100000 * MS_TO_NS)
#else
#define SLICE (100 * MS_TO_NS)
#endif
#define STACK_RESERVE 131072 /* what the last nested task may still use */

static uint64_t slice(uint64_t deadline)
{
	uint64_t end = crew__now() + SLICE;

	return deadline < end ? deadline : end;
}

/* ---- running here ---- */

/* The first byte that a nested task may not reach; each thread's own. Asked for once: it costs a malloc. */
static __thread const char *stack_floor __attribute__((__tls_model__("initial-exec")));

static void find_floor(const struct worker *w)
{
	const char *here = __builtin_frame_address(0);
	pthread_attr_t attributes;
	void *low = NULL;
	size_t size = 0;

	if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
		pthread_attr_getstack(&attributes, &low, &size);
		pthread_attr_destroy(&attributes);
	}
	if (here < (char *)low || here >= (char *)low + size) { /* a stack of our own making */
		low = w->stack;
		size = w->plan->stack_size;
	}
	stack_floor = low ? (char *)low + size / 16 + STACK_RESERVE : here - (1 << 20);
}

static bool too_deep(const struct worker_executor *x)
{
	if (unlikely(!stack_floor))
		find_floor(x->w);
	return (const char *)__builtin_frame_address(0) < stack_floor;
}

/* What runs here is to stop when it is asked itself, or the task in whose name the worker runs. */
static bool stopping(struct context *c)
{
	return (c->future && (ck_pr_load_32(&c->future->state) & STATE_STOP)) || crew__job_stopping(c);
}

/* f is claimed. */
static void run_here(struct worker_executor *x, crew_future *f, uint64_t ticket)
{
	struct context c;

	crew__context_init(&c, &x->base, (int)x->w->index);
	c.stopping = stopping;
	c.backend = x->w;
	crew__run(&c, f);
	crew__context_fini(&c);
	crew__check_fork(x->w);
	if (ticket)
		crew__errand_ran_here(x->w, ticket);
}

/* ---- endings ---- */

static void end(const struct ending *e)
{
	if (!e->f)
		return;
	if (e->add) {
		crew__complete(e->f, e->add);
	} else if (e->cancelled) {
		crew__cancelled(e->f, e->error->message);
		crew__error_free(e->error);
	} else {
		crew__fail(e->f, e->error);
	}
}

/* Complete all that has come back. True: there was something. */
static bool collect(struct worker_executor *x)
{
	struct ending e;
	bool any = false;

	while (has_errands(x) && crew__offer_any_back(x, &e)) {
		end(&e);
		any = true;
	}
	return any;
}

static void worker_refresh(crew_executor *ex, crew_future *f)
{
	struct worker_executor *x = worker_executor_of(ex);
	uint64_t ticket;
	struct ending e;

	if (!has_errands(x))
		return;
	if (crew__offer_back(x, f, &e))
		end(&e);
	else if (crew__offer_where(x, f, &ticket) == ELSEWHERE)
		crew__mark_running(f);
}

/* ---- submit ---- */

static int worker_submit(crew_executor *ex, struct port *port, crew_future *f, const void *arguments)
{
	struct worker_executor *x = worker_executor_of(ex);

	(void)port, (void)arguments;
	if (likely(crew__offer(x, f)))
		return 0;
	if (collect(x) && crew__offer(x, f))
		return 0;
	if (too_deep(x))
		return -ENOMEM;
	if (crew__claim(f))
		run_here(x, f, 0);
	return 0;
}

/* ---- waiting ---- */

/* There is stack for it. */
static bool help(struct worker_executor *x, crew_future *f)
{
	uint64_t ticket = 0;

	if (!crew__offer_withdraw(x, f, &ticket) && !crew__claim_held(f, 0)) /* a group's, that has not even been offered */
		return false;
	run_here(x, f, ticket);
	return true;
}

static bool worker_help(crew_executor *ex, crew_future *f)
{
	struct worker_executor *x = worker_executor_of(ex);

	return !too_deep(x) && help(x, f);
}

static bool spin(const struct worker *w, uint32_t replied)
{
	uint64_t end = 0, now;

	if (w->ring->geometry.cpus == 1) /* it is whoever replies that needs it */
		return false;
	for (uint32_t i = 1;; i++) {
		if (ck_pr_load_32(&w->orders->replied) != replied)
			return true;
		ck_pr_stall();
		if (i % 32)
			continue;
		now = crew__now();
		if (end == 0)
			end = now + SPIN_NS;
		if (now >= end || crew__ring_awake(w->ring) >= w->ring->geometry.cpus)
			return false;
	}
}

/* Sleep until some reply comes, or *word changes (if there is one). */
static void sleep_here(struct worker_executor *x, uint32_t replied, const uint32_t *word, uint32_t value, uint64_t deadline)
{
	struct worker *w = x->w;
	bool mine = in_own_thread(x);

	if (mine)
		set_bit(w->ring->rw->blocked, w);
	ck_pr_inc_32(&w->report->waits);
	ck_pr_fence_memory(); /* pairs with the barrier in tell (errand.c): either it sees that we wait, or we that it replied */
	if (word)
		crew__futex_wait_either(word, value, &w->orders->replied, replied, slice(deadline)); /* core says who wakes the first */
	else if (!spin(w, replied))
		crew__futex_wait(&w->orders->replied, replied, slice(deadline), true); /* woken by tell (errand.c) */
	ck_pr_dec_32(&w->report->waits);
	if (mine)
		ck_pr_and_64(&w->ring->rw->blocked[w->index / 64], ~((uint64_t)1 << (w->index % 64)));
}

/* It is in no cell: another thread of this process runs it, or a callback will complete it. */
static void sleep_on_state(crew_future *f, uint64_t deadline)
{
	uint32_t s = load_acquire_32(&f->state);

	while (!phase_done(s) && !(s & STATE_WAITER))
		if (ck_pr_cas_32_value(&f->state, s, s | STATE_WAITER, &s))
			s |= STATE_WAITER;
	if (!phase_done(s))
		crew__futex_wait(&f->state, s, slice(deadline), false); /* woken by crew__completed */
}

static int worker_wait(crew_executor *ex, crew_future *f, uint64_t deadline)
{
	struct worker_executor *x = worker_executor_of(ex);
	uint32_t replied = load_acquire_32(&x->w->orders->replied);
	bool circular = false, awaits, deep = too_deep(x); /* asked once: a frame further down the answer may be another */
	enum whereabouts where;
	uint64_t ticket;

	if (crew__on_this_stack(f))
		return -EDEADLK;
	if (!deep && help(x, f))
		return 0;
	where = crew__offer_where(x, f, &ticket);
	if (where == BACK)
		return 0;
	if (where == NOT_OURS) {
		sleep_on_state(f, deadline);
		return 0;
	}
	if (where != ELSEWHERE && deep && !crew__ring_any(x->w->ring->rw->parked, x->w->ring))
		return -EDEADLK; /* no stack left to run it on, and no idle worker to do it */
	awaits = where == ELSEWHERE && deadline == NEVER && in_own_thread(x);
	if (awaits)
		circular = !crew__await_begin(x->w, ticket);
	if (!circular)
		sleep_here(x, replied, NULL, 0, deadline);
	if (awaits)
		crew__await_end(x->w);
	return circular ? -EDEADLK : 0;
}

static void worker_nap(crew_executor *ex, const uint32_t *word, uint32_t value, uint64_t deadline)
{
	struct worker_executor *x = worker_executor_of(ex);
	uint32_t replied = load_acquire_32(&x->w->orders->replied);

	if (!collect(x))
		sleep_here(x, replied, word, value, deadline);
}

static int worker_cancel(crew_executor *ex, crew_future *f)
{
	struct worker_executor *x = worker_executor_of(ex);
	uint64_t ticket;

	if (crew__offer_withdraw(x, f, &ticket)) {
		if (ticket)
			crew__errand_ran_here(x->w, ticket);
		return 1;
	}
	worker_refresh(ex, f);
	crew__offer_stop(x, f);
	return phase_done(load_acquire_32(&f->state)) ? -EALREADY : 0;
}

/* Run what nobody has begun, wait for the rest. None of them is touched outside of its cell: one that was posted is recycled the moment it is done. */
static int worker_drain(crew_executor *ex, uint64_t deadline)
{
	struct worker_executor *x = worker_executor_of(ex);

	for (;;) {
		uint32_t replied = load_acquire_32(&x->w->orders->replied);
		uint64_t ticket;
		bool pending;
		crew_future *f;

		collect(x);
		f = crew__offer_withdraw_any(x, &ticket, &pending);
		if (f)
			run_here(x, f, ticket);
		else if (!pending)
			return 0;
		else if (crew__now() >= deadline)
			return -ETIMEDOUT;
		else
			sleep_here(x, replied, NULL, 0, deadline);
	}
}

/* ---- between tasks ---- */

void crew__run_leftovers(struct worker_executor *x)
{
	crew_future *f;

	if (unlikely(ck_pr_load_32(&x->base.closed)))
		ck_pr_store_32(&x->base.closed, 0); /* the task has shut down its executor; the next one's is another */
	if (likely(!has_errands(x)))
		return;
	while ((f = crew__offer_oldest(x)))
		run_here(x, f, 0);
	crew__offers_settle(x);
}

void crew__look_after_errands(struct worker_executor *x)
{
	while (has_errands(x) && collect(x))
		crew__run_leftovers(x);
}

void crew__finish_errands(struct worker_executor *x)
{
	crew__run_leftovers(x);
	worker_drain(&x->base, NEVER);
}

/* ---- the rest of the table ---- */

static int worker_workers(crew_executor *ex)
{
	return (int)worker_executor_of(ex)->w->ring->geometry.active;
}

/* Is a task of ex on this stack? */
static bool worker_inside(crew_executor *ex)
{
	for (struct context *c = crew__context; c; c = c->outer)
		if (c->ex == ex && c->worker >= 0)
			return true;
	return false;
}

static void worker_shutdown(crew_executor *ex, uint64_t deadline, bool kill)
{
	(void)kill;
	if (!worker_inside(ex))
		worker_drain(ex, deadline);
}

/* It lasts as long as its process. */
static void worker_close(crew_executor *ex)
{
	(void)ex;
}

/* Blocks are the parent's to give. */
static void *worker_shared_alloc(crew_executor *ex, size_t n)
{
	(void)ex, (void)n;
	errno = ENOTSUP;
	return NULL;
}

static void worker_shared_free(crew_executor *ex, void *p, size_t n)
{
	(void)ex, (void)p, (void)n;
}

static void worker_shared_range(crew_executor *ex, struct shared_range *ret)
{
	(void)ex;
	*ret = crew__shared_here;
}

static const struct executor_ops worker_ops = {
	.kind = "worker",
	.keeps_arguments = true,
	.submit = worker_submit,
	.cancel = worker_cancel,
	.refresh = worker_refresh,
	.wait = worker_wait,
	.help = worker_help,
	.nap = worker_nap,
	.drain = worker_drain,
	.inside = worker_inside,
	.workers = worker_workers,
	.shutdown = worker_shutdown,
	.close = worker_close,
	.shared_alloc = worker_shared_alloc,
	.shared_free = worker_shared_free,
	.shared_range = worker_shared_range,
};

struct worker_executor *crew__worker_executor_new(struct worker *w)
{
	struct worker_executor *x = calloc(1, sizeof *x);

	if (!x)
		return NULL;
	x->w = w;
	x->thread = pthread_self();
	pthread_mutex_init(&x->mutex, NULL);
	if (crew__executor_init(&x->base, &worker_ops, w->plan->name) == 0)
		return x;
	free(x);
	return NULL;
}
