/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backlogs.c: what waits behind more tasks than an executor has places for: urgent or not, with large arguments or small ones, and cancelled in between.
 */
#include <string.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, length, (crew_bytes, bytes))
{
	return (int)bytes.len;
}

enum { AHEAD = 1500, BEHIND = 300, LARGE = 2000 };

static int length_of(int i)
{
	return i % 2 ? LARGE : i % 50;
}

TEST_KIND(what_waits_far_behind_may_be_urgent_large_or_cancelled)
{
	static crew_future *ahead[AHEAD], *behind[BEHIND];
	static char text[LARGE];
	int y = -1;

	NOT_WHERE(IMMEDIATE | GROUPED, "nothing waits there, or as little as it is told");
	CREW_SCOPE (ex, kind_open(.workers = 1)) {
		GATE (g, ex);

		crew_submit(ex, held, g.bytes, 0);
		gate_await(g.at, 1);
		for (int i = 0; i < AHEAD; i++)
			ahead[i] = crew_submit(ex, length, crew_bytes_make(text, (size_t)length_of(i)));
		for (int i = 0; i < BEHIND; i++)
			behind[i] = crew_submit_with(ex, (.priority = i % 7), length, crew_bytes_make(text, (size_t)length_of(i)));
		for (int i = 0; i < BEHIND; i++)
			if (i % 7 == 6 || i % 3 == 0) /* all of the most urgent ones, too */
				CHECK_EQ(crew_future_cancel(behind[i], NULL), 1);
		gate_open(g.at);
		for (int i = 0; i < AHEAD; i++) {
			CHECK_EQ(crew_take(ahead[i], &y, NULL), 0);
			CHECK_EQ(y, length_of(i));
		}
		for (int i = 0; i < BEHIND; i++)
			if (i % 7 != 6 && i % 3 != 0) {
				CHECK_EQ(crew_take(behind[i], &y, NULL), 0);
				CHECK_EQ(y, length_of(i));
			}
	}
}
