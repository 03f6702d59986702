/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * account.c: what has happened in a schedule, step by step.
 */
#include <stdio.h>

#include "interleaving/search.h"

#define STEPS_MAX 20000 /* in a schedule: more is taken for a loop without end */
#define SHOWN_STEPS 300

static struct step steps[STEPS_MAX];
static int step_count;

void account_begin(void)
{
	step_count = 0;
}

void account_step(enum step_kind kind, int thread, const void *p, const void *site)
{
	if (step_count == STEPS_MAX)
		schedule_failed("goes on for ever");
	steps[step_count++] = (struct step){ p, site, 0, (uint8_t)kind, (uint8_t)thread };
}

void step_was(uint64_t value)
{
	if (schedule_thread() >= 0)
		steps[step_count - 1].value = value;
}

void step_lost(void)
{
	if (schedule_thread() >= 0)
		steps[step_count - 1].kind = STEP_CAS_LOST;
}

int account_count(void)
{
	return step_count;
}

const struct step *account_at(int i)
{
	return &steps[i];
}

static const char *const kind_names[] = { "load", "store", "cas", "cas, lost", "update", "fence", "lock", "unlock", "sleep", "wake", "call",
					  "yield", "end", "its store arrives", "is killed", "its time is up" };

static void show_step(const struct step *s)
{
	char name[128] = "";

	if (s->site)
		site_name(name, sizeof name, s->site);
	fprintf(stderr, "\t%*s%d: %-10s %-48s", 4 * s->thread, "", s->thread, kind_names[s->kind], name);
	if (s->p)
		fprintf(stderr, " %p = %#llx", s->p, (unsigned long long)s->value);
	fputc('\n', stderr);
}

void account_show(void)
{
	int from = step_count > SHOWN_STEPS ? step_count - SHOWN_STEPS : 0;

	if (from)
		fprintf(stderr, "\t(%d steps before)\n", from);
	for (int i = from; i < step_count; i++)
		show_step(&steps[i]);
}
