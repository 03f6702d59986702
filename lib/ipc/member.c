/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * member.c: names of processes that outlive them, and whether they live, from /proc/PID/stat.
 *
 * A process whose main thread has ended while others go on looks like a zombie there; it has more than one thread then. One that was killed
 * is gone for us as soon as it is a zombie, whether its parent waits for it or not: it runs no instruction any more.
 */
#include "ipc/member.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "core/executor_ops.h"

#define START_MASK (((uint64_t)1 << 28) - 1)

struct facts {
	char state;
	long threads;
	uint64_t start;
};

/* What follows the name, which may hold anything, its closing bracket too: the last one is the right one. False: not readable. */
static bool read_facts(pid_t pid, struct facts *ret)
{
	char path[32], text[1024], *after;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	after = strrchr(text, ')');
	return after && sscanf(after + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %lu", &ret->state,
			       &ret->threads, &ret->start) == 3;
}

static uint64_t name(pid_t pid, uint64_t start)
{
	return (uint64_t)pid << 42 | (start & START_MASK) << 14;
}

uint64_t crew__member_self(void)
{
	static uint64_t self; /* the low bits: of which fork generation it is */
	uint64_t known = ck_pr_load_64(&self), generation = crew__fork_generation & ~MEMBER_MASK;
	struct facts facts = { 0 };

	if (known && (known & ~MEMBER_MASK) == generation && member_pid(known) == getpid()) /* hooks of fork may not be installed yet */
		return known & MEMBER_MASK;
	if (!read_facts(getpid(), &facts))
		facts.start = 0; /* no /proc: then nobody else can read it either */
	known = name(getpid(), facts.start);
	ck_pr_store_64(&self, known | generation);
	return known;
}

bool crew__member_lives(uint64_t word)
{
	pid_t pid = member_pid(word);
	struct facts facts;

	if (same_member(word, crew__member_self()))
		return true;
	if (kill(pid, 0) && errno == ESRCH)
		return false;
	if (!read_facts(pid, &facts))
		return kill(pid, 0) == 0 || errno != ESRCH;
	if (((facts.start ^ word >> 14) & START_MASK) && word >> 14 & START_MASK)
		return false;
	return (facts.state != 'Z' && facts.state != 'X') || facts.threads > 1;
}
