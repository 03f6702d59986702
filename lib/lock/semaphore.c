/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * semaphore.c: a count, and a bit that says that somebody sleeps for it, in one word.
 *
 * A taker that has slept takes with the bit set, because others may still sleep, and when he leaves units behind wakes one of them: so a row of releases reaches
 * a row of sleepers though only the first of them saw the bit. There is no owner; whoever is killed has taken his unit or has not.
 */
#include <crew/lock.h>
#include <errno.h>
#include <limits.h>

#include "ipc/object.h"
#include "ipc/patience.h"

enum { SLEEPERS = 1, UNIT = 2 };

struct semaphore {
	uint64_t stamp;
	uint32_t bound; /* fixed */
	uint32_t word;	/* everybody, atomically: units × UNIT, SLEEPERS */
};

crew_semaphore crew_semaphore_make(int value, int bound)
{
	struct semaphore *s;
	crew_semaphore ret;

	if (value < 0 || bound < 0 || value > (bound ? bound : INT_MAX / 2))
		return (crew_semaphore){ crew__handle_failed(-EINVAL) };
	ret.handle = crew__handle_make(HANDLE_SEMAPHORE, sizeof *s, (void **)&s);
	if (s) {
		s->bound = (uint32_t)(bound ? bound : INT_MAX / 2);
		ck_pr_store_32(&s->word, (uint32_t)value * UNIT);
	}
	return ret;
}

int crew_semaphore_drop(crew_semaphore semaphore)
{
	struct semaphore *s = crew__handle_end(semaphore.handle, HANDLE_SEMAPHORE);

	if (!s)
		return crew__handle_reason(semaphore.handle);
	crew__futex_wake(&s->word, INT_MAX, true);
	crew__family_free(semaphore.handle.place);
	return 0;
}

/* Take a unit. `slept`: SLEEPERS when others may sleep. */
static bool take(struct semaphore *s, uint32_t slept)
{
	uint32_t seen = ck_pr_load_32(&s->word);

	while (seen >= UNIT) {
		if (!ck_pr_cas_32_value(&s->word, seen, (seen - UNIT) | slept, &seen))
			continue;
#ifdef CREW_FAULT_TAKES_ALL
		if (seen - UNIT >= UNIT) {
			ck_pr_store_32(&s->word, 0);
			ck_pr_store_32(&s->word, (seen - UNIT) | slept);
		}
#endif
		ck_pr_fence_acquire(); /* pairs with the release in crew_semaphore_release() */
		if (slept && seen - UNIT >= UNIT)
			crew__futex_wake(&s->word, 1, true);
		return true;
	}
	return false;
}

static int await(struct semaphore *s, crew_handle handle, int ms)
{
	struct patience patience = patience_for(ms);

	while (!take(s, SLEEPERS)) {
		uint32_t seen = ck_pr_load_32(&s->word);

		if (patience_is_over(&patience))
			return -ETIMEDOUT;
		if (seen >= UNIT || (seen == 0 && !ck_pr_cas_32(&s->word, 0, SLEEPERS)))
			continue;
		patience_sleep(&patience, &s->word, SLEEPERS); /* pairs with the wakes in take(), release() and drop() */
		if (!handle_alive(s, handle))
			return CREW_EHANDLE;
	}
	return 0;
}

int crew_semaphore_acquire(crew_semaphore semaphore, int ms)
{
	struct semaphore *s = handle_at(semaphore.handle, HANDLE_SEMAPHORE);

	if (unlikely(!s))
		return crew__handle_reason(semaphore.handle);
	if (likely(take(s, 0)))
		return 0;
	return ms == 0 ? -EBUSY : await(s, semaphore.handle, ms);
}

int crew_semaphore_release(crew_semaphore semaphore)
{
	struct semaphore *s = handle_at(semaphore.handle, HANDLE_SEMAPHORE);
	uint32_t seen;

	if (unlikely(!s))
		return crew__handle_reason(semaphore.handle);
	seen = ck_pr_load_32(&s->word);
	ck_pr_fence_release(); /* pairs with the acquire in take() */
	do
		if (seen / UNIT >= s->bound)
			return -EOVERFLOW;
	while (!ck_pr_cas_32_value(&s->word, seen, (seen + UNIT) & ~(uint32_t)SLEEPERS, &seen));
	if (seen & SLEEPERS)
		crew__futex_wake(&s->word, 1, true);
	return 0;
}

int crew_semaphore_value(crew_semaphore semaphore)
{
	struct semaphore *s = handle_at(semaphore.handle, HANDLE_SEMAPHORE);

	return s ? (int)(ck_pr_load_32(&s->word) / UNIT) : crew__handle_reason(semaphore.handle);
}
