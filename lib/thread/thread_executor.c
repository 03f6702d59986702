/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thread_executor.c: an executor whose workers are threads: the opener, the table of operations, the end.
 *
 *	submit → the thread's own queue of hints (injection) → a worker's batch → claim → run → complete
 *
 * A submit to a pool that is awake is one store into a queue that only this thread fills, and one load:
 * it allocates nothing, locks nothing and executes no atomic instruction. Whom to wake, and when not
 * to, is parking.c's; what workers do is thread_worker.c's.
 *
 * Opening starts no thread. Shutting down sets `stop`: workers run what there is and leave; a left
 * worker is as one that never started, so a submit that was in progress in another thread starts it
 * again rather than be lost. Closing joins them.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/niceness.h"
#include "thread/thread_pool.h"

#define END_SPIN_NS 30000

static const struct executor_ops threads_ops;

/* ---- submit ---- */

/* Also for a batch. Apart, because it needs the stack. */
static __attribute__((__noinline__)) int announce_fenced(struct thread_pool *pool)
{
	full_fence();
	if (ck_pr_load_32(&pool->parked))
		crew__wake_for_submit(pool);
	return 0;
}

/* A hint is in its place: is there anybody to wake? */
static inline int announce(struct thread_pool *pool, const struct thread_port *port)
{
	if (unlikely(port->gathering))
		return 0;
	if (unlikely(!ck_pr_load_32(&pool->light)))
		return announce_fenced(pool);
	ck_pr_barrier(); /* the light side of the fence; crew__park has the heavy one */
	if (unlikely(ck_pr_load_32(&pool->parked)))
		crew__wake_for_submit(pool);
	return 0;
}

/* With a priority, or after the last slot of a segment. */
static __attribute__((__noinline__)) int submit_rarely(struct thread_pool *pool, struct thread_port *port, crew_future *f, int priority)
{
	int rc = 0;

	if (priority)
		rc = crew__submit_priority(pool, f, priority);
	else if (!crew__injection_put(&port->queue, f))
		rc = -ENOMEM;
	return rc ? rc : announce(pool, port);
}

static int threads_submit(crew_executor *ex, struct port *base, crew_future *f, const void *arguments)
{
	struct thread_port *port = (struct thread_port *)base;
	struct annex *a = annex_of(f);

	(void)arguments;
	if (unlikely((a && a->priority) || !crew__injection_has_room(&port->queue)))
		return submit_rarely(pool_of(ex), port, f, a ? a->priority : 0);
	(void)crew__injection_put(&port->queue, f); /* it has room */
	return announce(pool_of(ex), port);
}

static void threads_batch_begin(crew_executor *ex, struct port *port)
{
	(void)ex;
	((struct thread_port *)port)->gathering = 1;
}

static void threads_batch_end(crew_executor *ex, struct port *port)
{
	((struct thread_port *)port)->gathering = 0;
	announce_fenced(pool_of(ex));
}

static void threads_port_fini(crew_executor *ex, struct port *port)
{
	(void)ex;
	crew__injection_fini(&((struct thread_port *)port)->queue);
}

/* ---- questions ---- */

static bool threads_inside(crew_executor *ex)
{
	struct thread_worker *w = crew__self();

	if (w && &w->pool->base == ex)
		return true;
	for (struct context *c = crew__context; c; c = c->outer)
		if (c->ex == ex)
			return true;
	return false;
}

static void threads_nap(crew_executor *ex, const uint32_t *word, uint32_t value, uint64_t deadline)
{
	struct thread_worker *w = crew__self();
	bool mine = w && &w->pool->base == ex;

	if (mine)
		crew__block_begin(w);
	crew__futex_wait(word, value, deadline, false); /* core says who wakes it */
	if (mine)
		crew__block_end(w);
}

static int threads_workers(crew_executor *ex)
{
	return pool_of(ex)->count;
}

static int threads_hands(crew_executor *ex)
{
	return pool_of(ex)->count + (pool_of(ex)->options.help && !threads_inside(ex));
}

static void threads_stats(crew_executor *ex, struct crew_stats *ret)
{
	ret->workers = (int)ck_pr_load_32(&pool_of(ex)->alive);
}

/* ---- the end ---- */

/* A worker that has nothing left to do is gone in a few microseconds. */
static bool spin_for_end(const struct thread_pool *pool)
{
	uint64_t end = crew__now() + END_SPIN_NS;

	do {
		for (int i = 0; i < 16; i++)
			ck_pr_stall();
		if (!load_acquire_32(&pool->alive))
			return true;
		sched_yield();
	} while (crew__now() < end);
	return false;
}

static void threads_shutdown(crew_executor *ex, uint64_t deadline, bool kill)
{
	struct thread_pool *pool = pool_of(ex);
	uint32_t alive;

	(void)kill; /* a thread cannot be ended by force; core has asked */
	crew__heavy_fence_last(pool); /* before `stop`: who leaves needs none then */
	ck_pr_store_32(&pool->stop, 1);
	full_fence(); /* pairs with the one in crew__park: who parks now sees `stop`, or is seen here */
	crew__wake_all(pool);
	for (;;) {
		alive = load_acquire_32(&pool->alive); /* pairs with the release in crew__leave */
		if (alive && deadline && spin_for_end(pool)) {
			continue;
		} else if (alive) {
			crew__futex_wait(&pool->alive, alive, deadline, false);
		} else if (!crew__any_work(pool)) {
			return;
		} else {
			crew__wake_one(pool); /* a submit in another thread came after the last worker had left */
			sched_yield();
		}
		if (deadline != NEVER && crew__now() >= deadline)
			return;
	}
}

static void pool_free(struct thread_pool *pool)
{
	for (uint32_t i = 0; i < pool->high; i++) {
		if (pool->workers[i].joinable)
			pthread_join(pool->workers[i].thread, NULL);
		crew__frames_free(&pool->workers[i]);
	}
	pthread_attr_destroy(&pool->attributes);
	pthread_mutex_destroy(&pool->blocked_mutex);
	crew__lane_fini(&pool->lane);
	free(pool->workers);
}

static void threads_close(crew_executor *ex)
{
	pool_free(pool_of(ex));
}

static const struct executor_ops threads_ops = {
	.kind = "threads",
	.shares_memory = true,
	.port_size = sizeof(struct thread_port),
	.port_fini = threads_port_fini,
	.submit = threads_submit,
	.batch_begin = threads_batch_begin,
	.batch_end = threads_batch_end,
	.wait = crew__threads_wait,
	.help = crew__threads_help,
	.inside = threads_inside,
	.nap = threads_nap,
	.workers = threads_workers,
	.hands = threads_hands,
	.shutdown = threads_shutdown,
	.close = threads_close,
	.stats = threads_stats,
};

/* ---- opening ---- */

static void worker_init(struct thread_pool *pool, int i)
{
	struct thread_worker *w = &pool->workers[i];

	w->pool = pool;
	w->index = i;
	w->waker_cpu = -1;
	w->random = (uint32_t)i * 77777u + 1;
	pool->parked_bits[i / 64] |= (uint64_t)1 << (i % 64);
}

/* Memory and limits; what an option asks for was checked. -errno. */
static int pool_init(struct thread_pool *pool, int count)
{
	size_t size = (size_t)count * sizeof *pool->workers;

	pool->workers = aligned_alloc(CREW__CACHELINE, size);
	if (!pool->workers)
		return -ENOMEM;
	memset(pool->workers, 0, size);
	pool->count = count;
	for (int i = 0; i < count; i++)
		worker_init(pool, i);
	pool->parked = (uint32_t)count;
	pool->limit = crew__cpus_usable(pool);
	pool->sharers = count < pool->limit ? count : pool->limit;
	pool->membarrier = pool->limit > 1 && crew__membarrier_works(); /* on one CPU naps are many: see parking.c */
	pool->light = pool->membarrier;
	return crew__executor_init(&pool->base, &threads_ops, pool->options.name ? pool->options.name : "crew");
}

static struct thread_pool *pool_new(void)
{
	struct thread_pool *pool = aligned_alloc(CREW__CACHELINE, sizeof *pool);

	if (!pool)
		return NULL;
	memset(pool, 0, sizeof *pool);
	pthread_attr_init(&pool->attributes);
	pthread_mutex_init(&pool->blocked_mutex, NULL);
	crew__lane_init(&pool->lane);
	return pool;
}

static crew_executor *pool_refuse(struct thread_pool *pool, int code, const char *why)
{
	if (pool) {
		pool_free(pool);
		free(pool);
	}
	return crew__executor_failed(&threads_ops, code, "crew_threads: %s", why);
}

/* NULL: all is well. */
static const char *check(struct thread_pool *pool)
{
	const struct crew_threads_options *options = &pool->options;
	size_t page = (size_t)sysconf(_SC_PAGESIZE), size = options->stack_size;

	if (options->workers < 0 || options->workers > WORKERS_MAX)
		return "workers must be between 0 and 4096";
	if (options->max_tasks_per_child < 0)
		return "max_tasks_per_child must not be negative";
	if (!niceness_is_possible(options->nice))
		return "nice must be between -40 and 40";
	if (options->cpus && crew__cpus_parse(options->cpus, &pool->cpus))
		return "cpus must be a list like \"0-3,8\" of CPUs of this machine";
	pool->placed = options->cpus || sched_getaffinity(0, sizeof pool->cpus, &pool->cpus) == 0;
	if (size && (size > SIZE_MAX / 2 ||
		     pthread_attr_setstacksize(&pool->attributes, (size + page - 1) / page * page)))
		return "stack_size is too small or too large";
	return NULL;
}

crew_executor *crew_threads_open(const struct crew_threads_options *options, size_t size)
{
	struct thread_pool *pool = pool_new();
	const char *why;
	int rc, count;

	if (!pool)
		return pool_refuse(NULL, -ENOMEM, "out of memory");
	if (crew__options(&pool->options, sizeof pool->options, options, size))
		return pool_refuse(pool, -EINVAL, "an option that this version of the library does not know");
	why = check(pool);
	if (why)
		return pool_refuse(pool, -EINVAL, why);
	count = pool->options.workers ? pool->options.workers : crew_cpu_count();
	rc = pool_init(pool, count < WORKERS_MAX ? count : WORKERS_MAX);
	if (rc)
		return pool_refuse(pool, rc, crew_strerror(rc));
	pool->options.name = pool->options.cpus = NULL; /* the caller's */
	return &pool->base;
}
