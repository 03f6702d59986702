/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mutations.c: everything that a worker may write, changed at random, under the parent's real reading code, thousands of times a second.
 *
 *	impostor ─ a correct image: claims, answers of every kind, reports, requests, errands ─ 1 to 8 places changed ─> the real engine, waiters, sweep, burials
 *
 * The workers of this executor stop themselves in their initializer. In their place the test writes into the shared memory what they might: first as they
 * would, so that the parent goes all its ways, then over it: bits, bytes, words, extremes, neighbours, copies of other places. The parent is asked everything
 * that a program asks. Then the impostor answers in order, and every future must end. Real answers are read by real code; only the writer is false.
 *
 * What is shown: the parent does not crash (nor AddressSanitizer see a wrong access), does not hang, each future ends once; and another executor, whose workers
 * live, gives right answers all the time. scribbles.c has the same from living workers.
 */
#include <crew/crew.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "process/errand.h"
#include "process/process_executor.h"
#include "runner.h"

enum { WORKERS = 3, TASKS = 8, PLACES = 8 /* that are changed, at most */, PATIENCE_MS = 20000, MEMORY = 64 << 20 /* of each executor: what is asked for is made, and takes its time */ };

struct wide {
	long x[5];
};

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

CREW_TASK(struct wide, spread, (long, x))
{
	return (struct wide){ { x, x, x, x, x } };
}

CREW_TASK(crew_bytes, echo, (crew_bytes, in))
{
	return crew_result_copy(in.data, in.len);
}

CREW_TASK(const char *, name, (const char *, of))
{
	return of;
}

CREW_TASK(void, nothing)
{
}

/* A worker that does nothing. It is killed when the parent condemns it, and the next one stops, too. */
static int stop(void *arg, int worker)
{
	(void)arg, (void)worker;
	raise(SIGSTOP);
	return 0;
}

struct scene {
	crew_executor *ex;
	struct process_executor *p;
	crew_future *fs[TASKS];
	uint64_t random;
	uint64_t done;	 /* places changed */
	uint64_t buried; /* workers that were killed for it */
	uint64_t broken; /* executors that were given up */
};

static uint64_t mix(struct scene *s)
{
	uint64_t z = (s->random += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t below(struct scene *s, uint64_t n)
{
	return mix(s) % n;
}

static void enter(struct scene *s)
{
	s->ex = crew_processes(.workers = WORKERS, .initializer = stop, .grace_ms = 20);
	CHECK_EQ(crew_executor_error(s->ex, NULL), 0);
	s->p = process_executor_of(s->ex);
}

/* ---- as workers would ---- */

static void be_ready(struct scene *s)
{
	for (uint32_t i = 0; i < WORKERS; i++)
		ck_pr_store_32(&s->p->ring.reports[i].phase, s->p->seats[i].incarnation << 8 | WORKER_READY);
}

/* Ask for memory; the engine answers when it comes to it. */
static void ask(struct scene *s, uint32_t worker)
{
	struct report *r = &s->p->ring.reports[worker];

	r->wanted = (uint32_t)below(s, WANT_GRANT + 1);
	r->want = below(s, 4) ? below(s, 200000) : 0;
	r->room_cell = (uint32_t)below(s, ERRANDS);
	r->room_want = below(s, 100000);
	ck_pr_store_32(&r->room_asked, s->p->ring.orders[worker].room_granted + (uint32_t)below(s, 2));
	ck_pr_store_32(&r->asked, s->p->ring.orders[worker].granted + 1);
	ck_pr_or_64(&s->p->ring.rw->asking[0], (uint64_t)1 << worker);
}

static void offer(struct scene *s, uint32_t worker)
{
	struct ring *r = &s->p->ring;
	uint32_t cell = (uint32_t)below(s, ERRANDS);
	struct errand_request *q = &errand_requests(r, worker)[cell];

	*q = (struct errand_request){ .task = (uint32_t)below(s, s->p->tasks.count + 1), .size = (uint32_t)below(s, 2) * 8, .deadline = NEVER };
	ck_pr_store_32(&errand_words(r, worker)[cell], errand_word((uint32_t)mix(s) >> 4, ERRAND_OFFERED));
	ck_pr_or_64(&r->rw->offering[0], (uint64_t)1 << worker);
	ck_pr_or_64(&r->rw->parked[0], (uint64_t)1 << below(s, WORKERS));
}

/* An answer of some kind, which may be the right one. Its bytes lie where this worker may put them, if it has a place. */
static void answer(struct scene *s, uint64_t ticket, uint32_t worker)
{
	struct ring *r = &s->p->ring;
	struct answer *a = ring_answer(r, ticket);
	struct orders *o = &r->orders[worker];
	struct stock_order *stock = &o->stock[below(s, STOCKS)];
	uint32_t kind = 1 + (uint32_t)below(s, ANSWER_HOME), n = (uint32_t)below(s, 3) ? 8 : (uint32_t)below(s, 60);
	struct extent e = { kind == ANSWER_BLOCK ? stock->offset : kind == ANSWER_SHARED ? below(s, 1 << 20) : o->offset,
			    kind == ANSWER_ERROR ? sizeof(crew_error) : below(s, 70000) };

	a->about = kind | n << 8;
	a->value = kind == ANSWER_CODE ? (uint64_t)(int64_t)-ENOMEM : mix(s);
	memcpy(r->wide[ticket & r->mask], &e, sizeof e);
	store_release_32(&a->ticket, (uint32_t)ticket);
}

/* One ticket, as far as a worker may have come with it. */
static void act(struct scene *s, uint64_t ticket)
{
	struct ring *r = &s->p->ring;
	uint32_t worker = (uint32_t)below(s, WORKERS), how = (uint32_t)below(s, 8);
	struct report *report = &r->reports[worker];

	if (how == 0)
		return; /* not taken */
	ck_pr_store_64(&report->journal, ticket << 16 | 1);
	if (r->rw->head <= ticket)
		ck_pr_store_64(&r->rw->head, ticket + 1);
	if (how == 1)
		return;
	ck_pr_store_64(ring_claim(r, ticket), word_make(ticket, worker + 1, WORD_RUNNING));
	if (how == 2)
		return;
	answer(s, ticket, worker);
	if (how > 4)
		ck_pr_store_64(ring_claim(r, ticket), word_make(ticket, worker + 1, WORD_FINISHED));
	report->log[report->logged % LOG_SIZE] = (uint32_t)ticket;
	store_release_32(&report->logged, report->logged + 1);
}

/* ---- over it ---- */

/* Somewhere in what workers write, mostly where it matters now. */
static unsigned char *place(struct scene *s, uint64_t first, size_t *ret_n)
{
	struct ring *r = &s->p->ring;
	uint64_t ticket = first + below(s, TASKS);
	uint32_t worker = (uint32_t)below(s, WORKERS);
	struct orders *o = &r->orders[worker];

	*ret_n = 8;
	switch (below(s, 12)) {
	case 0:
		return (unsigned char *)&r->rw->head;
	case 1:
		*ret_n = sizeof *r->rw;
		return (unsigned char *)r->rw;
	case 2:
	case 3:
		return (unsigned char *)ring_claim(r, ticket);
	case 4:
	case 5:
		*ret_n = sizeof(struct answer);
		return (unsigned char *)ring_answer(r, ticket);
	case 6:
		*ret_n = sizeof(struct extent);
		return r->wide[ticket & r->mask];
	case 7:
		*ret_n = offsetof(struct report, log) + 64;
		return (unsigned char *)&r->reports[worker];
	case 8:
		*ret_n = ERRANDS * sizeof(uint32_t);
		return (unsigned char *)errand_words(r, worker);
	case 9:
		*ret_n = ERRANDS * sizeof(struct errand_request);
		return (unsigned char *)errand_requests(r, worker);
	case 10: /* results, under the parent's hands */
		*ret_n = o->size && o->size <= r->out_size ? o->size : 8;
		return r->out + (o->size ? o->offset : 0);
	default:
		*ret_n = r->geometry.rw_used;
		return (unsigned char *)r->rw;
	}
}

static void change(struct scene *s, unsigned char *at, size_t n)
{
	static const uint64_t extremes[] = { 0, 1, UINT64_MAX, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT32_MAX, INT32_MAX, 0xff };
	size_t offset = below(s, n), word = offset & ~(size_t)7;
	uint64_t value;

	if (n < 8 || word + 8 > n || below(s, 3) == 0) {
		at[offset] ^= (unsigned char)(below(s, 2) ? 1u << below(s, 8) : mix(s));
		return;
	}
	memcpy(&value, at + word, 8);
	switch (below(s, 4)) {
	case 0:
		value = extremes[below(s, sizeof extremes / sizeof extremes[0])];
		break;
	case 1:
		value += below(s, 5) - 2;
		break;
	case 2:
		memcpy(&value, at + (below(s, n - 7) & ~(size_t)7), 8); /* a neighbour */
		break;
	default:
		value = mix(s);
	}
	if (below(s, 4) == 0)
		memcpy(at + word + (below(s, 2) ? 4 : 0), &value, 4);
	else
		memcpy(at + word, &value, 8);
}

/* ---- the parent ---- */

static void submit(struct scene *s, uint64_t round)
{
	static char bytes[300];
	crew_bytes in = { bytes, below(s, sizeof bytes) };

	s->fs[0] = crew_submit(s->ex, square, (long)round);
	s->fs[1] = crew_submit(s->ex, spread, (long)round);
	s->fs[2] = crew_submit(s->ex, echo, in);
	s->fs[3] = crew_submit(s->ex, name, "a name");
	s->fs[4] = crew_submit(s->ex, nothing);
	s->fs[5] = crew_submit_with(s->ex, (.retries = 1), square, 5);
	s->fs[6] = crew_submit_with(s->ex, (.timeout_ms = 1000), echo, in);
	s->fs[7] = crew_submit(s->ex, square, 7);
}

/* The sweep comes when the timer says so. */
static void tick(struct scene *s)
{
	const struct itimerspec now = { .it_value = { 0, 1 } };

	timerfd_settime(s->p->timer, 0, &now, NULL);
}

/* Have the engine look at everything once: it has heard the bell, and sleeps again. */
static void turn(struct scene *s)
{
	struct pollfd bell = { s->p->bell, POLLIN, 0 };
	int64_t limit = test_now_ms() + PATIENCE_MS;

	crew__ring_engine(s->p);
	while (poll(&bell, 1, 0) == 1 || !ck_pr_load_32(&s->p->ring.pub->engine_parked)) {
		CHECK(test_now_ms() < limit);
		sched_yield();
	}
}

/* A worker dies, and this is what it leaves. */
static void bury(struct scene *s, uint32_t worker)
{
	struct seat *seat = &s->p->seats[worker];
	int64_t limit = test_now_ms() + PATIENCE_MS;
	uint32_t incarnation;

	latch_take(&s->p->lock);
	incarnation = seat->incarnation;
	crew__seat_kill(s->p, seat, SIGKILL);
	for (bool there = seat->state == SEAT_ALIVE; there && seat->incarnation == incarnation;) {
		latch_release(&s->p->lock);
		CHECK(test_now_ms() < limit);
		sched_yield();
		latch_take(&s->p->lock);
	}
	latch_release(&s->p->lock);
	s->buried++;
}

static void ask_everything(struct scene *s)
{
	struct crew_unfinished unfinished[4];
	struct crew_stats stats;
	crew_error error;

	if (below(s, 8) == 0)
		tick(s);
	if (below(s, 2))
		turn(s);
	if (below(s, 64) == 0)
		bury(s, (uint32_t)below(s, WORKERS));
	for (int i = 0; i < TASKS; i++)
		if (crew_future_done(s->fs[i]) && crew_future_error(s->fs[i])) {
			error = *crew_future_error(s->fs[i]);
			CHECK(strnlen(error.message, sizeof error.message) < sizeof error.message);
		}
	if (below(s, 16) == 0)
		crew_executor_stats(s->ex, &stats, sizeof stats);
	if (below(s, 16) == 0)
		crew_executor_unfinished(s->ex, unfinished, 4);
	if (below(s, 4) == 0)
		crew_future_cancel(s->fs[below(s, TASKS)], NULL);
	if (below(s, 16) == 0)
		crew_future_wait(s->fs[below(s, TASKS)], 0);
}

/* The impostor answers in order, whatever there is. */
static void heal(struct scene *s)
{
	struct process_executor *p = s->p;

	latch_take(&p->lock);
	for (uint32_t i = 0; i < p->ring.geometry.slots; i++) {
		struct entry *e = &p->entries[i];

		if (!e->f || ring_answered(&p->ring, e->ticket))
			continue;
		*ring_answer(&p->ring, e->ticket) = (struct answer){ .about = ANSWER_CODE, .value = (uint64_t)(int64_t)-ENOMEM };
		ck_pr_store_64(ring_claim(&p->ring, e->ticket), word_make(e->ticket, 1, WORD_FINISHED));
		store_release_32(&ring_answer(&p->ring, e->ticket)->ticket, (uint32_t)e->ticket);
	}
	ck_pr_store_64(&p->ring.rw->head, p->tail);
	latch_release(&p->lock);
	be_ready(s);
	crew__ring_engine(p);
}

/* Every byte of a result that came is there, and text ends: who asks for another type is told, and reads nothing. */
static void read_result(crew_future *f)
{
	unsigned long sum = 0;
	struct wide wide;
	const char *text;
	crew_bytes run;
	long x;

	if (crew_result_within(f, &text, 0) == 0)
		CHECK(!text || strlen(text) <= MEMORY);
	if (crew_result_within(f, &run, 0) == 0) {
		CHECK(run.len <= MEMORY);
		for (size_t i = 0; i < run.len; i++)
			sum += ((unsigned char *)run.data)[i];
		CHECK(sum <= 255 * run.len);
	}
	CHECK_NE(crew_result_within(f, &wide, 0), -ETIMEDOUT);
	CHECK_NE(crew_result_within(f, &x, 0), -ETIMEDOUT);
}

static void settle(struct scene *s)
{
	int64_t limit = test_now_ms() + PATIENCE_MS;

	heal(s);
	for (int i = 0; i < TASKS; i++) {
		while (crew_future_wait(s->fs[i], 1) == -ETIMEDOUT) {
			CHECK(test_now_ms() < limit);
			tick(s);
			heal(s);
		}
		read_result(s->fs[i]);
		crew_future_free(s->fs[i]);
	}
}

/* Workers that claim to be dying at birth may break their executor; that is the worst that they can do. */
static void renew(struct scene *s)
{
	CHECK_EQ(crew_executor_shutdown(s->ex, CREW_CANCEL_PENDING, 0) < 0, false);
	heal(s);
	CHECK_EQ(crew_executor_close(s->ex), NULL);
	enter(s);
}

static void mutate(struct scene *s, uint64_t round)
{
	uint64_t first = s->p->tail;
	size_t places = 1 + below(s, PLACES), n;

	be_ready(s);
	if (below(s, 4) == 0)
		ask(s, (uint32_t)below(s, WORKERS));
	submit(s, round);
	for (int i = 0; i < TASKS; i++)
		act(s, first + (uint64_t)i);
	if (below(s, 4) == 0)
		offer(s, (uint32_t)below(s, WORKERS));
	for (size_t i = 0; i < places; i++) {
		unsigned char *at = place(s, first, &n);

		if (i % 3 == 2)
			crew__ring_engine(s->p); /* while it reads */
		change(s, at, n);
	}
	s->done += places;
	ask_everything(s);
	settle(s);
}

static void mutations(uint64_t n)
{
	const struct rlimit limit = { MEMORY, MEMORY };
	struct scene s = { .random = test_random() };
	crew_executor *other;
	long y;

	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	other = crew_processes(1);
	enter(&s);
	for (uint64_t round = 0; s.done < n; round++) {
		mutate(&s, round);
		if (crew_executor_error(s.ex, NULL)) {
			s.broken++;
			renew(&s);
		}
		if (round % 64 == 0)
			CHECK(crew_run(other, &y, square, (long)round) == 0 && y == (long)(round * round));
	}
	heal(&s);
	CHECK_EQ(crew_executor_close(s.ex), NULL);
	CHECK_EQ(crew_executor_close(other), NULL);
	printf("%lu places changed, %lu burials, %lu executors were given up\n", (unsigned long)s.done, (unsigned long)s.buried, (unsigned long)s.broken);
}

TEST_WITHIN(the_parent_survives_whatever_workers_write, 300)
{
	if (TEST_TSAN)
		SKIP("what is written without order is what this is about");
	mutations(test_scaled(100000));
}
