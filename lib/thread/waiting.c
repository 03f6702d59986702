/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * waiting.c: a thread that waits for a future of a thread pool.
 *
 * In a worker the awaited task, if it has not started, is run right here: every wait ends on a task
 * that runs on some stack, and a pool of one cannot deadlock. Nothing else is run meanwhile: a stranger
 * on top of the waiter might need a lock that the waiter holds. Otherwise the worker sleeps and says
 * so, and another takes its CPU.
 *
 * Waits that cannot end. A worker that waits for what runs further down its own stack (or for the task
 * whose stolen call it runs) would wait for itself. More generally, sleeping workers are in a list,
 * each with the future that it waits for and, on its stack, the tasks that it runs; a hand of a crowd
 * (core/crowd.h) counts as standing on the stack of whoever it works for. Who is about to
 * sleep looks whether the task it waits for stands on the stack of a sleeper, who waits for a task that
 * stands …, and so comes back to itself: -EDEADLK. The last to enter the list sees the circle. Waits
 * with a deadline end, so they are not in it. A circle through two pools is not seen.
 *
 * An outside thread spins a little, as the answer to a small task comes within a microsecond and a nap
 * costs ten to fifty. When its own submit has woken a sleeper, that worker may be queued on this very
 * CPU, and spinning would keep it from running. So after a pause it sleeps at once (the cold rule); right
 * after an answer it spins, since this is a conversation and the worker will move (placement.c); and in
 * between as the last time taught (base/spinning.h). When its submit has started a thread, that one is on
 * another CPU, if any is free, and will be there before a nap is over.
 */
#include <errno.h>
#include <sched.h>

#include "base/futex.h"
#include "core/waiting.h"
#include "thread/thread_pool.h"

#define SPIN_FOR_START_NS 60000	/* a thread that was just created is about to run */
#define SPIN_IN_WORKER_NS 3000
#define TIGHT_LOOKS 48
#define STACK_RESERVE 65536

static bool done(const crew_future *f)
{
	return phase_done(load_acquire_32(&f->state));
}

/*
 * While the workers have all CPUs it makes way: they are who it waits for. Otherwise it does not, as sched_yield() gives a whole slice, milliseconds, to
 * whatever stranger wants this CPU; unless a new thread is to come, which is not often.
 */
static bool spin_for(const struct thread_pool *pool, const crew_future *f, uint64_t ns, bool make_way)
{
	uint64_t end;
	int pauses = 1;

	for (int i = 0; i < TIGHT_LOOKS; i++) {
		ck_pr_stall();
		if (done(f))
			return true;
	}
	end = crew__now() + ns;
	for (int round = 1; crew__now() < end; round++) {
		for (int i = 0; i < pauses; i++)
			ck_pr_stall();
		if (done(f))
			return true;
		if (pauses < 8)
			pauses++;
		else if (round % 8 == 0 && (make_way || crew__awake(pool) >= pool->limit))
			sched_yield();
	}
	return false;
}

/* Until f is done or the deadline has passed. */
static void sleep_for(crew_future *f, uint64_t deadline)
{
	uint32_t state = load_acquire_32(&f->state);

	while (!phase_done(state)) {
		if (deadline != NEVER && crew__now() >= deadline)
			return;
		if (!(state & STATE_WAITER) && !ck_pr_cas_32_value(&f->state, state, state | STATE_WAITER, &state))
			continue;
		crew__futex_wait(&f->state, state | STATE_WAITER, deadline, false); /* pairs with the wake in crew__completed */
		state = load_acquire_32(&f->state);
	}
}

/* ---- circles ---- */

/* Does a sleeper with f on its stack wait, through however many others, for what stands on the stack `mine`? */
static bool leads_back(struct thread_pool *pool, const crew_future *f, const struct context *mine, int depth)
{
	if (crew__stands_on(mine, f))
		return true;
	if (depth == 0)
		return false;
	for (struct blocked *b = pool->blocked_list; b; b = b->next)
		if (crew__stands_on(b->context, f) && leads_back(pool, b->future, mine, depth - 1))
			return true;
	return false;
}

static int count_blocked(const struct thread_pool *pool)
{
	int n = 0;

	for (const struct blocked *b = pool->blocked_list; b; b = b->next)
		n++;
	return n;
}

/* -EDEADLK: it would close a circle, or leave nobody to run f. */
static int enter(struct thread_pool *pool, struct blocked *b)
{
	bool pending = phase_of(ck_pr_load_32(&b->future->state)) == PHASE_PENDING;
	int others, rc = 0;

	pthread_mutex_lock(&pool->blocked_mutex);
	others = count_blocked(pool);
	if (leads_back(pool, b->future, b->context, others) ||
	    (pending && executor_of(b->future) == &pool->base && others + 1 >= pool->count)) {
		rc = -EDEADLK;
	} else {
		b->next = pool->blocked_list;
		pool->blocked_list = b;
	}
	pthread_mutex_unlock(&pool->blocked_mutex);
	return rc;
}

static void quit(struct thread_pool *pool, struct blocked *b)
{
	struct blocked **place = &pool->blocked_list;

	pthread_mutex_lock(&pool->blocked_mutex);
	while (*place != b)
		place = &(*place)->next;
	*place = b->next;
	pthread_mutex_unlock(&pool->blocked_mutex);
}

/* ---- workers ---- */

void crew__block_begin(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;

	crew__frames_share(w);
	ck_pr_faa_32(&pool->blocked, 1);
	full_fence();
	if (crew__want_wake(pool) && crew__any_work(pool))
		crew__wake_one(pool);
}

void crew__block_end(struct thread_worker *w)
{
	ck_pr_faa_32(&w->pool->blocked, (uint32_t)-1);
}

static int wait_in_worker(struct thread_worker *w, crew_future *f, uint64_t deadline)
{
	struct blocked b = { NULL, crew__context, f };
	int rc;

	if (crew__stands_on(crew__context, f))
		return -EDEADLK;
	if (w->pool->limit > 1 && spin_for(w->pool, f, SPIN_IN_WORKER_NS, false))
		return 0;
	rc = deadline == NEVER ? enter(w->pool, &b) : 0;
	if (rc)
		return rc;
	crew__block_begin(w);
	sleep_for(f, deadline);
	crew__block_end(w);
	if (deadline == NEVER)
		quit(w->pool, &b);
	return 0;
}

/* ---- running it here ---- */

static void run_in_worker(struct thread_worker *w, crew_future *f)
{
	crew_future *outer = w->enclosing;

	crew__frames_share(w); /* what is private from here on belongs to f */
	w->enclosing = f;
	crew__run_nested(&w->pool->base, f, w->index);
	w->enclosing = outer;
}

/* Below which address this thread runs no task inside another. It costs a malloc, once. False: unknown. */
static __attribute__((__noinline__)) bool find_floor(struct thread_worker *w)
{
	pthread_attr_t attributes;
	void *low = NULL;
	size_t size = 0;

	if (pthread_getattr_np(pthread_self(), &attributes))
		return false;
	pthread_attr_getstack(&attributes, &low, &size);
	pthread_attr_destroy(&attributes);
	w->stack_floor = (char *)low + size / 16 + STACK_RESERVE;
	return true;
}

/* Is there too little stack left to run a task on? */
static bool too_deep(struct thread_worker *w)
{
	return (likely(w->stack_floor) || find_floor(w)) && (char *)__builtin_frame_address(0) < w->stack_floor;
}

bool crew__threads_help(crew_executor *ex, crew_future *f)
{
	struct thread_pool *pool = pool_of(ex);
	struct thread_worker *w = crew__self();
	bool mine = w && w->pool == pool;

	if (!mine && !pool->options.help)
		return false;
	if (phase_of(ck_pr_load_32(&f->state)) != PHASE_PENDING || (w && too_deep(w)) ||
	    !crew__claim_as(f, STATE_HELD))
		return false;
	if (mine)
		run_in_worker(w, f);
	else
		crew__run_nested(ex, f, pool->count); /* of no worker's index */
	return true;
}

/* ---- outside ---- */

/* What spins for those whom this thread had woken have taught it. */
static __thread struct spin_memory spins __attribute__((__tls_model__("initial-exec")));

static bool spin_outside(const struct thread_pool *pool, const crew_future *f, enum wake wake)
{
	bool found;

	if (pool->limit < 2 || wake == WAKE_COLD || (wake == WAKE_WARM && !spin_is_worth(&spins)))
		return false;
	if (wake == WAKE_STARTED)
		return spin_for(pool, f, SPIN_FOR_START_NS, true);
	found = spin_for(pool, f, SPIN_NS, false);
	if (wake == WAKE_WARM)
		spin_ended(&spins, found);
	return found;
}

static void wait_outside(const struct thread_pool *pool, crew_future *f, uint64_t deadline)
{
	enum wake wake = crew__last_wake();

	if (!spin_outside(pool, f, wake))
		sleep_for(f, deadline);
	if (wake != WAKE_NONE)
		crew__answered = crew__now();
}

int crew__threads_wait(crew_executor *ex, crew_future *f, uint64_t deadline)
{
	struct thread_pool *pool = pool_of(ex);
	struct thread_worker *w = crew__self();

	if (crew__threads_help(ex, f))
		return 0;
	if (w)
		return wait_in_worker(w, f, deadline);
	if (crew__stands_on(crew__context, f))
		return -EDEADLK;
	wait_outside(pool, f, deadline);
	return 0;
}
