/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * search.h: what the parts of the scheduler say to each other. Scenarios need scheduler.h only.
 *
 *	operations.h → steps.c ──────┐                            ┌→ choices.c    which option is taken
 *	libc's calls → host_calls.c ─┴→ step_begins → scheduler.c ┼→ fiber.c      the switch
 *	                                              ↑           └→ account.c, shared_places.c
 *	                            search.c: one schedule after the other
 */
#ifndef CREW_TEST_SEARCH_H
#define CREW_TEST_SEARCH_H

#include "interleaving/fiber.h"
#include "interleaving/scheduler.h"

#define FOR_EVER UINT64_MAX
#define CALL_SITE __builtin_return_address(0)

enum step_kind {
	STEP_LOAD, STEP_STORE, STEP_CAS, STEP_CAS_LOST, STEP_UPDATE, STEP_FENCE, STEP_LOCK, STEP_UNLOCK, STEP_SLEEP, STEP_WAKE, STEP_CALL,
	STEP_YIELD, STEP_END,
	STEP_FLUSH, STEP_KILL, STEP_TIMEOUT /* nobody's own */
};

enum waiting_for { FOR_NOTHING, FOR_WORD, FOR_MUTEX, FOR_THREAD, FOR_OTHERS, FOR_ROUSE };

/* ---- scheduler.c ---- */

/* The next step of this thread is that; others may go first. `site` is where lib/ called from. False: this is no thread of a schedule. */
bool step_begins(enum step_kind kind, const void *p, const void *site);
void step_progress(void);	/* something changed: whoever spins may look again */
/* Sleep. True: its time was up. */
bool step_waits(enum waiting_for what, const void *p, uint64_t deadline);
void step_wakes(enum waiting_for what, const void *p, int count);
int step_thread_start(void *(*start)(void *), void *arg); /* its number; -1: too many */
bool schedule_is_quiet(void);
void schedule_signal(int pidfd, int signal);
void schedule_written(int fd);
uint64_t *schedule_clock(void);
void schedule_run(const struct scenario *scenario, int preemptions); /* once, as choices.c says */

/* ---- choices.c ---- */
int schedule_choose(int options); /* 0 … options - 1 */
void choices_begin(void);	   /* a schedule */
bool choices_next(void);	   /* another one; false: there is none */
void choices_restart(void);
void choices_read(const char *text); /* as choices_show() prints them */
void choices_show(void);

/* ---- account.c: the steps of a schedule, for whoever has to understand it ---- */
struct step {
	const void *p, *site;
	uint64_t value;
	uint8_t kind, thread;
};
void account_begin(void);
void account_step(enum step_kind kind, int thread, const void *p, const void *site);
void step_was(uint64_t value); /* what it read or wrote */
void step_lost(void);	       /* the CAS */
int account_count(void);
const struct step *account_at(int i);
void account_show(void);

/* ---- shared_places.c ---- */
void places_begin(void);
bool site_is_shared(const void *site);
void place_used(enum step_kind kind, int thread, const void *p, const void *site);
bool places_grew(void); /* in this schedule some code turned out to be shared */

/* ---- search.c ---- */
bool schedule_runs(void); /* this process explores: libc's part is played by host_calls.c */

/* ---- steps.c ---- */
bool buffer_holds(int thread);	/* stores that nobody else sees yet */
bool buffer_flush_one(int thread); /* the oldest */
void buffer_flush(int thread);
bool buffer_any(void);
void buffer_reset(int delays);
uint64_t memory_read(const void *p, unsigned int size); /* as this thread sees it */

/* ---- host_calls.c ---- */
void host_reset(void);
void host_check_memory(const void *p, const void *site); /* fails the schedule when it was freed */
void host_thread_ends(void);
void host_free_all(void);
long host_blocks(void); /* of memory, made and not freed */

/* ---- late_steps.c: of this thread, until the end of its next unlock ---- */
void late_reset(void);
void late_update(void *p, enum step_update what, uint64_t v, unsigned int size);
void late_read(int fd);
void late_catch_up(void);

/* ---- call_sites.c ---- */
void site_name(char *text, unsigned long size, const void *site);
void fault_set(const struct fault *fault);
bool fault_at(enum fault_kind kind, const void *site);
bool fault_covers(const void *site); /* of whatever kind */
bool fault_reached(void);

#endif
