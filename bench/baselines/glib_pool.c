/* SPDX-License-Identifier: BSD-2-Clause */
/* glib_pool.c: GLib's GThreadPool, exclusive, with a GMutex and a GCond in each future, since GLib has none for it. */
#include "peer.h"

#include <glib.h>

struct peer_future {
	peer_task_fn *fn;
	long x;
	GMutex lock;
	GCond finished;
	gboolean done;
};

static GThreadPool *pool;

static void work(gpointer data, gpointer user_data)
{
	struct peer_future *f = data;
	long y = f->fn(f->x);

	(void)user_data;
	g_mutex_lock(&f->lock);
	f->x = y;
	f->done = TRUE;
	g_cond_signal(&f->finished);
	g_mutex_unlock(&f->lock);
}

static void open_pool(int workers)
{
	pool = g_thread_pool_new(work, NULL, workers, TRUE, NULL);
}

static void close_pool(void)
{
	g_thread_pool_free(pool, FALSE, TRUE);
}

static struct peer_future *submit(peer_task_fn *fn, long x)
{
	struct peer_future *f = g_new(struct peer_future, 1);

	f->fn = fn;
	f->x = x;
	f->done = FALSE;
	g_mutex_init(&f->lock);
	g_cond_init(&f->finished);
	g_thread_pool_push(pool, f, NULL);
	return f;
}

static long take(struct peer_future *f)
{
	long y;

	g_mutex_lock(&f->lock);
	while (!f->done)
		g_cond_wait(&f->finished, &f->lock);
	g_mutex_unlock(&f->lock);
	y = f->x;
	g_mutex_clear(&f->lock);
	g_cond_clear(&f->finished);
	g_free(f);
	return y;
}

const struct peer peer = { .name = "GLib GThreadPool",
			   .open = open_pool,
			   .close = close_pool,
			   .reopens = 1,
			   .submit = submit,
			   .take = take };
