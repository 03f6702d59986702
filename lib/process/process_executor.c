/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * process_executor.c: the executor whose workers are processes: opening, shutting down, closing, and its table of operations.
 *
 * The order of an open is the order of what must not be undone half-way: memory, then the zygote while this process is as single-threaded as it will ever
 * be, then the births of all workers, and the engine last. A close goes back the same way: workers are told that nothing will come, the
 * zygote waits for them and ends, the engine, which buries them and passes on what they wrote last, is joined.
 *
 * What happens in between stands elsewhere: intake.c (submit), process_wait.c (wait, cancel), settle.c (how futures end), engine.c and burial.c;
 * process_worker.c on the other side. ring.h is the memory between the two.
 */
#include <crew/process.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/niceness.h"
#include "base/table.h"
#include "core/registry.h"
#include "ipc/family.h"
#include "process/execution.h"
#include "process/parcel.h"
#include "process/process_executor.h"
#include "thread/thread_pool.h"

#define EXIT_MS 2000 /* for the zygote to end when the program does */

static const struct executor_ops process_ops;

/* ---- opening ---- */

static int check(const struct crew_processes_options *o, struct worker_plan *plan)
{
	if (o->workers < 0 || o->workers > WORKERS_MAX || o->max_tasks_per_child < 0 || o->grace_ms < 0 || o->task_timeout_ms < 0 || o->retries < 0 ||
	    o->spares < 0 || o->spares > WORKERS_MAX - (o->workers ? o->workers : crew_cpu_count()) ||
	    o->start > CREW_START_SPAWN || o->reserved_ || !niceness_is_possible(o->nice) ||
	    (o->stack_size && o->stack_size < (size_t)PTHREAD_STACK_MIN))
		return -EINVAL;
	plan->start = o->start == CREW_START_DEFAULT ? crew_start_method() : o->start;
	if (plan->start != CREW_START_FORK && o->arg && !o->arg_size)
		return CREW_EPOINTER;
	plan->placed = o->cpus != NULL;
	if (o->cpus && crew__cpus_parse(o->cpus, &plan->cpus))
		return -EINVAL;
	snprintf(plan->name, sizeof plan->name, "%s", o->name ? o->name : "crew");
	plan->initializer = o->initializer;
	plan->finalizer = o->finalizer;
	plan->arg = o->arg;
	plan->max_tasks = (uint32_t)o->max_tasks_per_child;
	plan->nice = o->nice;
	plan->stack_size = o->stack_size;
	plan->raw_stderr = o->raw_stderr;
	return 0;
}

static int open_memory(struct process_executor *p, uint32_t workers, uint32_t spares)
{
	struct geometry g;
	int rc;

	crew__ring_measure(&g, workers, spares, (uint32_t)crew_cpu_count());
	rc = crew__mapping_open(&p->mappings[0], "crew-pub", g.pub_size);
	if (rc == 0)
		rc = crew__mapping_open(&p->mappings[1], "crew-rw", g.rw_size);
	if (rc == 0)
		rc = crew__mapping_open(&p->mappings[2], "crew-blocks", g.blocks_size);
	if (rc == 0) /* the identities of tasks get their pages when they are made */
		rc = crew__mapping_populate(&p->mappings[0], 0, g.pub_used - TASKS_MAX * sizeof(struct numbered_task));
	if (rc == 0)
		rc = crew__mapping_populate(&p->mappings[1], 0, g.rw_used);
	if (rc)
		return rc;
	crew__ring_attach(&p->ring, &g, p->mappings[0].base, p->mappings[1].base, p->mappings[2].base);
	rc = crew__arena_init(&p->in, &p->mappings[0], g.pub_used, p->ring.in_size);
	if (rc == 0)
		rc = crew__store_open(&p->store, &p->mappings[1], g.rw_used, p->ring.out_size, p->ring.orders);
	if (rc == 0)
		rc = crew__arena_init(&p->blocks, &p->mappings[2], 0, g.blocks_size);
	return rc;
}

static int open_books(struct process_executor *p)
{
	const struct geometry *g = &p->ring.geometry;

	p->entries = crew__table_new(g->slots, sizeof *p->entries);
	p->seats = calloc(g->workers, sizeof *p->seats);
	if (!p->entries || !p->seats || crew__task_book_init(&p->tasks) || crew__errands_init(p))
		return -ENOMEM;
	if (crew__roster_init(p))
		return -ENOMEM;
	for (uint32_t i = 0; i < g->workers; i++) {
		p->seats[i].pidfd = p->seats[i].output.fd = -1;
		p->seats[i].state = SEAT_ASKED;
		p->seats[i].incarnation = 1;
	}
	p->tail = p->head_seen = p->swept_head = g->slots; /* no ticket is 0: that is what fresh memory says */
	ck_pr_store_64(&p->ring.pub->tail, p->tail);
	ck_pr_store_64(&p->ring.rw->head, p->tail);
	ck_pr_store_32(&p->ring.rw->average, 1000000); /* tasks are taken one by one until they prove to be small */
	return 0;
}

/* After the fork: what only the engine uses is not the workers' to have. */
static int open_engine(struct process_executor *p)
{
	p->timer = crew__fd_keep(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	if (p->timer < 0)
		return p->timer;
	p->alarm = crew__fd_keep(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	if (p->alarm < 0)
		return p->alarm;
	p->bell = crew__fd_keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (p->bell < 0)
		return p->bell;
	p->epoll = crew__fd_keep(epoll_create1(EPOLL_CLOEXEC));
	return p->epoll < 0 ? p->epoll : crew__output_open(p);
}

static int open_zygote(struct process_executor *p)
{
	p->plan.bell = crew__fd_keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (p->plan.bell < 0)
		return p->plan.bell;
	p->plan.ring = p->ring;
	p->plan.incarnation = 1;
	if (p->plan.start == CREW_START_FORK)
		fflush(NULL); /* or the workers would print it again */
	return crew__zygote_open(&p->plan, p->mappings, NULL, &p->zygote);
}

/* Hear of every worker. */
static int open_workers(struct process_executor *p)
{
	struct birth birth;
	struct news news;
	int rc = 0;

	for (uint32_t heard = 0; rc == 0 && heard < p->ring.geometry.workers; heard += news.kind != WORKER_DEAD) {
		rc = crew__zygote_read(p->zygote.socket, false, &news, &birth);
		if (rc < 0)
			return -ECHILD;
		if (news.kind == WORKER_UNBORN)
			return news.pid;
		if (news.kind == WORKER_BORN && (birth.pidfd < 0 || (birth.output < 0 && !p->plan.raw_stderr))) {
			if (birth.pidfd >= 0)
				close(birth.pidfd);
			if (birth.output >= 0)
				close(birth.output);
			return -EMFILE;
		}
		crew__news(p, &news, &birth);
		rc = 0;
	}
	return rc;
}

static void free_all(struct process_executor *p)
{
	const int fds[] = { p->bell, p->plan.bell, p->timer, p->alarm, p->epoll };
	bool ours = !crew__deprived(p);

	for (uint32_t i = 0; p->seats && i < p->ring.geometry.workers; i++) {
		if (ours && p->seats[i].pidfd >= 0)
			close(p->seats[i].pidfd);
		crew__grants_drop(p, i);
	}
	crew__output_fini(p);
	for (size_t i = 0; ours && i < sizeof fds / sizeof fds[0]; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	crew__errands_fini(p);
	crew__arena_fini(&p->in);
	crew__arena_fini(&p->blocks);
	crew__store_close(p->store);
	if (p->store)
		p->mappings[1] = MAPPING_NULL;
	for (int i = 0; i < 3; i++)
		crew__mapping_close(&p->mappings[i]);
	crew__backlog_fini(&p->backlog);
	crew__timetable_fini(p);
	crew__task_book_fini(&p->tasks);
	crew__table_free(p->entries, p->ring.geometry.slots, sizeof *p->entries);
	free(p->seats), free(p->seat_of);
	pthread_mutex_destroy(&p->succession);
}

static crew_executor *failed(struct process_executor *p, int rc, const char *what)
{
	if (p->zygote.socket >= 0)
		shutdown(p->zygote.socket, SHUT_RDWR); /* it kills its workers and ends */
	crew__zygote_bury(&p->zygote);
	crew__registry_remove(&p->base);
	crew__callbacks_fini(&p->callbacks);
	free_all(p);
	pthread_mutex_destroy(&p->base.mutex);
	free(p);
	return crew__executor_failed(&process_ops, rc, "%s: %s", what, crew_strerror(rc));
}

static const char *why_no_workers(int rc)
{
	if (rc == CREW_ETHREADED)
		return "no server for the workers (crew_init() first in main() would help)";
	return rc == -ENOENT ? "the program cannot be executed again to be a server: /proc is missing" : "the workers could not be forked";
}

static struct process_executor *executor_new(const char *name)
{
	struct process_executor *p = aligned_alloc(CREW__CACHELINE, (sizeof *p + CREW__CACHELINE - 1) / CREW__CACHELINE * CREW__CACHELINE);

	if (!p)
		return NULL;
	memset(p, 0, sizeof *p);
	p->bell = p->plan.bell = p->timer = p->alarm = p->epoll = -1;
	p->zygote = ZYGOTE_LINK_NULL;
	p->keeper = SERVER_NULL;
	for (int i = 0; i < 3; i++)
		p->mappings[i] = MAPPING_NULL;
	p->timetable.armed = NEVER;
	crew__output_init(&p->relay);
	pthread_mutex_init(&p->succession, NULL);
	crew__callbacks_init(&p->callbacks);
	if (crew__executor_init(&p->base, &process_ops, name)) {
		free(p);
		return NULL;
	}
	return p;
}

crew_executor *crew_processes_open(const struct crew_processes_options *options, size_t size)
{
	struct crew_processes_options o;
	struct process_executor *p;
	int rc = crew__options(&o, sizeof o, options, size);

	if (rc)
		return crew__executor_failed(&process_ops, rc, "an option that this version does not know");
	if (crew__execution_pending())
		return crew__executor_failed(&process_ops, CREW_EINIT, "an executor was opened before crew_init() in a process that was executed to be a worker");
	if (o.start == CREW_START_SPAWN && (rc = crew__execution_check()) != 0)
		return crew__executor_failed(&process_ops, rc, "%s", rc == CREW_EINIT ? crew_strerror(rc) :
								     rc == -EBADF ? "the program has closed the memory that its processes share" :
									"the program cannot be executed again: /proc is missing");
	p = executor_new(o.name);
	if (!p)
		return crew__executor_failed(&process_ops, -ENOMEM, "no memory for an executor");
	rc = check(&o, &p->plan);
	if (rc)
		return failed(p, rc, "an option of crew_processes is out of range");
	p->grace = (uint64_t)(o.grace_ms ? o.grace_ms : 1000) * MS_TO_NS;
	p->silence = SILENCE_MS * MS_TO_NS;
	p->retries = (uint32_t)o.retries;
	p->base.task_timeout_ms = o.task_timeout_ms;
	rc = open_memory(p, o.workers ? (uint32_t)o.workers : (uint32_t)crew_cpu_count(), (uint32_t)o.spares);
	if (rc == 0)
		rc = open_books(p);
	if (rc == 0)
		rc = crew__family_join(); /* so that handles made later are known in the workers */
	if (rc == 0)
		rc = crew__plan_publish(p, o.arg_size);
	if (rc)
		return failed(p, rc, rc == CREW_EPOINTER ? "the initializer or finalizer is no function of a module" : "no shared memory for the workers");
	rc = open_zygote(p);
	if (rc == 0)
		rc = open_engine(p);
	if (rc == 0)
		rc = open_workers(p);
	if (rc)
		return failed(p, rc, why_no_workers(rc));
	rc = crew__engine_start(p);
	if (rc)
		return failed(p, rc, "the engine thread could not be started");
	crew__keeper_soon(p);
	return &p->base;
}

/* ---- shutting down ---- */

static void process_shutdown(crew_executor *ex, uint64_t deadline, bool kill)
{
	struct process_executor *p = process_executor_of(ex);

	if (!crew__await_empty(p, deadline) && kill)
		crew__kill_running(p);
}

/* ---- closing ---- */

/* Wait for the end of the zygote, which waits for its workers. A worker that does not come (a finalizer that hangs, a stopped process) is killed; for one that
   does not even die of that, because a device does not answer it, nobody waits for ever. */
static void await_zygote(struct process_executor *p)
{
	uint64_t patience = crew__now() + ck_pr_load_64(&p->silence);

	if (p->zygote.pidfd < 0)
		return;
	crew__zygote_ask(p->zygote.socket, ZYGOTE_QUIT, 0, 0);
	while (crew__parcel_await(p->zygote.pidfd, (int)(p->grace / MS_TO_NS))) {
		latch_take(&p->lock);
		for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
			crew__seat_kill(p, &p->seats[i], SIGKILL);
		latch_release(&p->lock);
		if (crew__now() < patience)
			crew__zygote_ask(p->zygote.socket, ZYGOTE_QUIT, 0, 0);
		else
			syscall(SYS_pidfd_send_signal, p->zygote.pidfd, SIGKILL, NULL, 0);
	}
}

/* Whoever is whose parent goes last, so that it can reap the other. */
static void end_helpers(struct process_executor *p)
{
	bool zygote_first = p->zygote.status >= 0;

	if (zygote_first)
		await_zygote(p);
	crew__server_end(&p->keeper);
	await_zygote(p);
}

static void process_close(crew_executor *ex)
{
	struct process_executor *p = process_executor_of(ex);

	latch_take(&p->lock);
	p->closing = true;
	latch_release(&p->lock);
	ck_pr_store_32(&p->ring.pub->stop, 1);
	ck_pr_fence_memory(); /* pairs with the barrier in park (process_worker.c) */
	latch_take(&p->lock);
	crew__roster_dismiss(p);
	latch_release(&p->lock);
	crew__wake_workers(p);
	crew__succession_close(p);
	if (crew__deprived(p))
		crew__abandon(p); /* if it has not been noticed */
	else
		end_helpers(p);
	crew__engine_stop(p); /* so long it has buried, and passed on what they wrote */
	if (crew__deprived(p))
		crew__zygote_lose(&p->zygote);
	else
		crew__zygote_bury(&p->zygote);
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		crew__doom_end(p, i); /* those whose burial was left undone */
	crew__callbacks_fini(&p->callbacks);
	free_all(p);
}

/* Its futures are nobody's business any more. It runs no code of the user's, so it ends at once; we do not rely on it. */
static void end_engine(struct process_executor *p)
{
	const struct timespec pause = { 0, 1000000 };
	uint64_t until = crew__deadline(EXIT_MS);

	if (!p->engine_started)
		return;
	ck_pr_store_32(&p->stop_engine, 1);
	crew__ring_engine(p);
	if (crew__deprived(p))
		pthread_cancel(p->engine); /* as in crew__engine_stop() */
	while (pthread_tryjoin_np(p->engine, NULL) == EBUSY && crew__now() < until)
		nanosleep(&pause, NULL); /* a join with a deadline would be by a clock that can be set */
}

/* The program ends under an open executor. No lock, no waiting for anything that can hang. The zygote sees its socket end, kills the workers and
   waits for them, so that nobody is left for init to reap; should it not, SIGKILL cannot be refused. */
static void process_exit(crew_executor *ex)
{
	struct process_executor *p = process_executor_of(ex);

	end_engine(p);
	if (crew__deprived(p))
		return; /* they have seen their sockets close */
	if (p->keeper.socket >= 0)
		shutdown(p->keeper.socket, SHUT_RDWR);
	if (p->zygote.pidfd < 0)
		return;
	shutdown(p->zygote.socket, SHUT_RDWR);
	if (crew__parcel_await(p->zygote.pidfd, EXIT_MS)) {
		for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
			crew__seat_kill(p, &p->seats[i], SIGKILL);
		syscall(SYS_pidfd_send_signal, p->zygote.pidfd, SIGKILL, NULL, 0);
	}
	if (p->zygote.status < 0)
		waitid(P_PIDFD, (id_t)p->zygote.pidfd, &(siginfo_t){ 0 }, WEXITED);
}

/* ---- asking ---- */

static int process_workers(crew_executor *ex)
{
	return (int)process_executor_of(ex)->ring.geometry.active;
}

static pid_t process_worker_pid(crew_executor *ex, int i)
{
	struct process_executor *p = process_executor_of(ex);

	pid_t pid = 0;

	if (i < 0 || (uint32_t)i >= p->ring.geometry.active)
		return -EINVAL;
	latch_take(&p->lock);
	if (p->seat_of[i] != NOBODY)
		pid = p->seats[p->seat_of[i]].pid;
	latch_release(&p->lock);
	return pid;
}

static void process_stats(crew_executor *ex, struct crew_stats *ret)
{
	struct process_executor *p = process_executor_of(ex);
	uint64_t running = 0, answered = 0;

	latch_take(&p->lock);
	for (uint32_t i = 0; i < p->ring.geometry.slots; i++) {
		struct entry *e = &p->entries[i];
		uint64_t word = ck_pr_load_64(ring_claim(&p->ring, e->ticket));

		if (!e->f)
			continue;
		if (ring_answered(&p->ring, e->ticket))
			answered++;
		else if (word_is_of(word, e->ticket) && word_status(word) == WORD_RUNNING)
			running++;
	}
	ret->running = running;
	ret->queued = p->outstanding > running + answered ? p->outstanding - running - answered : 0;
	ret->workers = 0;
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		ret->workers += p->seats[i].state == SEAT_ALIVE && p->seats[i].number != NOBODY;
	ret->lost = p->lost;
	ret->workers_lost = p->workers_lost;
	latch_release(&p->lock);
}

/* ---- shared blocks ---- */

static void *process_shared_alloc(crew_executor *ex, size_t n)
{
	struct process_executor *p = process_executor_of(ex);
	uint64_t offset;
	int rc = crew__arena_alloc(&p->blocks, n, &offset);

	if (rc) {
		errno = -rc;
		return NULL;
	}
	latch_take(&p->lock);
	crew__keep_ticking(p); /* what is freed later is kept for a while, and then not */
	latch_release(&p->lock);
	memset(p->ring.blocks + offset, 0, n);
	return p->ring.blocks + offset;
}

static void process_shared_free(crew_executor *ex, void *memory, size_t n)
{
	struct process_executor *p = process_executor_of(ex);

	crew__arena_free(&p->blocks, (uint64_t)((unsigned char *)memory - p->ring.blocks), n);
}

static void process_shared_range(crew_executor *ex, struct shared_range *ret)
{
	struct process_executor *p = process_executor_of(ex);

	*ret = (struct shared_range){ p->ring.blocks, p->ring.geometry.blocks_size };
}

static const struct executor_ops process_ops = {
	.kind = "processes",
	.port_size = sizeof(struct process_port),
	.submit = crew__process_submit,
	.cancel = crew__process_cancel,
	.kill = crew__process_kill,
	.refresh = crew__process_refresh,
	.wait = crew__process_wait,
	.wait_refreshes = true,
	.watch = crew__process_watch,
	.drain = crew__process_drain,
	.workers = process_workers,
	.shutdown = process_shutdown,
	.close = process_close,
	.stats = process_stats,
	.shared_alloc = process_shared_alloc,
	.shared_free = process_shared_free,
	.shared_range = process_shared_range,
	.exit = process_exit,
	.worker_pid = process_worker_pid,
	.signal = crew__process_signal,
};
