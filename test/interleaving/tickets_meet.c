/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tickets_meet.c: the ring of the executor over processes, with workers that are killed at any step.
 *
 *	thread 0        submits, waits, stops      lib/process/intake.c, process_wait.c, settle.c
 *	threads 1 2     workers                    lib/process/process_worker.c: work()
 *	thread 3        the engine at a burial     lib/process/burial.c
 *
 * Parent and workers are threads here, which is all the same to words in shared memory. A killed worker goes no further; then the engine gets the news, as
 * from a pidfd. No timeout ever comes: neither the slices of a wait nor the looks of a parked worker hide a wake that was lost.
 */
#include <crew/crew.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "interleaving/scheduler.h"
#include "process/process_executor.h"
#include "process/process_worker.c" /* work() begins behind a worker's start */

enum { USER, FIRST_WORKER, SECOND_WORKER, UNDERTAKER };
enum { PLACES = 2, SLOTS = 4, TASKS = 2, MEMORY = 4 << 20 };

static struct process_executor *p;
static struct worker workers[PLACES];
static struct worker_executor executors[PLACES];
static const crew_task *known[TASKS_MAX];
static int task_count, ran[TASKS + 1], lost, dead;

CREW_TASK(int, square, (int, n))
{
	ran[n]++;
	return n * n;
}

static int nobody(crew_executor *ex)
{
	(void)ex;
	return PLACES;
}

static const struct executor_ops ring_ops = {
	.kind = "ring", .port_size = sizeof(struct process_port), .submit = crew__process_submit, .cancel = crew__process_cancel,
	.refresh = crew__process_refresh, .wait = crew__process_wait, .watch = crew__process_watch, .workers = nobody
};

/* ---- the executor, as its opener leaves it, but for processes ---- */

static void open_ring(void)
{
	struct geometry g = { .slots = SLOTS, .workers = PLACES, .active = PLACES, .cpus = PLACES, .pub_size = MEMORY, .rw_size = MEMORY };

	p = aligned_alloc(CREW__CACHELINE, sizeof *p);
	memset(p, 0, sizeof *p);
	crew__ring_attach(&p->ring, &g, calloc(1, MEMORY), calloc(1, MEMORY), NULL);
	p->entries = calloc(SLOTS, sizeof *p->entries);
	p->seats = calloc(PLACES, sizeof *p->seats);
	crew__errands_init(p);
	crew__roster_init(p);
	p->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	p->plan.bell = p->bell;
	p->mappings[0].fd = p->bell; /* by which it is told whether the program has closed its descriptors */
	crew__fd_mark(p->bell, &p->mappings[0].mark);
	p->zygote.pidfd = p->zygote.socket = -1;
	p->timer = p->alarm = p->epoll = -1;
	known[0] = &square_crew_task;
	EXPECT(crew__executor_init(&p->base, &ring_ops, "ring") == 0);
}

static void reset_ring(void)
{
	struct ring *r = &p->ring;

	memset(r->pub, 0, (size_t)((char *)r->tasks - (char *)r->pub));
	memset(r->rw, 0, (size_t)((char *)r->wide - (char *)r->rw));
	memset(p->entries, 0, SLOTS * sizeof *p->entries);
	p->tail = p->head_seen = r->pub->tail = r->rw->head = SLOTS;
	p->outstanding = 0;
	memset(p->of_epoch, 0, sizeof p->of_epoch);
	p->backlog.numbered = 0;
	p->ticking = true;
	p->strikes = 0;
	p->lost = p->workers_lost = 0;
}

static void seat(uint32_t i)
{
	struct seat *s = &p->seats[i];

	*s = (struct seat){ .pid = 1000 + (pid_t)i, .pidfd = -1, .state = SEAT_ALIVE, .incarnation = 1, .number = i, .counted = true };
	s->output.fd = -1;
	p->seat_of[i] = i;
	p->ring.reports[i].phase = 1 << 8 | WORKER_READY;
	p->ring.orders[i].go = 1;
	memset(&workers[i], 0, sizeof workers[i]);
	workers[i].ring = &p->ring;
	workers[i].plan = &p->plan;
	workers[i].orders = &p->ring.orders[i];
	workers[i].report = &p->ring.reports[i];
	workers[i].index = i;
	workers[i].incarnation = 1;
	workers[i].generation = crew__fork_generation;
	workers[i].tasks = known;
	workers[i].executor = &executors[i];
}

static void begin(void)
{
	memset(ran, 0, sizeof ran);
	lost = 0;
	dead = -1;
	reset_ring();
	for (uint32_t i = 0; i < PLACES; i++)
		seat(i);
}

static void begin_one(void)
{
	task_count = 1;
	begin();
}

static void begin_two(void)
{
	task_count = 2;
	begin();
}

/* ---- who takes part ---- */

static void use(void)
{
	struct process_port *port = (struct process_port *)crew__port(&p->base);
	crew_future *f[TASKS];

	port->task = &square_crew_task; /* its number is known */
	port->number = 0;
	for (int i = 0; i < task_count; i++)
		f[i] = crew_submit(&p->base, square, i + 1);
	for (int i = 0; i < task_count; i++) {
		crew_error error;
		int y = 0, rc = crew_take(f[i], &y, &error);

		EXPECT((rc == 0 && y == (i + 1) * (i + 1) && ran[i + 1] == 1) || (rc == CREW_ERAISED && error.code == CREW_EWORKER && ++lost));
	}
	schedule_quiet(true);
	ck_pr_store_32(&p->ring.pub->stop, 1);
	crew__wake_workers(p);
}

static void be_worker(uint32_t i)
{
	crew__context_init(&workers[i].context, &executors[i].base, (int)i);
	workers[i].context.backend = &workers[i];
	work(&workers[i]);
	crew__context_fini(&workers[i].context);
}

static void first_worker(void)
{
	be_worker(0);
}

static void second_worker(void)
{
	be_worker(1);
}

static void killed(int thread)
{
	dead = thread - FIRST_WORKER;
	schedule_rouse(UNDERTAKER);
}

static void bury(void)
{
	schedule_sleep();
	crew__bury(p, (uint32_t)dead, (struct cause){ .code = CLD_KILLED, .status = SIGKILL });
}

static void end(void)
{
	EXPECT(p->outstanding == 0);
	EXPECT(lost <= (dead >= 0));
	for (int i = 1; i <= task_count; i++)
		EXPECT(ran[i] <= 1);
}

#define RING_OF(begin_)                                                                                                        \
	.open = open_ring, .begin = begin_, .end = end, .thread = { use, first_worker, second_worker, bury }, .killed = killed, \
	.idle = 1 << UNDERTAKER, .timeouts = TIMEOUTS_NEVER, .keeps = true

/* ---- nobody dies ---- */

static const struct scenario tickets = { .name = "tickets", RING_OF(begin_two), .preemptions = 2, .schedules = 10000 };

SEARCH(each_ticket_is_taken_once)
{
	explore(&tickets);
}

SEARCH(finds_a_claim_that_two_make)
{
	find(&tickets, &(struct fault){ "crew__claim_ticket", BLIND_CAS });
}

SEARCH(finds_an_end_that_wakes_nobody)
{
	find(&tickets, &(struct fault){ "finish", NO_WAKE });
}

SEARCH(finds_a_bell_that_parked_workers_do_not_hear)
{
	find(&tickets, &(struct fault){ "crew__ring_bell", NO_WAKE });
}

/* ---- one dies ---- */

static const struct scenario kill_with_one_task = {
	.name = "kill_with_one_task", RING_OF(begin_one), .preemptions = 1, .mortal = 1 << FIRST_WORKER | 1 << SECOND_WORKER, .kills = 1,
	.schedules = 10000
};

SEARCH(a_worker_that_is_killed_at_any_step_loses_no_more_than_its_task)
{
	explore(&kill_with_one_task);
}

SEARCH(finds_a_ticket_that_is_taken_without_a_journal)
{
	find(&kill_with_one_task, &(struct fault){ "take", NO_STORE });
}

SEARCH(finds_an_answer_that_is_not_published)
{
	find(&kill_with_one_task, &(struct fault){ "finish", NO_STORE });
}

static const struct scenario kill_with_two_tasks = {
	.name = "kill_with_two_tasks", RING_OF(begin_two), .preemptions = 1, .mortal = 1 << FIRST_WORKER, .kills = 1, .schedules = 10000
};

SEARCH(a_killed_worker_leaves_the_other_task_to_the_other_worker)
{
	explore(&kill_with_two_tasks);
}
