/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * succession.c: what follows when the zygote dies. All its workers die with it: what they ran fails, what waited goes on under another zygote.
 *
 *	SERVER, SPAWN   the server forks another
 *	FORK            the keeper does: a server of this executor alone, forked by the first zygote, with the program as it was at the open
 *
 * An executor gets its keeper at its first tick: one that is closed before had no use for it. A keeper that dies is forked anew by the zygote,
 * so one of the two is always there to replace the other, unless somebody kills both at once. The executor is broken when no zygote can be had, or
 * when they die again and again before any worker got ready.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process/parcel.h"
#include "process/process_executor.h"

/* ---- the keeper ---- */

static void keeper_wanted(struct process_executor *p)
{
	if (p->plan.start == CREW_START_FORK && p->keeper.pidfd < 0)
		crew__zygote_ask(p->zygote.socket, ZYGOTE_KEEPER, 0, 0);
}

/* The lock is held. */
void crew__keeper_born(struct process_executor *p, const struct news *news, struct birth *birth)
{
	if (p->closing || p->keeper.pidfd >= 0 || birth->pidfd < 0 || birth->output < 0)
		return; /* it sees its socket close, and ends */
	p->keeper = (struct server){ .pid = news->pid, .socket = birth->output, .pidfd = birth->pidfd };
	crew__fd_mark(p->keeper.socket, &p->keeper.mark);
	*birth = (struct birth){ -1, -1 };
	crew__engine_watch_keeper(p);
}

/* May zygote and keeper be changed here? True: `succession` is held then. */
static bool begin(struct process_executor *p)
{
	bool mine;

	pthread_mutex_lock(&p->succession);
	latch_take(&p->lock);
	mine = !p->closing;
	latch_release(&p->lock);
	if (!mine)
		pthread_mutex_unlock(&p->succession);
	return mine;
}

void crew__keeper_soon(struct process_executor *p)
{
	if (p->plan.start != CREW_START_FORK)
		return;
	latch_take(&p->lock);
	crew__keep_ticking(p);
	latch_release(&p->lock);
}

void crew__keeper_check(struct process_executor *p)
{
	if (p->plan.start != CREW_START_FORK || !begin(p))
		return;
	keeper_wanted(p);
	pthread_mutex_unlock(&p->succession);
}

void crew__succession_close(struct process_executor *p)
{
	pthread_mutex_lock(&p->succession); /* what is under way is finished first */
	pthread_mutex_unlock(&p->succession);
}

void crew__keeper_died(struct process_executor *p)
{
	if (!begin(p))
		return;
	epoll_ctl(p->epoll, EPOLL_CTL_DEL, p->keeper.pidfd, NULL);
	crew__server_end(&p->keeper);
	keeper_wanted(p);
	pthread_mutex_unlock(&p->succession);
}

/* ---- the zygote ---- */

bool crew__hear(struct process_executor *p)
{
	struct pollfd alive = { p->zygote.pidfd, POLLIN, 0 };
	struct birth birth;
	struct news news;
	int rc, dead = poll(&alive, 1, 0); /* before: what it said until then is still read */

	if (p->zygote.pidfd < 0)
		return true; /* two events, one death */
	while ((rc = crew__zygote_read(p->zygote.socket, true, &news, &birth)) == 1)
		crew__news(p, &news, &birth);
	return rc == 0 && dead != 1;
}

/*
 * SIGKILL cannot be refused, but a process that a device or a file server keeps waiting does not die before that answers. All that it can still do is what
 * the kernel does for it: none of its own code will run again. So it is waited for a while and buried then: the worst that may come of it are bytes that a
 * read() of its brings to where another answer lies by then.
 */
static void bury_all(struct process_executor *p)
{
	const struct cause killed = { .code = CLD_KILLED, .status = SIGKILL };
	uint64_t patience = crew__now() + ck_pr_load_64(&p->silence);

	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		if (p->seats[i].pidfd >= 0)
			crew__seat_kill(p, &p->seats[i], SIGKILL);
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++) {
		uint64_t now = crew__now();

		if (p->seats[i].pidfd < 0)
			continue;
		crew__parcel_await(p->seats[i].pidfd, now < patience ? (int)((patience - now) / MS_TO_NS) + 1 : 0);
		crew__bury(p, i, killed);
	}
}

/* All seats get the same new incarnation, so that a worker which nobody has heard of is not taken for its successor. */
static void renumber(struct process_executor *p)
{
	uint32_t latest = 0;

	latch_take(&p->lock);
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		latest = p->seats[i].incarnation > latest ? p->seats[i].incarnation : latest;
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++) {
		p->seats[i].incarnation = latest + 1;
		p->seats[i].since = crew__now();
		p->seats[i].state = SEAT_ASKED; /* without a number: all were buried */
	}
	p->plan.incarnation = latest + 1;
	latch_release(&p->lock);
}

static bool any_ready(struct process_executor *p)
{
	bool any = false;

	for (uint32_t i = 0; i < p->ring.geometry.workers; i++)
		any |= p->seats[i].pidfd >= 0 && crew__is_ready(p, i);
	return any;
}

static int open_another(struct process_executor *p)
{
	int rc;

	if (p->plan.start == CREW_START_FORK && p->keeper.pidfd < 0)
		return -ECHILD;
	renumber(p);
	rc = crew__zygote_open(&p->plan, p->mappings, p->plan.start == CREW_START_FORK ? &p->keeper : NULL, &p->zygote);
	return rc ? rc : crew__engine_watch_zygote(p);
}

static const char *how(struct obituary end)
{
	return end.code == CLD_EXITED ? "exited with status" : end.code ? "was killed by signal" : "died, status";
}

static void unwatch(struct process_executor *p)
{
	epoll_ctl(p->epoll, EPOLL_CTL_DEL, p->zygote.socket, NULL);
	epoll_ctl(p->epoll, EPOLL_CTL_DEL, p->zygote.pidfd, NULL);
}

/* succession is held. */
static void replace(struct process_executor *p)
{
	pid_t pid = p->zygote.pid;
	struct obituary end;
	bool hopeless;
	int rc;

	p->zygotes_lost = any_ready(p) ? 1 : p->zygotes_lost + 1;
	hopeless = p->zygotes_lost > STRIKES_WITHOUT;
	end = crew__zygote_bury(&p->zygote);
	bury_all(p);
	if (p->failed)
		return;
	rc = hopeless ? -ECHILD : open_another(p);
	if (rc)
		crew__give_up(p, CREW_EBROKEN, NULL, "the process that forks the workers (%d) %s %d; %s", (int)pid, how(end), end.status,
			      hopeless ? "as did those before it" : crew_strerror(rc));
}

void crew__succeed_zygote(struct process_executor *p)
{
	unwatch(p);
	if (begin(p)) {
		replace(p);
		pthread_mutex_unlock(&p->succession);
	} else {
		bury_all(p);
	}
}

/* ---- silence ---- */

/* Kill those that were executed and do not come to crew_init(). True: it happens every time. */
static bool kill_silent(struct process_executor *p, uint64_t long_ago)
{
	for (uint32_t i = 0; i < p->ring.geometry.workers; i++) {
		struct seat *seat = &p->seats[i];

		if (seat->state != SEAT_ALIVE)
			continue;
		if (crew__has_begun(p, i)) {
			p->silent = 0;
		} else if (seat->since < long_ago) {
			crew__seat_kill(p, seat, SIGKILL);
			seat->since = crew__now(); /* counted once, however long it takes to die */
			p->silent++;
		}
	}
	return p->silent >= STRIKES;
}

void crew__check_births(struct process_executor *p)
{
	uint64_t now = crew__now(), silence = ck_pr_load_64(&p->silence), long_ago = now - silence;
	bool hopeless = false;

	if (now < silence)
		return;
	latch_take(&p->lock);
	if (p->plan.start == CREW_START_SPAWN)
		hopeless = kill_silent(p, long_ago);
	for (uint32_t i = 0; i < p->ring.geometry.workers && !p->closing; i++)
		if (p->seats[i].state == SEAT_ASKED && p->seats[i].since < long_ago && p->zygote.pidfd >= 0) {
			syscall(SYS_pidfd_send_signal, p->zygote.pidfd, SIGKILL, NULL, 0); /* what follows is its death's business */
			break;
		}
	latch_release(&p->lock);
	if (hopeless)
		crew__give_up(p, CREW_EBROKEN, NULL, "%d workers in a row were executed and did not come to crew_init() within %g s", STRIKES,
			      (double)silence / 1e9);
}
