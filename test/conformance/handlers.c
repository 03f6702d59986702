/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handlers.c: signals that come a thousand times a second while tasks come and go.
 *
 * No call of the library may be made in a signal handler. What a program does instead: the handler writes to an eventfd of its own, or there is no handler and
 * the signals are read. Either way no signal goes missing, none is delivered to a thread of the library's, and no call notices that it was interrupted.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "gate.h"
#include "kinds.h"

enum { EACH_US = 1000, SUBMITS = 4 };

CREW_TASK(int, twice, (int, n))
{
	return 2 * n;
}

static void ring_each(long us)
{
	const struct itimerval timer = { { 0, us }, { 0, us } };

	CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

/* Some results that are waited for, one that may still be cancelled, one that nobody wants. */
static void tasks_come_and_go(crew_executor *ex)
{
	crew_future *fs[SUBMITS], *spare = crew_submit(ex, twice, 1);
	int y;

	for (int i = 0; i < SUBMITS; i++)
		fs[i] = crew_submit(ex, twice, i);
	CHECK_GE(crew_future_cancel(spare, NULL), -EALREADY);
	CHECK_EQ(crew_post(ex, twice, 2), 0);
	CHECK_EQ(crew_wait(fs, SUBMITS, CREW_ALL_COMPLETED, CREW_FOREVER), SUBMITS);
	for (int i = 0; i < SUBMITS; i++) {
		CHECK_EQ(crew_take(fs[i], &y, NULL), 0);
		CHECK_EQ(y, 2 * i);
	}
	crew_future_free(spare);
}

static int event;
static uint32_t caught, strayed;
static pthread_t ours;

static void write_to_event(int signal)
{
	const uint64_t one = 1;
	int saved = errno;

	(void)signal;
	__atomic_add_fetch(&caught, 1, __ATOMIC_RELAXED);
	if (!pthread_equal(pthread_self(), ours))
		__atomic_add_fetch(&strayed, 1, __ATOMIC_RELAXED);
	(void)!write(event, &one, sizeof one);
	errno = saved;
}

/* The loop that reads the eventfd may submit whatever it likes. */
TEST_EACH(a_handler_may_write_to_an_eventfd_while_tasks_come_and_go, ex)
{
	uint64_t heard = 0, more, wanted = test_scaled(40);
	struct pollfd there;

	ours = pthread_self();
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK(event >= 0);
	there = (struct pollfd){ event, POLLIN, 0 };
	CHECK(sigaction(SIGALRM, &(struct sigaction){ .sa_handler = write_to_event }, NULL) == 0);
	ring_each(EACH_US);
	while (heard < wanted) {
		tasks_come_and_go(ex);
		if (poll(&there, 1, 0) == 1 && read(event, &more, sizeof more) == sizeof more)
			heard += more;
	}
	ring_each(0);
	while (heard < __atomic_load_n(&caught, __ATOMIC_RELAXED))
		if (read(event, &more, sizeof more) == sizeof more)
			heard += more;
	signal(SIGALRM, SIG_IGN);
	CHECK_EQ(heard, (uint64_t)caught);
	CHECK_EQ(strayed, 0u);
	close(event);
}

/* Signals that are blocked and read need no handler, and interrupt nothing. */
TEST_EACH(signals_may_be_read_while_tasks_come_and_go, ex)
{
	size_t heard = 0, wanted = test_scaled(40);
	int fd = crew_signal_fd((int[]){ SIGALRM }, 1);

	CHECK(fd >= 0);
	ring_each(EACH_US);
	while (heard < wanted) {
		tasks_come_and_go(ex);
		heard += crew_signal_read(fd, 0) == SIGALRM;
	}
	ring_each(0);
	(void)crew_signal_read(fd, 0);
	close(fd);
}
