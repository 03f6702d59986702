/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hosts.c: a program that is killed, forks, reaps children that are not its own, stops its workers or loses the zygote. Nothing hangs and nobody is left
 * behind.
 */
#include <crew/crew.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ipc/family.h"
#include "process/process_executor.h"
#include "runner.h"
#include "vitals.h"

enum { PATIENCE_MS = 20000 };

static const enum crew_start starts[] = { CREW_START_SERVER, CREW_START_FORK, CREW_START_SPAWN };

CREW_TASK(long, square, (long, x))
{
	return x * x;
}

/* Deaf to everything that can be refused. */
CREW_TASK(int, spin_for_ever)
{
	signal(SIGTERM, SIG_IGN);
	for (volatile unsigned i = 0;; i++)
		;
	return 0;
}

CREW_TASK(pid_t, parent_of_worker)
{
	return getppid();
}

static void check_square(crew_executor *ex, long x)
{
	long y;

	CHECK_EQ(crew_run(ex, &y, square, x), 0);
	CHECK_EQ(y, x * x);
}

/* Until this very process has ended: its pidfd says so. */
static void check_gone(int pidfd, int ms)
{
	struct pollfd fd = { pidfd, POLLIN, 0 };

	CHECK_EQ(poll(&fd, 1, ms), 1);
	close(pidfd);
}

/* It is gone after so long, but for the time in which the machine does not let it: whoever is there still has been killed, or, if it goes by itself, runs. */
static void check_goes(pid_t pid, int pidfd, int ms, bool by_itself)
{
	struct pollfd fd = { pidfd, POLLIN, 0 };

	if (poll(&fd, 1, ms) != 1)
		CHECK(vitals_dying(pid) || (by_itself && vitals_state(pid) == 'R') || poll(&fd, 1, 0) == 1);
	check_gone(pidfd, PATIENCE_MS);
}

static int watch(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	CHECK(fd >= 0);
	return fd;
}

/* Who is killed while he runs may take one more task before he dies: so it is waited for. */
static void kill_worker(crew_executor *ex, int worker)
{
	pid_t pid = crew_executor_worker_pid(ex, worker);
	int watched = vitals_watch(pid);

	if (watched < 0)
		return; /* it is being replaced */
	kill(pid, SIGKILL);
	vitals_await_end(watched);
}

enum { IDLE, BUSY, SUBMITTING };

struct family {
	pid_t pids[4]; /* zygote, then workers */
	uint32_t ready;
	enum crew_start start;
};

static void host(struct family *family, int what)
{
	crew_executor *ex = crew_processes_open(&(struct crew_processes_options){ .workers = 3, .start = family->start },
						sizeof(struct crew_processes_options));

	CHECK_EQ(crew_run(ex, &family->pids[0], parent_of_worker), 0);
	for (int i = 0; i < 3; i++)
		family->pids[i + 1] = crew_executor_worker_pid(ex, i);
	for (int i = 0; i < 6 && what == BUSY; i++)
		crew_submit(ex, spin_for_ever);
	__atomic_store_n(&family->ready, 1, __ATOMIC_RELEASE);
	for (long i = 0; what == SUBMITTING; i++) {
		crew_post(ex, square, i);
		if (i % 64 == 0)
			check_square(ex, i);
	}
	for (;;)
		pause();
}

/* kill -9 of the host takes the zygote and all workers along, within half a second, whatever they do. */
static void check_host_killed(enum crew_start start, int what)
{
	struct family *family = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fds[4];
	pid_t pid;

	family->start = start;
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		host(family, what);
	while (!__atomic_load_n(&family->ready, __ATOMIC_ACQUIRE))
		sched_yield();
	for (int i = 0; i < 4; i++)
		fds[i] = watch(family->pids[i]);
	for (uint64_t n = what == SUBMITTING ? test_random() % 200000 : 0; n > 0; n--)
		__asm__ __volatile__("");
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	for (int i = 0; i < 4; i++) /* the zygote first, with which the others go */
		check_goes(family->pids[i], fds[i], 500 + 2000 * (TEST_TSAN || TEST_ASAN), i == 0);
	munmap(family, 4096);
}

TEST(workers_die_with_a_host_that_is_killed)
{
	for (int i = 0; i < 3; i++) {
		check_host_killed(starts[i], IDLE);
		check_host_killed(starts[i], BUSY);
		for (int k = 0; k < 10; k++)
			check_host_killed(starts[i], SUBMITTING);
	}
}

/* PDEATHSIG would come at the end of the thread that forked; workers must outlive that. */
static void *open_there(void *arg)
{
	*(crew_executor **)arg = crew_processes_open(&(struct crew_processes_options){ .workers = 2, .start = CREW_START_FORK },
						     sizeof(struct crew_processes_options));
	return NULL;
}

TEST(workers_outlive_the_thread_that_opened)
{
	crew_executor *ex = NULL;
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, open_there, &ex), 0);
	pthread_join(thread, NULL);
	for (int i = 0; i < 50; i++)
		check_square(ex, i);
	CHECK(crew_executor_close(ex) == NULL);
}

/* A host that ignores SIGCHLD, or waits for any child: what it takes away was not needed. */
TEST(a_host_may_ignore_sigchld)
{
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_processes(.workers = 2, .start = starts[i])) {
			check_square(ex, 5);
			for (int k = 0; k < 2; k++)
				kill_worker(ex, k);
			check_square(ex, 6);
		}
}

static uint32_t stop_reaping;

static void *reap_any(void *arg)
{
	while (!__atomic_load_n(&stop_reaping, __ATOMIC_ACQUIRE)) {
		waitpid(-1, NULL, WNOHANG);
		sched_yield();
	}
	return arg;
}

TEST(a_host_may_wait_for_any_child)
{
	pthread_t thread;

	for (int s = 0; s < 3; s++) {
		CREW_SCOPE (ex, crew_processes(.workers = 2, .start = starts[s])) {
			CHECK_EQ(pthread_create(&thread, NULL, reap_any, NULL), 0);
			for (int i = 0; i < 10; i++) {
				kill_worker(ex, i % 2);
				check_square(ex, i);
			}
		}
		__atomic_store_n(&stop_reaping, 1, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
		__atomic_store_n(&stop_reaping, 0, __ATOMIC_RELEASE);
	}
}

/* The file that runs is executed again, also when it has no name any more: this program, as a copy that deletes itself. */
static void copy_program(const char *path)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	ssize_t n;

	CHECK(from >= 0 && to >= 0);
	while ((n = sendfile(to, from, NULL, 1 << 20)) > 0)
		;
	CHECK_EQ(n, 0);
	close(from);
	close(to);
}

TEST_WITHIN(a_program_that_was_deleted_is_executed_all_the_same, 60)
{
	const char *own = getenv("CREW_TEST_DELETED");
	char path[64];
	int status;
	pid_t pid;

	if (own) {
		CHECK_EQ(unlink(own), 0);
		CREW_SCOPE (ex, crew_processes(.workers = 2, .start = CREW_START_SPAWN))
			check_square(ex, 12);
		return;
	}
	snprintf(path, sizeof path, "/tmp/crew-test-%d", (int)getpid());
	copy_program(path);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		setenv("CREW_TEST_DELETED", path, 1);
		execl(path, path, "a_program_that_was_deleted", (char *)NULL);
		unlink(path);
		_exit(127);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		SKIP("nothing in /tmp may be executed");
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(access(path, F_OK) < 0);
}

/* Without /proc nobody can execute the program again, nor count its threads: an open that would have to says so. All else works. */
CREW_TASK(long, square_below, (long, x))
{
	long y = 0;

	return crew_run(crew_task_executor(), &y, square, x) == 0 ? y : -1;
}

static void open_without_proc(enum crew_start start)
{
	crew_error error;
	long y = 0;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("none", "/proc", "tmpfs", 0, NULL))
		_exit(77);
	CREW_SCOPE (ex, crew_processes(.workers = 2, .start = start)) {
		if (crew_executor_error(ex, &error)) {
			CHECK_EQ(error.code, -ENOENT);
			CHECK_HAS(error.message, "/proc is missing");
			CHECK(start != CREW_START_FORK);
		} else {
			CHECK(start != CREW_START_SPAWN);
			check_square(ex, 3);
			CHECK_EQ(crew_run(ex, &y, square_below, 4L), 0);
			CHECK_EQ(y, 16);
		}
	}
	_exit(0);
}

TEST(a_host_may_have_no_proc)
{
	if (TEST_ASAN || TEST_TSAN)
		SKIP("a sanitizer reads /proc");
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();
		int status;

		CHECK(pid >= 0);
		if (pid == 0)
			open_without_proc(starts[i]);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			SKIP("it takes root to hide /proc");
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
}

/* No handler of ours, no signal to the host but the zygote's SIGCHLD; the host's own handlers do not run in workers. */
static uint32_t caught;

static void catch (int sig)
{
	(void)sig;
	__atomic_add_fetch(&caught, 1, __ATOMIC_SEQ_CST);
}

CREW_TASK(int, dispositions)
{
	struct sigaction action;
	sigset_t mask;
	int bad = 0;

	for (int i = 1; i < 32; i++)
		if (i != SIGKILL && i != SIGSTOP && sigaction(i, NULL, &action) == 0)
			bad += action.sa_handler != (i == SIGINT ? SIG_IGN : SIG_DFL);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int i = 1; i < 32; i++)
		bad += sigismember(&mask, i) == 1;
	return bad;
}

TEST(workers_have_default_signals)
{
	sigset_t blocked;
	int y;

	signal(SIGUSR1, catch);
	signal(SIGTERM, catch);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	CREW_SCOPE (ex, crew_processes(1)) {
		CHECK_EQ(crew_run(ex, &y, dispositions), 0);
		CHECK_EQ(y, 0);
	}
	CHECK_EQ(caught, 0u);
}

/* Ctrl-C reaches the whole group; so does a terminal that hangs up. Neither zygote nor workers go. */
TEST(signals_to_the_whole_group_leave_the_pool_alone)
{
	setpgid(0, 0);
	signal(SIGINT, catch);
	CREW_SCOPE (ex, crew_processes(2)) {
		pid_t before = crew_executor_worker_pid(ex, 0), zygote;

		CHECK_EQ(crew_run(ex, &zygote, parent_of_worker), 0);
		kill(0, SIGINT);
		kill(zygote, SIGTERM);
		kill(zygote, SIGHUP);
		check_square(ex, 7);
		CHECK_EQ(crew_executor_worker_pid(ex, 0), before);
	}
}

/* A stopped worker delays its own task; others go on, timeouts hold, and it goes on where it was. */
CREW_TASK(int, wait_until, (crew_bytes, gate))
{
	while (!__atomic_load_n((uint32_t *)gate.data, __ATOMIC_ACQUIRE))
		usleep(1000);
	return 0;
}

TEST(a_stopped_worker_delays_its_own_task_only)
{
	CREW_SCOPE (ex, crew_processes(2)) {
		crew_bytes gate = crew_shared_alloc(ex, sizeof(uint32_t));
		pid_t pid = crew_executor_worker_pid(ex, 0);
		crew_future *fs[200];
		int64_t took = INT64_MAX;
		long y;

		*(uint32_t *)gate.data = 0;
		vitals_stop(pid);
		for (int i = 0; i < 200; i++)
			fs[i] = crew_submit(ex, square, i);
		for (int i = 0; i < 200; i++) {
			CHECK_EQ(crew_result_within(fs[i], &y, 10000), 0);
			CHECK_EQ(y, (long)i * i);
		}
		kill(pid, SIGCONT);
		for (int i = 0; i < 4; i++)
			fs[i] = crew_submit(ex, wait_until, gate);
		vitals_stop(pid);
		for (int tries = 0; took > 1000; tries++) { /* again if the machine, and not a wait, took its time */
			int64_t began = test_now_ms();

			CHECK_LE(tries, 9);
			for (int i = 0; i < 4; i++)
				CHECK_EQ(crew_future_wait(fs[i], 10), -ETIMEDOUT);
			took = test_now_ms() - began;
		}
		kill(pid, SIGCONT);
		__atomic_store_n((uint32_t *)gate.data, 1, __ATOMIC_RELEASE);
		for (int i = 0; i < 4; i++)
			CHECK_EQ(crew_future_wait(fs[i], CREW_FOREVER), 0);
		crew_shared_free(ex, gate);
	}
}

/* Stopped while idle: the close does not wait for it for ever. */
TEST(a_stopped_worker_does_not_hold_up_a_close)
{
	int64_t began;

	CREW_SCOPE (ex, crew_processes(.workers = 2, .grace_ms = 100)) {
		check_square(ex, 9);
		kill(crew_executor_worker_pid(ex, 1), SIGSTOP);
		began = test_now_ms();
	}
	CHECK_LE(test_now_ms() - began, 5000);
}

static void never_end(void *arg, int worker)
{
	(void)arg, (void)worker;
	for (;;)
		pause();
}

TEST(a_finalizer_that_hangs_does_not_hold_up_a_close)
{
	CREW_SCOPE (ex, crew_processes(.workers = 2, .grace_ms = 100, .finalizer = never_end))
		check_square(ex, 9);
}

/* A program that ends with open executors and endless tasks: exit() returns, nobody stays. */
TEST(exit_with_running_tasks_leaves_nobody)
{
	struct family *family = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fds[4], status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		crew_executor *ex = crew_processes_open(&(struct crew_processes_options){ .workers = 3 },
							sizeof(struct crew_processes_options));

		CHECK_EQ(crew_run(ex, &family->pids[0], parent_of_worker), 0);
		for (int i = 0; i < 3; i++)
			family->pids[i + 1] = crew_executor_worker_pid(ex, i);
		for (int i = 0; i < 5; i++)
			crew_submit(ex, spin_for_ever);
		__atomic_store_n(&family->ready, 1, __ATOMIC_RELEASE);
		while (__atomic_load_n(&family->ready, __ATOMIC_ACQUIRE) != 2)
			sched_yield();
		exit(7);
	}
	while (!__atomic_load_n(&family->ready, __ATOMIC_ACQUIRE))
		sched_yield();
	for (int i = 0; i < 4; i++)
		fds[i] = watch(family->pids[i]);
	__atomic_store_n(&family->ready, 2, __ATOMIC_RELEASE);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	for (int i = 0; i < 4; i++)
		check_goes(family->pids[i], fds[i], 2000, i == 0);
	munmap(family, 4096);
}

/* Text in stdio's buffers is printed once, by the host; what tasks print is printed when their worker ends. */
CREW_TASK(int, print, (const char *, text))
{
	return printf("%s", text);
}

TEST(buffered_text_is_printed_once)
{
	char text[64] = "";
	int pipe_fds[2], saved = dup(1), y;
	ssize_t n;

	CHECK_EQ(pipe(pipe_fds), 0);
	fflush(stdout);
	dup2(pipe_fds[1], 1);
	printf("host.");
	CREW_SCOPE (ex, crew_processes(.workers = 2, .grace_ms = 60000)) /* nobody is killed before he has printed */
		CHECK_EQ(crew_run(ex, &y, print, "task."), 0);
	fflush(stdout);
	dup2(saved, 1);
	close(pipe_fds[1]);
	n = read(pipe_fds[0], text, sizeof text - 1);
	CHECK(n > 0);
	text[n] = '\0';
	CHECK_STR(text, "host.task.");
	close(pipe_fds[0]);
	close(saved);
}

/* A worker has the standard streams, its eventfd and the family's memory, nothing else: no mapping's, no socket's, no sibling's. One that was forked from
   the opener has also what that had open, as after any fork. */
CREW_TASK(int, count_descriptors)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = -1; /* the folder's own */

	while (dir && readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void check_descriptors(enum crew_start start, int expected)
{
	int y;

	CREW_SCOPE (ex, crew_processes(.workers = 4, .start = start))
		for (int i = 0; i < 8; i++) {
			CHECK_EQ(crew_run(ex, &y, count_descriptors), 0);
			CHECK_EQ(y, expected);
		}
}

TEST(workers_keep_no_descriptor_but_the_bell)
{
	int other = open("/dev/null", O_RDONLY | O_CLOEXEC);

	CHECK_EQ(crew__family_join(), 0);
	check_descriptors(CREW_START_FORK, count_descriptors() + 1);
	check_descriptors(CREW_START_SERVER, 5);
	check_descriptors(CREW_START_SPAWN, 5);
	close(other);
}

/* An idle pool uses no CPU: neither in the host nor in workers or zygote. */
static long cpu_ticks(pid_t pid)
{
	char path[64], text[1024], *p;
	long user = 0, system = 0;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	p = fgets(text, sizeof text, file);
	fclose(file);
	if (p)
		sscanf(p, "%ld", &user);
	return user + system;
}

/* All four have come to where workers sleep, which may take them a while to begin with; and they and their zygote do sleep. */
static void await_idleness(crew_executor *ex, const pid_t pids[5])
{
	const struct ring *ring = &process_executor_of(ex)->ring;
	bool asleep = false;

	while (!asleep) {
		asleep = ck_pr_load_64(&ring->rw->parked[0]) == 0xf;
		for (int i = 0; i < 5; i++)
			asleep &= vitals_state(pids[i]) == 'S';
		sched_yield();
	}
}

TEST(an_idle_pool_uses_no_cpu)
{
	const struct timespec settle = { 0, 600000000 }, pause = { 1, 0 };

	CREW_SCOPE (ex, crew_processes(4)) {
		long before[5], used = 0;
		pid_t pids[5];

		CHECK_EQ(crew_run(ex, &pids[4], parent_of_worker), 0);
		for (int i = 0; i < 100; i++)
			check_square(ex, i);
		for (int i = 0; i < 4; i++)
			pids[i] = crew_executor_worker_pid(ex, i);
		await_idleness(ex, pids);
		nanosleep(&settle, NULL); /* the last sweep */
		for (int i = 0; i < 5; i++)
			before[i] = cpu_ticks(pids[i]);
		nanosleep(&pause, NULL);
		for (int i = 0; i < 5; i++)
			used += cpu_ticks(pids[i]) - before[i];
		CHECK_LE(used, 50000); /* ns */
	}
}
