/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * families.c: the memory that all processes of a program share (lib/ipc/family.h).
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../runner.h"
#include "ipc/cell.h"
#include "ipc/object.h"

static uint64_t alloc(size_t n)
{
	uint64_t offset = 0;

	CHECK_EQ(crew__family_alloc(n, &offset), 0);
	return offset;
}

static bool filled(uint64_t offset, size_t n, int byte)
{
	const unsigned char *p = crew__family_at(offset);

	for (size_t i = 0; i < n; i++)
		if (p[i] != byte)
			return false;
	return true;
}

/* Runs body in a forked child; its exit status. */
static int in_child(int (*body)(void *), void *arg)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(body(arg));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Whatever was there before, a block is zeroes, begins at a cache line, and does not overlap another. */
TEST(blocks_are_zeroed_aligned_and_apart)
{
	static const size_t sizes[] = { 1, 64, 65, 1000, 8192, 8193, 65536, 65537, 1 << 20 };
	uint64_t offset[18];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 18; i++) {
			offset[i] = alloc(sizes[i / 2]);
			CHECK_EQ(offset[i] % 64, 0u);
			CHECK_EQ(crew__family_size(offset[i]), sizes[i / 2]);
			CHECK(filled(offset[i], sizes[i / 2], 0));
			memset(crew__family_at(offset[i]), i + 1, sizes[i / 2]);
		}
		for (int i = 0; i < 18; i++)
			CHECK(filled(offset[i], sizes[i / 2], i + 1));
		for (int i = 0; i < 18; i++)
			crew__family_free(offset[i]);
		CHECK_EQ(crew__family_used(), 0u);
	}
}

/* What begins no block has no size, and giving it back does nothing. */
TEST(what_is_no_block_has_no_size_and_cannot_be_freed)
{
	uint64_t small = alloc(1000), large = alloc(200000);
	const uint64_t none[] = { 0, 64, 4096, small + 64, small + 1, small + 1024, large + 64, large + 65536, UINT64_MAX, (uint64_t)64 << 30, (uint64_t)63 << 30 };

	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
		CHECK_EQ(crew__family_size(none[i]), 0u);
		crew__family_free(none[i]);
	}
	CHECK_EQ(crew__family_size(small), 1000u);
	CHECK_EQ(crew__family_size(large), 200000u);
	crew__family_free(small);
	crew__family_free(large);
	CHECK_EQ(crew__family_size(small), 0u);
	CHECK_EQ(crew__family_size(large), 0u);
	crew__family_free(small);
	crew__family_free(large);
	CHECK_EQ(crew__family_used(), 0u);
	CHECK(crew__family_at(UINT64_MAX) == NULL);
}

static size_t pages_behind(void)
{
	struct stat st;

	CHECK_EQ(fstat(crew__family_fd(), &st), 0);
	return (size_t)st.st_blocks * 512;
}

/* A large block has pages behind all of it at once, and takes none with it when it goes. */
TEST(memory_of_a_large_block_is_there_at_once_and_returned)
{
	size_t before, n = 8 << 20;
	uint64_t offset;

	crew__family_free(alloc(1));
	before = pages_behind();
	offset = alloc(n);
	CHECK_GE(pages_behind(), before + n);
	memset(crew__family_at(offset), 1, n);
	crew__family_free(offset);
	CHECK_LE(pages_behind(), before + 8192); /* the table's */
}

TEST(too_much_is_enomem_and_nothing_einval)
{
	uint64_t offset = 5;

	CHECK_EQ(crew__family_alloc((size_t)1 << 40, &offset), -ENOMEM);
	CHECK_EQ(crew__family_alloc(SIZE_MAX, &offset), -ENOMEM);
	CHECK_EQ(crew__family_alloc(0, &offset), -EINVAL);
	CHECK_EQ(offset, 5u);
}

/* ---- the family ---- */

static int write_and_leave(void *arg)
{
	uint64_t *mine = arg, block = alloc(100), large = alloc(100000);

	memset(crew__family_at(mine[0]), 7, 100);
	memset(crew__family_at(block), 8, 100);
	memset(crew__family_at(large), 9, 100000);
	memcpy(crew__family_at(mine[1]), (uint64_t[]){ block, large }, 16);
	crew__family_free(mine[2]);
	return 0;
}
/* A child that was forked shares all of it, before and after, both ways. */
TEST(a_forked_child_is_of_the_family)
{
	uint64_t mine[] = { alloc(100), alloc(16), alloc(300000) }, theirs[2];

	CHECK_EQ(in_child(write_and_leave, mine), 0);
	CHECK(filled(mine[0], 100, 7));
	CHECK_EQ(crew__family_size(mine[2]), 0u);
	memcpy(theirs, crew__family_at(mine[1]), 16);
	CHECK(filled(theirs[0], 100, 8));
	CHECK(filled(theirs[1], 100000, 9));
	crew__family_free(theirs[0]);
	crew__family_free(theirs[1]);
	crew__family_free(mine[0]);
	crew__family_free(mine[1]);
	CHECK_EQ(crew__family_used(), 0u);
}

/* Closing every descriptor, as daemons do, does no harm, nor does a file that gets the number. */
static int close_all(void *arg)
{
	uint64_t large;

	(void)arg;
	for (int fd = 3; fd < 256; fd++)
		close(fd);
	CHECK_EQ(crew__family_fd(), -EBADF);
	for (int fd = 3; fd < 64; fd++)
		CHECK_EQ(dup(2), fd);
	CHECK_EQ(crew__family_fd(), -EBADF);
	large = alloc(1 << 20);
	CHECK(filled(large, 1 << 20, 0));
	memset(crew__family_at(large), 1, 1 << 20);
	crew__family_free(large);
	CHECK(filled(alloc(1 << 20), 1 << 20, 0));
	return 0;
}
TEST(who_closes_all_descriptors_stays_in_the_family)
{
	CHECK_EQ(crew__family_join(), 0);
	CHECK_EQ(in_child(close_all, NULL), 0);
}

static int send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec byte = { (char[]){ 0 }, 1 };
	struct msghdr m = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	return sendmsg(socket, &m, 0) == 1 ? 0 : -1;
}

static int receive_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec byte = { (char[1]){ 0 }, 1 };
	struct msghdr m = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	int fd;

	CHECK_EQ(recvmsg(socket, &m, 0), 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static int adopt(void *arg)
{
	int socket = *(int *)arg, zero;
	uint64_t offset;

	CHECK_EQ(crew__family_fd(), -ENOENT);
	zero = receive_fd(socket);
	CHECK_EQ(crew__family_adopt(zero), -EINVAL);
	CHECK_EQ(crew__family_adopt(receive_fd(socket)), 0);
	CHECK_EQ(read(socket, &offset, sizeof offset), (ssize_t)sizeof offset);
	CHECK_EQ(crew__family_size(offset), 77u);
	memset(crew__family_at(offset), 6, 77);
	return 0;
}
/* A process that was not forked from the family, as one that was executed, is of it once it has the descriptor. What is no family is refused. */
TEST(a_stranger_with_the_descriptor_joins_the_family)
{
	int pair[2], status;
	uint64_t offset;
	pid_t pid;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	pid = fork();
	if (pid == 0)
		_exit(adopt(&pair[1]));
	offset = alloc(77);
	CHECK_EQ(send_fd(pair[0], 2), 0);
	CHECK_EQ(send_fd(pair[0], crew__family_fd()), 0);
	CHECK_EQ(write(pair[0], &offset, sizeof offset), (ssize_t)sizeof offset);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK(filled(offset, 77, 6));
	close(pair[0]);
	close(pair[1]);
}

static int live_within(void *arg)
{
	struct rlimit *limits = arg;

	signal(SIGXFSZ, SIG_DFL);
	if (limits[0].rlim_cur && setrlimit(RLIMIT_AS, &limits[0]))
		return 1;
	if (limits[1].rlim_cur && setrlimit(RLIMIT_FSIZE, &limits[1]))
		return 1;
	return crew__family_join() == 0 && filled(alloc(300000), 300000, 0) ? 0 : 2;
}
/* Less address space, a limit on the size of files: a smaller family, not none. */
TEST(limits_make_the_family_smaller)
{
	struct rlimit files[] = { { 0, RLIM_INFINITY }, { 5 << 20, RLIM_INFINITY } }, space[] = { { 1 << 30, RLIM_INFINITY }, { 0, RLIM_INFINITY } };

	CHECK_EQ(in_child(live_within, files), 0);
	if (!TEST_ASAN && !TEST_TSAN) /* who need more themselves */
		CHECK_EQ(in_child(live_within, space), 0);
}

static void *join(void *arg)
{
	CHECK_EQ(crew__family_join(), 0);
	memcpy(arg, &(struct family *){ family_here() }, sizeof(struct family *));
	return NULL;
}
TEST(threads_that_join_at_once_join_the_same)
{
	struct family *seen[8];
	pthread_t thread[8];

	for (int i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, join, &seen[i]), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < 8; i++)
		CHECK(seen[i] && seen[i] == seen[0]);
}

/* ---- everybody at once ---- */

enum { HELD = 12 };

/* Take and give back blocks of all sizes, each filled with a byte of our own for as long as it is ours. */
static void churn(int self, size_t times)
{
	uint64_t offset[HELD] = { 0 };
	size_t size[HELD];
	unsigned random = (unsigned)self * 2654435761u + (unsigned)times;

	for (size_t k = 0; k < times + HELD; k++) {
		size_t i = k % HELD;

		if (offset[i]) {
			CHECK_EQ(crew__family_size(offset[i]), size[i]);
			CHECK(filled(offset[i], size[i], self));
			crew__family_free(offset[i]);
		}
		random = random * 1664525 + 1013904223;
		size[i] = 1 + (random >> 8) % (random % 16 == 0 ? 200000 : 600);
		offset[i] = k < times ? alloc(size[i]) : 0;
		CHECK(!offset[i] || filled(offset[i], size[i], 0));
		if (offset[i])
			memset(crew__family_at(offset[i]), self, size[i]);
	}
}

static void *churn_thread(void *arg)
{
	churn((int)(intptr_t)arg, test_scaled(3000));
	return NULL;
}
static int churn_process(void *arg)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, churn_thread, (char *)arg + 1), 0);
	churn((int)(intptr_t)arg, test_scaled(3000));
	pthread_join(thread, NULL);
	return 0;
}
/* Threads of several processes: no block is two people's, and all of them come back. */
TEST_WITHIN(blocks_of_many_threads_and_processes_do_not_overlap, 120)
{
	pid_t pid[4];
	int status;

	CHECK_EQ(crew__family_join(), 0);
	for (int i = 0; i < 4; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			_exit(churn_process((void *)(intptr_t)(2 * i + 1)));
	}
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(waitpid(pid[i], &status, 0), pid[i]);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(crew__family_used(), 0u);
}

/* Members that are killed at any moment lose what they had and what they were about to take; nobody else notices. */
TEST_WITHIN(killed_members_cost_only_what_was_theirs, 120)
{
	size_t kills = test_scaled(100);

	CHECK_EQ(crew__family_join(), 0);
	for (size_t k = 0; k < kills; k++) {
		pid_t pid = fork();

		if (pid == 0)
			for (;;)
				churn(200, 100);
		churn(100, 20 + (size_t)(test_random() % 100));
		kill(pid, SIGKILL);
		CHECK_EQ(waitpid(pid, NULL, 0), pid);
	}
	churn(1, 100);
	CHECK_LE(crew__family_used(), kills * HELD * 262144);
}

/* ---- handles ---- */

struct thing {
	uint64_t stamp, content;
};

TEST(a_handle_finds_its_object_until_it_is_ended)
{
	struct thing *made, *other;
	crew_handle h = crew__handle_make(HANDLE_LOCK, sizeof *made, (void **)&made), g;

	CHECK(made && handle_at(h, HANDLE_LOCK) == made);
	CHECK_EQ(crew_handle_check(h), 0);
	CHECK(handle_at(h, HANDLE_EVENT) == NULL);
	CHECK(crew__handle_end(h, HANDLE_EVENT) == NULL);
	CHECK(crew__handle_end(h, HANDLE_LOCK) == made);
	CHECK(handle_at(h, HANDLE_LOCK) == NULL && !handle_alive(made, h));
	CHECK(crew__handle_end(h, HANDLE_LOCK) == NULL);
	CHECK_EQ(crew_handle_check(h), CREW_EHANDLE);
	crew__family_free(h.place);
	g = crew__handle_make(HANDLE_LOCK, sizeof *other, (void **)&other);
	CHECK(other == made); /* the same place, but not the same object */
	CHECK_EQ(crew_handle_check(h), CREW_EHANDLE);
	CHECK_EQ(crew_handle_check(g), 0);
	CHECK(crew__handle_end(g, HANDLE_LOCK) == other);
	crew__family_free(g.place);
}

TEST(a_handle_that_failed_says_why_and_garbage_is_ehandle)
{
	void *object = &object;
	crew_handle failed = crew__handle_make(HANDLE_LOCK, 1 << 20, &object);

	CHECK(object == NULL);
	CHECK_EQ(crew_handle_check(failed), -E2BIG);
	CHECK_EQ(crew_handle_check(crew__handle_failed(CREW_EFORKED)), CREW_EFORKED);
	CHECK_EQ(crew_handle_check((crew_handle){ 0, 0 }), CREW_EHANDLE);
	CHECK_EQ(crew__family_join(), 0);
	for (int i = 0; i < 10000; i++)
		CHECK_EQ(crew_handle_check((crew_handle){ test_random() >> i % 64, test_random() }), CREW_EHANDLE);
}
