/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mutex_pool.c: the pool of the textbooks: a linked list, one mutex, one condition variable, and for each
 * future a mutex and a condition variable of its own. What somebody writes in an afternoon and gets right.
 */
#include "peer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../measure.h"

struct peer_future {
	struct peer_future *next;
	peer_task_fn *fn;
	long x; /* argument, then result */
	pthread_mutex_t lock;
	pthread_cond_t finished;
	bool done;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER;
static struct peer_future *first, **last = &first;
static bool closing;
static pthread_t *threads;
static int thread_count;

/* NULL: the pool closes and nothing is left. */
static struct peer_future *pop(void)
{
	struct peer_future *f;

	pthread_mutex_lock(&lock);
	while (!first && !closing)
		pthread_cond_wait(&not_empty, &lock);
	f = first;
	if (f) {
		first = f->next;
		if (!first)
			last = &first;
	}
	pthread_mutex_unlock(&lock);
	return f;
}

static void *work(void *arg)
{
	struct peer_future *f;

	(void)arg;
	while ((f = pop()) != NULL) {
		long y = f->fn(f->x);

		pthread_mutex_lock(&f->lock);
		f->x = y;
		f->done = true;
		pthread_cond_signal(&f->finished);
		pthread_mutex_unlock(&f->lock);
	}
	return NULL;
}

static void open_pool(int workers)
{
	closing = false;
	thread_count = workers;
	threads = calloc((size_t)workers, sizeof(*threads));
	for (int i = 0; i < workers; i++)
		measure_require(pthread_create(&threads[i], NULL, work, NULL) == 0, "no thread");
}

static void close_pool(void)
{
	pthread_mutex_lock(&lock);
	closing = true;
	pthread_cond_broadcast(&not_empty);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < thread_count; i++)
		pthread_join(threads[i], NULL);
	free(threads);
}

static struct peer_future *submit(peer_task_fn *fn, long x)
{
	struct peer_future *f = malloc(sizeof(*f));

	measure_require(f != NULL, "out of memory");
	f->next = NULL;
	f->fn = fn;
	f->x = x;
	f->done = false;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->finished, NULL);
	pthread_mutex_lock(&lock);
	*last = f;
	last = &f->next;
	pthread_cond_signal(&not_empty);
	pthread_mutex_unlock(&lock);
	return f;
}

static long take(struct peer_future *f)
{
	long y;

	pthread_mutex_lock(&f->lock);
	while (!f->done)
		pthread_cond_wait(&f->finished, &f->lock);
	pthread_mutex_unlock(&f->lock);
	y = f->x;
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->finished);
	free(f);
	return y;
}

const struct peer peer = { .name = "mutex pool",
			   .open = open_pool,
			   .close = close_pool,
			   .reopens = 1,
			   .submit = submit,
			   .take = take };
