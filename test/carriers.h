/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * carriers.h: one sentence, and whoever may be on the other side: a thread, a forked child, a child of every start method, a worker of a process
 * executor.
 *
 *	static void put_seven(const void *arg) { … *(const crew_queue *)arg … }
 *
 *	TEST_CARRIED(an_item_comes_out_at_the_other_side)
 *	{
 *		crew_queue q = crew_queue_make(.item = sizeof(int));
 *		carry(put_seven, &q, sizeof q);		starts it; arg is copied, as arguments of tasks are
 *		…
 *		carried_join();				all that were started have ended, well
 *	}
 */
#ifndef CREW_TEST_CARRIERS_H
#define CREW_TEST_CARRIERS_H

#include <crew/crew.h>

#include "runner.h"

typedef void carried_fn(const void *arg);

void carry(carried_fn *fn, const void *arg, size_t n);
void carried_join(void);

struct carrier;
bool carrier_is_thread(void);

void carrier_register(const char *name, const char *file, int line, int seconds, void (*run)(const void *carrier));
void carrier_run(const void *carrier, void (*body)(void));

#define TEST_CARRIED(name_) TEST_CARRIED_WITHIN(name_, 30)
#define TEST_CARRIED_WITHIN(name_, seconds_)                                                \
	static void name_(void);                                                            \
	static void name_##_run(const void *carrier_)                                       \
	{                                                                                   \
		carrier_run(carrier_, name_);                                               \
	}                                                                                   \
	__attribute__((__constructor__)) static void name_##_register(void)                 \
	{                                                                                   \
		carrier_register(#name_, __FILE__, __LINE__, seconds_, name_##_run);        \
	}                                                                                   \
	static void name_(void)

#endif
