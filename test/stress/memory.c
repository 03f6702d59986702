/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.c: what much work, and large work, costs in memory. The bounds are generous, but no leak stays within them. The figures are printed, which the runner
 * shows when a test fails.
 */
#include <crew/crew.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../runner.h"

struct figures {
	size_t rss, shared, maps;
};

static size_t status_of(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	char line[256];
	size_t kib = 0, n = strlen(name);

	while (file && fgets(line, sizeof line, file))
		if (strncmp(line, name, n) == 0)
			kib = strtoul(line + n, NULL, 10);
	if (file)
		fclose(file);
	return kib << 10;
}

/* With ThreadSanitizer only those of files: it keeps its own books in anonymous ones, a megabyte at a time, and more of them the more addresses it has seen. */
static size_t count_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned long inode;
	char line[512];
	size_t count = 0;

	while (file && fgets(line, sizeof line, file))
		count += !TEST_TSAN || (sscanf(line, "%*s %*s %*s %*s %lu", &inode) == 1 && inode);
	if (file)
		fclose(file);
	return count;
}

static size_t files_of_memory(void)
{
	char path[64], link[64];
	size_t sum = 0;
	struct stat st;

	for (int fd = 3; fd < 200; fd++) {
		ssize_t n;

		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		n = readlink(path, link, sizeof link - 1);
		if (n > 12 && memcmp(link, "/memfd:crew-", 12) == 0 && fstat(fd, &st) == 0)
			sum += (size_t)st.st_blocks * 512;
	}
	return sum;
}

static struct figures look(const char *when)
{
	struct figures f = { status_of("/proc/self/status", "RssAnon:"), files_of_memory(), count_maps() };

	fprintf(stderr, "%-10s private %7.1f MiB, shared %7.1f MiB, %zu mappings\n", when, (double)f.rss / 1048576, (double)f.shared / 1048576, f.maps);
	return f;
}

CREW_TASK(size_t, wait_and_echo, (crew_bytes, gate), (size_t, i))
{
	while (!__atomic_load_n((int *)gate.data, __ATOMIC_ACQUIRE))
		usleep(1000);
	return i;
}
CREW_TASK(size_t, just_echo, (size_t, i))
{
	return i;
}

/* A million futures that wait cost private memory only, about 100 bytes each; submitting never waits for anybody, though no worker
   takes anything; and when they are done and given back it is as before. */
TEST_WITHIN(a_million_pending_futures_cost_no_shared_memory, 240)
{
	size_t n = test_scaled(1000000), y;
	crew_future **fs = malloc(n * sizeof *fs);
	struct figures before, open, during, done, after;

	memset(fs, 0, n * sizeof *fs);
	before = look("before");
	CREW_SCOPE (ex, crew_processes(4)) {
		crew_bytes gate = crew_shared_alloc(ex, sizeof(int));

		open = look("open");
		for (size_t i = 0; i < 4; i++)
			CHECK_EQ(crew_post(ex, wait_and_echo, gate, i), 0);
		for (size_t i = 0; i < n; i++)
			fs[i] = crew_submit(ex, just_echo, i);
		during = look("pending");
		__atomic_store_n((int *)gate.data, 1, __ATOMIC_RELEASE);
		for (size_t i = 0; i < n; i++) {
			CHECK_EQ(crew_take(fs[i], &y, NULL), 0);
			CHECK_EQ(y, i);
		}
		done = look("done");
		crew_shared_free(ex, gate);
	}
	after = look("closed");
	CHECK_LE(during.shared, open.shared + (4 << 20));
	CHECK_LE(during.maps, open.maps + n / 1000 + 100);
	if (!TEST_ASAN && !TEST_TSAN) { /* which keep and map their own */
		CHECK_LE(during.rss, open.rss + n * 160 + (8 << 20));
		/* records are kept for the next ones, and up to 16 MiB of what held those in the queue */
		CHECK_LE(done.rss, open.rss + n * 32 + (n < 1 << 18 ? n * 64 : 16 << 20) + (8 << 20));
		CHECK_LE(after.rss, before.rss + (8 << 20));
		CHECK_LE(after.maps, before.maps + 40);
	}
	CHECK_LE(after.shared, before.shared + 65536);
	free(fs);
}

/* ---- millions that come and go ---- */

/* After the first turns a pool has what it needs, and the next ten million tasks (STRESS=1000: a hundred) take nothing more but, when the workers are slow for once,
   what holds one turn's tasks at the same time. */
static void turn_over(crew_executor *ex, size_t n)
{
	enum { TURN = 50000 };
	size_t y, turns = test_scaled(n) / TURN + 20;
	struct figures warm = { 0, 0, 0 }, end;

	for (size_t t = 0; t < turns; t++) {
		for (size_t i = 0; i < TURN; i++)
			CHECK_EQ(crew_post(ex, just_echo, i), 0);
		CHECK_EQ(crew_run(ex, &y, just_echo, t), 0);
		CHECK_EQ(y, t);
		CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
		if (t == 10)
			warm = look("warm");
	}
	end = look("at the end");
	if (!TEST_ASAN && !TEST_TSAN)
		CHECK_LE(end.rss, warm.rss + TURN * 96 + (1 << 20));
	CHECK_LE(end.shared, warm.shared + (1 << 20));
	CHECK_LE(end.maps, warm.maps + 20);
}
TEST_WITHIN(millions_of_tasks_on_threads_leave_nothing, 240)
{
	CREW_SCOPE (ex, crew_threads(2))
		turn_over(ex, 10000000);
}
TEST_WITHIN(millions_of_tasks_on_processes_leave_nothing, 240)
{
	CREW_SCOPE (ex, crew_processes(2))
		turn_over(ex, 5000000);
}

/* ---- gigabytes ---- */

CREW_TASK(crew_bytes, echo_bytes, (crew_bytes, in))
{
	return crew_result_copy(in.data, in.len);
}

/* One byte of each page says where it is. */
static void stamp(crew_bytes at)
{
	for (size_t i = 0; i < at.len; i += 4096)
		((unsigned char *)at.data)[i] = (unsigned char)(i >> 12) ^ (unsigned char)(i >> 28);
	((unsigned char *)at.data)[at.len - 1] = 0x5a;
}

static bool is_stamped(crew_bytes at, size_t n)
{
	for (size_t i = 0; i + 1 < at.len; i += 4096)
		if (((unsigned char *)at.data)[i] != ((unsigned char)(i >> 12) ^ (unsigned char)(i >> 28)))
			return false;
	return at.len == n && ((unsigned char *)at.data)[n - 1] == 0x5a;
}

static void send_gigabytes(size_t n)
{
	crew_bytes in = { NULL, n }, y;

	if (test_scaled(1) < 10)
		SKIP("takes gigabytes of memory: STRESS=1000");
	if (status_of("/proc/meminfo", "MemAvailable:") < 3 * n + ((size_t)2 << 30))
		SKIP("there is not so much memory");
	in.data = malloc(n);
	stamp(in);
	CREW_SCOPE (ex, crew_processes(1)) {
		for (int round = 0; round < 2; round++) {
			CHECK_EQ(crew_take(crew_submit(ex, echo_bytes, in), &y, NULL), 0);
			CHECK(is_stamped(y, n));
			crew_bytes_free(y);
		}
	}
	free(in.data);
}

TEST_WITHIN(a_gigabyte_goes_there_and_back, 120)
{
	send_gigabytes(((size_t)1 << 30) + 4097);
}

TEST_WITHIN(more_than_four_gigabytes_go_there_and_back, 240)
{
	send_gigabytes(((size_t)4 << 30) + 4097);
}

/* More than the machine has is an error of its task, and no reason for the kernel to kill anybody. */
TEST_WITHIN(more_than_the_machine_has_is_an_error, 60)
{
	size_t n = status_of("/proc/meminfo", "MemTotal:");

	CREW_SCOPE (ex, crew_processes(1)) {
		crew_bytes y, none = crew_shared_alloc(ex, n);
		size_t i;

		CHECK(!none.data);
		for (int round = 0; round < 2; round++) {
			crew_future *f = crew_submit(ex, echo_bytes, crew_bytes_make("abc", 3));

			CHECK_EQ(crew_take(f, &y, NULL), 0);
			CHECK_EQ(y.len, 3u);
			crew_bytes_free(y);
		}
		CHECK_EQ(crew_run(ex, &i, just_echo, (size_t)5), 0);
	}
}
