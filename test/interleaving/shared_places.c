/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shared_places.c: which steps are worth a choice.
 *
 * Only those on memory that at least two threads use, one of them writing: all others commute with whatever the others do. Which these are shows as
 * the search goes on. An address says it in one schedule only (the next may have other addresses), a place in the code in all: it is *shared* once a
 * step there met such memory. Whenever one becomes so the search begins anew, so in the end no choice was left out for not knowing better.
 */
#include "interleaving/search.h"

/* By address, in one schedule: who reads and writes. By place in the code, in all: does it meet memory that is shared? */
#define TABLE_SIZE 8192
static struct place {
	const void *p;
	long schedule;
	uint8_t readers, writers;
	bool shared;
} places[TABLE_SIZE];
static struct site {
	const void *site;
	bool shared;
} sites[TABLE_SIZE];

static long schedule;
static bool grew;

static size_t slot_of(const void *p)
{
	return (size_t)((uintptr_t)p * 0x9e3779b97f4a7c15ull >> 51);
}

static struct site *site_at(const void *site)
{
	size_t i = slot_of(site);

	while (sites[i].site && sites[i].site != site)
		i = (i + 1) % TABLE_SIZE;
	sites[i].site = site;
	return &sites[i];
}

static struct place *place_at(const void *p)
{
	size_t i = slot_of(p);

	while (places[i].schedule == schedule && places[i].p != p)
		i = (i + 1) % TABLE_SIZE;
	if (places[i].schedule != schedule)
		places[i] = (struct place){ .p = p, .schedule = schedule };
	return &places[i];
}

static void share_site(const void *site)
{
	struct site *s = site_at(site);

	grew |= !s->shared;
	s->shared = true;
}

/* A word's halves count as one place. */
static const void *place_of(const void *p)
{
	return (const void *)((uintptr_t)p & ~(uintptr_t)7);
}

void place_used(enum step_kind kind, int thread, const void *p, const void *site)
{
	struct place *place = place_at(place_of(p));
	uint8_t bit = (uint8_t)(1u << thread);

	if (kind != STEP_LOAD)
		place->writers |= bit;
	place->readers |= bit;
	if (!place->writers || !(place->readers & (place->readers - 1)))
		return;
	share_site(site);
	if (place->shared)
		return;
	place->shared = true; /* and so are all who were there before */
	for (int i = 0; i < account_count(); i++) {
		const struct step *s = account_at(i);

		if (s->p && place_of(s->p) == place->p && s->kind <= STEP_UPDATE)
			share_site(s->site);
	}
}

bool site_is_shared(const void *site)
{
	return site_at(site)->shared;
}

void places_begin(void)
{
	schedule++;
	grew = false;
}

bool places_grew(void)
{
	return grew;
}
