/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crowd.c: see crowd.h. The hands are ordinary tasks of the executor; those that never got a worker before the work was over find nothing to do, or are
 * cancelled.
 *
 * The job lies on the stack of whoever called, who does not leave before each hand that began has ended. So nothing that runs in a hand may wait for him, or for
 * what stands on his stack: each hand's context leads to his, and such a wait is refused there, -EDEADLK, by whatever way it would come back.
 */
#include "core/crowd.h"

#include <errno.h>
#include <stdlib.h>

#include "core/context.h"
#include "core/group.h"
#include "core/waiting.h"

size_t crew__hands(crew_executor *ex)
{
	crew_executor *base = is_group(ex) ? crew__group_base(ex) : ex;

	return (size_t)(ex == base && base->ops->hands ? base->ops->hands(base) : base->ops->workers(base));
}

struct hand {
	void (*work)(void *job);
	void *job;
	const struct context *crowd; /* of the caller; NULL: he is in no task */
};

static void run_hand(void *arguments, void *result)
{
	struct hand hand = *(struct hand *)arguments;
	struct context *c = crew__context;

	(void)result;
	c->crowd = hand.crowd;
	hand.work(hand.job);
	c->crowd = NULL;
}

static const struct crew_parameter hand_parameters[] = {
	{ CREW_TYPE(CREW_POINTER, sizeof(void *)), 0, "work" },
	{ CREW_TYPE(CREW_POINTER, sizeof(void *)), sizeof(void *), "job" },
	{ CREW_TYPE(CREW_POINTER, sizeof(void *)), 2 * sizeof(void *), "crowd" },
};

static const crew_task hand_task = {
	.size = sizeof(crew_task),
	.flags = CREW_TASK_POINTERS,
	.result = CREW_TYPE(CREW_VOID, 0),
	.arguments = sizeof(struct hand),
	.parameter_count = 3,
	.parameters = hand_parameters,
	.name = "hand",
	.where = "crowd.c",
	.run = run_hand,
};

/* Wait for one hand, or see to it that it never starts. Its code when it could not even be submitted. */
static int finish(crew_future *f)
{
	const crew_error *error;
	int rc = 0;

	crew__cancel(f, NULL);
	crew__await(f, NEVER); /* there is no circle: see above */
	error = crew_future_error(f);
	if (error->code && error->code != -ECANCELED)
		rc = error->code;
	crew_future_free(f);
	return rc;
}

/* Until one hand is done: then there is nothing left to begin. Where a wait for several cannot be had, for one that was submitted. */
static void await_one(crew_future *const *all, size_t hands, uint64_t deadline)
{
	size_t i = 0;

	if (crew_wait(all, hands, CREW_FIRST_COMPLETED, crew__ms_left(deadline)) >= 0)
		return;
	while (i < hands && crew_future_wait(all[i], crew__ms_left(deadline)))
		i++;
}

int crew__crowd(crew_executor *ex, void (*work)(void *job), void *job, size_t hands, uint64_t deadline)
{
	struct hand hand = { work, job, crew__context };
	crew_executor *base = is_group(ex) ? crew__group_base(ex) : ex;
	bool worker = base->ops->inside && base->ops->inside(base);
	crew_future *few[16], **all = hands > 16 ? malloc(hands * sizeof *all) : few;
	int rc = 0, one;

	if (!all) {
		all = few;
		hands = 16;
	}
	for (size_t i = 0; i < hands; i++)
		all[i] = crew_executor_submit(ex, &hand_task, &hand, NULL, 0);
	if (worker)
		work(job);
	else
		await_one(all, hands, deadline);
	for (size_t i = 0; i < hands; i++) {
		one = finish(all[i]);
		if (one && !rc)
			rc = one;
	}
	if (all != few)
		free(all);
	return worker ? 0 : rc;
}
