/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loss.c: a program that closes every descriptor it does not know (closefrom(), a loop up to the limit), ours among them.
 *
 *	witness gone ─ noticed by: the engine (each turn; while there is work once a second), whoever begins to submit, whoever waits, the closer
 *	             └> nothing is taken any more, every future fails with CREW_EBROKEN, no number is used or closed again, the engine ends
 *
 * A number says nothing: the program may have opened a file of its own there. So before numbers are used the executor looks at a witness, the descriptor of its
 * first mapping, whose inode is nobody else's and whose number is the lowest of all: whoever closes all closes it first, and whoever opens
 * files gets its number first. From the look to the use is a moment in which the program may still be faster; for a program that closes in one thread what
 * others of its threads are using nobody can do better.
 *
 * Workers need nobody to tell them: the zygote sees its socket close, and it and they end. So nobody is killed here, and tasks that run are doomed only
 * so that a worker which lives on (a forked child of the program may hold a copy of the socket) takes no other.
 *
 * The engine may be asleep where no descriptor can wake it: the closer cancels it, see park (engine.c).
 */
#include <limits.h>
#include <pthread.h>

#include "base/futex.h"
#include "process/pidfd.h"
#include "process/process_executor.h"

#define WHY "the program has closed the file descriptors of this executor"

bool crew__deprived(struct process_executor *p)
{
	if (ck_pr_load_32(&p->deprived))
		return true;
	if (likely(crew__fd_is(p->mappings[0].fd, &p->mappings[0].mark)))
		return false;
	ck_pr_store_32(&p->deprived, 1);
	return true;
}

/* Those that somebody had begun, as far as the batch goes. True: there may be more. */
static bool fail_running(struct process_executor *p, struct batch *batch)
{
	for (uint32_t i = 0; i < p->ring.geometry.slots; i++) {
		struct entry *e = &p->entries[i];

		if (batch->n == BATCH_ITEMS)
			return true;
		if (!e->f || (!ring_answered(&p->ring, e->ticket) && crew__doom(p, e, CREW_EBROKEN, WHY, batch)))
			continue;
		if (ring_answered(&p->ring, e->ticket))
			crew__settle_answer(p, e, batch);
		else
			crew__settle_failed(p, e, crew__error_make(task_of(e->f), CREW_EBROKEN, WHY), batch);
	}
	return false;
}

/* Nobody sits there any more, as far as we can know. The lock is held. */
static void empty_seats(struct process_executor *p)
{
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++) {
		struct seat *seat = &p->seats[i];

		crew__roster_leave(p, i);
		ck_pr_store_int(&seat->pid, 0);
		seat->state = SEAT_EMPTY;
		seat->pidfd = -1;
		seat->kill_at = 0;
	}
}

void crew__abandon(struct process_executor *p)
{
	struct batch batch;
	bool more = true;

	latch_take(&p->lock);
	if (p->abandoned)
		more = false;
	p->abandoned = true;
	latch_release(&p->lock);
	if (!more)
		return;
	ck_pr_store_32(&p->ring.pub->stop, 1);
	ck_pr_fence_memory(); /* pairs with the barrier in park (process_worker.c) */
	crew__wake_workers(p);
	crew__give_up(p, CREW_EBROKEN, NULL, WHY);
	batch.n = 0;
	while (more) {
		latch_take(&p->lock);
		more = fail_running(p, &batch);
		if (!more)
			empty_seats(p);
		latch_release(&p->lock);
		crew__deliver(p, &batch);
	}
	ck_pr_inc_32(&p->settled_signal); /* whoever waits for deaths waits in vain */
	crew__futex_wake(&p->settled_signal, INT_MAX, false);
}

/* What is left of a zygote that was our own child. */
void crew__zygote_lose(struct zygote_link *link)
{
	if (link->pid > 0 && link->status < 0)
		crew__pidfd_reap_lost(link->pid, "crew-zygote");
	*link = ZYGOTE_LINK_NULL;
}
