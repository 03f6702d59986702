/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * errands_meet.c: a task in a worker submits another and takes its result (lib/process/offer.c, errand.c, worker_executor.c), while the engine takes the
 * offer for an idle worker, and while either worker is killed. Somebody runs it, once: the idle one, or who wants it.
 */
#include <crew/crew.h>
#include <string.h>

#include "interleaving/rings.h"
#include "interleaving/scheduler.h"

enum { OUTER, INNER, TASKS };

static int ran[TASKS], lost, kills;

CREW_TASK(int, tree, (int, n))
{
	crew_future *f;
	int y = 0, rc;

	ran[n]++;
	if (n == INNER)
		return 7;
	f = crew_submit(crew_task_executor(), tree, INNER);
	schedule_quiet(false);
	rc = crew_take(f, &y, NULL);
	schedule_quiet(true);
	return rc ? -1 : y + 1; /* its worker was killed */
}

static void open_ring(void)
{
	ring_open(&tree_crew_task);
}

static void begin(void)
{
	memset(ran, 0, sizeof ran);
	lost = kills = 0;
	ring_renew();
	ring_begin();
	schedule_quiet(true); /* until it is offered */
}

static void killed(int thread)
{
	kills++;
	ring_killed(thread);
}

static void use(void)
{
	crew_error error;
	int y = 0, rc;

	ring_known(&tree_crew_task);
	rc = crew_take(crew_submit(&processes->base, tree, OUTER), &y, &error);
	lost = rc == CREW_ERAISED && error.code == CREW_EWORKER;
	EXPECT(lost || rc == 0);
	EXPECT(lost || y == 8 || (y == -1 && kills));
	ring_stop();
}

static void end(void)
{
	EXPECT(ran[OUTER] == 1 || lost);
	EXPECT(ran[INNER] <= 1 && (ran[INNER] == 1 || kills));
	EXPECT(lost <= kills);
}

#define ERRANDS_OF                                                                                                                  \
	.open = open_ring, .begin = begin, .end = end, .thread = { use, ring_work, ring_work, ring_be_engine_of_errands }, .killed = killed, \
	.written = ring_written, .timeouts = TIMEOUTS_NEVER, .keeps = true

static const struct scenario errand = { .name = "errand", ERRANDS_OF, .preemptions = 2, .schedules = 6000 };

SEARCH(what_a_task_submits_is_run_once)
{
	explore(&errand);
}

SEARCH(finds_an_offer_that_two_take)
{
	find(&errand, &(struct fault){ "take", BLIND_CAS });
}

SEARCH(finds_an_offer_that_is_taken_back_from_the_engine)
{
	find(&errand, &(struct fault){ "close_offer", BLIND_CAS });
}

SEARCH(finds_an_errand_whose_end_is_not_told)
{
	find(&errand, &(struct fault){ "tell", NO_WAKE });
}

static const struct scenario errand_and_death = {
	.name = "errand_and_death", ERRANDS_OF, .preemptions = 1, .mortal = 1 << RING_FIRST_WORKER | 1 << RING_SECOND_WORKER, .kills = 1,
	.schedules = 6000
};

SEARCH(a_death_leaves_no_errand_behind)
{
	explore(&errand_and_death);
}
