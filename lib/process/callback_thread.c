/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * callback_thread.c: runs the callbacks of settled futures. A callback may block; whoever settles must not.
 *
 * The future's word has changed by then and its sleepers are awake: this is only the telling. The thread is made when the first callback is due, and
 * sleeps on a futex between them. When there can be no thread, callbacks run where they are due after all: late is worse than odd, never is worst.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/futex.h"
#include "core/service.h"
#include "process/process_executor.h"

int crew__callbacks_init(struct callback_queue *q)
{
	return -pthread_mutex_init(&q->mutex, NULL);
}

enum outcome { RAN, NOTHING, ENDED };

/* In order, outside the mutex. */
static enum outcome run_due(struct callback_queue *q)
{
	struct due *due;
	size_t count;
	bool stop;

	pthread_mutex_lock(&q->mutex);
	due = q->due;
	count = q->count;
	q->due = NULL;
	q->count = q->capacity = 0;
	stop = q->stop;
	pthread_mutex_unlock(&q->mutex);
	for (size_t i = 0; i < count; i++)
		crew__completed(due[i].f, due[i].state);
	free(due);
	return count ? RAN : stop ? ENDED : NOTHING;
}

static void *callback_thread(void *arg)
{
	struct callback_queue *q = arg;

	pthread_setname_np(pthread_self(), "crew-callbacks");
	for (;;) {
		uint32_t signal = load_acquire_32(&q->signal); /* before the look: a push after it changes the word */
		enum outcome outcome = run_due(q);

		if (outcome == ENDED)
			return NULL;
		if (outcome == NOTHING)
			crew__futex_wait(&q->signal, signal, NEVER, false); /* woken by push and fini */
	}
}

static bool start(struct callback_queue *q)
{
	if (!q->started)
		q->started = crew__service_start(&q->thread, callback_thread, q) == 0;
	return q->started;
}

static bool push(struct callback_queue *q, crew_future *f, uint32_t state)
{
	if (q->count == q->capacity) {
		size_t capacity = q->capacity ? 2 * q->capacity : 64;
		struct due *due = realloc(q->due, capacity * sizeof *due);

		if (!due)
			return false;
		q->due = due;
		q->capacity = capacity;
	}
	q->due[q->count++] = (struct due){ f, state };
	return true;
}

void crew__callbacks_push(struct callback_queue *q, crew_future *f, uint32_t state)
{
	bool pushed;

	pthread_mutex_lock(&q->mutex);
	pushed = start(q) && push(q, f, state);
	ck_pr_inc_32(&q->signal);
	pthread_mutex_unlock(&q->mutex);
	if (pushed)
		crew__futex_wake(&q->signal, 1, false);
	else
		crew__completed(f, state);
}

void crew__callbacks_fini(struct callback_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	q->stop = true;
	ck_pr_inc_32(&q->signal);
	pthread_mutex_unlock(&q->mutex);
	if (q->started) {
		crew__futex_wake(&q->signal, 1, false);
		crew__service_join(q->thread);
	}
	while (q->count)
		run_due(q);
	free(q->due);
	pthread_mutex_destroy(&q->mutex);
}
