/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libuv_work.c: libuv's uv_queue_work(). Its pool is one for the process, its size an environment variable,
 * and a request belongs to the loop of the thread that made it: each producer has a loop, and waiting is
 * running that loop. It cannot be closed and opened again.
 */
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "../measure.h"

struct peer_future {
	uv_work_t request;
	peer_task_fn *fn;
	long x;
	int done;
};

static _Thread_local uv_loop_t loop;
static _Thread_local int loop_is_open;

static void work(uv_work_t *request)
{
	struct peer_future *f = request->data;

	f->x = f->fn(f->x);
}

static void after(uv_work_t *request, int status)
{
	struct peer_future *f = request->data;

	measure_require(status == 0, "libuv failed a request: %d", status);
	f->done = 1;
}

static void open_pool(int workers)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", workers);
	setenv("UV_THREADPOOL_SIZE", text, 1);
}

static void close_pool(void)
{
	uv_library_shutdown();
}

static struct peer_future *submit(peer_task_fn *fn, long x)
{
	struct peer_future *f = malloc(sizeof(*f));

	if (!loop_is_open)
		loop_is_open = uv_loop_init(&loop) == 0;
	measure_require(f && loop_is_open, "no loop");
	f->request.data = f;
	f->fn = fn;
	f->x = x;
	f->done = 0;
	measure_require(uv_queue_work(&loop, &f->request, work, after) == 0, "uv_queue_work() failed");
	return f;
}

static long take(struct peer_future *f)
{
	long y;

	while (!f->done)
		uv_run(&loop, UV_RUN_ONCE);
	y = f->x;
	free(f);
	return y;
}

const struct peer peer = {
	.name = "libuv", .open = open_pool, .close = close_pool, .submit = submit, .take = take
};
