/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scribbles.c: workers that write where they can: over claim words, counters, answers, journals. What is promised: the parent neither crashes nor hangs,
 * every future completes, and the executor can be closed. Other tasks of the same executor may be spoilt.
 *
 * The tasks find the memory like a stray pointer would: it is mapped. What is mapped read-only they cannot touch at all.
 */
#include <crew/crew.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "census.h"
#include "process/ring.h"
#include "runner.h"

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

CREW_TASK(crew_bytes, squares, (long, x))
{
	crew_bytes out = crew_result_alloc(20000 * (size_t)(x % 10 + 1));

	memset(out.data, (int)x, out.len);
	return out;
}

static struct ring ring_of(uint32_t workers)
{
	struct geometry geometry;
	struct ring ring;

	crew__ring_measure(&geometry, workers, 0, 1);
	crew__ring_attach(&ring, &geometry, census_mapping("/memfd:crew-pub"), census_mapping("/memfd:crew-rw"), census_mapping("/memfd:crew-blocks"));
	return ring;
}

enum { HEAD_FORWARD, HEAD_BACK, CLAIMS, ANSWERS, IDLE_BITS, JOURNALS, LOGS, REQUESTS, ROOMS, PHASES, BELLS, RANDOM, WHATS };

static uint64_t mix(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	return z ^ (z >> 31);
}

static void fill(void *at, size_t n, uint64_t *state)
{
	for (size_t i = 0; i < n; i++)
		((unsigned char *)at)[i] = (unsigned char)mix(state);
}

/* Scribble and go on as if nothing had happened. Never a word of the real protocol's: any of these may be half-way through. */
CREW_TASK(int, scribble, (int, what), (long, seed))
{
	struct ring r = ring_of(2);
	uint64_t state = (uint64_t)seed;

	switch (what) {
	case HEAD_FORWARD:
		r.rw->head += 1 + mix(&state) % 100000;
		break;
	case HEAD_BACK:
		r.rw->head -= 1 + mix(&state) % 2000;
		break;
	case CLAIMS:
		fill(r.claims, r.geometry.slots * sizeof *r.claims, &state);
		break;
	case ANSWERS:
		fill(r.answers, r.geometry.slots * sizeof *r.answers, &state);
		fill(r.wide, r.geometry.slots * WIDE_SIZE, &state);
		break;
	case IDLE_BITS:
		fill(r.rw->parked, sizeof r.rw->parked, &state);
		fill(r.rw->searching, sizeof r.rw->searching, &state);
		fill(r.rw->asking, sizeof r.rw->asking, &state);
		break;
	case JOURNALS:
		r.reports[0].journal = mix(&state);
		r.reports[1].journal = mix(&state);
		break;
	case LOGS:
		fill(r.reports[0].log, sizeof r.reports[0].log, &state);
		r.reports[0].logged += (uint32_t)mix(&state);
		break;
	case REQUESTS:
		for (int i = 0; i < 2; i++) {
			r.reports[i].want = mix(&state);
			r.reports[i].wanted = (uint32_t)mix(&state) % 5;
			r.reports[i].asked = (uint32_t)mix(&state);
		}
		r.rw->asking[0] = 3;
		break;
	case ROOMS: /* all that any worker was granted, and requests that give it up under their feet */
		for (int i = 0; i < 2; i++) {
			fill(r.out + r.orders[i].offset, r.orders[i].size, &state);
			for (int k = 0; k < STOCKS; k++)
				fill(r.out + r.orders[i].stock[k].offset, r.orders[i].stock[k].size, &state);
			r.reports[i].want = mix(&state) % 3 * 100000;
			r.reports[i].wanted = (uint32_t)mix(&state) % (WANT_GRANT + 1);
			r.reports[i].asked++;
		}
		r.rw->asking[0] = 3;
		break;
	case PHASES:
		r.reports[0].phase = (uint32_t)mix(&state);
		r.reports[1].phase = (uint32_t)mix(&state);
		r.rw->average = (uint32_t)mix(&state);
		break;
	case BELLS:
		r.reports[0].bell = (uint32_t)mix(&state);
		r.reports[1].bell = (uint32_t)mix(&state);
		break;
	case RANDOM:
		for (int i = 0; i < 64; i++)
			((unsigned char *)r.rw)[mix(&state) % r.geometry.rw_used] = (unsigned char)mix(&state);
		break;
	}
	return what;
}

/* Whatever becomes of the tasks, they end, and so does the executor. */
static void scribbled(int what, size_t rounds)
{
	for (size_t round = 0; round < rounds; round++) {
		CREW_SCOPE (ex, crew_processes(.workers = 2, .grace_ms = 50)) {
			long seed = (long)test_random();
			crew_future *fs[64];

			for (int i = 0; i < 64; i++)
				fs[i] = i == 20 ? crew_submit(ex, scribble, what, seed) : i % 4 ? crew_submit(ex, square, i) : crew_submit(ex, squares, i);
			for (int i = 0; i < 64; i++)
				CHECK_NE(crew_future_wait(fs[i], 20000), -ETIMEDOUT);
		}
	}
}

TEST_WITHIN(the_parent_survives_a_scribbled_head, 120)
{
	scribbled(HEAD_FORWARD, test_scaled(5));
	scribbled(HEAD_BACK, test_scaled(5));
}

TEST_WITHIN(the_parent_survives_scribbled_claims, 120)
{
	scribbled(CLAIMS, test_scaled(5));
}

TEST_WITHIN(the_parent_survives_scribbled_answers, 120)
{
	scribbled(ANSWERS, test_scaled(10));
}

TEST_WITHIN(the_parent_survives_scribbled_bits_and_bells, 120)
{
	scribbled(IDLE_BITS, test_scaled(5));
	scribbled(BELLS, test_scaled(5));
}

TEST_WITHIN(the_parent_survives_scribbled_reports, 120)
{
	scribbled(JOURNALS, test_scaled(5));
	scribbled(LOGS, test_scaled(5));
	scribbled(REQUESTS, test_scaled(5));
	scribbled(ROOMS, test_scaled(20));
	scribbled(PHASES, test_scaled(5));
}

TEST_WITHIN(the_parent_survives_random_bytes, 120)
{
	scribbled(RANDOM, test_scaled(40));
}

/* What the parent alone writes cannot be written, nor made writable. */
CREW_TASK(int, write_to_pub)
{
	unsigned char *pub = census_mapping("/memfd:crew-pub");

	if (mprotect(pub, 4096, PROT_READ | PROT_WRITE) == 0)
		return 1;
	*(volatile unsigned char *)pub = 1;
	return 2;
}

TEST(workers_cannot_write_what_is_the_parents)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		crew_future *f = crew_submit(ex, write_to_pub);

		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->signal, SIGSEGV);
	}
}

/* An answer that cannot be fails its task with a code of its own, and costs the worker its life. */
CREW_TASK(crew_bytes, answer_nonsense)
{
	struct ring r = ring_of(1);

	for (uint32_t i = 0; i < r.geometry.slots; i++) { /* its own slot is among them: about and extent are written after this, in vain … */
		r.answers[i].about = 99;
	}
	return crew_result_copy("x", 1);
}

CREW_TASK(int, claim_it_is_done)
{
	struct ring r = ring_of(1);
	uint64_t ticket = r.rw->head - 1;

	ring_answer(&r, ticket)->about = 99; /* … so publish it ourselves and stay */
	store_release_32(&ring_answer(&r, ticket)->ticket, (uint32_t)ticket);
	for (;;)
		pause();
	return 0;
}

TEST(an_answer_that_cannot_be_is_eproto)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		crew_future *f = crew_submit(ex, claim_it_is_done);
		crew_bytes bytes;
		long y;

		CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(f)->code, CREW_EPROTO);
		CHECK_EQ(crew_run(ex, &bytes, answer_nonsense), 0);
		CHECK_EQ(bytes.len, 1u);
		crew_bytes_free(bytes);
		CHECK_EQ(crew_run(ex, &y, square, 6), 0);
		CHECK_EQ(y, 36);
	}
}
