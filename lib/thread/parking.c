/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * parking.c: who sleeps and who is woken.
 *
 * A worker that has no thread yet counts as parked: its thread begins at its first wake.
 *
 *	submit:  slot = f · (light fence) · parked? no → done · full fence · search? yes → done · wake one
 *	park:    parked++, bit · search = 0 · ask for frames · HEAVY FENCE · look everywhere · nothing: sleep
 *
 * 1. The light fence is only the compiler's, the heavy one is membarrier(2), which puts a full barrier
 *    into every running thread of this process: either the submitter sees `parked`, or the parking
 *    worker sees the slot. So nobody pays in submit for what happens once per nap. Where there is no
 *    membarrier both are full; also on one CPU, where each answer that somebody waits for is a nap: a
 *    round trip takes 0.80 of the time so, a burst of submits 1.18. From a shutdown on both are full
 *    too: one membarrier changes that, and then the workers, which are about to leave, need none.
 * 2. `search` is a token: one worker at most looks for work, or is on its way to. A submitter that sees
 *    it held wakes nobody. Whoever takes something out of a search gives the token back *first*, then
 *    executes a full fence (the claim's CAS), then looks at everything again and wakes the next if
 *    something is left. The submitter's own full fence stands between its slot and its look at
 *    `search`: so either it sees the token free, or the finder sees the slot. Without that fence the
 *    slot may sit in the store buffer while the finder disappears into a task that waits for that very
 *    slot's.
 *    Who gives the token back to park, and then sees something after all, is a finder as well (`relied_on`).
 * 3. At most `limit` workers, the number of CPUs, are awake. When there is work beyond that, one more
 *    is woken as the *sentinel*: it sleeps with a timeout and, when the awake make no progress while
 *    there is work, they are taken to be blocked in their tasks, and it wakes as many others. With
 *    nothing left to watch it parks for good, so an idle pool uses no CPU at all. A worker that blocks
 *    in a wait or a sync of ours says so itself (`blocked`) and is not counted as awake.
 *
 * `parked` is raised before the bit is set and lowered after it was cleared, so it is never less than
 * the number of bits: seeing 0, a submitter may trust it; seeing more, it looks for a bit in vain at
 * worst, while its owner is still on its way to look at the queues.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/futex.h"
#include "thread/thread_pool.h"

#define LOOKS_BEFORE_WAKE 32	/* pauses, some 400 ns: a wake costs 5000 and the awake may be about to look */
#define COLD_NS 300000		/* a wake after so long without one finds a sleeper cold */
#define RETRY_CREATE_NS 100000000
#define SENTINEL_FIRST_NS 250000
#define SENTINEL_LAST_NS 2000000

struct waker {
	uint64_t last; /* ns, of this thread's last wake */
	enum wake wake;
	bool talks; /* what it has told whom it woke last */
};
static __thread struct waker waker __attribute__((__tls_model__("initial-exec")));

/* ---- fences ---- */

bool crew__membarrier_works(void)
{
#if defined(__SANITIZE_THREAD__)
	return false; /* it would be right, but ThreadSanitizer could not see why */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
	return false;
#endif
#endif
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

static void fence_everywhere(const struct thread_pool *pool)
{
	if (!pool->membarrier || syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
		full_fence();
}

void crew__heavy_fence(const struct thread_pool *pool)
{
	if (ck_pr_load_32(&pool->light))
		fence_everywhere(pool);
	else
		full_fence();
}

/*
 * A submit that reads `light` after the barrier fences by itself; one that read it before has its slot
 * behind it. A worker that went to sleep in between, by the weaker fence, is woken once more by whoever
 * calls this; one that leaves does so later.
 */
void crew__heavy_fence_last(struct thread_pool *pool)
{
	ck_pr_store_32(&pool->light, 0);
	fence_everywhere(pool);
}

/* ---- the sets of workers ---- */

static uint64_t bit_of(const struct thread_worker *w)
{
	return (uint64_t)1 << (w->index % 64);
}

static void bit_set(uint64_t *words, const struct thread_worker *w)
{
	ck_pr_fence_release();
	ck_pr_or_64(&words[w->index / 64], bit_of(w));
}

/* True: it was set, and this call cleared it. */
static bool bit_take(uint64_t *words, const struct thread_worker *w)
{
	uint64_t *word = &words[w->index / 64];
	uint64_t bits = ck_pr_load_64(word);

	while (bits & bit_of(w)) {
		if (ck_pr_cas_64_value(word, bits, bits & ~bit_of(w), &bits)) {
			ck_pr_fence_acquire();
			return true;
		}
	}
	return false;
}

static bool bit_test(const uint64_t *words, const struct thread_worker *w)
{
	return ck_pr_load_64(&words[w->index / 64]) & bit_of(w);
}

static void place_free(struct thread_worker *w)
{
	ck_pr_faa_32(&w->pool->parked, 1);
	bit_set(w->pool->parked_bits, w);
}

static bool place_take(struct thread_worker *w)
{
	if (!bit_take(w->pool->parked_bits, w))
		return false;
	ck_pr_faa_32(&w->pool->parked, (uint32_t)-1);
	return true;
}

/* Of 64 workers: who sleeps, or, if `threadless`, has no thread. */
static uint64_t parked_among(const struct thread_pool *pool, int i, bool threadless)
{
	uint64_t alive = ck_pr_load_64(&pool->alive_bits[i]);

	return ck_pr_load_64(&pool->parked_bits[i]) & (threadless ? ~alive : alive);
}

/* One of them, the lowest first; the caller holds its place now. */
static struct thread_worker *take_any(struct thread_pool *pool, bool threadless)
{
	for (int i = 0; i < (pool->count + 63) / 64; i++) {
		uint64_t bits = parked_among(pool, i, threadless);

		for (; bits; bits &= bits - 1) {
			struct thread_worker *w = &pool->workers[i * 64 + __builtin_ctzll(bits)];

			if (place_take(w))
				return w;
		}
	}
	return NULL;
}

static bool may_create(const struct thread_pool *pool)
{
	uint64_t after = ck_pr_load_64(&pool->create_after);

	return !after || crew__now() >= after;
}

static struct thread_worker *take_sleeper(struct thread_pool *pool)
{
	struct thread_worker *w = take_any(pool, false);

	if (w)
		return w;
	return may_create(pool) ? take_any(pool, true) : NULL;
}

/* Would take_sleeper() find somebody now? */
static bool sleeper_any(const struct thread_pool *pool)
{
	bool create = may_create(pool);

	for (int i = 0; i < (pool->count + 63) / 64; i++)
		if (parked_among(pool, i, false) || (create && parked_among(pool, i, true)))
			return true;
	return false;
}

static uint32_t parked_count(const struct thread_pool *pool)
{
	return ck_pr_load_32(&pool->parked) & ~POOL_BROKEN;
}

int crew__awake(const struct thread_pool *pool)
{
	return pool->count - (int)parked_count(pool) - (int)ck_pr_load_32(&pool->blocked) -
	       (ck_pr_load_32(&pool->sentinel) != 0);
}

/* ---- work ---- */

/* Tasks in a worker's running batch that nobody has claimed yet. */
static bool batch_any(const struct thread_worker *w)
{
	uint32_t i = load_acquire_32(&w->next), end = load_acquire_32(&w->end);

	for (; i < end; i++) {
		crew_future *f = ck_pr_load_ptr(&w->batch[i]);

		if (f && phase_of(ck_pr_load_32(&f->state)) == PHASE_PENDING)
			return true;
	}
	return false;
}

bool crew__any_work(struct thread_pool *pool)
{
	uint32_t high = load_acquire_32(&pool->high);
	struct port *port = load_acquire_ptr((void *const *)&pool->base.ports);

	if (ck_pr_load_32(&pool->notice) & (NOTICE_URGENT | NOTICE_LATE))
		return true;
	for (; port; port = load_acquire_ptr((void *const *)&port->next))
		if (crew__injection_any(&((struct thread_port *)port)->queue))
			return true;
	for (uint32_t i = 0; i < high; i++)
		if (crew__frames_any(&pool->workers[i]) || batch_any(&pool->workers[i]))
			return true;
	return false;
}

/* ---- wakes ---- */

/* The caller holds w's place. False: its thread could not be started; the place is free again. */
static bool ring(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;
	int rc;

	if (bit_test(pool->alive_bits, w)) {
		if (crew__self())
			crew__place_away(w);
		store_release_32(&w->bell, 1); /* pairs with the acquire in crew__park */
		crew__futex_wake(&w->bell, 1, false);
		return true;
	}
	w->waker_cpu = -1; /* the kernel starts threads where there is least to do, other than it wakes them */
	bit_set(pool->alive_bits, w);
	ck_pr_faa_32(&pool->alive, 1);
	waker.wake = WAKE_STARTED;
	rc = crew__worker_start(w);
	if (rc == 0) {
		if (unlikely(ck_pr_load_64(&pool->create_after)))
			ck_pr_store_64(&pool->create_after, 0);
		return true;
	}
	ck_pr_store_64(&pool->create_after, crew__now() + RETRY_CREATE_NS);
	bit_take(pool->alive_bits, w);
	place_free(w);
	if (ck_pr_faa_32(&pool->alive, (uint32_t)-1) == 1)
		crew__pool_break(pool, CREW_EBROKEN, "not one worker thread could be started: %s", crew_strerror(rc));
	return false;
}

/* With what it is to hold, which the caller has taken for it. False: there is nobody, so the caller gives that back. */
static bool wake_as(struct thread_pool *pool, enum worker_role role, int cpu)
{
	struct thread_worker *w = take_sleeper(pool);

	if (!w)
		return false;
	w->role = role;
	w->waker_cpu = cpu;
	w->conversation = waker.talks = is_conversation(crew__now());
	return ring(w);
}

bool crew__want_wake(const struct thread_pool *pool)
{
	if (!parked_count(pool) || ck_pr_load_32(&pool->search))
		return false;
	return !(ck_pr_load_32(&pool->sentinel) && crew__awake(pool) >= pool->limit);
}

/*
 * Nobody could be woken, and what that one was to hold was given back. Others may have relied on it in between: they are seen here. If
 * there is nobody to be had even now, there is who is counted and has no bit yet, who will look after this. To wait for its bit might be for ever.
 */
static bool try_again(struct thread_pool *pool)
{
	full_fence();
	return parked_count(pool) && !(ck_pr_load_32(&pool->parked) & POOL_BROKEN) && crew__any_work(pool) && sleeper_any(pool);
}

bool crew__wake_one(struct thread_pool *pool)
{
	do {
		if (!parked_count(pool))
			return false;
		if (crew__awake(pool) >= pool->limit) {
			if (ck_pr_load_32(&pool->sentinel) || !ck_pr_cas_32(&pool->sentinel, 0, 1))
				return false;
			if (wake_as(pool, ROLE_SENTINEL, -1))
				return true;
			ck_pr_store_32(&pool->sentinel, 0);
		} else {
			if (!ck_pr_cas_32(&pool->search, 0, 1)) /* on behalf of who is woken */
				return false;
			if (wake_as(pool, ROLE_SEARCHER, sched_getcpu()))
				return true;
			ck_pr_store_32(&pool->search, 0);
		}
	} while (try_again(pool));
	return false;
}

void crew__wake_for_submit(struct thread_pool *pool)
{
	int self = crew__self() && crew__self()->pool == pool;
	uint64_t now;

	if (unlikely(ck_pr_load_32(&pool->parked) & POOL_BROKEN)) {
		crew__fail_waiting(pool);
		return;
	}
	if (ck_pr_load_32(&pool->sentinel) && crew__awake(pool) >= pool->limit)
		return; /* the sentinel looks at the queues: the delay is bounded */
	full_fence();	/* point 2 above */
	if (!crew__want_wake(pool))
		return;
	for (int i = 0; crew__awake(pool) > self && i < LOOKS_BEFORE_WAKE; i++) {
		ck_pr_stall();
		if (!crew__want_wake(pool))
			return;
	}
	waker.wake = WAKE_NONE;
	if (!crew__wake_one(pool) || waker.wake == WAKE_STARTED)
		return;
	now = crew__now();
	waker.wake = waker.talks ? WAKE_TALK : now - waker.last > COLD_NS ? WAKE_COLD : WAKE_WARM;
	waker.last = now;
}

enum wake crew__last_wake(void)
{
	enum wake wake = waker.wake;

	waker.wake = WAKE_NONE;
	return wake;
}

void crew__wake_all(struct thread_pool *pool)
{
	struct thread_worker *w;

	if (ck_pr_cas_32(&pool->sentinel, 1, 2))
		crew__futex_wake(&pool->sentinel, 1, false);
	while ((w = take_any(pool, false))) {
		w->role = ROLE_WORKER;
		w->waker_cpu = -1;
		store_release_32(&w->bell, 1);
		crew__futex_wake(&w->bell, 1, false);
	}
}

/* ---- the search token ---- */

void crew__stop_search(struct thread_worker *w)
{
	if (w->searching) {
		w->searching = false;
		w->relied_on = true;
		store_release_32(&w->pool->search, 0);
	}
}

void crew__announce_search(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;

	if (pool->count > 1 && pool->limit > 1 && !w->searching && !ck_pr_load_32(&pool->search) &&
	    crew__awake(pool) <= pool->limit && ck_pr_cas_32(&pool->search, 0, 1))
		w->searching = true;
}

/* ---- the sentinel ---- */

/* Awake workers that have begun no task since the last call. */
static int count_stuck(struct thread_pool *pool, const struct thread_worker *self)
{
	uint32_t high = load_acquire_32(&pool->high);
	int stuck = 0;

	for (uint32_t i = 0; i < high; i++) {
		struct thread_worker *w = &pool->workers[i];
		uint32_t runs = ck_pr_load_32(&w->runs);

		if (w != self && runs == w->runs_seen && bit_test(pool->alive_bits, w) &&
		    !bit_test(pool->parked_bits, w))
			stuck++;
		w->runs_seen = runs;
	}
	return stuck - (int)ck_pr_load_32(&pool->blocked);
}

/* The stuck are replaced all at once, by the sentinel itself and others. */
static void replace_stuck(struct thread_pool *pool, int stuck)
{
	for (; stuck > 1 && crew__any_work(pool); stuck--) {
		struct thread_worker *w = take_sleeper(pool);

		if (!w)
			break;
		w->role = ROLE_WORKER;
		w->waker_cpu = -1;
		ring(w);
	}
}

static void be_sentinel(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;
	uint64_t tick = SENTINEL_FIRST_NS;
	int stuck = 0;

	count_stuck(pool, w);
	for (;;) {
		bool work;

		crew__futex_wait(&pool->sentinel, 1, crew__now() + tick, false);
		if (ck_pr_load_32(&pool->stop))
			break;
		stuck = count_stuck(pool, w);
		work = crew__any_work(pool);
		if (work && stuck > 0)
			break;
		if (!work && (int)parked_count(pool) + (int)ck_pr_load_32(&pool->blocked) >= pool->count - 1)
			break; /* all the others sleep: so may this one */
		if (tick < SENTINEL_LAST_NS)
			tick *= 2;
		stuck = 0;
	}
	replace_stuck(pool, stuck);
	store_release_32(&pool->sentinel, 0);
	crew__heavy_fence(pool); /* who relied on the sentinel, without a fence, is seen below; others see that it is gone */
	if (crew__any_work(pool) && crew__want_wake(pool))
		crew__wake_one(pool);
}

/* ---- sleeping ---- */

void crew__woken(struct thread_worker *w)
{
	if (w->role == ROLE_SENTINEL)
		be_sentinel(w);
	else
		w->searching = w->role == ROLE_SEARCHER;
}

void crew__park(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;
	uint32_t high = load_acquire_32(&pool->high);

	place_free(w);
	crew__stop_search(w);
	for (uint32_t i = 0; i < high; i++)
		if (&pool->workers[i] != w)
			crew__frames_arm(&pool->workers[i]);
	crew__heavy_fence(pool); /* pairs with threads_submit, crew_spawn_slow and threads_shutdown */
	if (!ck_pr_load_32(&pool->stop) && !crew__any_work(pool))
		w->relied_on = false;
	else if (place_take(w))
		return; /* and looks once more for who relied on its search, see run_batch: what it has seen may be several tasks */
	while (!load_acquire_32(&w->bell))
		crew__futex_wait(&w->bell, 0, NEVER, false);
	w->batches = 0;
	ck_pr_store_32(&w->bell, 0);
	crew__place_restore(w);
	crew__woken(w);
}

bool crew__leave(struct thread_worker *w)
{
	struct thread_pool *pool = w->pool;

	bit_take(pool->alive_bits, w);
	if (!(ck_pr_load_32(&pool->parked) & POOL_BROKEN)) {
		place_free(w);
		crew__heavy_fence(pool); /* as in crew__park */
		if (crew__any_work(pool) && place_take(w)) {
			bit_set(pool->alive_bits, w);
			return false;
		}
	}
	/* w may be another thread's from here on; the pool is there until this thread was joined */
	ck_pr_fence_release();
	if (ck_pr_faa_32(&pool->alive, (uint32_t)-1) == 1)
		crew__futex_wake(&pool->alive, INT_MAX, false);
	return true;
}
