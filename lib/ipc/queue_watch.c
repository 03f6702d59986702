/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue_watch.c: a descriptor that becomes readable with a queue, for event loops.
 *
 * A bell in shared memory cannot be polled, and a descriptor cannot be shared by writing its number down. So each process that asks has an eventfd
 * and a thread of its own for the queue, which waits like a consumer, but takes nothing:
 *
 *	thread: await an item ─> eventfd := 1 ─> sleep on `armed` until a get of this process found nothing ─> again
 *
 * After a fork the child has neither: what it inherited is closed and forgotten.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/futex.h"
#include "core/service.h"
#include "ipc/queue_memory.h"

uint32_t crew__queue_watches;

struct watch {
	/* fixed after open */
	crew_handle handle;
	struct queue *queue;
	int fd;
	pthread_t thread;
	/* 1: look for an item; 0: the descriptor says that there is one. Written 0 by the thread, 1 by who found nothing */
	uint32_t armed;
	uint32_t stop;	    /* written by unfd */
	struct watch *next; /* guarded by watches.mutex */
};

static struct {
	pthread_mutex_t mutex;
	pthread_once_t once;
	struct watch *first;	 /* guarded by mutex */
	struct watch *inherited; /* of the parent of this forked process: no thread, no descriptor */
} watches = { .mutex = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT };

static void *watch(void *argument)
{
	struct watch *w = argument;

	while (!load_acquire_32(&w->stop)) {
		int rc;

		if (load_acquire_32(&w->armed) == 0) {
			crew__futex_wait(&w->armed, 0, NEVER, false); /* pairs with the wakes in rearm() and end() */
			continue;
		}
		rc = crew__queue_await_item(w->queue, w->handle, NEVER, &w->stop);
		ck_pr_store_32(&w->armed, 0);
		ck_pr_fence_memory();
		eventfd_write(w->fd, 1);
		if (rc == CREW_EHANDLE)
			break; /* readable for ever: the next get says why */
	}
	return NULL;
}

static void before_fork(void)
{
	pthread_mutex_lock(&watches.mutex);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&watches.mutex);
}

static void after_fork_child(void)
{
	pthread_mutex_init(&watches.mutex, NULL);
	for (struct watch *w = watches.first; w; w = w->next)
		close(w->fd);
	if (watches.first)
		watches.inherited = watches.first;
	watches.first = NULL;
	ck_pr_store_32(&crew__queue_watches, 0);
}

static void install(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static void lock(void)
{
	pthread_once(&watches.once, install);
	pthread_mutex_lock(&watches.mutex);
}

static struct watch **find(crew_handle handle)
{
	struct watch **at = &watches.first;

	while (*at && ((*at)->handle.place != handle.place || (*at)->handle.stamp != handle.stamp))
		at = &(*at)->next;
	return at;
}

static int open_watch(struct queue *q, crew_handle handle)
{
	struct watch *w = calloc(1, sizeof *w);
	int rc;

	if (!w)
		return -ENOMEM;
	w->handle = handle;
	w->queue = q;
	w->armed = 1;
	w->fd = crew__fd_keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	rc = w->fd < 0 ? w->fd : crew__service_start(&w->thread, watch, w);
	if (rc) {
		if (w->fd >= 0)
			close(w->fd);
		free(w);
		return rc;
	}
	w->next = watches.first;
	watches.first = w;
	ck_pr_inc_32(&crew__queue_watches);
	return w->fd;
}

int crew_queue_fd(crew_queue h)
{
	struct queue *q = queue_at(h);
	struct watch *w;
	int fd;

	if (!q)
		return crew__handle_reason(h.handle);
	lock();
	w = *find(h.handle);
	fd = w ? w->fd : open_watch(q, h.handle);
	pthread_mutex_unlock(&watches.mutex);
	return fd;
}

void crew__queue_watch_empty(crew_handle handle)
{
	struct watch *w;
	eventfd_t count;

	lock();
	w = *find(handle);
	if (w && ck_pr_load_32(&w->armed) == 0) {
		(void)eventfd_read(w->fd, &count);
		store_release_32(&w->armed, 1); /* from now on the thread looks anew, and finds what came meanwhile */
		crew__futex_wake(&w->armed, 1, false); /* pairs with the wait in watch() */
	}
	pthread_mutex_unlock(&watches.mutex);
}

static void end(struct watch *w)
{
	store_release_32(&w->stop, 1);
	ck_pr_store_32(&w->armed, 1);
	crew__futex_wake(&w->armed, 1, false); /* pairs with the wait in watch() */
	crew__queue_stir(w->queue);
	crew__service_join(w->thread);
	close(w->fd);
	free(w);
}

void crew_queue_unfd(crew_queue h)
{
	struct watch **at, *w;

	lock();
	at = find(h.handle);
	w = *at;
	if (w) {
		*at = w->next;
		ck_pr_dec_32(&crew__queue_watches);
	}
	pthread_mutex_unlock(&watches.mutex);
	if (w)
		end(w);
}
