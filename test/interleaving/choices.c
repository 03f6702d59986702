/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * choices.c: a schedule is the list of choices that were made where there was more than one option.
 *
 * The search is depth first and keeps nothing but that list: the next schedule begins with the same choices as the one before, takes the next option at the last
 * place that has one left, and the first, which is to go on, ever after.
 */
#include <stdio.h>

#include "interleaving/search.h"

#define CHOICES_MAX 20000

static struct choice {
	uint8_t taken, options; /* options 0: to be seen */
} choices[CHOICES_MAX];
static int known; /* the beginning that is repeated */
static int depth;

void choices_begin(void)
{
	depth = 0;
}

void choices_restart(void)
{
	known = 0;
}

int schedule_choose(int options)
{
	if (options < 2)
		return 0;
	if (depth == CHOICES_MAX)
		schedule_unfit("more than %d choices", CHOICES_MAX);
	if (depth >= known)
		choices[depth] = (struct choice){ 0, (uint8_t)options };
	else if (choices[depth].options == 0)
		choices[depth].options = (uint8_t)options;
	if (choices[depth].options != options)
		schedule_unfit("it does not repeat itself: %d options where there were %d", options, choices[depth].options);
	return choices[depth++].taken;
}

bool choices_next(void)
{
	known = depth;
	while (known > 0 && choices[known - 1].taken + 1 >= choices[known - 1].options)
		known--;
	if (known == 0)
		return false;
	choices[known - 1].taken++;
	return true;
}

/* "0*35 1*1": thirty-five times the first option, then the second. */
void choices_read(const char *text)
{
	int taken, n, used;

	while (sscanf(text, " %d*%d%n", &taken, &n, &used) == 2) {
		for (; n > 0 && known < CHOICES_MAX; n--)
			choices[known++] = (struct choice){ (uint8_t)taken, 0 };
		text += used;
	}
}

void choices_show(void)
{
	for (int i = 0, n; i < depth; i += n) {
		for (n = 1; i + n < depth && choices[i + n].taken == choices[i].taken; n++)
			;
		fprintf(stderr, " %d*%d", choices[i].taken, n);
	}
	fprintf(stderr, "'\n");
}
