/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * event.c: a bit, how often it was set, and whether somebody sleeps for it, in one word.
 *
 * The count is what lets a sleeper see a set that was cleared before he woke. A setter who dies before his wake has set all the same: sleepers see it at the end of
 * their slice.
 */
#include <crew/lock.h>
#include <errno.h>

#include "ipc/object.h"
#include "ipc/patience.h"

enum { SET = 1, SLEEPERS = 2, ONCE = 4 };

struct event {
	uint64_t stamp;
	uint32_t word; /* everybody, atomically: times set × ONCE, SLEEPERS, SET */
};

crew_event crew_event_make(void)
{
	void *object;

	return (crew_event){ crew__handle_make(HANDLE_EVENT, sizeof(struct event), &object) };
}

int crew_event_drop(crew_event event)
{
	struct event *e = crew__handle_end(event.handle, HANDLE_EVENT);

	if (!e)
		return crew__handle_reason(event.handle);
	crew__futex_wake(&e->word, INT_MAX, true);
	crew__family_free(event.handle.place);
	return 0;
}

int crew_event_set(crew_event event)
{
	struct event *e = handle_at(event.handle, HANDLE_EVENT);
	uint32_t seen;

	if (unlikely(!e))
		return crew__handle_reason(event.handle);
	seen = ck_pr_load_32(&e->word);
	ck_pr_fence_release(); /* pairs with the acquire in has_come() */
	do
		if (seen & SET)
			return 0;
	while (!ck_pr_cas_32_value(&e->word, seen, ((seen + ONCE) | SET) & ~(uint32_t)SLEEPERS, &seen));
	if (seen & SLEEPERS)
		crew__futex_wake(&e->word, INT_MAX, true);
	return 0;
}

int crew_event_clear(crew_event event)
{
	struct event *e = handle_at(event.handle, HANDLE_EVENT);

	if (unlikely(!e))
		return crew__handle_reason(event.handle);
	ck_pr_and_32(&e->word, ~(uint32_t)SET);
	return 0;
}

bool crew_event_is_set(crew_event event)
{
	struct event *e = handle_at(event.handle, HANDLE_EVENT);

	return e && load_acquire_32(&e->word) & SET; /* pairs with the release in crew_event_set() */
}

/* Is it set, or has it been since `first`? */
static bool has_come(struct event *e, uint32_t first, uint32_t *ret_seen)
{
	*ret_seen = load_acquire_32(&e->word); /* pairs with the release in crew_event_set() */
	return *ret_seen & SET || *ret_seen / ONCE != first / ONCE;
}

int crew_event_wait(crew_event event, int ms)
{
	struct event *e = handle_at(event.handle, HANDLE_EVENT);
	struct patience patience;
	uint32_t first, seen;

	if (unlikely(!e))
		return crew__handle_reason(event.handle);
	first = ck_pr_load_32(&e->word);
	if (has_come(e, first, &seen))
		return 0;
	patience = patience_for(ms);
	while (!has_come(e, first, &seen)) {
		if (patience_is_over(&patience))
			return -ETIMEDOUT;
		if (!(seen & SLEEPERS) && !ck_pr_cas_32(&e->word, seen, seen | SLEEPERS))
			continue;
		patience_sleep(&patience, &e->word, seen | SLEEPERS); /* pairs with the wakes in crew_event_set() and _drop() */
		if (!handle_alive(e, event.handle))
			return CREW_EHANDLE;
	}
	return 0;
}
