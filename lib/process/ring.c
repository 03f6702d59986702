/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ring.c: how large the shared memory is, where things lie in it, and who is woken when a ticket is published.
 *
 * A wake costs the waker 8 µs when it reaches an idle CPU, a hundred times a small task, so it is spent with care:
 *
 *	nobody awake                    → wake one
 *	tasks are long                  → wake one, unless somebody is searching already
 *	tasks are tiny                  → wake one more only when what waits is worth it and a CPU is free
 *
 * A tiny task may stand behind a long one that nobody expected; for that one parked worker looks up now and then (idle in process_worker.c) and a
 * thread that waits in vain wakes somebody.
 */
#include "process/errand.h"

#include <sched.h>
#include <sys/resource.h>

#include "base/futex.h"

#define GIB ((size_t)1 << 30)
#define NOWHERE ((unsigned char *)4096) /* a base to measure from: arithmetic on NULL is undefined */
#define ARENA_ALIGNMENT ((size_t)1 << 16)

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/* The largest power of two, up to 16 GiB, of which the process may have three. */
static size_t arena_size(void)
{
	size_t size = 16 * GIB;
	struct rlimit limit;

	while (size > ((size_t)1 << 24) && getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	       limit.rlim_cur / 8 < size)
		size /= 2;
	while (size > ((size_t)1 << 24) && getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	       limit.rlim_cur / 2 < size)
		size /= 2;
	return size;
}

/* Where each part begins; NOWHERE as bases: only to measure. */
static void lay_out(struct ring *r, const struct geometry *g, unsigned char *pub, unsigned char *rw, size_t *pub_used,
		    size_t *rw_used)
{
	size_t at;

	r->pub = (struct pub *)pub;
	at = round_up(sizeof(struct pub), CREW__CACHELINE);
	r->orders = (struct orders *)(pub + at);
	at = round_up(at + g->workers * sizeof(struct orders), sizeof(struct errand_reply));
	r->errand_replies = (struct errand_reply *)(pub + at);
	at = round_up(at + (size_t)g->workers * ERRANDS * sizeof(struct errand_reply), sizeof(struct cell));
	r->cells = (struct cell *)(pub + at);
	at += g->slots * sizeof(struct cell);
	r->tasks = (struct numbered_task *)(pub + at);
	*pub_used = round_up(at + TASKS_MAX * sizeof(struct numbered_task), ARENA_ALIGNMENT);
	r->in = pub + *pub_used;

	r->rw = (struct rw *)rw;
	at = round_up(sizeof(struct rw), CREW__CACHELINE);
	r->reports = (struct report *)(rw + at);
	at = round_up(at + g->workers * sizeof(struct report), CREW__CACHELINE);
	r->errand_words = (uint32_t *)(rw + at);
	at += (size_t)g->workers * ERRANDS * sizeof(uint32_t); /* whole cache lines */
	r->errand_requests = (struct errand_request *)(rw + at);
	at = round_up(at + (size_t)g->workers * ERRANDS * sizeof(struct errand_request), CREW__CACHELINE);
	r->claims = (uint64_t *)(rw + at);
	at = round_up(at + g->slots * sizeof(uint64_t), CREW__CACHELINE);
	r->answers = (struct answer *)(rw + at);
	at = round_up(at + g->slots * sizeof(struct answer), CREW__CACHELINE);
	r->wide = (unsigned char(*)[WIDE_SIZE])(rw + at);
	*rw_used = round_up(at + g->slots * WIDE_SIZE, ARENA_ALIGNMENT);
	r->out = rw + *rw_used;
}

void crew__ring_measure(struct geometry *g, uint32_t active, uint32_t spares, uint32_t cpus)
{
	size_t arena = arena_size();
	struct ring ring;

	g->workers = active + spares;
	g->active = active;
	g->cpus = cpus;
	g->slots = 1024;
	while (g->slots < 64 * active)
		g->slots *= 2;
	lay_out(&ring, g, NOWHERE, NOWHERE, &g->pub_used, &g->rw_used);
	g->pub_size = g->pub_used + arena;
	g->rw_size = g->rw_used + arena;
	g->blocks_size = arena;
}

void crew__ring_attach(struct ring *r, const struct geometry *g, void *pub, void *rw, void *blocks)
{
	size_t pub_used, rw_used;

	r->geometry = *g;
	r->mask = g->slots - 1;
	lay_out(r, g, pub, rw, &pub_used, &rw_used);
	r->in_size = g->pub_size - pub_used;
	r->out_size = g->rw_size - rw_used;
	r->blocks = blocks;
}

/* ---- waking ---- */

bool crew__ring_any(const uint64_t *bits, const struct ring *r)
{
	for (uint32_t i = 0; i < (r->geometry.workers + 63) / 64; i++)
		if (ck_pr_load_64(&bits[i]))
			return true;
	return false;
}

uint32_t crew__ring_awake(const struct ring *r)
{
	uint32_t asleep = 0;

	for (uint32_t i = 0; i < (r->geometry.workers + 63) / 64; i++)
		asleep += (uint32_t)__builtin_popcountll(ck_pr_load_64(&r->rw->parked[i]) | ck_pr_load_64(&r->rw->blocked[i]));
	return asleep < r->geometry.active ? r->geometry.active - asleep : 0;
}

void crew__ring_bell(struct ring *r, uint32_t worker)
{
	ck_pr_inc_32(&r->reports[worker].bell); /* pairs with the load before the parked bit is set, in idle (process_worker.c) */
	crew__futex_wake(&r->reports[worker].bell, 1, true);
}

/* Whoever clears the bit rings; so no two ring for the same sleeper. */
bool crew__ring_wake_one(struct ring *r)
{
	for (uint32_t i = 0; i < (r->geometry.workers + 63) / 64; i++) {
		uint64_t bits = ck_pr_load_64(&r->rw->parked[i]);

		while (bits) {
			uint32_t worker = 64 * i + (uint32_t)__builtin_ctzll(bits);

			if (worker >= r->geometry.workers)
				break; /* scribbled */
			if (ck_pr_cas_64_value(&r->rw->parked[i], bits, bits & (bits - 1), &bits)) {
				ck_pr_store_32(&r->rw->waker, (uint32_t)sched_getcpu() | (is_conversation(crew__now()) ? WAKER_TALKS : 0));
				crew__ring_bell(r, worker);
				return true;
			}
		}
	}
	return false;
}

bool crew__ring_published(struct ring *r, uint64_t tail)
{
	uint32_t awake, average;
	uint64_t head;

	/* Our tail, the lock that was given back, and now the bits: pairs with the barrier in park (process_worker.c), so that either it sees our tickets, or
	   we see its bit. */
	ck_pr_fence_atomic_load();
	if (likely(!crew__ring_any(r->rw->parked, r)))
		return false;
	awake = crew__ring_awake(r);
	if (awake) {
		average = ck_pr_load_32(&r->rw->average);
		if (average >= TINY_NS) {
			if (crew__ring_any(r->rw->searching, r))
				return false;
		} else if ((tail & 15) || awake >= r->geometry.cpus) {
			return false;
		}
		head = ck_pr_load_64(&r->rw->head);
		if (head >= tail || (average < TINY_NS && (tail - head) * average < (uint64_t)WORTH_NS * awake))
			return false;
	}
	return crew__ring_wake_one(r) && awake == 0;
}
