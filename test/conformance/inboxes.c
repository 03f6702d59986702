/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inboxes.c: crew_submit_to(), crew_drain() and the descriptors for event loops.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "gate.h"
#include "kinds.h"

CREW_TASK(int, twice, (int, n))
{
	return 2 * n;
}
CREW_TASK(int, fails, (int, code))
{
	return crew_raise(code, "it fails");
}

/* What was delivered; by the draining thread only. */
static int count, total, failures;
static pthread_t delivered_in;

static void deliver(crew_future *f, void *arg)
{
	int y = 0, rc = crew_result_within(f, &y, 0);

	CHECK(crew_future_done(f));
	count++;
	total += rc == 0 ? y : 0;
	failures += rc != 0;
	delivered_in = pthread_self();
	if (arg)
		*(int *)arg += 1;
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return poll(&p, 1, ms) == 1;
}

/* on_done never runs from the submit, but in crew_drain, on this thread, and the descriptor says when. */
TEST_EACH(on_done_runs_in_drain, ex)
{
	int mine = 0;

	crew_submit_to(ex, deliver, &mine, twice, 4);
	CHECK_EQ(count, 0);
	CHECK(readable(crew_executor_fd(ex), -1));
	CHECK_EQ(count, 0);
	CHECK_EQ(crew_drain(ex), 1);
	CHECK(count == 1 && mine == 1 && total == 8);
	CHECK(pthread_equal(delivered_in, pthread_self()));
	CHECK_EQ(crew_drain(ex), 0);
}

/* A loop on epoll gets every one of many, and the descriptor is silent before and after. */
TEST_EACH(an_epoll_loop_gets_every_completion, ex)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };

	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, crew_executor_fd(ex), &event), 0);
	CHECK_EQ(epoll_wait(ep, &event, 1, 0), 0);
	for (int i = 0; i < 1000; i++)
		crew_submit_to(ex, deliver, NULL, twice, i);
	while (count < 1000) {
		CHECK_EQ(epoll_wait(ep, &event, 1, -1), 1);
		crew_drain(ex);
	}
	CHECK_EQ(total, 999 * 1000);
	CHECK_EQ(crew_executor_wait(ex, CREW_FOREVER), 0);
	crew_drain(ex);
	CHECK_EQ(epoll_wait(ep, &event, 1, 0), 0);
	close(ep);
}

/* Level-triggered: as long as something waits, the descriptor is readable, however often one looks. */
TEST_EACH(the_descriptor_stays_readable_until_drained, ex)
{
	int fd = crew_executor_fd(ex);

	crew_submit_to(ex, deliver, NULL, twice, 4);
	for (int i = 0; i < 3; i++)
		CHECK(readable(fd, -1));
	CHECK_EQ(crew_executor_fd(ex), fd);
	CHECK_EQ(crew_drain(ex), 1);
}

/* Failures come the same way: of the task, of the submit, of a cancel. Nothing is told from the submit itself. */
TEST_EACH(every_failure_arrives_through_drain, ex)
{
	GATE (g, ex);
	int expected = 2;
	crew_future *f;

	crew_submit_to(ex, deliver, NULL, fails, 5);
	if (!(kind->traits & IMMEDIATE)) {
		gate_occupy(&g);
		f = crew_submit_to(ex, deliver, NULL, twice, 1);
		CHECK_EQ(crew_future_cancel(f, NULL), 1);
		expected++;
		gate_open(g.at);
	}
	crew_executor_shutdown(ex, 0, CREW_FOREVER);
	crew_submit_to(ex, deliver, NULL, twice, 1);
	while (failures < expected) {
		CHECK(readable(crew_executor_fd(ex), -1));
		crew_drain(ex);
	}
	CHECK(count == expected && failures == expected);
}

/* Inside of an on_done, drain does nothing. */
static crew_executor *nested;
static void drains(crew_future *f, void *arg)
{
	CHECK_EQ(crew_drain(nested), 0);
	deliver(f, arg);
}
TEST_EACH(drain_inside_of_on_done_does_nothing, ex)
{
	nested = ex;
	for (int i = 0; i < 10; i++)
		crew_submit_to(ex, drains, NULL, twice, i);
	while (count < 10)
		crew_drain(ex);
	CHECK_EQ(count, 10);
}

/* An on_done may submit: a server's chain of steps. */
static void submits_next(crew_future *f, void *arg)
{
	int *left = arg;

	deliver(f, NULL);
	if (--*left > 0)
		crew_submit_to(nested, submits_next, left, twice, 1);
}
TEST_EACH(on_done_may_submit, ex)
{
	int left = 50;

	nested = ex;
	crew_submit_to(ex, submits_next, &left, twice, 1);
	while (left > 0)
		if (readable(crew_executor_fd(ex), -1))
			crew_drain(ex);
	CHECK_EQ(count, 50);
}

/* Others than submit_to leave the descriptor alone. */
TEST_EACH(plain_submits_do_not_ring, ex)
{
	int fd = crew_executor_fd(ex), y;

	for (int i = 0; i < 20; i++)
		CHECK_EQ(crew_run(ex, &y, twice, i), 0);
	CHECK(!readable(fd, 0));
	CHECK_EQ(crew_drain(ex), 0);
}

/* Descriptors are close-on-exec and none of the standard ones. */
TEST_EACH(descriptors_are_cloexec_and_above_2, ex)
{
	crew_inbox *inbox = crew_inbox_open();

	CHECK(fcntl(crew_executor_fd(ex), F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl(crew_inbox_fd(inbox), F_GETFD) & FD_CLOEXEC);
	CHECK_GE(crew_executor_fd(ex), 3);
	CHECK_GE(crew_inbox_fd(inbox), 3);
	CHECK(crew_inbox_close(inbox) == NULL);
}

/* Several loops on one executor: each has an inbox. */
TEST_EACH(each_loop_may_have_an_inbox, ex)
{
	crew_inbox *a = crew_inbox_open(), *b = crew_inbox_open();
	int na = 0, nb = 0;

	for (int i = 0; i < 40; i++) {
		crew_submit_with(ex, (.on_done = deliver, .on_done_arg = &na, .inbox = a), twice, i);
		crew_submit_with(ex, (.on_done = deliver, .on_done_arg = &nb, .inbox = b), twice, i);
	}
	while (na < 40)
		if (readable(crew_inbox_fd(a), -1))
			crew_inbox_drain(a);
	CHECK_EQ(nb, 0);
	CHECK_EQ(crew_drain(ex), 0);
	while (nb < 40)
		if (readable(crew_inbox_fd(b), -1))
			crew_inbox_drain(b);
	CHECK(na == 40 && nb == 40);
	CHECK(crew_inbox_close(a) == NULL && crew_inbox_close(b) == NULL);
}

/* An inbox is not closed while futures are on their way to it. */
TEST_EACH(an_inbox_in_use_is_not_closed, ex)
{
	GATE (g, ex);
	crew_inbox *inbox = crew_inbox_open();

	crew_submit_with(ex, (.on_done = deliver, .inbox = inbox), held, g.bytes, 1);
	CHECK_EQ(crew_inbox_close(inbox), inbox);
	gate_open(g.at);
	CHECK(readable(crew_inbox_fd(inbox), -1));
	CHECK_EQ(crew_inbox_close(inbox), inbox);
	CHECK_EQ(crew_inbox_drain(inbox), 1);
	CHECK(crew_inbox_close(inbox) == NULL);
}

/* close delivers what is still due. */
TEST_KIND(close_delivers_what_is_due)
{
	NOT_WHERE(GROUPED, "a group's completions go to the executor below and are delivered by that");
	CREW_SCOPE (ex, kind_open())
		for (int i = 0; i < 100; i++)
			crew_submit_to(ex, deliver, NULL, twice, i);
	CHECK_EQ(count, 100);
}

/* An inbox may serve several executors. */
TEST_EACH(an_inbox_may_serve_several_executors, ex)
{
	crew_inbox *inbox = crew_inbox_open();

	CREW_SCOPE (other, crew_inline()) {
		for (int i = 0; i < 10; i++) {
			crew_submit_with(ex, (.on_done = deliver, .inbox = inbox), twice, i);
			crew_submit_with(other, (.on_done = deliver, .inbox = inbox), twice, i);
		}
		while (count < 20)
			crew_inbox_drain(inbox);
	}
	CHECK(crew_inbox_close(inbox) == NULL);
}

/* Threads that drain at once: each completion is delivered once. */
static crew_executor *drained;
static uint32_t deliveries;
static void count_delivery(crew_future *f, void *arg)
{
	(void)f, (void)arg;
	__atomic_add_fetch(&deliveries, 1, __ATOMIC_SEQ_CST);
}
static void *drains_until_5000(void *argument)
{
	while (__atomic_load_n(&deliveries, __ATOMIC_SEQ_CST) < 5000)
		crew_drain(drained);
	return argument;
}
TEST_EACH(two_threads_may_drain, ex)
{
	pthread_t thread;

	drained = ex;
	CHECK_EQ(crew_drain(ex), 0);
	CHECK_EQ(pthread_create(&thread, NULL, drains_until_5000, NULL), 0);
	for (int i = 0; i < 5000; i++)
		crew_submit_to(ex, count_delivery, NULL, twice, i);
	drains_until_5000(NULL);
	pthread_join(thread, NULL);
	CHECK_EQ(deliveries, 5000u);
}

/* Another inbox than the one that is being drained may be. */
static crew_inbox *other;
static void drains_the_other(crew_future *f, void *arg)
{
	deliver(f, NULL);
	*(int *)arg += crew_inbox_drain(other);
}
TEST_EACH(an_on_done_may_drain_another_inbox, ex)
{
	crew_inbox *inbox = crew_inbox_open();
	int drained_there = 0;

	other = crew_inbox_open();
	crew_submit_with(ex, (.on_done = deliver, .inbox = other), twice, 1);
	CHECK(readable(crew_inbox_fd(other), -1));
	crew_submit_with(ex, (.on_done = drains_the_other, .on_done_arg = &drained_there, .inbox = inbox), twice, 2);
	CHECK(readable(crew_inbox_fd(inbox), -1));
	CHECK_EQ(crew_inbox_drain(inbox), 1);
	CHECK_EQ(drained_there, 1);
	CHECK_EQ(total, 6);
	CHECK(crew_inbox_close(inbox) == NULL && crew_inbox_close(other) == NULL);
}
