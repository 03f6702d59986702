/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbox.c: finished futures on their way to an event loop.
 *
 *	completer ─push→ stack ─take all, reversed→ drain: on_done(f, arg), give f back
 *
 * Completers push on a lock-free stack (ck_stack, unique popper: the drainer's mutex) and ring an eventfd when they find it empty. The drainer empties
 * the eventfd before it takes the stack: a completion between the two rings again, so the descriptor is level-triggered and at worst readable for
 * nothing.
 *
 * Close refuses while futures are on their way. The last of them may have been delivered while its completer is still ringing: completers count
 * themselves in and out, and close waits for those few instructions.
 */
#include "core/inbox.h"

#include <ck_stack.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/group.h"
#include "core/waiting.h"

struct crew_inbox {
	/* fixed after open */
	int fd;
	uint32_t generation;
	/* written by completers, taken by the drainer */
	crew_future *arrived CREW__ALIGNED; /* linked by annex->inbox_next, newest first */
	uint32_t expected;		    /* submitted and not yet delivered; by faa */
	uint32_t ringing;		    /* completers inside crew__inbox_put; by faa, which is their last touch */
	/* the drainer's */
	pthread_mutex_t mutex CREW__ALIGNED;
};

/* Which inboxes this thread is draining, innermost first: an on_done may drain again. */
struct draining {
	crew_inbox *inbox;
	struct draining *outer;
};
static __thread struct draining *draining __attribute__((__tls_model__("initial-exec")));

/* At least 3: a program that closes and reopens its standard streams must not meet it there. */
static int event_fd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), high;

	if (fd < 0 || fd > 2)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	close(fd);
	return high;
}

crew_inbox *crew_inbox_open(void)
{
	crew_inbox *inbox = aligned_alloc(CREW__CACHELINE, sizeof *inbox);

	if (!inbox)
		return NULL;
	*inbox = (crew_inbox){ .fd = event_fd(), .generation = crew__fork_generation };
	if (inbox->fd < 0) {
		free(inbox);
		return NULL;
	}
	pthread_mutex_init(&inbox->mutex, NULL);
	return inbox;
}

int crew_inbox_fd(crew_inbox *inbox)
{
	if (!inbox)
		return CREW_EHANDLE;
	return inbox->generation == crew__fork_generation ? inbox->fd : CREW_EFORKED;
}

void crew__inbox_expect(crew_inbox *inbox)
{
	ck_pr_faa_32(&inbox->expected, 1);
}

/* `arrived` is a Treiber stack whose only pop is take-all: no ABA. */
void crew__inbox_put(crew_inbox *inbox, crew_future *f)
{
	struct annex *a = annex_of(f);
	uint64_t one = 1;
	crew_future *head;

	crew__retain(f); /* the drainer's, until it gave it back */
	ck_pr_faa_32(&inbox->ringing, 1);
	do {
		head = ck_pr_load_ptr(&inbox->arrived);
		a->inbox_next = head;
		ck_pr_fence_release(); /* pairs with the swap in take_all */
	} while (!ck_pr_cas_ptr(&inbox->arrived, head, f));
	if (!head)
		(void)!write(inbox->fd, &one, sizeof one);
	ck_pr_fence_release();
	ck_pr_faa_32(&inbox->ringing, (uint32_t)-1); /* pairs with the load in inbox_free */
}

static crew_future *take_all(crew_inbox *inbox)
{
	crew_future *newest = ck_pr_fas_ptr(&inbox->arrived, NULL), *oldest = NULL;

	ck_pr_fence_acquire();
	while (newest) {
		struct annex *a = annex_of(newest);
		crew_future *next = a->inbox_next;

		a->inbox_next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

static int deliver(crew_inbox *inbox)
{
	crew_future *f = take_all(inbox);
	int count = 0;

	while (f) {
		struct annex *a = annex_of(f);
		crew_future *next = a->inbox_next;

		a->on_done(f, a->on_done_arg);
		crew_future_free(f);
		crew__release(f);
		ck_pr_faa_32(&inbox->expected, (uint32_t)-1);
		count++;
		f = next;
	}
	return count;
}

int crew_inbox_drain(crew_inbox *inbox)
{
	struct draining here = { inbox, draining };
	uint64_t value;
	int count;

	if (!inbox)
		return CREW_EHANDLE;
	if (inbox->generation != crew__fork_generation)
		return CREW_EFORKED;
	for (struct draining *d = draining; d; d = d->outer)
		if (d->inbox == inbox)
			return 0;
	pthread_mutex_lock(&inbox->mutex);
	draining = &here;
	(void)!read(inbox->fd, &value, sizeof value);
	count = deliver(inbox);
	draining = here.outer;
	pthread_mutex_unlock(&inbox->mutex);
	return count;
}

static void inbox_free(crew_inbox *inbox)
{
	while (load_acquire_32(&inbox->ringing))
		sched_yield();
	close(inbox->fd);
	pthread_mutex_destroy(&inbox->mutex);
	free(inbox);
}

crew_inbox *crew_inbox_close(crew_inbox *inbox)
{
	if (!inbox || inbox->generation != crew__fork_generation)
		return NULL;
	if (ck_pr_load_32(&inbox->expected))
		return inbox;
	inbox_free(inbox);
	return NULL;
}

void crew__inbox_fini(crew_inbox *inbox)
{
	if (!inbox)
		return;
	while (crew_inbox_drain(inbox) > 0)
		;
	inbox_free(inbox);
}

/* ---- the executor's own ---- */

crew_inbox *crew__inbox_of(crew_executor *ex)
{
	crew_inbox *inbox = load_acquire_ptr((void *const *)&ex->inbox);

	if (inbox)
		return inbox;
	if (ex->id == 0) { /* the executor there was no memory for is never closed */
		errno = ENOMEM;
		return NULL;
	}
	inbox = crew_inbox_open();
	if (!inbox)
		return NULL;
	ck_pr_fence_release();
	if (ck_pr_cas_ptr(&ex->inbox, NULL, inbox))
		return inbox;
	inbox_free(inbox);
	return load_acquire_ptr((void *const *)&ex->inbox);
}

static crew_inbox *inbox_of(crew_executor *ex)
{
	return crew__inbox_of(is_group(ex) ? crew__group_base(ex) : ex);
}

int crew_executor_fd(crew_executor *ex)
{
	int rc = crew__executor_check(ex);
	crew_inbox *inbox;

	if (rc)
		return rc;
	inbox = inbox_of(ex);
	return inbox ? crew_inbox_fd(inbox) : -errno;
}

int crew_drain(crew_executor *ex)
{
	int rc = crew__executor_check(ex);
	crew_inbox *inbox;

	if (rc)
		return rc;
	inbox = load_acquire_ptr((void *const *)&(is_group(ex) ? crew__group_base(ex) : ex)->inbox);
	return inbox ? crew_inbox_drain(inbox) : 0;
}
