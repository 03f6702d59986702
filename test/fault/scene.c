/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scene.c: the order of events around each kill.
 *
 *	setup here · prepare in the victim · a sleeper lies down · k steps of the victim, roused once if it sleeps · kill · judge · everything is dropped
 */
#include "scene.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { KILLS = 40 };

void complain(struct scene *s, const char *what, int rc)
{
	stepper_complain(s->k, what, rc);
}

/* ---- processes ---- */

pid_t child_of(void (*body)(struct scene *s), struct scene *s)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body(s);
		_exit(0);
	}
	return pid;
}

bool ends(pid_t pid)
{
	return stepper_ends(pid, PATIENCE_MS);
}

/* What a victim is to do, as it may be told to another image of this program. */
struct orders {
	size_t before, victim; /* places */
	struct scene scene;
};

static struct orders orders_for(const struct part *part, const struct scene *s)
{
	return (struct orders){ stepper_place_of((stepper_function *)part->before), stepper_place_of((stepper_function *)part->victim), *s };
}

static void obey(size_t place, struct scene *s)
{
	((void (*)(struct scene *))stepper_function_at(place))(s);
}

static void prepare(void *arg)
{
	struct orders *orders = arg;

	crew_acquire(crew_lock_make()); /* a seat in the family */
	if (orders->before)
		obey(orders->before, &orders->scene);
}

static void act(void *arg)
{
	struct orders *orders = arg;

	obey(orders->victim, &orders->scene);
}

struct rousing {
	const struct part *part;
	struct scene *scene;
	bool done;
};

/* It sleeps: it is roused, once. */
static bool rouse(void *arg)
{
	struct rousing *r = arg;

	if (!r->part->rouse || r->done)
		return false;
	r->done = true;
	r->part->rouse(r->scene);
	return true;
}

static bool kill_after(const struct part *part, struct scene *s, long k)
{
	struct rousing rousing = { part, s, false };
	struct orders orders;
	pid_t pid;
	bool more = true;

	s->sleeper = 0;
	s->k = k;
	if (part->setup)
		part->setup(s);
	orders = orders_for(part, s); /* with what the setup has changed */
	pid = stepper_start(prepare, act, &orders, sizeof orders);

	if (part->sleeper) {
		s->sleeper = child_of(part->sleeper, s);
		for (int seen = 0; seen < 3; sched_yield())
			seen = crew_value_load(s->begun) && stepper_state(s->sleeper) == 'S' ? seen + 1 : 0;
	}
	for (long i = 0; i < k && more; i++)
		more = stepper_step(pid, rouse, &rousing);
	stepper_kill(pid);
	part->judge(s);
	return more;
}

static struct scene open_scene(void)
{
	struct scene s = { .lock = crew_lock_make(), .rlock = crew_rlock_make(), .semaphore = crew_semaphore_make(1, 0), .units = crew_semaphore_make(3, 0), .event = crew_event_make(),
			   .away = crew_event_make(), .condition = crew_condition_make((crew_rlock){ { 0, 0 } }), .barrier = crew_barrier_make(2), .three = crew_barrier_make(3),
			   .rwlock = crew_rwlock_make(), .a = crew_value_make(int, 0), .b = crew_value_make(int, 0), .begun = crew_value_make(int, 0) };

	return s;
}

static void close_scene(struct scene *s)
{
	crew_drop(s->lock);
	crew_drop(s->rlock);
	crew_drop(s->semaphore);
	crew_drop(s->units);
	crew_drop(s->event);
	crew_drop(s->away);
	crew_drop(s->condition);
	crew_drop(s->barrier);
	crew_drop(s->three);
	crew_drop(s->rwlock);
	crew_drop(s->a);
	crew_drop(s->b);
	crew_drop(s->begun);
}

static const struct part *played; /* by this test */

static bool play(long k)
{
	struct scene s = open_scene();
	bool more = kill_after(played, &s, k);

	close_scene(&s);
	return more;
}

void kill_each_step(const struct part *part)
{
	played = part;
	stepper_judge(play, KILLS, FAULTY);
}

/* ---- what several parts do ---- */

void look_inside(struct scene *s, int rc)
{
	if (rc == 0 && crew_value_load(s->a) != crew_value_load(s->b))
		complain(s, "a death in the lock went unsaid", 0);
	if (rc == -EOWNERDEAD)
		crew_value_store(s->b, crew_value_load(s->a));
	if (rc != 0 && rc != -EOWNERDEAD)
		complain(s, "the lock could not be had", rc);
}

void change_inside(struct scene *s)
{
	crew_value_add(s->a, 1);
	crew_value_add(s->b, 1);
}

void notify_condition(struct scene *s)
{
	int rc = crew_acquire_within(s->condition, PATIENCE_MS);

	if (rc == 0 || rc == -EOWNERDEAD) {
		crew_handle_recover(s->condition);
		crew_condition_notify(s->condition, 1);
		crew_release(s->condition);
	}
}
