/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.c: where records come from and where they go.
 *
 *	slab ─bump→ port's free list and a spare one ⇄ (a whole chain at a time) executor's spilled chains
 *
 * A record goes back to the free list of the thread that recycles it, so in steady state a submit and a take touch only this thread's
 * memory. A thread that only takes fills one chain after the other; those beyond its spare one a thread that only submits picks up.
 *
 * Slabs are never given back before the executor closes: hints are bare pointers and need that. Records that the user still refers to then
 * keep their slab alive as an orphan; the last of them unmaps it.
 */
#include "core/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/context.h"
#include "core/executor_ops.h"
#include "core/group.h"
#include "core/region.h"
#include "core/registry.h"
#include "core/shared_block.h"
#include "core/sharing.h"
#include "core/slab_map.h"

__thread struct port *crew__last_port __attribute__((__tls_model__("initial-exec")));
__thread uint64_t crew__last_id __attribute__((__tls_model__("initial-exec")));

/* ---- slabs ---- */

/*
 * LeakSanitizer looks for pointers in the heap, not in mappings. Where it is there it is told of the slabs, so that what the records of an executor still
 * open at the program's exit own (annexes, results) is no leak to it.
 */
void __lsan_register_root_region(const void *p, size_t size) __attribute__((__weak__));
void __lsan_unregister_root_region(const void *p, size_t size) __attribute__((__weak__));

static void *map_aligned(size_t size)
{
	unsigned char *p = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t before;

	if (p == MAP_FAILED)
		return NULL;
	before = (size_t)(-(uintptr_t)p & (size - 1));
	if (before)
		munmap(p, before);
	munmap(p + before + size, size - before);
	return p + before;
}

static struct slab *slab_new(crew_executor *ex)
{
	struct slab *slab = map_aligned(SLAB_SIZE);

	if (!slab)
		return NULL;
	slab->owner = ex;
	slab->generation = ex->generation;
	if (crew__slab_map_set(slab)) {
		munmap(slab, SLAB_SIZE);
		return NULL;
	}
	if (__lsan_register_root_region)
		__lsan_register_root_region(slab, SLAB_SIZE);
	return slab;
}

static void slab_free(struct slab *slab)
{
	crew__slab_map_clear(slab);
	if (__lsan_unregister_root_region)
		__lsan_unregister_root_region(slab, SLAB_SIZE);
	munmap(slab, SLAB_SIZE);
}

/* A chain of spilled records, or a new slab, in one visit of the mutex. */
static bool refill(struct port *port)
{
	crew_executor *ex = port->ex;
	crew_future *chain;
	struct slab *slab;

	pthread_mutex_lock(&ex->mutex);
	chain = ex->spilled;
	if (chain)
		ex->spilled = (crew_future *)(uintptr_t)ck_pr_load_64(&chain->value.word[0]);
	pthread_mutex_unlock(&ex->mutex);
	if (chain) {
		port->free = chain;
		port->free_count = CHAIN_RECORDS;
		return true;
	}
	slab = slab_new(ex);
	if (!slab)
		return false;
	pthread_mutex_lock(&ex->mutex);
	slab->next = ex->slabs;
	ex->slabs = slab;
	pthread_mutex_unlock(&ex->mutex);
	port->slab = slab;
	return true;
}

static crew_future *bump(struct port *port)
{
	struct slab *slab = port->slab;
	crew_future *f;

	if (!slab || slab->used == SLAB_RECORDS)
		return NULL;
	f = &slab->record[slab->used];
	store_release_32(&slab->used, slab->used + 1); /* read by crew__check and the walks over all records */
	return f;
}

crew_future *crew__record_new_slow(struct port *port)
{
	crew_future *f = port->spare ? NULL : bump(port);

	if (f)
		return f;
	if (port->spare) {
		port->free = port->spare;
		port->free_count = CHAIN_RECORDS;
		port->spare = NULL;
	} else if (!refill(port)) {
		return NULL;
	}
	return port->free ? crew__record_new(port) : bump(port);
}

/* It becomes the spare one, which goes to where other threads find it. */
void crew__spill(struct port *port)
{
	crew_executor *ex = port->ex;
	crew_future *chain = port->spare;

	port->spare = port->free;
	port->free = NULL;
	port->free_count = 0;
	if (!chain)
		return;
	pthread_mutex_lock(&ex->mutex);
	ck_pr_store_64(&chain->value.word[0], (uintptr_t)ex->spilled);
	ex->spilled = chain;
	pthread_mutex_unlock(&ex->mutex);
}

/* ---- references ---- */

/* What a record owns beside itself. */
static void free_contents(crew_future *f, uint32_t state)
{
	struct annex *a = annex_of(f);

	if (state & STATE_BACKEND)
		executor_of(f)->ops->forget(executor_of(f), f);
	if ((state & STATE_FAILED) || phase_of(state) == PHASE_CANCELLED)
		crew__error_free(f->value.error);
	else if (state & STATE_HEAP)
		crew__memory_free(f->value.large); /* the same word as run.data */
	if (a && ck_pr_load_ptr(&a->group))
		crew__group_forget(executor_of(f), f);
	if (a && a->pins)
		crew__shared_unpin(a->pins);
	if (a)
		free(a->kill);
	if (a && ck_pr_load_ptr(&a->binding))
		crew__sharing->forget(f);
	free(a);
}

void crew__recycle_orphan(crew_future *f)
{
	struct slab *slab = slab_of(f);

	store_release_32(&f->state, PHASE_FREE);
	if (ck_pr_faa_32(&slab->orphans, (uint32_t)-1) == 1)
		slab_free(slab);
}

void crew__recycle(crew_future *f)
{
	uint32_t state = ck_pr_load_32(&f->state);

	if ((state & (STATE_BACKEND | STATE_FAILED | STATE_HEAP)) || phase_of(state) == PHASE_CANCELLED || (f->about & 1))
		free_contents(f, state);
	crew__recycle_empty(f);
}

void crew__retain(crew_future *f)
{
	ck_pr_faa_32(&f->refs, 1);
}

/* One reference less; true: it was the last. */
static bool drop(crew_future *f)
{
	bool last;

	ck_pr_fence_release();
	last = (ck_pr_faa_32(&f->refs, (uint32_t)-1) & REFS_MASK) == 1;
	ck_pr_fence_acquire();
	return last;
}

void crew__detach(crew_future *f)
{
	uint32_t s = load_acquire_32(&f->state);

	while (!phase_done(s))
		if (ck_pr_cas_32_value(&f->state, s, s | STATE_DETACHED, &s))
			return; /* pairs with the faa in crew__complete, which sees the flag */
	if (annex_of(f))
		crew__release(f);
	else
		crew__recycle(f);
}

void crew__release(crew_future *f)
{
	uint32_t s;

	if (!drop(f))
		return;
	s = load_acquire_32(&f->state);
	if (phase_done(s)) {
		crew__recycle(f);
		return;
	}
	crew__retain(f); /* the completer's */
	while (!phase_done(s))
		if (ck_pr_cas_32_value(&f->state, s, s | STATE_DETACHED, &s))
			return; /* as in crew__detach */
	if (drop(f))
		crew__recycle(f);
}

bool crew__pin(crew_future *f)
{
	uint32_t refs = load_acquire_32(&f->refs);

	while ((refs & REFS_MASK) && annex_of(f))
		if (ck_pr_cas_32_value(&f->refs, refs, refs + 1, &refs)) /* same generation: the annex seen is its own */
			return true;
	return false;
}

/* ---- which pointers are futures ---- */

int crew__check(const crew_future *f)
{
	const struct slab *slab = slab_of(f);

	if (unlikely(!crew__in_slab(f)))
		return is_fixed(f) ? 0 : CREW_EHANDLE;
	/* a slab is its head, as large as a record, and records, of which those never handed out are FREE */
	if (unlikely((const void *)f == slab || phase_of(load_acquire_32(&f->state)) == PHASE_FREE))
		return CREW_EHANDLE;
	return likely(slab->generation == crew__fork_generation) ? 0 : CREW_EFORKED;
}

/* ---- ports ---- */

static struct port *port_reuse(crew_executor *ex)
{
	struct port *port = ex->ports;

	while (port && port->taken)
		port = port->next;
	if (port)
		port->taken = 1;
	return port;
}

static struct port *port_new(crew_executor *ex)
{
	size_t size = ex->ops->port_size ? ex->ops->port_size : sizeof(struct port);
	struct port *port = aligned_alloc(CREW__CACHELINE, (size + CREW__CACHELINE - 1) / CREW__CACHELINE * CREW__CACHELINE);

	if (!port)
		return NULL;
	memset(port, 0, size);
	port->ex = ex;
	port->taken = 1;
	port->next = ex->ports;
	store_release_ptr((void **)&ex->ports, port); /* pairs with the walks over ports, which take no lock */
	return port;
}

struct port *crew__port_slow(crew_executor *ex)
{
	struct port *port = crew__thread_port(ex);

	if (!port) {
		pthread_mutex_lock(&ex->mutex);
		port = port_reuse(ex);
		if (!port)
			port = port_new(ex);
		pthread_mutex_unlock(&ex->mutex);
		if (port && crew__thread_keep(ex, port)) {
			pthread_mutex_lock(&ex->mutex);
			port->taken = 0;
			pthread_mutex_unlock(&ex->mutex);
			port = NULL;
		}
	}
	if (port) {
		crew__last_port = port;
		crew__last_id = ex->id;
	}
	return port;
}

/* ---- close ---- */

/* Drop the executor's reference to each record that still has one; the number of records that users refer to. */
static uint32_t give_back(struct slab *slab)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < slab->used; i++) {
		crew_future *f = &slab->record[i];
		uint32_t s = ck_pr_load_32(&f->state);

		if (phase_of(s) == PHASE_FREE)
			continue;
		if (s & STATE_OWNED) {
			ck_pr_store_32(&f->state, s & ~(uint32_t)STATE_OWNED);
			if ((ck_pr_faa_32(&f->refs, (uint32_t)-1) & REFS_MASK) == 1) {
				if ((s & (STATE_BACKEND | STATE_FAILED | STATE_HEAP)) || phase_of(s) == PHASE_CANCELLED ||
				    (f->about & 1))
					free_contents(f, s);
				store_release_32(&f->state, PHASE_FREE);
				continue;
			}
		}
		kept++;
	}
	return kept;
}

void crew__records_fini(crew_executor *ex)
{
	struct slab *slab = ex->slabs, *next;

	for (; slab; slab = next) {
		next = slab->next;
		/* one for this loop, so that an unref in another thread does not free the slab under it */
		slab->orphans = 1;
		slab->orphans += give_back(slab);
		slab->owner = NULL;
		if (ck_pr_faa_32(&slab->orphans, (uint32_t)-1) == 1)
			slab_free(slab);
	}
	ex->slabs = NULL;
	ex->spilled = NULL;
}
