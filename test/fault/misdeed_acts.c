/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * misdeed_acts.c: what a worker can do to itself: to its descriptors, its mappings, its signals, its limits, its parent. Who judges is misdeeds.c.
 *
 * Each of these runs in a task, maybe in a worker that others of them have run in before. So nothing is looked for at that time: what a worker holds is found
 * by its initializer, look_around.
 */
#include "misdeeds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process/ring.h"

enum { FDS = 64 };

/* ---- what a worker holds ---- */

/* From the worker's stderr on: what lies below is the program's. And nothing that has a name: that is the machine's, not the worker's. */
static void each_fd(void (*act)(int fd))
{
	struct stat st;

	for (int fd = 2; fd < FDS; fd++)
		if (fstat(fd, &st) == 0 && !S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode) && (!S_ISREG(st.st_mode) || st.st_nlink == 0))
			act(fd);
}

struct range {
	unsigned char *base;
	size_t size;
};

/* Found before any misdeed: afterwards it may be too late to look. */
static struct {
	struct range pub, rw, blocks, common;
	int bell;
} mine;

static struct range find_mapping(const char *name)
{
	struct range found = { NULL, 0 };
	unsigned long from, to;
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	while (maps && !found.base && fgets(line, sizeof line, maps))
		if (strstr(line, name) && sscanf(line, "%lx-%lx", &from, &to) == 2)
			found = (struct range){ (unsigned char *)from, to - from };
	if (maps)
		fclose(maps);
	return found;
}

static bool is_bell(int fd)
{
	char path[64], target[64] = "";

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return readlink(path, target, sizeof target - 1) > 0 && strstr(target, "eventfd");
}

/* What wakes the engine is the first eventfd, or, forked from here, a copy of the program's. */
int look_around(void *arg, int worker)
{
	(void)arg, (void)worker;
	mine.pub = find_mapping("/memfd:crew-pub");
	mine.rw = find_mapping("/memfd:crew-rw");
	mine.blocks = find_mapping("/memfd:crew-blocks");
	mine.common = find_mapping("/memfd:crew-family");
	for (mine.bell = 3; mine.bell < FDS && !is_bell(mine.bell); mine.bell++)
		;
	return mine.pub.base && mine.rw.base && mine.blocks.base && mine.common.base && mine.bell < FDS ? 0 : 1;
}

/* ---- descriptors ---- */

static void close_all(void)
{
	close_range(0, ~0u, 0);
}

static void close_some(void)
{
	close_range(3, ~0u, 0);
}

static void point_at_nothing(int fd)
{
	int nothing = open("/dev/null", O_RDWR);

	dup2(nothing, fd);
	if (nothing != fd)
		close(nothing);
}

static void replace_all(void)
{
	each_fd(point_at_nothing);
}

/* Other descriptors take the place of all that it had, its own eventfds too. */
static void shift_all(void)
{
	close_range(3, ~0u, 0);
	for (int i = 0; i < 16; i++)
		if (i % 2)
			(void)!memfd_create("mine", MFD_CLOEXEC);
		else
			(void)!eventfd(0, EFD_CLOEXEC);
}

static void write_junk(int fd)
{
	static const uint64_t extremes[] = { 1, 0, UINT64_MAX };
	char junk[70000];

	memset(junk, '#', sizeof junk);
	junk[sizeof junk - 1] = '\n';
	for (size_t i = 0; i < sizeof extremes / sizeof extremes[0]; i++)
		(void)!write(fd, &extremes[i], sizeof extremes[i]);
	if (fd != mine.bell) /* which takes the first eight */
		(void)!write(fd, junk, sizeof junk);
	(void)!send(fd, junk, 1000, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void write_all(void)
{
	each_fd(write_junk);
}

static void twist(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	(void)!ftruncate(fd, 0);
	(void)!ftruncate(fd, 1 << 20);
	(void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)1 << 40);
	(void)fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	(void)fcntl(fd, F_SETPIPE_SZ, 4096);
	(void)fcntl(fd, F_SETPIPE_SZ, 1 << 20);
	(void)fcntl(fd, F_SETOWN, getpid());
	(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK | O_ASYNC);
	(void)fcntl(fd, F_SETFL, flags & ~(O_NONBLOCK | O_ASYNC));
	(void)flock(fd, LOCK_EX | LOCK_NB);
	(void)fchmod(fd, 0);
	(void)lseek(fd, 12345, SEEK_SET);
}

static void twist_all(void)
{
	signal(SIGIO, SIG_IGN);
	each_fd(twist);
}

/* ---- the bell ---- */

_Noreturn void sleep_for_ever(void)
{
	for (;;)
		pause();
}

static void fill_the_bell(void)
{
	static const uint64_t most = UINT64_MAX - 1;

	(void)fcntl(mine.bell, F_SETFL, 0); /* of all that have it */
	while (write(mine.bell, &most, sizeof most) == sizeof most)
		;
	sleep_for_ever();
}

/* Nobody else hears it. */
static void empty_the_bell(void)
{
	uint64_t n;

	(void)fcntl(mine.bell, F_SETFL, 0);
	while (read(mine.bell, &n, sizeof n) == sizeof n)
		;
	sleep_for_ever();
}

static struct ring ring_here(void)
{
	struct geometry geometry;
	struct ring ring;

	crew__ring_measure(&geometry, WORKERS, 0, 1);
	crew__ring_attach(&ring, &geometry, mine.pub.base, mine.rw.base, mine.blocks.base);
	return ring;
}

static void *ring_everybody(void *arg)
{
	struct ring ring = ring_here();
	uint64_t one = 1;

	for (;;) {
		for (uint32_t i = 0; i < WORKERS; i++)
			crew__ring_bell(&ring, i);
		(void)!write(mine.bell, &one, sizeof one);
	}
	return arg;
}

static void ring_for_ever(void)
{
	(void)ring_everybody(NULL);
}

/* As long as the worker lives. */
static void leave_a_thread_ringing(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, ring_everybody, NULL) == 0)
		pthread_detach(thread);
}

/* ---- mappings ---- */

static void unmap_results(void)
{
	munmap(mine.rw.base, mine.rw.size);
}

static void unmap_orders(void)
{
	munmap(mine.pub.base, mine.pub.size);
}

static void unmap_the_rest(void)
{
	munmap(mine.common.base, mine.common.size);
}

static void forbid_writing(void)
{
	mprotect(mine.rw.base, mine.rw.size, PROT_READ);
}

static void forbid_reading(void)
{
	mprotect(mine.pub.base, mine.pub.size, PROT_NONE);
}

/* What the parent alone writes: refused, all of it, or it would be seen. */
static void write_to_orders(void)
{
	struct range r = mine.pub;

	if (mprotect(r.base, r.size, PROT_READ | PROT_WRITE) == 0)
		memset(r.base, 0xff, 4096);
	if (madvise(r.base, r.size, MADV_REMOVE) == 0)
		raise(SIGKILL);
	(void)mremap(r.base, r.size, r.size + (1 << 20), 0);
}

/* ---- the process ---- */

static void set_limit(int resource, rlim_t n)
{
	const struct rlimit limit = { n, n };

	setrlimit((__rlimit_resource_t)resource, &limit);
}

static void lower_limits(void)
{
	set_limit(RLIMIT_NOFILE, 0);
	set_limit(RLIMIT_FSIZE, 0);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_MEMLOCK, 0);
	if (!TEST_ASAN && !TEST_TSAN)
		set_limit(RLIMIT_AS, 1 << 20);
}

static void move_away(void)
{
	(void)!chdir("/proc/self/task");
	(void)!chroot(".");
	umask(0777);
	clearenv();
	(void)!nice(5);
}

void turn_deaf(void)
{
	sigset_t all;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

/* Of its parent's session, group, death. */
void cut_ties(void)
{
	prctl(PR_SET_PDEATHSIG, 0);
	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NAME, "not crew's");
}

pid_t misdeed_program; /* set in the worker: the one that opened the executor */

/* A grandchild that nobody can end but the end of the program, with all that the worker had. */
static void leave_a_grandchild(void)
{
	struct pollfd end = { (int)syscall(SYS_pidfd_open, misdeed_program, 0), POLLIN, 0 };
	pid_t child = fork();

	if (child == 0) {
		setsid();
		turn_deaf();
		if (fork() == 0)
			poll(&end, 1, -1);
		_exit(0);
	}
	close(end.fd);
	if (child > 0)
		waitpid(child, NULL, 0);
}

/* The child comes back from the task, too. */
static void return_twice(void)
{
	pid_t child = fork();

	if (child > 0)
		waitpid(child, NULL, 0);
}

void be_traced(void)
{
	sigset_t none;

	sigemptyset(&none);
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	signal(SIGUSR1, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	raise(SIGUSR1);
}

/* A thread that was left behind survives that. */
static void forbid_everything(void)
{
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	for (;;)
		syscall(SYS_getppid);
}

static void kill_the_parent(void)
{
	prctl(PR_SET_PDEATHSIG, 0);
	kill(getppid(), SIGKILL);
	sleep_for_ever();
}

static void stop(void)
{
	turn_deaf();
	raise(SIGSTOP);
	sleep_for_ever();
}

static void spin(void)
{
	turn_deaf();
	for (;;)
		__asm__ __volatile__("");
}

static void become_another_program(void)
{
	turn_deaf();
	execlp("sleep", "sleep", "1000", (char *)NULL);
	sleep_for_ever();
}

/* ---- what cannot be but at the cost of the executor's other tasks ---- */

static void remove_pages(void)
{
	madvise(mine.rw.base, mine.rw.size, MADV_REMOVE);
	madvise(mine.blocks.base, mine.blocks.size, MADV_REMOVE);
	madvise(mine.common.base, mine.common.size, MADV_REMOVE);
}

/* It goes on alone, in a world of its own. */
static void map_over(void)
{
	struct range r = mine.rw;

	(void)mmap(r.base, r.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

/* ---- the table ---- */

#define MISDEED(act_, end_) { #act_, act_, end_ }
const struct misdeed misdeeds[MISDEEDS] = {
	MISDEED(close_all, RETURNS),
	MISDEED(close_some, RETURNS),
	MISDEED(replace_all, RETURNS),
	MISDEED(shift_all, RETURNS),
	MISDEED(write_all, RETURNS),
	MISDEED(twist_all, RETURNS),
	MISDEED(leave_a_thread_ringing, RETURNS),
	MISDEED(unmap_the_rest, RETURNS),
	MISDEED(write_to_orders, RETURNS),
	MISDEED(lower_limits, RETURNS),
	MISDEED(move_away, RETURNS),
	MISDEED(turn_deaf, RETURNS),
	MISDEED(cut_ties, RETURNS),
	MISDEED(leave_a_grandchild, RETURNS),
	MISDEED(return_twice, RETURNS),
	MISDEED(unmap_results, DIES),
	MISDEED(unmap_orders, MAY_DIE),
	MISDEED(forbid_writing, DIES),
	MISDEED(forbid_reading, MAY_DIE),
	MISDEED(be_traced, DIES),
	MISDEED(forbid_everything, GOES_AWAY),
	MISDEED(kill_the_parent, TAKES_OTHERS_ALONG),
	MISDEED(fill_the_bell, NEVER_ENDS),
	MISDEED(empty_the_bell, NEVER_ENDS),
	MISDEED(ring_for_ever, NEVER_ENDS),
	MISDEED(stop, NEVER_ENDS),
	MISDEED(spin, NEVER_ENDS),
	MISDEED(become_another_program, GOES_AWAY),
	MISDEED(remove_pages, SPOILS),
	MISDEED(map_over, SPOILS),
};
