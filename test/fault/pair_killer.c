/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pair_killer.c: one worker is killed, and a second one while the first death is being recovered from: every pair of places where that may happen.
 *
 * An *image* is what a death would leave behind: what both workers write, and what the system was asked for. A new one begins with each change of that memory
 * and with each system call; all instructions between two of them leave the same, so a kill at each image is a kill at each instruction. The first dies
 * at each of its images, and for each of those a second one at each of what it makes of what it finds:
 *
 *	BURIED      the other worker, when the engine has offered again what the first one had; its successor is held back meanwhile
 *	UNNOTICED   the other worker, before the engine has seen the first death: both are buried at once
 *	SUCCESSOR   the first one's successor, from when it is initialized; the other worker stands still
 *
 * As in step_killer.c the executor is a real one and runs, without sweep and lookouts, and the same is asked: every future completes, each death costs one task at
 * most, nothing runs twice, who waits is woken, who asked to be told is told once, and then there are two workers again. Of the eight tasks five are
 * cancelled before: the first takes two at a time, and the other comes before long to what it may steal from it.
 *
 * Nobody is traced, that would take a switch of processes for each instruction. Workers step themselves: the trap flag makes the processor call a handler after each
 * instruction, which looks at the memory, counts images, and kills where it is told to.
 *
 *	SIGUSR1 → held in its handler until `go` → trap flag → SIGTRAP, SIGTRAP, … → SIGKILL at the n-th image, or where it would go to sleep
 *
 * HEIRLESS is a fault that no single death shows: a burial that looks for a dead worker's tasks in its own journal only. What is stolen stands in the journal of
 * whom it was stolen from.
 */
#include <crew/crew.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/futex.h"
#include "census.h"
#include "pair.h"

#ifdef CREW_FAULT_HEIRLESS
#define FAULTY 1
#else
#define FAULTY 0
#endif

#define TRAP_FLAG 0x100
#define SYSCALL_INSTRUCTION 0x050f

enum { WORKERS = 2, TASKS = 8, KEPT = 3, USUAL_STRIDE = FAULTY ? 3 : 10, LIMIT_MS = 30000, PATIENCE_MS = FAULTY ? 1500 : LIMIT_MS };

enum second { BURIED, UNNOTICED, SUCCESSOR };

/* What the test tells one of them, and what that says. In memory that all inherit. */
struct part {
	/* the test's */
	uint32_t go;	/* futex */
	uint32_t image; /* there it dies; FREE: it goes on as usual */
	/* the worker's */
	uint32_t held;	 /* its pid, when it is */
	uint32_t images; /* that it had */
};
enum { FREE = UINT16_MAX };
enum { FIRST, OTHER, NEXT, PARTS };

struct script {
	/* the test's */
	uint32_t gate;	/* the first one's successor holds itself */
	uint32_t first; /* ticket of the round */
	uint64_t runs;	/* where the counters are in the blocks */
	struct part part[PARTS];
};

/* ---- in a worker ---- */

static struct {
	struct script *script;
	struct part *part;
	int index;
	bool is_next;
	struct ring ring;
	uint64_t image;
	bool calls; /* the instruction that comes is a system call */
} self;

static uint64_t mixed(uint64_t hash, const void *at, size_t n)
{
	const uint64_t *word = at;

	for (size_t i = 0; i < n / sizeof *word; i++)
		hash = (hash ^ __atomic_load_n(&word[i], __ATOMIC_RELAXED)) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 29;
}

/* Of all that both workers write and this round uses. */
static uint64_t image_now(void)
{
	const struct ring *ring = &self.ring;
	uint64_t hash = mixed(0, ring->rw, sizeof *ring->rw);

	hash = mixed(hash, ring->reports, WORKERS * sizeof *ring->reports);
	hash = mixed(hash, ring->blocks + self.script->runs, TASKS);
	for (uint64_t i = self.script->first; i < (uint64_t)self.script->first + TASKS; i++) {
		hash = mixed(hash, ring_claim(ring, i), sizeof(uint64_t));
		hash = mixed(hash, ring_answer(ring, i), sizeof(struct answer));
		hash = mixed(hash, ring->wide[i & ring->mask], WIDE_SIZE);
	}
	return hash;
}

/* It says that it sleeps, is about to, and nothing is left. */
static bool would_park(const greg_t *regs)
{
	return self.calls && regs[REG_RAX] == SYS_futex && (regs[REG_RSI] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET &&
	       (ck_pr_load_64(&self.ring.rw->parked[0]) >> self.index & 1) &&
	       ck_pr_load_64(&self.ring.rw->head) == ck_pr_load_64(&self.ring.pub->tail);
}

static void look(const greg_t *regs, uint64_t image)
{
	self.image = image;
	self.calls = *(const uint16_t *)(uintptr_t)regs[REG_RIP] == SYSCALL_INSTRUCTION;
	if (self.part->images == self.part->image || would_park(regs))
		syscall(SYS_kill, getpid(), SIGKILL);
}

/* After each instruction. */
static void on_step(int signal, siginfo_t *info, void *context)
{
	uint64_t image = image_now();
	int before = errno;

	(void)signal, (void)info;
	self.part->images += self.calls || image != self.image;
	look(((ucontext_t *)context)->uc_mcontext.gregs, image);
	errno = before;
}

static void on_hold(int signal, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	int before = errno;

	(void)signal, (void)info;
	self.part = &self.script->part[self.is_next ? NEXT : self.index];
	self.is_next = false;
	self.part->images = 0;
	__atomic_store_n(&self.part->held, (uint32_t)getpid(), __ATOMIC_RELEASE);
	while (!__atomic_load_n(&self.part->go, __ATOMIC_ACQUIRE))
		crew__futex_wait(&self.part->go, 0, NEVER, true); /* woken by let_go */
	if (self.part->image != FREE) {
		look(regs, image_now());
		regs[REG_EFL] |= TRAP_FLAG;
	}
	errno = before;
}

/* The initializer of every worker. */
static int prepare(void *arg, int index)
{
	struct sigaction hold = { .sa_sigaction = on_hold, .sa_flags = SA_SIGINFO }, step = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };
	struct geometry geometry;

	self.script = arg;
	self.index = index;
	crew__ring_measure(&geometry, WORKERS, 0, 1);
	crew__ring_attach(&self.ring, &geometry, census_mapping("/memfd:crew-pub"), census_mapping("/memfd:crew-rw"), census_mapping("/memfd:crew-blocks"));
	sigaction(SIGUSR1, &hold, NULL);
	sigaction(SIGTRAP, &step, NULL);
	self.is_next = index == 0 && __atomic_load_n(&self.script->gate, __ATOMIC_ACQUIRE);
	if (self.is_next)
		raise(SIGUSR1);
	return 0;
}

CREW_TASK(long, count_run, (crew_bytes, runs), (int, i))
{
	__atomic_add_fetch((unsigned char *)runs.data + i, 1, __ATOMIC_SEQ_CST);
	return (long)i * 1000 + 77;
}

/* ---- in the test ---- */

struct bench {
	crew_executor *ex;
	struct process_executor *p;
	struct script *script;
	crew_bytes runs;
	enum second second;
	long images[2]; /* where the first one dies, and the second */
	unsigned long failed, violations;
};

struct round {
	crew_future *f[TASKS];
	pthread_t waiter; /* for f[1] */
	uint32_t woken;
	uint32_t told; /* callbacks of f[2] */
	pid_t victims[2];
};

static void complain(struct bench *b, const char *what, int i)
{
	b->violations++;
	printf("at images %ld and %ld: %s (task %d)\n", b->images[0], b->images[1], what, i);
}

/* ---- what workers are made to do ---- */

/* False: not for a very long time. */
static bool soon(bool (*happens)(struct bench *b, pid_t pid), struct bench *b, pid_t pid)
{
	int64_t limit = test_now_ms() + LIMIT_MS;

	while (!happens(b, pid)) { /* once is enough: who has been seen dead is reaped the next moment */
		if (test_now_ms() >= limit)
			return false;
		sched_yield();
	}
	return true;
}

static bool is_dead(struct bench *b, pid_t pid)
{
	(void)b;
	char state = stepper_state(pid);

	return state == 'Z' || state == 'X'; /* dead, or being reaped */
}

static bool is_buried(struct bench *b, pid_t pid)
{
	return crew_executor_worker_pid(b->ex, 0) != pid;
}

static bool is_held(struct bench *b, pid_t pid)
{
	for (int i = 0; i < PARTS; i++)
		if (__atomic_load_n(&b->script->part[i].held, __ATOMIC_ACQUIRE) == (uint32_t)pid)
			return true;
	return false;
}

static bool next_is_held(struct bench *b, pid_t pid)
{
	(void)pid;
	return __atomic_load_n(&b->script->part[NEXT].held, __ATOMIC_ACQUIRE) != 0;
}

static void let_go(struct bench *b, int which, long image)
{
	struct part *part = &b->script->part[which];

	part->image = (uint32_t)image;
	__atomic_store_n(&part->go, 1, __ATOMIC_RELEASE);
	crew__futex_wake(&part->go, INT_MAX, true); /* pairs with the wait in on_hold */
}

/* Up to that image, and dead. False: it had not so many. */
static bool kill_at(struct bench *b, int which, pid_t pid, long image)
{
	let_go(b, which, image);
	CHECK(soon(is_dead, b, pid));
	return b->script->part[which].images == (uint32_t)image;
}

/* Both stand in their handlers when it returns. */
static void hold_both(struct bench *b, struct round *r)
{
	memset(b->script->part, 0, sizeof b->script->part);
	for (int i = 0; i < WORKERS; i++) {
		r->victims[i] = crew_executor_worker_pid(b->ex, i);
		CHECK_EQ(kill(r->victims[i], SIGUSR1), 0);
		CHECK(soon(is_held, b, r->victims[i]));
	}
}

/* ---- a round ---- */

static void tell(crew_future *f, void *arg)
{
	(void)f;
	__atomic_add_fetch(&((struct round *)arg)->told, 1, __ATOMIC_SEQ_CST);
}

static void *wait_for_one(void *arg)
{
	struct round *r = arg;

	(void)crew_future_wait(r->f[1], CREW_FOREVER);
	__atomic_store_n(&r->woken, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void submit_all(struct bench *b, struct round *r)
{
	memset(b->runs.data, 0, TASKS);
	b->script->first = (uint32_t)ck_pr_load_64(&b->p->ring.pub->tail);
	ck_pr_store_32(&b->p->ring.rw->average, 50);
	for (int i = 0; i < TASKS; i++)
		r->f[i] = crew_submit(b->ex, count_run, b->runs, i);
	for (int i = KEPT; i < TASKS; i++)
		CHECK_EQ(crew_future_cancel(r->f[i], NULL), 1);
	CHECK_EQ(crew_future_on_done(r->f[2], tell, r), 0);
	CHECK_EQ(pthread_create(&r->waiter, NULL, wait_for_one, r), 0);
	while (ck_pr_load_32(&b->p->ring.pub->sleepers) == 0 && !__atomic_load_n(&r->woken, __ATOMIC_ACQUIRE))
		sched_yield();
}

static bool kill_first(struct bench *b, struct round *r)
{
	return kill_at(b, FIRST, r->victims[0], b->images[0]);
}

/* False: the first one had fewer images; *ret_more: had the second? */
static bool kill_both(struct bench *b, struct round *r, bool *ret_more)
{
	bool more;

	__atomic_store_n(&b->script->gate, b->second != UNNOTICED, __ATOMIC_RELEASE);
	if (b->second == UNNOTICED) {
		latch_take(&b->p->lock); /* nobody is buried now */
		more = kill_first(b, r);
		*ret_more = kill_at(b, OTHER, r->victims[1], b->images[1]);
		latch_release(&b->p->lock);
	} else if (b->second == BURIED) {
		more = kill_first(b, r);
		CHECK(soon(is_buried, b, r->victims[0]));
		*ret_more = kill_at(b, OTHER, r->victims[1], b->images[1]);
		__atomic_store_n(&b->script->gate, 0, __ATOMIC_RELEASE);
		let_go(b, NEXT, FREE);
	} else {
		more = kill_first(b, r);
		CHECK(soon(next_is_held, b, 0));
		__atomic_store_n(&b->script->gate, 0, __ATOMIC_RELEASE); /* who comes after it is not held */
		r->victims[1] = (pid_t)b->script->part[NEXT].held;
		*ret_more = kill_at(b, NEXT, r->victims[1], b->images[1]);
		let_go(b, OTHER, FREE);
	}
	return more;
}

/* Nobody looks at anything before this is over. */
static void judge_wakes(struct bench *b, struct round *r, int64_t limit)
{
	while ((!__atomic_load_n(&r->woken, __ATOMIC_ACQUIRE) || __atomic_load_n(&r->told, __ATOMIC_ACQUIRE) != 1) && test_now_ms() < limit)
		sched_yield();
	if (!__atomic_load_n(&r->woken, __ATOMIC_ACQUIRE))
		complain(b, "was waited for in vain", 1);
	if (__atomic_load_n(&r->told, __ATOMIC_ACQUIRE) != 1)
		complain(b, "was not told about once", 2);
}

/* Did it fail? */
static bool judge_one(struct bench *b, struct round *r, int i)
{
	const crew_error *e = crew_future_error(r->f[i]);
	int runs = ((unsigned char *)b->runs.data)[i];
	long y;

	if (i >= KEPT) {
		if (e->code != -ECANCELED || runs)
			complain(b, "was cancelled, but ran", i);
		return false;
	}
	if (runs > 1)
		complain(b, "ran twice", i);
	if (e->code == 0) {
		if (runs != 1 || crew_result(r->f[i], &y) || y != (long)i * 1000 + 77)
			complain(b, "has a wrong result", i);
	} else if (e->code != CREW_EWORKER || e->signal != SIGKILL || (e->worker != r->victims[0] && e->worker != r->victims[1])) {
		complain(b, "failed with a wrong error", i);
	}
	return e->code != 0;
}

static void judge(struct bench *b, struct round *r)
{
	int64_t limit = test_now_ms() + PATIENCE_MS;
	int failed = 0;

	judge_wakes(b, r, limit);
	for (int i = 0; i < TASKS; i++) {
		int left = (int)(limit - test_now_ms());

		if (crew_future_wait(r->f[i], left > 0 ? left : 0) == -ETIMEDOUT)
			complain(b, "never completed", i);
		else
			failed += judge_one(b, r, i);
	}
	if (failed > 2)
		complain(b, "is one too many that failed", -1);
	b->failed += (unsigned long)failed;
}

static bool round_of(struct bench *b, bool *ret_more)
{
	struct round r = { .woken = 0 };
	bool more;

	hold_both(b, &r);
	submit_all(b, &r);
	more = kill_both(b, &r, ret_more);
	judge(b, &r);
	if (b->violations)
		return false;
	pthread_join(r.waiter, NULL);
	for (int i = 0; i < TASKS; i++)
		crew_future_free(r.f[i]);
	return more;
}

/* Every so manyth image of the first, and with it every so manyth of the second, each from a random first one. */
static void kill_each_pair(struct bench *b)
{
	long stride = FAULTY ? USUAL_STRIDE : stepper_stride(USUAL_STRIDE), most = 0, pairs = 0;
	bool more = true, row;
	pid_t victim = 0;

	for (b->images[0] = stepper_first(stride); more && !b->violations; b->images[0] += stride) {
		row = true;
		for (b->images[1] = stepper_first(stride); row && !b->violations; b->images[1] += stride, pairs++) {
			victim = pair_settle(b->ex, victim);
			more = round_of(b, &row);
			most = b->images[1] > most ? b->images[1] : most;
		}
	}
	printf("%ld pairs, of %ld and up to %ld images; %lu tasks failed with their workers; %lu violations\n", pairs, b->images[0], most, b->failed,
	       b->violations);
}

static void kill_second(enum second second)
{
	struct bench b = { .second = second };

	b.script = mmap(NULL, sizeof *b.script, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CREW_SCOPE (ex, crew_processes(.workers = WORKERS, .start = CREW_START_FORK, .initializer = prepare, .arg = b.script)) {
		CHECK_EQ(crew_executor_error(ex, NULL), 0);
		b.ex = ex;
		b.p = process_executor_of(ex);
		b.runs = crew_shared_alloc(ex, TASKS);
		b.script->runs = (uint64_t)((unsigned char *)b.runs.data - b.p->ring.blocks);
		pair_stop_sweeping(ex);
		kill_each_pair(&b);
		if (FAULTY && b.violations)
			_exit(0); /* found: but who waits for what is lost would wait for ever */
		CHECK_EQ(b.violations, 0u);
		CHECK(!FAULTY);
		crew_shared_free(ex, b.runs);
	}
	munmap(b.script, sizeof *b.script);
}

#if !FAULTY
TEST_WITHIN(the_other_worker_may_die_of_what_the_first_one_left, 600)
{
	kill_second(BURIED);
}

TEST_WITHIN(a_successor_may_die_of_what_the_first_one_left, 600)
{
	kill_second(SUCCESSOR);
}
#endif

TEST_WITHIN(both_may_die_before_anybody_notices, 600)
{
	kill_second(UNNOTICED);
}
