/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * leases.c: large results, whose memory passes from a worker to the parent, when one of the two ends, and when a worker lies about them. The oracle is the
 * memory file itself: how many pages it has says what is still kept for somebody.
 */
#include <crew/crew.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "census.h"
#include "process/ring.h"
#include "runner.h"

enum { MIB = 1 << 20 };

CREW_TASK(crew_bytes, painted, (size_t, n), (int, colour))
{
	crew_bytes out = crew_result_alloc(n);

	if (out.data)
		memset(out.data, colour, n);
	return out;
}

CREW_TASK(crew_bytes, die_with_a_result, (size_t, n))
{
	memset(crew_result_alloc(n).data, 1, n);
	raise(SIGKILL);
	return crew_bytes_make(NULL, 0);
}

CREW_TASK(size_t, take_bytes, (crew_bytes, in))
{
	return in.len;
}

static bool is_painted(crew_bytes y, size_t n, int colour)
{
	const unsigned char *p = y.data;

	for (size_t i = 0; i < y.len; i++)
		if (p[i] != colour)
			return false;
	return y.len == n;
}

/* Bytes of memory that the library's files have, all together. */
static size_t memory_in_use(void)
{
	char path[64], link[64];
	size_t sum = 0;
	struct stat st;
	ssize_t n;

	for (int fd = 3; fd < 200; fd++) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		n = readlink(path, link, sizeof link - 1);
		if (n <= 0)
			continue;
		link[n] = '\0';
		if (strncmp(link, "/memfd:crew-", 12) == 0 && fstat(fd, &st) == 0)
			sum += (size_t)st.st_blocks * 512;
	}
	return sum;
}

/* It goes back when nothing was taken for a while; how soon is not promised. */
static size_t await_memory_below(size_t limit)
{
	const struct timespec pause = { 0, 10000000 };

	while (memory_in_use() > limit)
		nanosleep(&pause, NULL);
	return memory_in_use();
}

/* Until the place of a worker is filled again. */
static void await_other_worker(crew_executor *ex, pid_t old)
{
	const struct timespec pause = { 0, 1000000 };
	pid_t pid;

	while ((pid = crew_executor_worker_pid(ex, 0)) == 0 || pid == old)
		nanosleep(&pause, NULL);
}

/* What a worker answered counts and stays, taken or not, whatever becomes of the worker; all else it had goes back. */
TEST_WITHIN(results_of_a_killed_worker_stay_valid, 60)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		size_t before;
		pid_t pid;

		CHECK_EQ(crew_future_wait(crew_submit(ex, painted, (size_t)100, 1), CREW_FOREVER), 0);
		before = memory_in_use();
		for (int round = 0; round < 5; round++) {
			crew_future *f[6];
			crew_bytes y[6];

			for (int i = 0; i < 6; i++)
				f[i] = crew_submit(ex, painted, i < 5 ? (size_t)300000 : 9 * (size_t)MIB, i + 1);
			for (int i = 0; i < 6; i++)
				CHECK_EQ(crew_future_wait(f[i], CREW_FOREVER), 0);
			for (int i = 0; i < 3; i++)
				CHECK_EQ(crew_take(f[i], &y[i], NULL), 0);
			pid = crew_executor_worker_pid(ex, 0);
			kill(pid, SIGKILL);
			await_other_worker(ex, pid);
			for (int i = 3; i < 6; i++)
				CHECK_EQ(crew_take(f[i], &y[i], NULL), 0);
			CHECK_EQ(crew_future_wait(crew_submit(ex, painted, (size_t)300000, 9), CREW_FOREVER), 0);
			for (int i = 0; i < 6; i++) {
				CHECK(is_painted(y[i], i < 5 ? (size_t)300000 : 9 * (size_t)MIB, i + 1));
				crew_bytes_free(y[i]);
			}
		}
		pid = crew_executor_worker_pid(ex, 0);
		kill(pid, SIGKILL);
		await_other_worker(ex, pid);
		await_memory_below(before + 5 * 330000 + MIB / 2); /* five futures are still the executor's */
	}
}

/* A worker that dies over a result leaves nothing of it behind. */
TEST_WITHIN(an_unfinished_result_goes_with_its_worker, 60)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		size_t before;

		CHECK_EQ(crew_future_wait(crew_submit(ex, painted, (size_t)100, 1), CREW_FOREVER), 0);
		before = memory_in_use();
		for (int i = 0; i < 6; i++) {
			crew_future *f = crew_submit(ex, die_with_a_result, i % 2 ? (size_t)200000 : 20 * (size_t)MIB);

			CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
			CHECK_EQ(crew_future_error(f)->code, CREW_EWORKER);
		}
		await_memory_below(before + MIB);
	}
}

/* After a burst of arguments, results and shared memory the pages are the system's again, while the executor lives. */
TEST_WITHIN(memory_goes_back_after_a_burst, 60)
{
	enum { RESULTS = 60 };

	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes in = { calloc(1, 16 * MIB), 16 * MIB }, y[RESULTS], shared = crew_shared_alloc(ex, 16 * MIB);
		size_t before = memory_in_use(), during, length;

		for (int i = 0; i < RESULTS; i++)
			CHECK_EQ(crew_take(crew_submit(ex, painted, (size_t)MIB, i), &y[i], NULL), 0);
		do { /* it may have gone back by the time that it is looked at */
			CHECK_EQ(crew_run(ex, &length, take_bytes, in), 0);
			CHECK_EQ(crew_run(ex, &length, take_bytes, shared), 0);
			during = memory_in_use();
		} while (during < before + (RESULTS + 16) * (size_t)MIB);
		for (int i = 0; i < RESULTS; i++) {
			CHECK(is_painted(y[i], MIB, i));
			crew_bytes_free(y[i]);
		}
		crew_shared_free(ex, shared);
		await_memory_below(before - 15 * MIB);
		free(in.data);
	}
}

/* After the close only what was taken is left, and when that is given back nothing is (the runner looks for descriptors and mappings). */
TEST(a_closed_executor_keeps_the_pages_of_what_was_taken_only)
{
	crew_bytes y[3];

	CREW_SCOPE (ex, crew_processes(2)) {
		for (int i = 0; i < 20; i++)
			CHECK_EQ(crew_future_wait(crew_submit(ex, painted, (size_t)MIB, i), CREW_FOREVER), 0);
		for (int i = 0; i < 3; i++)
			CHECK_EQ(crew_take(crew_submit(ex, painted, (size_t)MIB, i), &y[i], NULL), 0);
	}
	CHECK_GE(memory_in_use(), 3 * (size_t)MIB);
	CHECK_LE(memory_in_use(), 4 * (size_t)MIB);
	for (int i = 0; i < 3; i++) {
		CHECK(is_painted(y[i], MIB, i));
		crew_bytes_free(y[i]);
	}
}

/* ---- lies ---- */

static struct ring ring_of_one(void)
{
	struct geometry geometry;
	struct ring ring;

	crew__ring_measure(&geometry, 1, 0, 1);
	crew__ring_attach(&ring, &geometry, census_mapping("/memfd:crew-pub"), census_mapping("/memfd:crew-rw"), census_mapping("/memfd:crew-blocks"));
	return ring;
}

/* Answer that the result lies there, and stay. */
CREW_TASK(crew_bytes, claim_that_it_lies, (uint64_t, offset), (uint64_t, size), (uint32_t, kind))
{
	struct ring r = ring_of_one();
	uint64_t ticket = r.rw->head - 1;
	struct extent extent = { offset, size };

	crew_result_alloc(200000);
	memcpy(r.wide[ticket & r.mask], &extent, sizeof extent);
	ring_answer(&r, ticket)->about = kind;
	store_release_32(&ring_answer(&r, ticket)->ticket, (uint32_t)ticket);
	for (;;)
		pause();
	return crew_bytes_make(NULL, 0);
}

/* An answer that names memory which is somebody else's, or nobody's, is believed nowhere. */
TEST_WITHIN(a_result_where_it_cannot_lie_is_eproto, 60)
{
	static const uint64_t odd[][2] = { { 0, 0 },	      { UINT64_MAX, 2 },      { 0, UINT64_MAX },	 { 1, UINT64_MAX - 1 },
					   { 1ull << 33, 9 }, { 1ull << 62, 1ull << 62 }, { 0, (4 << 20) + 1 }, { UINT64_MAX - 70000, 70000 } };

	CREW_SCOPE (ex, crew_processes(1)) {
		crew_bytes first, own;
		uint64_t at;

		CHECK_EQ(crew_result(crew_submit(ex, painted, (size_t)100000, 5), &first), 0);
		at = (uint64_t)((unsigned char *)first.data - ring_of_one().out);
		for (size_t i = 0; i < 3 * (sizeof odd / sizeof odd[0]); i++) {
			const uint64_t *o = odd[i / 3];
			crew_future *f = crew_submit(ex, claim_that_it_lies, o[0], o[1], (uint32_t)(ANSWER_LARGE + i % 3));

			CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
			CHECK_EQ(crew_future_error(f)->code, CREW_EPROTO);
		}
		for (int i = 0; i < 2; i++) { /* what another result has: in its worker's own stock, and in one that was its predecessor's */
			crew_future *f = crew_submit(ex, claim_that_it_lies, at, (uint64_t)100000, (uint32_t)ANSWER_BLOCK);

			CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
			CHECK_EQ(crew_future_error(f)->code, CREW_EPROTO);
			CHECK_EQ(crew_result(crew_submit(ex, painted, (size_t)100000, 6), &own), 0);
			at = (uint64_t)((unsigned char *)own.data - ring_of_one().out);
		}
		CHECK(is_painted(first, 100000, 5));
		CHECK(is_painted(own, 100000, 6));
	}
}

/* A worker may write over what it has answered: text still ends where it did. */
CREW_TASK(const char *, long_line, (size_t, n))
{
	crew_bytes out = crew_result_alloc(n + 1);

	memset(out.data, 'l', n);
	((char *)out.data)[n] = '\0';
	return out.data;
}

CREW_TASK(int, write_over_results)
{
	struct ring r = ring_of_one();
	const struct orders *orders = &r.orders[0];

	memset(r.out + orders->offset, 'x', orders->size);
	for (int i = 0; i < STOCKS; i++)
		memset(r.out + orders->stock[i].offset, 'x', orders->stock[i].size);
	return 1;
}

TEST(text_ends_whatever_its_worker_writes_later)
{
	static const size_t lengths[] = { 100, 5000, 40000, 100000, 5 << 20 };

	CREW_SCOPE (ex, crew_processes(1)) {
		crew_future *f[5];
		const char *y;
		int ok;

		for (int i = 0; i < 5; i++) {
			f[i] = crew_submit(ex, long_line, lengths[i]);
			CHECK_EQ(crew_future_wait(f[i], CREW_FOREVER), 0);
		}
		CHECK_EQ(crew_run(ex, &ok, write_over_results), 0);
		for (int i = 0; i < 5; i++) {
			CHECK_EQ(crew_result(f[i], &y), 0);
			CHECK_EQ(strlen(y), lengths[i]);
		}
	}
}
