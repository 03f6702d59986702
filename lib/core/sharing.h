/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sharing.h: what core asks of the layer that lets futures travel between processes (lib/ipc/). Core does not know how that is done, only
 * which futures it concerns: those with annex.binding.
 *
 * A promise with STATE_SHARED is decided elsewhere: whoever wants to keep or cancel it asks here, and its own word follows. Every other
 * future decides for itself, and what it shares follows it.
 */
#ifndef CREW_LIB_SHARING_H
#define CREW_LIB_SHARING_H

#include "core/executor_ops.h"

/* f has STATE_SHARED, but where it is said otherwise. Any thread. */
struct sharing_ops {
	/* As crew_future_set_result(), _error() and _running(). */
	int (*keep)(crew_future *f, const void *value, int type);
	int (*fail)(crew_future *f, const crew_error *error);
	int (*run)(crew_future *f);

	/* As crew_future_cancel(), of one that is not done. May block for a moment: another process may have to be asked. */
	int (*cancel)(crew_future *f, const char *reason);

	/* As the slots of executor_ops. */
	void (*refresh)(crew_future *f);
	int (*wait)(crew_future *f, uint64_t deadline);
	void (*watch)(crew_future *f);

	/* The last reference of a user is about to be dropped, f is not done. Afterwards it is, or somebody still wants to be told of its end. */
	void (*give_back)(crew_future *f);

	/* ex is about to be taken down, all its futures are done: return when nobody looks at one of them on behalf of other processes. */
	void (*closing)(crew_executor *ex);

	/* f, shared or not, has annex.binding and is about to be recycled. */
	void (*forget)(crew_future *f);
};
extern const struct sharing_ops *crew__sharing; /* NULL: nothing was ever shared here */

/* A promise of that type. NULL: no memory. Nobody may keep it before crew__promise_open(). */
crew_future *crew__promise_new(int type);
void crew__promise_open(crew_future *f, bool shared);

/* Set STATE_SHARED on a promise; false: it is being kept or cancelled already, or done. */
bool crew__promise_share(crew_future *f);

/* As crew_future_cancel() of a promise. */
int crew__promise_cancel(crew_future *f, const char *reason);

/* The last reference of a user to a promise that is not done is about to be dropped. */
void crew__promise_give_up(crew_future *f);

/* How many threads wait for f among several futures: callbacks that are in a waiter's memory. How many others want to be told of its end; may be NULL. */
uint32_t crew__subscribers(crew_future *f, uint32_t *ret_callbacks);

#endif
