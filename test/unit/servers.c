/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * servers.c: children of the server: born, watched, told of; and what holds when it is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <crew/crew.h>

#include "process/parcel.h"
#include "process/server.h"
#include "../runner.h"

/* What the child is told to do; it answers on the descriptor. */
struct probe {
	enum { REPORT, EXIT, ABORT, SLEEP } what;
	int status;
};

struct findings {
	pid_t pid, parent;
	int descriptors, death_signal, blocked, handled;
	char name[16];
};

static int open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void look_around(struct findings *ret)
{
	struct sigaction action;
	sigset_t mask;

	*ret = (struct findings){ .pid = getpid(), .parent = getppid(), .descriptors = open_descriptors() };
	prctl(PR_GET_PDEATHSIG, &ret->death_signal);
	prctl(PR_GET_NAME, ret->name);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int i = 1; i < 32; i++) {
		ret->blocked += sigismember(&mask, i) == 1;
		ret->handled += sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_DFL;
	}
}

void crew__probe_child(const void *data, size_t size, const int *fds, uint32_t fd_count)
{
	const struct probe *probe = data;
	struct findings findings;

	if (size != sizeof *probe || fd_count != 1)
		_exit(99);
	look_around(&findings);
	if (write(fds[0], &findings, sizeof findings) != sizeof findings)
		_exit(98);
	if (probe->what == EXIT)
		_exit(probe->status);
	if (probe->what == ABORT)
		abort();
	while (probe->what == SLEEP)
		pause();
	_exit(0);
}

struct bred {
	struct child child;
	int pipe;
};

static int breed(enum crew_start how, struct probe probe, struct bred *ret)
{
	int ends[2], rc;

	CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
	rc = crew__server_start(how, &(struct child_request){ CHILD_PROBE, &probe, sizeof probe, &ends[1], 1 }, &ret->child);
	close(ends[1]);
	ret->pipe = ends[0];
	if (rc)
		close(ends[0]);
	return rc;
}

static struct findings found(const struct bred *b)
{
	struct findings findings = { 0 };

	CHECK_EQ(read(b->pipe, &findings, sizeof findings), (ssize_t)sizeof findings);
	return findings;
}

static void check_gone(int pidfd)
{
	CHECK_EQ(crew__parcel_await(pidfd, 5000), 0);
}

static void let_go(struct bred *b)
{
	check_gone(b->child.pidfd);
	close(b->child.pidfd);
	close(b->child.status);
	close(b->pipe);
}

/* Neither the host's handlers nor its mask nor its descriptors are there, and the parent is the server. */
static void check_child(enum crew_start how)
{
	struct bred b;
	struct findings findings;
	struct obituary end;
	sigset_t usr1;

	signal(SIGUSR2, SIG_IGN);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	CHECK_EQ(breed(how, (struct probe){ EXIT, 7 }, &b), 0);
	findings = found(&b);
	CHECK_EQ(findings.pid, b.child.pid);
	CHECK(findings.parent != getpid());
	CHECK_EQ(findings.descriptors, 5); /* the standard streams, its own, and the family's memory */
	CHECK_EQ(findings.death_signal, SIGKILL);
	CHECK_EQ(findings.blocked, 0);
	CHECK(findings.handled == 0 || ((TEST_ASAN || TEST_TSAN) && how == CREW_START_SPAWN)); /* the sanitizer's own */
	CHECK_EQ(crew__server_obituary(b.child.status, true, &end), 1);
	CHECK_EQ(end.code, CLD_EXITED);
	CHECK_EQ(end.status, 7);
	CHECK(end.max_rss_kib > 0);
	let_go(&b);
}

TEST(a_child_of_the_server_starts_clean)
{
	check_child(CREW_START_SERVER);
}

TEST(an_executed_child_starts_clean)
{
	check_child(CREW_START_SPAWN);
}

TEST(an_obituary_names_the_signal)
{
	struct bred b;
	struct obituary end;

	CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = ABORT }, &b), 0);
	CHECK_EQ(crew__server_obituary(b.child.status, true, &end), 1);
	CHECK(end.code == CLD_KILLED || end.code == CLD_DUMPED);
	CHECK_EQ(end.status, SIGABRT);
	let_go(&b);
}

TEST(an_obituary_is_not_there_before_the_end)
{
	struct bred b;
	struct obituary end;

	CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = SLEEP }, &b), 0);
	CHECK_EQ(crew__server_obituary(b.child.status, false, &end), 0);
	CHECK_EQ(kill(b.child.pid, SIGTERM), 0);
	CHECK_EQ(crew__server_obituary(b.child.status, true, &end), 1);
	CHECK_EQ(end.status, SIGTERM);
	let_go(&b);
}

/* The child goes with its server, the obituary says that nothing is known, and the next request finds another server. */
static void check_killed(enum crew_start how)
{
	struct bred b, after;
	struct findings findings;
	struct obituary end;

	CHECK_EQ(breed(how, (struct probe){ .what = SLEEP }, &b), 0);
	findings = found(&b);
	CHECK_EQ(kill(findings.parent, SIGKILL), 0);
	check_gone(b.child.pidfd);
	CHECK_EQ(crew__server_obituary(b.child.status, true, &end), 1);
	CHECK_EQ(end.code, 0);
	CHECK_EQ(breed(how, (struct probe){ .what = REPORT }, &after), 0);
	CHECK(found(&after).parent != findings.parent);
	let_go(&b);
	let_go(&after);
}

TEST(a_killed_server_takes_its_children_along_and_has_a_successor)
{
	check_killed(CREW_START_SERVER);
	check_killed(CREW_START_SPAWN);
}

static void *breed_there(void *arg)
{
	struct bred b;

	(void)arg;
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = REPORT }, &b), 0);
		CHECK_EQ(found(&b).pid, b.child.pid);
		let_go(&b);
	}
	return NULL;
}

TEST(any_thread_may_ask_at_any_time)
{
	pthread_t threads[4];

	CHECK_EQ(crew__server_ready(), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, breed_there, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

/* crew_init() was called by the runner: with threads around, the server is an execution of the program. */
TEST(a_threaded_program_executes_its_server)
{
	pthread_t thread;
	struct bred b;

	CHECK(!crew__is_threaded());
	CHECK_EQ(pthread_create(&thread, NULL, breed_there, NULL), 0);
	CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = REPORT }, &b), 0);
	CHECK_EQ(found(&b).pid, b.child.pid);
	let_go(&b);
	pthread_join(thread, NULL);
}

/* Its parent's is not its to use; and the parent's goes on. */
TEST(a_forked_child_has_a_server_of_its_own)
{
	struct bred b;
	struct findings mine, theirs;
	int ends[2];
	pid_t pid;

	CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = REPORT }, &b), 0);
	mine = found(&b);
	let_go(&b);
	CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = REPORT }, &b), 0);
		mine = found(&b);
		CHECK_EQ(write(ends[1], &mine, sizeof mine), (ssize_t)sizeof mine);
		let_go(&b);
		exit(0);
	}
	CHECK_EQ(read(ends[0], &theirs, sizeof theirs), (ssize_t)sizeof theirs);
	CHECK(theirs.parent != mine.parent);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = REPORT }, &b), 0);
	CHECK_EQ(found(&b).parent, mine.parent);
	let_go(&b);
	close(ends[0]);
	close(ends[1]);
}

/* Killed or in order, with or without a server that was told to end: nobody stays behind. */
static void check_host_gone(bool in_order)
{
	struct bred b;
	struct findings findings;
	int ends[2], child, server;
	pid_t pid;

	CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = SLEEP }, &b), 0);
		findings = found(&b);
		CHECK_EQ(write(ends[1], &findings, sizeof findings), (ssize_t)sizeof findings);
		if (in_order)
			exit(0);
		for (;;)
			pause();
	}
	CHECK_EQ(read(ends[0], &findings, sizeof findings), (ssize_t)sizeof findings);
	child = (int)syscall(SYS_pidfd_open, findings.pid, 0);
	server = (int)syscall(SYS_pidfd_open, findings.parent, 0);
	if (!in_order)
		kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	if (child >= 0) /* else it is gone already */
		check_gone(child), close(child);
	if (server >= 0)
		check_gone(server), close(server);
	close(ends[0]);
	close(ends[1]);
}

TEST(server_and_children_go_with_the_host)
{
	check_host_gone(true);
	check_host_gone(false);
}

/* Silence is not for ever: a server that does not answer is replaced. */
TEST_WITHIN(a_stopped_server_is_given_up, 60)
{
	struct bred b;
	struct findings findings;
	int64_t began;

	CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = REPORT }, &b), 0);
	findings = found(&b);
	let_go(&b);
	kill(findings.parent, SIGSTOP);
	began = test_now_ms();
	CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = REPORT }, &b), -ETIMEDOUT);
	CHECK_LE(test_now_ms() - began, 2 * SILENCE_MS);
	CHECK_EQ(breed(CREW_START_SERVER, (struct probe){ .what = REPORT }, &b), 0);
	CHECK(found(&b).parent != findings.parent);
	let_go(&b);
}

TEST(requests_have_limits)
{
	static unsigned char data[SERVER_DATA_MAX + 1];
	int fds[SERVER_FDS_MAX + 1] = { 0 };
	struct child child;

	CHECK_EQ(crew__server_start(CREW_START_SERVER, &(struct child_request){ CHILD_PROBE, data, sizeof data, fds, 1 }, &child), -E2BIG);
	CHECK_EQ(crew__server_start(CREW_START_SERVER, &(struct child_request){ CHILD_PROBE, data, 1, fds, SERVER_FDS_MAX + 1 }, &child), -E2BIG);
	CHECK_EQ(child.status, -1);
}
