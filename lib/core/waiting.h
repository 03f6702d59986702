/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * waiting.h: the one way in which anybody waits for a future, and the one way in which anybody stops one from starting.
 */
#ifndef CREW_LIB_WAITING_H
#define CREW_LIB_WAITING_H

#include "core/executor_ops.h"

/* Bring f's word up to date and say whether it is done. Never blocks. */
bool crew__done(crew_future *f);

/* Until f is done: 0; -ETIMEDOUT; -EDEADLK. A task whose own deadline passes before it starts is failed on the way. */
int crew__await(crew_future *f, uint64_t deadline);

/* Sleep on a private word, as the executor wants it whose task this is, or else as ex (or NULL) does. May return early. */
void crew__nap(crew_executor *ex, const uint32_t *word, uint32_t value, uint64_t deadline);

/* The wait of executors that have no better one: a sleep on f's word. */
int crew__sleep_on_word(crew_future *f, uint64_t deadline);

/* Run f here if that may be done: true: it is done now. */
bool crew__help(crew_future *f);

/* Claim f before it starts: 1 claimed, complete it; 0 it runs, and has been asked to stop; -EALREADY it is done. */
int crew__revoke(crew_future *f);

/* crew_future_cancel() of a checked future. */
int crew__cancel(crew_future *f, const char *reason);
int crew__cancel_task(crew_future *f, const char *reason); /* the same of what is no promise and not done; reads no annex before it has claimed f */

/* Is f running further down this stack, or down that of one who cannot end before what runs here has? Either would wait for itself. */
struct context;
bool crew__stands_on(const struct context *c, const crew_future *f);
bool crew__on_this_stack(const crew_future *f); /* of this thread */

#endif
