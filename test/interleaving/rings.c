/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rings.c: see rings.h. Parent and workers are threads here, which is all the same to words in shared memory. A killed worker goes no further; then the engine
 * gets the news, as from a pidfd. A signal kills at once: later is the same, for whoever sends it may be held up before.
 */
#define _Noreturn /* work() begins behind a worker's start, and its process may go on where it should have ended: that is a fault to be found */
#include "interleaving/rings.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "core/registry.h"
#include "interleaving/search.h"

static void leave_process(int status);
static bool may_exit(void);
#define _exit(status_) (may_exit() ? leave_process(status_) : (void)0)
#include "process/process_worker.c"
#undef _exit

enum { SLOTS = 4, MEMORY = 4 << 20, PIDFD = 900 /* nothing is open there */ };

struct process_executor *processes;
static struct worker workers[RING_PLACES];
static struct worker_executor *executors[RING_PLACES];
static const crew_task *known[TASKS_MAX];
static bool died[RING_PLACES];

/* ---- the executor, as its opener leaves it, but for processes ---- */

static int nobody(crew_executor *ex)
{
	(void)ex;
	return RING_PLACES;
}

static const struct executor_ops ring_ops = {
	.kind = "ring", .port_size = sizeof(struct process_port), .submit = crew__process_submit, .cancel = crew__process_cancel,
	.refresh = crew__process_refresh, .wait = crew__process_wait, .watch = crew__process_watch, .kill = crew__process_kill, .workers = nobody
};

/* A worker's own executor goes with its process, whatever is still in it. */
static void dismiss(struct worker_executor *x)
{
	crew_executor *ex = &x->base;

	for (struct slab *slab = ex->slabs; slab; slab = slab->next)
		for (uint32_t i = 0; i < slab->used; i++)
			slab->record[i].state = PHASE_FREE;
	crew__registry_remove(ex);
	crew__records_fini(ex);
	while (ex->ports) {
		struct port *port = ex->ports;

		ex->ports = port->next;
		free(port);
	}
	free(x);
}

static void hire(void)
{
	for (uint32_t i = 0; i < RING_PLACES; i++) {
		workers[i].plan = &processes->plan;
		executors[i] = crew__worker_executor_new(&workers[i]);
	}
}

void ring_open(const crew_task *task)
{
	struct geometry g = { .slots = SLOTS, .workers = RING_PLACES, .active = RING_PLACES, .cpus = RING_PLACES, .pub_size = MEMORY, .rw_size = MEMORY };
	uint32_t number;

	processes = aligned_alloc(CREW__CACHELINE, sizeof *processes);
	memset(processes, 0, sizeof *processes);
	EXPECT(crew__mapping_open(&processes->mappings[0], "ring", MEMORY) == 0 && crew__mapping_populate(&processes->mappings[0], 0, MEMORY) == 0);
	crew__ring_attach(&processes->ring, &g, processes->mappings[0].base, calloc(1, MEMORY), NULL);
	processes->entries = calloc(SLOTS, sizeof *processes->entries);
	processes->seats = calloc(RING_PLACES, sizeof *processes->seats);
	crew__errands_init(processes);
	crew__roster_init(processes);
	processes->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	processes->plan.bell = processes->bell;
	processes->zygote.pidfd = processes->zygote.socket = -1;
	processes->timer = processes->alarm = processes->epoll = -1;
	known[0] = task;
	EXPECT(crew__executor_init(&processes->base, &ring_ops, "ring") == 0);
	EXPECT(crew__task_book_init(&processes->tasks) == 0 && crew__task_number(processes, task, &number) == 0 && number == 0);
	hire();
}

static void reset_ring(void)
{
	struct ring *r = &processes->ring;

	memset(r->pub, 0, (size_t)((char *)r->tasks - (char *)r->pub));
	memset(r->rw, 0, (size_t)((char *)r->wide - (char *)r->rw));
	memset(processes->entries, 0, SLOTS * sizeof *processes->entries);
	processes->tail = processes->head_seen = r->pub->tail = r->rw->head = SLOTS;
	processes->outstanding = 0;
	memset(processes->of_epoch, 0, sizeof processes->of_epoch);
	processes->backlog.numbered = 0;
	processes->ticking = true;
	processes->strikes = 0;
	processes->lost = processes->workers_lost = 0;
	processes->timetable.count = 0;
	processes->stop_engine = processes->errand_turn = 0;
	processes->timetable.armed = NEVER;
}

static void seat(uint32_t i)
{
	struct seat *s = &processes->seats[i];

	*s = (struct seat){ .pid = 1000 + (pid_t)i, .pidfd = PIDFD + (int)i, .state = SEAT_ALIVE, .incarnation = 1, .number = i, .counted = true };
	s->output.fd = -1;
	processes->seat_of[i] = i;
	processes->ring.reports[i].phase = 1 << 8 | WORKER_READY;
	processes->ring.orders[i].go = 1;
	memset(&workers[i], 0, sizeof workers[i]);
	workers[i].ring = &processes->ring;
	workers[i].plan = &processes->plan;
	workers[i].orders = &processes->ring.orders[i];
	workers[i].report = &processes->ring.reports[i];
	workers[i].index = i;
	workers[i].incarnation = 1;
	workers[i].generation = crew__fork_generation;
	workers[i].tasks = known;
	crew__fd_mark(processes->bell, &workers[i].bell);
	workers[i].executor = executors[i];
}

void ring_renew(void)
{
	for (uint32_t i = 0; i < RING_PLACES; i++)
		dismiss(executors[i]);
	hire();
	crew__arena_fini(&processes->in);
	EXPECT(crew__arena_init(&processes->in, &processes->mappings[0], processes->ring.geometry.pub_used, processes->ring.in_size) == 0);
	for (uint32_t i = 0; i < RING_PLACES * ERRANDS; i++)
		memset(&errand_replies(&processes->ring, 0)[i], 0, sizeof(struct errand_reply));
	crew__errands_fini(processes);
	EXPECT(crew__errands_init(processes) == 0);
	processes->dead_errands = NULL;
}

void ring_begin(void)
{
	memset(died, 0, sizeof died);
	reset_ring();
	for (uint32_t i = 0; i < RING_PLACES; i++)
		seat(i);
}

/* ---- workers ---- */

void ring_work(void)
{
	uint32_t i = (uint32_t)schedule_thread() - RING_FIRST_WORKER;

	executors[i]->thread = pthread_self();
	crew__context_init(&workers[i].context, &executors[i]->base, (int)i);
	workers[i].context.stopping = crew__job_stopping;
	workers[i].context.backend = &workers[i];
	work(&workers[i]);
	crew__context_fini(&workers[i].context);
}

/* Of set_finished() in most cases: it met its doom. */
static __attribute__((__noinline__)) bool may_exit(void)
{
	return !fault_at(NO_EXIT, CALL_SITE);
}

static void leave_process(int status)
{
	(void)status;
	schedule_exit();
}

void ring_killed(int thread)
{
	died[thread - RING_FIRST_WORKER] = true;
	schedule_rouse(RING_ENGINE);
}

void ring_signalled(int fd, int signal)
{
	(void)signal;
	EXPECT(fd >= PIDFD && fd < PIDFD + RING_PLACES);
	schedule_kill(RING_FIRST_WORKER + fd - PIDFD);
}

/* ---- the parent ---- */

void ring_known(const crew_task *task)
{
	struct process_port *port = (struct process_port *)crew__port(&processes->base);

	port->task = task;
	port->number = 0;
}

void ring_stop(void)
{
	ck_pr_store_32(&processes->ring.pub->stop, 1);
	crew__wake_workers(processes);
	ck_pr_store_32(&processes->stop_engine, 1);
	schedule_rouse(RING_ENGINE);
}

static void bury_all(void)
{
	for (uint32_t i = 0; i < RING_PLACES; i++)
		if (died[i]) {
			died[i] = false;
			crew__bury(processes, i, (struct cause){ .code = CLD_KILLED, .status = SIGKILL });
		}
}

void ring_engine_turn(void)
{
	schedule_sleep();
	crew__timetable_run(processes);
	bury_all();
}

void ring_be_engine_of_errands(void)
{
	struct batch batch;
	bool more;

	while (!ck_pr_load_32(&processes->stop_engine)) {
		ck_pr_store_32(&processes->ring.pub->engine_parked, 1);
		ck_pr_fence_memory();
		more = crew__errands_take(processes);
		batch.n = 0;
		latch_take(&processes->lock);
		more |= crew__settle_all(processes, &batch) || batch.n;
		latch_release(&processes->lock);
		crew__deliver(processes, &batch);
		if (!more)
			schedule_sleep();
		ck_pr_store_32(&processes->ring.pub->engine_parked, 0);
		bury_all();
	}
}

void ring_written(int fd)
{
	if (fd == processes->bell)
		schedule_rouse(RING_ENGINE);
}

void ring_be_engine(void)
{
	for (;;)
		ring_engine_turn();
}

void ring_end(void)
{
	EXPECT(processes->outstanding == 0);
	for (uint32_t i = 0; i < SLOTS; i++)
		EXPECT(processes->entries[i].waiters == 0 && !processes->entries[i].doomed);
}
