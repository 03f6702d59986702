/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exhaustions.c: what the machine itself runs out of: memory of a control group, so that the kernel kills; room in the file system of shared memory; room on a stack. What
 * a process may have by its own limits is in scarcity.c.
 *
 * Groups and mounts take root, and a kernel that has them; where they cannot be had the test says so and is skipped.
 */
#include <crew/crew.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

/* ---- the kernel kills ---- */

enum { GROUP_BYTES = 48 << 20, EATEN = 256 << 20 };

static bool write_file(const char *folder, const char *name, const char *text)
{
	char path[300];
	int fd;
	bool good;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	good = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return good;
}

/* A group of either version; its folder. False: none can be had. */
static bool make_group(char *folder, size_t size)
{
	static const char *const roots[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };
	char limit[24];

	snprintf(limit, sizeof limit, "%d", GROUP_BYTES);
	for (int i = 0; i < 2; i++) {
		snprintf(folder, size, "%s/crew-test-%d", roots[i], (int)getpid());
		if (mkdir(folder, 0700))
			continue;
		if (write_file(folder, i ? "memory.max" : "memory.limit_in_bytes", limit)) {
			write_file(folder, i ? "memory.swap.max" : "memory.memsw.limit_in_bytes", i ? "0" : limit); /* where there is swap */
			return true;
		}
		rmdir(folder);
	}
	return false;
}

/* More than its group has, page by page. */
CREW_TASK(int, eat, (const char *, folder))
{
	char pid[24];
	unsigned char *at;

	snprintf(pid, sizeof pid, "%d", (int)getpid());
	if (!write_file(folder, "cgroup.procs", pid))
		return -1;
	at = mmap(NULL, EATEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return -2;
	for (size_t i = 0; i < EATEN; i += 4096)
		at[i] = 1;
	return 0;
}

TEST_WITHIN(a_worker_that_the_kernel_kills_for_its_memory_costs_one_task, 60)
{
	char folder[200];
	long y;

	if (TEST_ASAN || TEST_TSAN)
		SKIP("a sanitizer needs more memory than that");
	if (!make_group(folder, sizeof folder))
		SKIP("no control group of memory can be made here");
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_future *fs[100], *bad = NULL;

		for (int i = 0; i < 100; i++) {
			if (i == 50)
				bad = crew_submit(ex, eat, folder);
			fs[i] = crew_submit(ex, square, i);
		}
		for (int i = 0; i < 100; i++)
			CHECK(crew_result(fs[i], &y) == 0 && y == (long)i * i);
		CHECK_EQ(crew_future_wait(bad, CREW_FOREVER), CREW_ERAISED);
		CHECK_EQ(crew_future_error(bad)->code, CREW_EWORKER);
		CHECK_EQ(crew_future_error(bad)->signal, SIGKILL);
		CHECK_GE(crew_future_error(bad)->max_rss_kib, 1000);
		CHECK(crew_run(ex, &y, square, 9) == 0 && y == 81);
	}
	while (rmdir(folder) && errno == EBUSY) /* the kernel takes the dead out of it when it comes to that */
		sched_yield();
}

/* ---- a full /dev/shm ---- */

enum { SHM_BYTES = 64 << 10, NO_MOUNT = 77 };

static void fill_shm(void)
{
	char bytes[4096] = { 1 };
	int fd = open("/dev/shm/crew-filler", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	while (write(fd, bytes, sizeof bytes) > 0)
		;
	CHECK_EQ(errno, ENOSPC);
	close(fd);
}

static void work_without_shm(void)
{
	crew_block named;
	long y;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=64k"))
		_exit(NO_MOUNT);
	named = crew_block_make("crew-large", 1 << 20); /* more than it has: an error now, no signal later */
	CHECK_EQ(crew_handle_error(named), -ENOSPC);
	fill_shm();
	named = crew_block_make("crew-small", 4096);
	CHECK_EQ(crew_handle_error(named), -ENOSPC);
	CREW_SCOPE (ex, crew_threads(2))
		CHECK(crew_run(ex, &y, square, 4) == 0 && y == 16);
	CREW_SCOPE (ex, crew_processes(2)) { /* whose memory has no name and lies elsewhere */
		crew_bytes block = crew_shared_alloc(ex, 1 << 20);

		CHECK(block.data != NULL);
		memset(block.data, 1, block.len);
		CHECK(crew_run(ex, &y, square, 4) == 0 && y == 16);
		crew_shared_free(ex, block);
	}
	exit(0);
}

TEST_WITHIN(a_full_shm_is_an_error_and_no_signal, 60)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0)
		work_without_shm();
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_MOUNT)
		SKIP("nothing can be mounted here");
	CHECK_EQ(status, 0);
}

/* ---- stacks ---- */

/* The smallest that the system gives to any thread. */
TEST(sixteen_kilobytes_of_stack_are_enough)
{
	long y;

	if (TEST_ASAN || TEST_TSAN)
		SKIP("a sanitizer needs more stack than that");
	CREW_SCOPE (ex, crew_threads(.workers = 2, .stack_size = 16 << 10))
		for (long i = 0; i < 100; i++)
			CHECK(crew_run(ex, &y, square, i) == 0 && y == i * i);
	CREW_SCOPE (ex, crew_processes(.workers = 2, .stack_size = 16 << 10))
		for (long i = 0; i < 100; i++)
			CHECK(crew_run(ex, &y, square, i) == 0 && y == i * i);
	CREW_SCOPE (ex, crew_threads(.workers = 2, .stack_size = 8 << 10))
		CHECK_EQ(crew_executor_error(ex, NULL), -EINVAL); /* less is refused, not tried */
}
