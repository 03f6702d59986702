/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * engine.c: the one thread that an executor has in the parent. It does what nobody can be expected to wait for in person:
 *
 *	eventfds       the program rang, or a worker → settle what must be noticed, refill the ring, grant memory, take what tasks submit
 *	zygote socket  born, unborn, dead
 *	pipes          what workers write to stderr, see output.c
 *	pidfds         a death whose obituary may be late
 *	timer          the sweep, while anything is outstanding
 *	alarm          deadlines and kills, see timetable.c
 *
 * It runs no code of the user's: a callback may block, and then nobody would bury. While nothing is outstanding it sleeps, and looks once a minute
 * whether its descriptors are its own still (loss.c).
 *
 * Logs are hints: a worker notes each ticket it finished, after the word said so, so that a ticket found here unnoted needs no further look: whoever sets a
 * note later finds the word FINISHED and settles it there and then.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/futex.h"
#include "core/service.h"
#include "process/process_executor.h"

#if defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER
#endif
#endif
#ifdef ADDRESS_SANITIZER
void __asan_handle_no_return(void);
#endif

/* While tasks are under way the timer wakes the engine more often than the first of these, unless the program has closed it. */
enum { PATIENCE_MS = 1000, IDLE_MS = 60000 };

void crew__ring_engine(struct process_executor *p)
{
	uint64_t one = 1;

	if (!crew__deprived(p))
		(void)!write(p->bell, &one, sizeof one);
}

/* ---- the timer ---- */

static void set_timer(struct process_executor *p, int ms)
{
	struct itimerspec when = { .it_value = { ms / 1000, ms % 1000 * 1000000l } };

	timerfd_settime(p->timer, 0, &when, NULL);
}

void crew__keep_ticking(struct process_executor *p)
{
	if (p->ticking || crew__deprived(p))
		return;
	p->ticking = true;
	set_timer(p, TICK_FAST_MS);
}

/* Is there anything that the next sweep could find? */
static bool needs_sweep(const struct process_executor *p)
{
	if (p->outstanding && !p->failed)
		return true;
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		if (p->seats[i].state == SEAT_DYING || (p->seats[i].state == SEAT_EMPTY && !p->closing && !p->failed))
			return true;
	return p->outstanding > 0;
}

static void on_timer(struct process_executor *p)
{
	uint64_t count;
	bool settled;

	(void)!read(p->timer, &count, sizeof count);
	crew__sweep(p);
	crew__keeper_check(p);
	settled = crew__memory_settled(p);
	latch_take(&p->lock);
	p->ticking = needs_sweep(p) || !settled;
	if (p->ticking)
		set_timer(p, p->outstanding && crew__ring_any(p->ring.rw->parked, &p->ring) ? TICK_FAST_MS : TICK_SLOW_MS);
	latch_release(&p->lock);
}

/* ---- logs ---- */

/* Does anybody need to be told that this one is over? */
static bool is_wanted(const struct process_executor *p, const struct entry *e)
{
	return ck_pr_load_32(&p->ring.pub->hungry) || (ring_cell(&p->ring, e->ticket)->job.flags & JOB_NOTE) ||
	       (ck_pr_load_32(&e->f->state) & (STATE_NOTIFY | STATE_WAITER));
}

/* One worker's log, as far as the batch goes. False: it has run over, and any slot may be over. */
static bool read_log(struct process_executor *p, uint32_t worker, struct batch *batch)
{
	struct report *report = &p->ring.reports[worker];
	struct seat *seat = &p->seats[worker];
	uint32_t logged = load_acquire_32(&report->logged); /* pairs with the release in log_finished (process_worker.c) */

	if (logged - seat->logged > LOG_SIZE) {
		seat->logged = logged;
		return false;
	}
	for (; seat->logged != logged && batch->n < BATCH_ITEMS; seat->logged++) {
		uint32_t ticket = ck_pr_load_32(&report->log[seat->logged % LOG_SIZE]);
		struct entry *e = &p->entries[ticket & p->ring.mask];

		if (e->f && (uint32_t)e->ticket == ticket && ring_answered(&p->ring, e->ticket) && is_wanted(p, e))
			crew__settle_answer(p, e, batch);
	}
	return true;
}

/* Settle what workers say is over, refill. True: something was done. */
static bool collect_logs(struct process_executor *p)
{
	struct batch batch;
	uint64_t tail = 0;
	bool more = false, any;

	batch.n = 0;
	latch_take(&p->lock);
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		if (!read_log(p, i, &batch))
			more |= crew__settle_all(p, &batch);
	if (p->backlog.count && crew__pump(p, &batch, p->ring.geometry.slots))
		tail = p->tail;
	more |= batch.n == BATCH_ITEMS;
	any = batch.n || tail || more;
	p->patience = p->ticking ? PATIENCE_MS : IDLE_MS;
	latch_release(&p->lock);
	if (tail)
		crew__ring_published(&p->ring, tail);
	crew__deliver(p, &batch);
	return any;
}

/* ---- births and deaths ---- */

static void admit(struct process_executor *p, uint32_t worker, pid_t pid, struct birth *birth)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u32 = worker };
	struct seat *seat = &p->seats[worker];

	seat->pidfd = birth->pidfd;
	seat->state = SEAT_ALIVE;
	seat->since = crew__now();
	ck_pr_store_int(&seat->pid, pid);
	epoll_ctl(p->epoll, EPOLL_CTL_ADD, birth->pidfd, &event);
	crew__output_attach(p, worker, birth->output);
	birth->pidfd = birth->output = -1; /* ours now */
	crew__roster_enter(p, worker);
}

/* No memory, no processes left: try again in the sweep, unless there is nobody to wait for. */
static bool unborn(struct process_executor *p, uint32_t worker)
{
	bool alone = true;

	p->seats[worker].state = SEAT_EMPTY;
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		alone &= p->seats[i].state == SEAT_EMPTY;
	return alone && ++p->strikes >= STRIKES;
}

/* Did all arrive that comes with a worker? */
static bool is_complete(const struct process_executor *p, const struct birth *birth)
{
	return birth->pidfd >= 0 && (p->plan.raw_stderr || birth->output >= 0);
}

void crew__news(struct process_executor *p, const struct news *news, struct birth *birth)
{
	struct seat *seat = &p->seats[news->worker < p->ring.geometry.workers ? news->worker : 0];
	bool hopeless = false, known;

	latch_take(&p->lock);
	known = news->worker < p->ring.geometry.workers && seat->incarnation == news->incarnation;
	if (known && news->kind == WORKER_BORN && seat->state == SEAT_ASKED && is_complete(p, birth)) {
		admit(p, news->worker, news->pid, birth);
	} else if (known && news->kind == WORKER_BORN && seat->state == SEAT_ASKED) {
		seat->pid = news->pid; /* there were too few descriptors, and it must not live unwatched */
		crew__zygote_ask(p->zygote.socket, ZYGOTE_KILL, news->worker, news->incarnation);
	} else if (news->kind == KEEPER_BORN) {
		crew__keeper_born(p, news, birth);
	} else if (known && news->kind == WORKER_UNBORN && seat->state == SEAT_ASKED) {
		hopeless = unborn(p, news->worker) && !p->closing;
		crew__keep_ticking(p);
	}
	latch_release(&p->lock);
	if (birth->pidfd >= 0)
		close(birth->pidfd);
	if (birth->output >= 0)
		close(birth->output);
	if (known && news->kind == WORKER_DEAD)
		crew__bury(p, news->worker, (struct cause){ news->code, news->status, news->user_ms, news->system_ms, news->max_rss_kib });
	if (hopeless)
		crew__give_up(p, CREW_EBROKEN, NULL, "no worker could be forked: %s", crew_strerror(news->pid));
}

/* The pidfd says that it is dead; how, the zygote will say. Unless it has said so already, and the event was about one who is buried by now. */
static void on_death(struct process_executor *p, uint32_t worker)
{
	struct pollfd dead;

	latch_take(&p->lock);
	dead = (struct pollfd){ p->seats[worker].pidfd, POLLIN, 0 };
	if (p->seats[worker].state == SEAT_ALIVE && poll(&dead, 1, 0) == 1) {
		p->seats[worker].state = SEAT_DYING;
		crew__roster_leave(p, worker);
		p->seats[worker].dying_until = crew__now() + ck_pr_load_64(&p->silence);
		crew__keep_ticking(p);
	}
	latch_release(&p->lock);
}

static void on_zygote(struct process_executor *p)
{
	if (!crew__hear(p))
		crew__succeed_zygote(p);
}

/* ---- the loop ---- */

/* Whoever has their bell can say that it blocks, and take its rings away before we come. */
static void hear_workers(struct process_executor *p)
{
	uint64_t count;
	struct iovec iov = { &count, sizeof count };

	if (preadv2(p->plan.bell, &iov, 1, -1, RWF_NOWAIT) < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
		(void)!read(p->plan.bell, &count, sizeof count); /* Linux before 5.8 */
}

static void handle(struct process_executor *p, uint32_t from)
{
	uint64_t count;

	if (from == FROM_BELL)
		(void)!read(p->bell, &count, sizeof count);
	else if (from == FROM_WORKERS)
		hear_workers(p);
	else if (from == FROM_TIMER)
		on_timer(p);
	else if (from == FROM_ALARM)
		crew__timetable_run(p);
	else if (from == FROM_OUTPUT)
		crew__output_run(p);
	else if (from == FROM_ZYGOTE)
		on_zygote(p);
	else if (from == FROM_KEEPER)
		crew__keeper_died(p);
	else
		on_death(p, from);
}

/* Sleep until somebody rings. Pairs with ring_parked_engine (process_worker.c): either it sees the flag, or we see what it did. */
static int park(struct process_executor *p, struct epoll_event *events, int n)
{
	int ready, timeout = -1, cancel;

	ck_pr_store_32(&p->ring.pub->engine_parked, 1);
	ck_pr_fence_memory();
	if (crew__answer_requests(p))
		timeout = 0;
	if (crew__errands_take(p))
		timeout = 0;
	if (collect_logs(p) || ck_pr_load_32(&p->stop_engine))
		timeout = 0;
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &cancel); /* by crew__engine_stop: it may be that nothing else can wake us */
	ready = epoll_wait(p->epoll, events, n, timeout < 0 ? p->patience : 0);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (ready < 0 && errno != EINTR)
		ck_pr_store_32(&p->deprived, 1);
	ck_pr_store_32(&p->ring.pub->engine_parked, 0);
	return ready;
}

/* AddressSanitizer does not see frames go that a cancel unwinds, and would complain of whatever comes to lie there. */
static void unwound(void *unused)
{
	(void)unused;
#ifdef ADDRESS_SANITIZER
	__asan_handle_no_return();
#endif
}

static void run(struct process_executor *p)
{
	struct epoll_event events[16];

	while (!ck_pr_load_32(&p->stop_engine)) {
		int n = park(p, events, 16);

		if (unlikely(crew__deprived(p))) {
			crew__abandon(p);
			return;
		}
		for (int i = 0; i < n; i++)
			handle(p, events[i].data.u32);
	}
	if (unlikely(crew__deprived(p))) /* while we had no CPU, and somebody else has noticed: what has their numbers now is not ours to read */
		crew__abandon(p);
	else
		crew__output_end(p);
}

static void *engine_thread(void *arg)
{
	int cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_setname_np(pthread_self(), "crew-engine");
	pthread_cleanup_push(unwound, NULL);
	crew__output_begin(arg);
	run(arg);
	pthread_cleanup_pop(0);
	return NULL;
}

static int add(struct process_executor *p, int fd, uint32_t from)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = from };

	return epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int crew__engine_watch_zygote(struct process_executor *p)
{
	int rc = add(p, p->zygote.socket, FROM_ZYGOTE);

	return rc ? rc : add(p, p->zygote.pidfd, FROM_ZYGOTE);
}

void crew__engine_watch_keeper(struct process_executor *p)
{
	add(p, p->keeper.pidfd, FROM_KEEPER); /* if that fails, its death goes unnoticed until it is needed */
}

int crew__engine_start(struct process_executor *p)
{
	int rc = add(p, p->bell, FROM_BELL);

	if (rc == 0)
		rc = add(p, p->plan.bell, FROM_WORKERS);
	if (rc == 0)
		rc = add(p, p->timer, FROM_TIMER);
	if (rc == 0)
		rc = add(p, p->alarm, FROM_ALARM);
	if (rc == 0)
		rc = crew__engine_watch_zygote(p);
	if (rc)
		return rc;
	rc = crew__service_start(&p->engine, engine_thread, p);
	p->engine_started = rc == 0;
	return rc;
}

void crew__engine_stop(struct process_executor *p)
{
	if (!p->engine_started)
		return;
	ck_pr_store_32(&p->stop_engine, 1);
	crew__ring_engine(p);
	if (crew__deprived(p))
		pthread_cancel(p->engine); /* if it sleeps, or else when it would */
	crew__service_join(p->engine);
	p->engine_started = false;
}
