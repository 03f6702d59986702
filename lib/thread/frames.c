/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * frames.c: crew_spawn and crew_sync beyond their few instructions in spawn.h.
 *
 * Each worker has an array of pointers to frames that live on its stack, oldest first:
 *
 *	0 …… taken by thieves …… tail …… shared …… split …… private …… head
 *
 * head and split (as a pointer) are the owner's; `shared` = tail:32 | split:32 changes by CAS only: a
 * thief takes the oldest shared frame by tail + 1, the owner shares by moving split up and takes back
 * by moving it down. A slot is read *after* winning it, so that numbers may come round again. All
 * frames from split up are the owner's without any atomic. Syncs come in any order: one that takes back
 * an older frame takes the newer ones out of the array too, and their syncs find that they stand there
 * no more and simply call.
 *
 * Asking for frames. `limit` lies in the owner's thread-local memory, which ends with its thread, so a
 * thief must not touch it unannounced. `armed` says who may: FRAMES_DISARMED (limit is the array's end)
 * –CAS→ FRAMES_ARMING (the winner writes limit = 0) → FRAMES_ARMED. A thread that ends makes sure that
 * it is armed, after which nobody looks at its memory.
 *
 * A sync of a frame that was taken steals only from its taker, and only frames that were pushed after
 * the taking: these belong to the awaited call, so they end without anything that lies below on this
 * stack. Anything else might need a lock that is held there.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/futex.h"
#include "thread/thread_pool.h"

#define FRAMES_MAX ((size_t)1 << 16) /* deeper spawns are plain calls */
#define FRAMES_SHARED 2		     /* how many the owner keeps in reach of thieves */
#define JOIN_SPIN_NS 20000

enum { FRAMES_ARMED, FRAMES_ARMING, FRAMES_DISARMED };
enum { FRAME_SHARED, FRAME_DONE, FRAME_SLEEPING };

/* crew_frame.thief */
#define THIEF(index_, height_) ((uint32_t)(index_) | (uint32_t)(height_) << 12)
#define THIEF_INDEX(thief_) ((thief_) & 4095u)
#define THIEF_HEIGHT(thief_) ((thief_) >> 12)
_Static_assert(WORKERS_MAX <= 4096 && FRAMES_MAX < (size_t)1 << 20, "fits into crew_frame.thief");

__thread struct crew_frames crew_frames __attribute__((__tls_model__("initial-exec")));

static uint32_t tail_of(uint64_t shared)
{
	return (uint32_t)(shared >> 32);
}

static uint32_t split_of(uint64_t shared)
{
	return (uint32_t)shared;
}

static uint64_t shared_make(uint32_t tail, uint32_t split)
{
	return (uint64_t)tail << 32 | split;
}

static bool shared_cas(struct thread_worker *w, uint64_t *old, uint64_t new)
{
	bool won;

	ck_pr_fence_release();
	won = ck_pr_cas_64_value(&w->shared, *old, new, old);
	ck_pr_fence_acquire();
	return won;
}

/* ---- asking ---- */

void crew__frames_arm(struct thread_worker *victim)
{
	if (ck_pr_load_32(&victim->armed) != FRAMES_DISARMED ||
	    !ck_pr_cas_32(&victim->armed, FRAMES_DISARMED, FRAMES_ARMING))
		return;
	ck_pr_fence_acquire();
	ck_pr_store_ptr(&victim->owner->limit, NULL); /* read by crew__push */
	store_release_32(&victim->armed, FRAMES_ARMED);
}

/* By the owner: from now on spawns do not come to the slow path, until a thief asks. */
static void disarm(struct thread_worker *w)
{
	if (load_acquire_32(&w->armed) != FRAMES_ARMED)
		return; /* a thief has just asked, and is about to say that it has: stay armed */
	ck_pr_store_ptr(&crew_frames.limit, w->frames + FRAMES_MAX);
	store_release_32(&w->armed, FRAMES_DISARMED);
}

/* ---- a thread's beginning and end ---- */

void crew__frames_attach(struct thread_worker *w)
{
	crew_frames = (struct crew_frames){ .worker = w, .head = w->frames, .split = w->frames };
	w->owner = &crew_frames;
}

/* At the first spawn of all: most pools never see one. */
static bool frames_map(struct thread_worker *w)
{
	void *p = mmap(NULL, FRAMES_MAX * sizeof *w->frames, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return false;
	w->frames = p;
	crew_frames.head = crew_frames.split = w->frames;
	return true;
}

void crew__frames_detach(struct thread_worker *w)
{
	while (ck_pr_load_32(&w->armed) != FRAMES_ARMED) {
		crew__frames_arm(w);
		ck_pr_stall(); /* a thief is between its CAS and its store */
	}
	ck_pr_fence_acquire();
	memset(&crew_frames, 0, sizeof crew_frames);
}

void crew__frames_free(struct thread_worker *w)
{
	if (w->frames)
		munmap(w->frames, FRAMES_MAX * sizeof *w->frames);
}

/* ---- owner ---- */

/* Put frames in reach of thieves until `most` are; how many are now. */
static uint32_t share(struct thread_worker *w, uint32_t most)
{
	uint32_t head = (uint32_t)(crew_frames.head - w->frames), tail, split, goal;
	uint64_t shared = load_acquire_64(&w->shared);

	do {
		tail = tail_of(shared);
		split = split_of(shared);
		goal = most < head - tail ? tail + most : head;
		if (goal <= split)
			return split - tail;
		for (uint32_t i = split; i < goal; i++) {
			w->frames[i]->task = w->enclosing ? w->enclosing : w->context.future;
			ck_pr_store_32(&w->frames[i]->thief, THIEF(w->index, 0)); /* nobody yet */
			ck_pr_store_32(&w->frames[i]->state, FRAME_SHARED);
		}
	} while (!shared_cas(w, &shared, shared_make(tail, goal)));
	crew_frames.split = w->frames + goal;
	return goal - tail;
}

void crew__frames_share(struct thread_worker *w)
{
	if (w->frames && crew_frames.head > crew_frames.split && w->pool->count > 1)
		share(w, UINT32_MAX);
}

struct crew_frame **crew_spawn_slow(struct crew_frame *frame)
{
	struct thread_worker *w = crew_frames.worker;
	struct crew_frame **slot;

	if (!w || (!w->frames && !frames_map(w)))
		return NULL; /* the sync will simply call */
	slot = crew_frames.head;
	if (slot >= w->frames + FRAMES_MAX)
		return NULL;
	*slot = frame;
	crew_frames.head = slot + 1;
	if (w->pool->count == 1 || share(w, FRAMES_SHARED) >= FRAMES_SHARED)
		disarm(w);
	full_fence(); /* pairs with the heavy fence in crew__park */
	if (crew__want_wake(w->pool))
		crew__wake_one(w->pool);
	return slot;
}

/* What the call left behind becomes what this task leaves behind. */
static void adopt(struct crew_frame *frame)
{
	struct context *c = crew__context;
	struct block *last = frame->blocks;

	if (!last && !frame->raised)
		return;
	c->dirty = 1;
	if (!c->raised)
		c->raised = frame->raised;
	else
		crew__error_free(frame->raised);
	if (!last)
		return;
	while (last->next)
		last = last->next;
	last->next = c->blocks;
	c->blocks = frame->blocks;
}

static bool steal_from(struct thread_worker *thief, struct thread_worker *victim, uint32_t height);

/* Until the taker is done: its newer frames, else a short spin, else sleep. */
static void join(struct thread_worker *w, struct crew_frame *frame)
{
	uint64_t end = 0;

	while (load_acquire_32(&frame->state) != FRAME_DONE) { /* pairs with the swap in run_stolen */
		uint32_t thief = ck_pr_load_32(&frame->thief);
		struct thread_worker *taker = &w->pool->workers[THIEF_INDEX(thief)];

		if (taker != w && steal_from(w, taker, THIEF_HEIGHT(thief))) {
			end = 0;
			continue;
		}
		for (int i = 0; i < 16; i++)
			ck_pr_stall();
		if (!end) {
			end = crew__now() + JOIN_SPIN_NS;
		} else if (crew__now() >= end) {
			crew__block_begin(w);
			if (ck_pr_cas_32(&frame->state, FRAME_SHARED, FRAME_SLEEPING))
				while (load_acquire_32(&frame->state) == FRAME_SLEEPING)
					crew__futex_wait(&frame->state, FRAME_SLEEPING, NEVER, false);
			crew__block_end(w);
		}
	}
	adopt(frame);
}

/*
 * The frame is joined. If it was the highest that was taken, the numbers go back below it, and below
 * those that were joined before it in another order than the reverse; else it leaves a mark for the one
 * that will.
 */
static void step_back(struct thread_worker *w, uint32_t index)
{
	uint64_t shared = load_acquire_64(&w->shared);
	uint32_t bottom = index;

	while (bottom > 0 && !w->frames[bottom - 1])
		bottom--;
	do {
		if (tail_of(shared) != index + 1) {
			w->frames[index] = NULL;
			return;
		}
	} while (!shared_cas(w, &shared, shared_make(bottom, bottom)));
	crew_frames.head = crew_frames.split = w->frames + bottom;
	crew__frames_arm(w);
}

int crew_sync_slow(struct crew_frame *frame, struct crew_frame **slot)
{
	struct thread_worker *w = crew_frames.worker;
	uint32_t index;
	uint64_t shared;

	if (!slot || slot >= crew_frames.head || *slot != frame)
		return 0; /* never pushed, or an older one was synced before and took it back too */
	if (slot >= crew_frames.split) {
		crew_frames.head = slot;
		return 0;
	}
	index = (uint32_t)(slot - w->frames);
	shared = load_acquire_64(&w->shared);
	while (tail_of(shared) <= index) {
		if (shared_cas(w, &shared, shared_make(tail_of(shared), index))) {
			crew_frames.head = crew_frames.split = slot;
			crew__frames_arm(w);
			return 0;
		}
	}
	join(w, frame);
	step_back(w, index);
	return 1;
}

/* ---- thieves ---- */

static void run_stolen(struct thread_worker *thief, struct crew_frame *frame)
{
	struct context c;
	struct annex *a = frame->task ? annex_of(frame->task) : NULL;
	crew_future *outer = thief->enclosing;

	crew__frames_share(thief); /* what is private from here on belongs to frame->task */
	thief->enclosing = frame->task;
	crew__context_init(&c, &thief->pool->base, thief->index);
	c.future = frame->task;
	if (a)
		c.deadline = a->deadline;
	frame->run(frame);
	frame->raised = c.raised;
	frame->blocks = c.blocks;
	c.raised = NULL;
	c.blocks = NULL;
	crew__context_fini(&c);
	thief->enclosing = outer;
	ck_pr_fence_release(); /* pairs with the acquire in join */
	if (ck_pr_fas_32(&frame->state, FRAME_DONE) == FRAME_SLEEPING)
		crew__futex_wake(&frame->state, 1, false); /* by address: the frame may be gone */
}

/* The oldest shared frame of victim, if it stands at `height` or above. */
static bool steal_from(struct thread_worker *thief, struct thread_worker *victim, uint32_t height)
{
	uint64_t shared = load_acquire_64(&victim->shared);
	uint32_t tail = tail_of(shared), split = split_of(shared);
	struct crew_frame *frame;
	bool searched;
	int cpu;

	if (tail >= split) {
		crew__frames_arm(victim);
		return false;
	}
	if (tail < height || !shared_cas(victim, &shared, shared_make(tail + 1, split)))
		return false;
	frame = victim->frames[tail];
	if (tail + 2 > split)
		crew__frames_arm(victim);
	ck_pr_store_32(&frame->thief, THIEF(thief->index, crew_frames.head - thief->frames));
	searched = thief->searching;
	crew__stop_search(thief);
	cpu = thief->waker_cpu;
	thief->waker_cpu = -1;
	if (cpu >= 0)
		crew__leave_waker(thief, cpu);
	full_fence(); /* after the token was given back, before the look at who is parked */
	if (crew__want_wake(thief->pool) && (split - tail > 1 || (searched && crew__any_work(thief->pool))))
		crew__wake_one(thief->pool);
	run_stolen(thief, frame);
	return true;
}

bool crew__frames_any(const struct thread_worker *w)
{
	uint64_t shared = load_acquire_64(&w->shared);

	return tail_of(shared) < split_of(shared);
}

bool crew__frames_steal(struct thread_worker *thief)
{
	struct thread_pool *pool = thief->pool;
	uint32_t high = load_acquire_32(&pool->high), start;

	thief->random = thief->random * 1664525u + 1013904223u;
	start = thief->random >> 8;
	for (uint32_t i = 0; i < high; i++) {
		struct thread_worker *victim = &pool->workers[(start + i) % high];

		if (victim != thief && steal_from(thief, victim, 0))
			return true;
	}
	return false;
}
