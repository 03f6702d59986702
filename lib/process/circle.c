/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * circle.c: waits of workers for each other that could never end.
 *
 * A worker that waits for a ticket waits for whoever runs it; that one may wait too; and so on. Each has at most one such wait, that of
 * its innermost task, so the chain is a walk over `awaits` and claim words. Comes it back to where it began, then every task on it waits for all
 * the others: a task for the future of one that it was submitted by, say. Who is about to sleep looks, after saying so: the last to enter sees
 * the circle, and gets -EDEADLK.
 *
 *	awaits stored → barrier → walk            each of a circle does this, so the last one's walk finds all of it
 *
 * The words change under the walk. Each wait has a number that is bumped before and after; a circle that is walked twice with all numbers the same was
 * there as a whole. Waits with a deadline end by themselves and are in no circle. All this is memory that any worker can write: a scribble can
 * cost a wrong -EDEADLK, or none, never the parent.
 */
#include "process/worker_executor.h"

/* From `ticket` back to ourselves? *ret_sum: of the numbers of all waits on the way. */
static bool leads_back(const struct worker *w, uint64_t ticket, uint64_t *ret_sum)
{
	const struct ring *ring = w->ring;

	*ret_sum = 0;
	for (uint32_t i = 0; i < ring->geometry.workers; i++) {
		uint64_t word = ck_pr_load_64(ring_claim(ring, ticket));
		uint32_t worker = word_worker(word);
		const struct report *r;

		if (!word_is_of(word, ticket) || word_status(word) != WORD_RUNNING || worker == 0 || worker > ring->geometry.workers)
			return false;
		if (worker == w->index + 1)
			return true;
		r = &ring->reports[worker - 1];
		*ret_sum += load_acquire_32(&r->await_number);
		ticket = load_acquire_64(&r->awaits);
		if (ticket == 0)
			return false;
	}
	return false;
}

bool crew__await_begin(struct worker *w, uint64_t ticket)
{
	struct report *r = w->report;
	uint64_t first, second;

	ck_pr_store_32(&r->await_number, r->await_number + 1);
	ck_pr_fence_store();
	ck_pr_store_64(&r->awaits, ticket);
	ck_pr_fence_memory(); /* pairs with itself in the others of a circle: the last of them sees all */
	return !(leads_back(w, ticket, &first) && leads_back(w, ticket, &second) && first == second);
}

void crew__await_end(struct worker *w)
{
	struct report *r = w->report;

	ck_pr_store_64(&r->awaits, 0);
	ck_pr_fence_store();
	ck_pr_store_32(&r->await_number, r->await_number + 1);
}
