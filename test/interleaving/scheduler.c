/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scheduler.c: who goes on at each step.
 *
 *	step_begins ─→ worth a choice? ─→ options: go on, another, a flush, a kill, a timeout ─→ choose ─→ fiber_switch, or straight on
 *
 * To go on is always the first option, so most steps cost a function call and no switch. Waiting in a loop is no choice: after two stalls without a
 * change further looks only matter once somebody has changed something, and then there is a choice at that somebody's step.
 *
 * A thread is killed at a step of its own, or when it falls asleep, or when it was woken and has not gone on yet. Later is the same as earlier: what is
 * killed does nothing in between.
 */
#include <stdlib.h>

#include "interleaving/search.h"

#define RESTS_MAX 500 /* times that nothing but time could go on */
#define STALLS_QUIET 2
#define STALLS_YIELD 64

enum state { NOBODY, READY, WAITING, ENDED, KILLED };

struct thread {
	enum state state;
	enum waiting_for what;
	const void *p;
	uint64_t deadline;
	bool timed_out, roused;
	int stalls;
	uint64_t seen; /* changes, when it began to wait for others */
	void (*main)(void);
	void *(*start)(void *);
	void *arg;
};

enum option_kind { GO_ON, GIVE_WAY, FLUSH, KILL, TIME_OUT };
struct option {
	enum option_kind kind;
	int thread;
};

/* one schedule */
static const struct scenario *scenario;
static struct thread threads[FIBERS_MAX];
static int thread_count, current = -1, preemptions_left, kills_left, rests;
static uint64_t changes, now;
static bool quiet;

/* ---- who can go on ---- */

static bool can_go_on(int i)
{
	struct thread *t = &threads[i];

	return t->state == READY || (t->state == WAITING && t->what == FOR_OTHERS && t->seen != changes);
}

static bool may_time_out(int i)
{
	return threads[i].state == WAITING && threads[i].deadline != FOR_EVER && scenario->timeouts != TIMEOUTS_NEVER;
}

static void make_ready(int i)
{
	threads[i].state = READY;
	threads[i].what = FOR_NOTHING;
}

static void time_out(int i)
{
	account_step(STEP_TIMEOUT, i, NULL, NULL);
	threads[i].timed_out = true;
	if (threads[i].deadline > now)
		now = threads[i].deadline;
	make_ready(i);
}

static void kill_thread(int i)
{
	int caller = current;

	account_step(STEP_KILL, i, NULL, NULL);
	buffer_flush(i); /* what a processor has retired reaches memory, whatever becomes of the process */
	threads[i].state = KILLED;
	step_progress();
	current = -1;
	if (scenario->killed)
		scenario->killed(i);
	current = caller;
}

/* Nothing can go on by itself: time passes, or whoever waits for others looks again. False: it is over. */
static bool rest(void)
{
	int first = -1;
	bool any = false;

	if (++rests > RESTS_MAX)
		schedule_failed("nothing goes on but time");
	for (int i = 0; i < thread_count; i++)
		if (may_time_out(i) && (first < 0 || threads[i].deadline < threads[first].deadline))
			first = i;
	for (int i = 0; i < thread_count; i++)
		if (threads[i].state == WAITING && threads[i].what == FOR_OTHERS) {
			threads[i].state = READY;
			any = true;
		}
	now += 1000000;
	if (any)
		return true;
	if (first >= 0)
		time_out(first);
	return first >= 0;
}

static void check_end(void)
{
	static const char *const what[] = { "", "a word", "a mutex", "a thread's end", "others", "news" };

	for (int i = 0; i < thread_count; i++)
		if (threads[i].state == WAITING && !(i < SCENARIO_THREADS && scenario->idle >> i & 1))
			schedule_failed("thread %d waits for %s that never comes", i, what[threads[i].what]);
}

/* ---- the decision ---- */

static struct option options[64];
static int option_count;

static void add(enum option_kind kind, int thread)
{
	if (option_count < 64)
		options[option_count++] = (struct option){ kind, thread };
}

static bool is_mortal(int i)
{
	return i < SCENARIO_THREADS && (scenario->mortal >> i & 1);
}

static void collect_options(void)
{
	bool going = current >= 0 && threads[current].state == READY;

	option_count = 0;
	if (going)
		add(GO_ON, current);
	for (int i = 0; i < thread_count && (!going || preemptions_left > 0); i++) {
		if (i == current)
			continue;
		if (can_go_on(i))
			add(GIVE_WAY, i);
		else if (scenario->timeouts == TIMEOUTS_ANY && may_time_out(i))
			add(TIME_OUT, i);
	}
	for (int i = 0; i < thread_count; i++)
		if (i != current && buffer_holds(i))
			add(FLUSH, i);
	if (!going && current >= 0 && can_go_on(current))
		add(GIVE_WAY, current);
	if (!going && option_count == 0 && current >= 0 && scenario->timeouts == TIMEOUTS_ANY && may_time_out(current))
		add(TIME_OUT, current);
	if (kills_left > 0 && current >= 0 && is_mortal(current) && (going || threads[current].state == WAITING))
		add(KILL, current);
}

/* The schedule is over. */
static void leave(void)
{
	int from = current;

	check_end();
	current = -1;
	if (from >= 0)
		fiber_switch(from, -1);
}

static void turn_to(int i)
{
	int from = current;

	if (threads[i].state == WAITING)
		make_ready(i); /* it waited for others */
	if (i == from)
		return;
	current = i;
	fiber_switch(from, i);
}

/* One decision after another until some thread goes on. Returns when `current` is the caller again. */
static void decide(void)
{
	for (;;) {
		bool going = current >= 0 && threads[current].state == READY;
		struct option o;

		collect_options();
		if (option_count == 0) {
			if (rest())
				continue;
			leave();
			return;
		}
		if (!going && option_count == 1 && options[0].kind == KILL)
			add(GO_ON, -1); /* a sleeper for ever may also stay one */
		o = options[quiet ? 0 : schedule_choose(option_count)];
		switch (o.kind) {
		case GO_ON:
			if (o.thread >= 0)
				return;
			if (rest())
				continue;
			leave();
			return;
		case FLUSH:
			account_step(STEP_FLUSH, o.thread, NULL, NULL);
			buffer_flush_one(o.thread);
			continue;
		case KILL:
			kills_left--;
			kill_thread(o.thread);
			continue;
		case TIME_OUT:
			time_out(o.thread);
			__attribute__((__fallthrough__));
		case GIVE_WAY:
			preemptions_left -= going;
			turn_to(o.thread);
			return;
		}
	}
}

static bool worth_a_choice(enum step_kind kind, const void *site)
{
	if (quiet)
		return false;
	if (preemptions_left == 0 && !buffer_any() && !(kills_left > 0 && is_mortal(current)))
		return false;
	switch (kind) {
	case STEP_LOAD:
		return threads[current].stalls < STALLS_QUIET && site_is_shared(site);
	case STEP_STORE:
		return site_is_shared(site);
	case STEP_CAS:
	case STEP_UPDATE:
		return site_is_shared(site) || buffer_holds(current);
	case STEP_FENCE:
	case STEP_END:
		return buffer_holds(current);
	case STEP_UNLOCK:
		return false;
	default:
		return true;
	}
}

bool step_begins(enum step_kind kind, const void *p, const void *site)
{
	if (current < 0)
		return false;
	if (kind != STEP_LOAD && kind != STEP_FENCE)
		threads[current].stalls = 0;
	if (worth_a_choice(kind, site))
		decide();
	account_step(kind, current, p, site);
	if (p && kind <= STEP_UPDATE) {
		host_check_memory(p, site);
		place_used(kind, current, p, site);
	}
	return true;
}

void step_progress(void)
{
	changes++;
}

void step_stall(void)
{
	if (current >= 0 && ++threads[current].stalls % STALLS_YIELD == 0)
		step_waits(FOR_OTHERS, NULL, FOR_EVER);
}

bool step_waits(enum waiting_for what, const void *p, uint64_t deadline)
{
	int me = current;
	struct thread *t = &threads[me];

	buffer_flush(me); /* nobody waits without a call into the kernel, or long enough */
	t->state = WAITING;
	t->what = what;
	t->p = p;
	t->deadline = deadline;
	t->timed_out = false;
	t->seen = changes;
	decide();
	t->deadline = FOR_EVER;
	if (kills_left > 0 && is_mortal(me)) { /* woken, and dead before it went on */
		int preemptions = preemptions_left;

		preemptions_left = 0;
		decide();
		preemptions_left = preemptions;
	}
	return t->timed_out;
}

void step_wakes(enum waiting_for what, const void *p, int count)
{
	for (int i = 0; i < thread_count && count > 0; i++)
		if (threads[i].state == WAITING && threads[i].what == what && threads[i].p == p) {
			make_ready(i);
			count--;
		}
}

/* ---- threads ---- */

static void run_thread(int i)
{
	if (threads[i].main)
		threads[i].main();
	else
		threads[i].start(threads[i].arg);
	host_thread_ends();
	step_begins(STEP_END, NULL, NULL);
	buffer_flush(i);
	threads[i].state = ENDED;
	step_progress();
	step_wakes(FOR_THREAD, &threads[i], FIBERS_MAX);
	decide();
	abort();
}

static int thread_new(void (*main)(void), void *(*start)(void *), void *arg)
{
	int i = thread_count;

	if (i == FIBERS_MAX)
		return -1;
	threads[i] = (struct thread){ .state = main || start ? READY : NOBODY, .deadline = FOR_EVER, .main = main, .start = start, .arg = arg };
	fiber_reset(i, run_thread);
	thread_count++;
	return i;
}

int step_thread_start(void *(*start)(void *), void *arg)
{
	return thread_new(NULL, start, arg);
}

int schedule_thread(void)
{
	return current;
}

bool schedule_killed(int thread)
{
	return threads[thread].state == KILLED;
}

bool schedule_ended(int thread)
{
	return threads[thread].state == ENDED || threads[thread].state == KILLED;
}

void schedule_exit(void)
{
	step_begins(STEP_END, NULL, CALL_SITE);
	kill_thread(current);
	decide();
	abort();
}

void schedule_kill(int thread)
{
	if (!schedule_ended(thread))
		kill_thread(thread);
}

void schedule_pass(int ms)
{
	now += (uint64_t)ms * 1000000;
}

void schedule_signal(int pidfd, int signal)
{
	if (!scenario->signalled)
		schedule_unfit("nobody is there for a signal");
	scenario->signalled(pidfd, signal);
}

void schedule_written(int fd)
{
	if (scenario->written)
		scenario->written(fd);
}

void schedule_sleep(void)
{
	struct thread *t = &threads[current];

	step_begins(STEP_SLEEP, NULL, CALL_SITE);
	if (!t->roused)
		step_waits(FOR_ROUSE, NULL, FOR_EVER);
	t->roused = false;
}

void schedule_rouse(int thread)
{
	threads[thread].roused = true;
	if (threads[thread].state == WAITING && threads[thread].what == FOR_ROUSE)
		make_ready(thread);
}

void schedule_quiet(bool q)
{
	quiet = q;
}

bool schedule_is_quiet(void)
{
	return quiet;
}

uint64_t *schedule_clock(void)
{
	return &now;
}

/* ---- one schedule ---- */

void schedule_run(const struct scenario *s, int preemptions)
{
	long blocks = host_blocks();
	static bool before;

	scenario = s;
	rests = thread_count = 0;
	choices_begin();
	account_begin();
	places_begin();
	preemptions_left = preemptions;
	kills_left = scenario->kills;
	now = 1000000000ull;
	quiet = false;
	buffer_reset(scenario->delays);
	host_reset();
	for (int i = 0; i < SCENARIO_THREADS && scenario->thread[i]; i++)
		thread_new(scenario->thread[i], NULL, NULL);
	if (scenario->begin)
		scenario->begin();
	decide();
	current = -1;
	if (scenario->end)
		scenario->end();
	host_free_all();
	if (!scenario->keeps && before && host_blocks() != blocks)
		schedule_failed("%ld blocks of memory are left behind", host_blocks() - blocks);
	before = true; /* the first one may make what stays for all */
}
