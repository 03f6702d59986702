/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queues.c: queue.h, with threads, forked children and workers on the other side.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../carriers.h"

#define LONGS(capacity_) crew_queue_make(.item = sizeof(long), .capacity = (capacity_))

struct pair {
	crew_queue a, b;
	long n, first;
};

/* ---- what comes out ---- */

static void put_numbers(const void *arg)
{
	const struct pair *p = arg;

	for (long i = 0; i < p->n; i++) {
		long x = p->first + i;

		CHECK_EQ(crew_put(p->a, &x), 0);
	}
}

/* What one puts comes out elsewhere, in that order, through a queue much shorter than it. */
TEST_CARRIED(items_come_out_in_the_order_they_were_put)
{
	struct pair p = { .a = LONGS(4), .n = 1000, .first = 5 };
	long x;

	carry(put_numbers, &p, sizeof p);
	for (long i = 0; i < p.n; i++) {
		CHECK_EQ(crew_get(p.a, &x), 0);
		CHECK_EQ(x, 5 + i);
	}
	carried_join();
	CHECK_EQ(crew_queue_len(p.a), 0);
	crew_queue_drop(p.a);
}

/* What a process has put is there after its end: nothing was kept back. */
TEST_CARRIED(a_put_is_complete_when_it_returns)
{
	struct pair p = { .a = LONGS(0), .n = 20000 };
	long x;

	carry(put_numbers, &p, sizeof p);
	carried_join();
	CHECK_EQ(crew_queue_len(p.a), 20000);
	for (long i = 0; i < p.n; i++) {
		CHECK_EQ(crew_get_within(p.a, &x, 0), 0);
		CHECK_EQ(x, i);
	}
	crew_queue_drop(p.a);
}

static void echo(const void *arg)
{
	const struct pair *p = arg;
	long x;

	while (crew_get(p->a, &x) == 0) {
		x++;
		CHECK_EQ(crew_put(p->b, &x), 0);
	}
}

TEST_CARRIED(two_queues_make_a_conversation)
{
	struct pair p = { .a = LONGS(1), .b = LONGS(1) };
	long x = 0;

	carry(echo, &p, sizeof p);
	for (int i = 0; i < 500; i++) {
		CHECK_EQ(crew_put(p.a, &x), 0);
		CHECK_EQ(crew_get(p.b, &x), 0);
	}
	CHECK_EQ(x, 500);
	CHECK_EQ(crew_queue_finish(p.a), 0);
	carried_join();
	crew_queue_drop(p.a);
	crew_queue_drop(p.b);
}

/* ---- many on both sides ---- */

enum { PRODUCERS = 4, CONSUMERS = 3 };

static void produce(const void *arg)
{
	const struct pair *p = arg;
	long done[2] = { 0, 0 };

	put_numbers(p);
	CHECK_EQ(crew_put(p->b, done), 0);
}

static void consume(const void *arg)
{
	const struct pair *p = arg;
	long x, last[PRODUCERS], got[2] = { 0, 0 };

	for (int i = 0; i < PRODUCERS; i++)
		last[i] = -1;
	while (crew_get(p->a, &x) == 0) {
		CHECK(x % 1000000 > last[x / 1000000]); /* in the order of each producer */
		last[x / 1000000] = x % 1000000;
		got[0]++;
		got[1] += x;
		CHECK_EQ(crew_queue_task_done(p->a), 0);
	}
	CHECK_EQ(crew_put(p->b, got), 0);
}

static void many(size_t capacity)
{
	struct pair p = { .a = LONGS(capacity), .b = crew_queue_make(.item = 2 * sizeof(long)), .n = (long)test_scaled(4000) };
	long want = 0, got[2], total[2] = { 0, 0 };

	for (int i = 0; i < CONSUMERS; i++)
		carry(consume, &p, sizeof p);
	for (int i = 0; i < PRODUCERS; i++) {
		p.first = i * 1000000L;
		want += p.n * p.first + p.n * (p.n - 1) / 2;
		carry(produce, &p, sizeof p);
	}
	for (int i = 0; i < PRODUCERS; i++)
		CHECK_EQ(crew_get(p.b, got), 0);
	CHECK_EQ(crew_queue_join(p.a, CREW_FOREVER), 0);
	CHECK_EQ(crew_queue_finish(p.a), 0);
	for (int i = 0; i < CONSUMERS; i++) {
		CHECK_EQ(crew_get(p.b, got), 0);
		total[0] += got[0];
		total[1] += got[1];
	}
	CHECK_EQ(total[0], p.n * PRODUCERS);
	CHECK_EQ(total[1], want);
	carried_join();
	crew_queue_drop(p.a);
	crew_queue_drop(p.b);
}

/* Each item comes out once, to one. */
TEST_CARRIED(many_producers_and_consumers_share_a_short_queue)
{
	many(3);
}
TEST_CARRIED(many_producers_and_consumers_share_a_queue_without_bound)
{
	many(0);
}

/* ---- full and empty ---- */

TEST(a_get_of_nothing_does_not_wait_unless_it_may)
{
	crew_queue q = LONGS(1);
	int64_t begin = test_now_ms();
	long x = 7;

	CHECK_EQ(crew_get_within(q, &x, 0), -EAGAIN);
	CHECK_EQ(crew_get_within(q, &x, 30), -ETIMEDOUT);
	CHECK_GE(test_now_ms() - begin, 30);
	CHECK_EQ(x, 7);
	crew_queue_drop(q);
}

TEST(a_put_into_a_full_queue_does_not_wait_unless_it_may)
{
	crew_queue q = LONGS(2);
	long x = 1;

	CHECK_EQ(crew_queue_full(q), 0);
	CHECK_EQ(crew_put_within(q, &x, 0), 0);
	CHECK_EQ(crew_put_within(q, &x, 0), 0);
	CHECK_EQ(crew_queue_full(q), 1);
	CHECK_EQ(crew_queue_len(q), 2);
	CHECK_EQ(crew_put_within(q, &x, 0), -EAGAIN);
	CHECK_EQ(crew_put_within(q, &x, 30), -ETIMEDOUT);
	CHECK_EQ(crew_queue_len(q), 2);
	CHECK_EQ(crew_get(q, &x), 0);
	CHECK_EQ(crew_put_within(q, &x, 0), 0);
	crew_queue_drop(q);
}

static void get_one(const void *arg)
{
	const struct pair *p = arg;
	long x;

	CHECK_EQ(crew_get(p->b, &x), 0); /* the sign */
	CHECK_EQ(crew_get(p->a, &x), 0);
}

/* Who waits for room gets it as soon as something is taken elsewhere. */
TEST_CARRIED(a_put_that_waits_goes_on_when_there_is_room)
{
	struct pair p = { .a = LONGS(1), .b = LONGS(0) };
	long x = 1;

	CHECK_EQ(crew_put(p.a, &x), 0);
	carry(get_one, &p, sizeof p);
	CHECK_EQ(crew_put(p.b, &x), 0);
	CHECK_EQ(crew_put(p.a, &x), 0);
	CHECK_EQ(crew_queue_len(p.a), 1);
	carried_join();
	crew_queue_drop(p.a);
	crew_queue_drop(p.b);
}

/* ---- sizes ---- */

/* A pointer puts what it points to, an array all of itself; the queue refuses what it is not for. */
TEST(items_have_the_size_that_the_queue_was_made_for)
{
	crew_queue q = crew_queue_make(.item = 6);
	char text[6] = "", *pointer = text;
	long x = 0;

	CHECK_EQ(crew_put(q, "hello"), 0);
	CHECK_EQ(crew_put(q, &x), CREW_ETYPE);
	CHECK_EQ(crew_put(q, pointer), CREW_ETYPE);
	CHECK_EQ(crew_get(q, &x), CREW_ETYPE);
	CHECK_EQ(crew_queue_len(q), 1);
	CHECK_EQ(crew_get(q, text), 0);
	CHECK_STR(text, "hello");
	CHECK_EQ(crew_queue_put(q, NULL, 6, 0), -EINVAL);
	crew_queue_drop(q);
}

static crew_bytes patterned(size_t n)
{
	crew_bytes bytes = { malloc(n + 1), n };

	CHECK(bytes.data != NULL);
	for (size_t i = 0; i < n; i++)
		((unsigned char *)bytes.data)[i] = (unsigned char)(n + i * 7);
	return bytes;
}

static const size_t lengths[] = { 0, 1, 7, 8, 9, 100, 4095, 4096, 4097, 65519, 65520, 65536, 100000, 3000000, 5, 0, 64 };
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

static void put_messages(const void *arg)
{
	const struct pair *p = arg;

	for (long round = 0; round < p->n; round++)
		for (int i = 0; i < LENGTHS; i++) {
			crew_bytes bytes = patterned(lengths[i]);

			CHECK_EQ(crew_queue_put_bytes(p->a, bytes, CREW_FOREVER), 0);
			free(bytes.data);
		}
	CHECK_EQ(crew_queue_finish(p->a), 0);
}

static void get_messages(crew_queue q, long rounds)
{
	crew_bytes got;

	for (long round = 0; round < rounds; round++)
		for (int i = 0; i < LENGTHS; i++) {
			crew_bytes want = patterned(lengths[i]);

			CHECK_EQ(crew_queue_get_bytes(q, &got, CREW_FOREVER), 0);
			CHECK_EQ(got.len, want.len);
			CHECK(memcmp(got.data, want.data, want.len) == 0);
			crew_bytes_free(got);
			free(want.data);
		}
	CHECK_EQ(crew_queue_get_bytes(q, &got, CREW_FOREVER), CREW_ECLOSED);
}

TEST_CARRIED(messages_of_any_size_keep_their_boundaries)
{
	struct pair p = { .a = crew_queue_make(.item = 0), .n = 3 };

	carry(put_messages, &p, sizeof p);
	get_messages(p.a, p.n);
	carried_join();
	crew_queue_drop(p.a);
}

/* Also when each has to wait until there is room for it; and one that is larger than the bound passes alone. */
TEST_CARRIED(messages_of_any_size_pass_a_queue_bounded_in_bytes)
{
	struct pair p = { .a = crew_queue_make(.item = 0, .bytes = 5000), .n = 3 };

	carry(put_messages, &p, sizeof p);
	get_messages(p.a, p.n);
	carried_join();
	crew_queue_drop(p.a);
}

TEST(bytes_that_wait_are_bounded)
{
	crew_queue q = crew_queue_make(.item = 0, .bytes = 100);
	char text[200] = "";
	crew_bytes got;

	CHECK_EQ(crew_queue_put_bytes(q, crew_bytes_make(text, 60), 0), 0);
	CHECK_EQ(crew_queue_put_bytes(q, crew_bytes_make(text, 41), 0), -EAGAIN);
	CHECK_EQ(crew_queue_put_bytes(q, crew_bytes_make(text, 40), 0), 0);
	CHECK_EQ(crew_queue_put_bytes(q, crew_bytes_make(text, 1), 0), -EAGAIN);
	CHECK_EQ(crew_queue_full(q), 1);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(crew_queue_get_bytes(q, &got, 0), 0);
		crew_bytes_free(got);
	}
	CHECK_EQ(crew_queue_put_bytes(q, crew_bytes_make(text, 200), 0), 0);
	CHECK_EQ(crew_queue_put_bytes(q, crew_bytes_make(text, 1), 20), -ETIMEDOUT);
	crew_queue_drop(q);
}

/* ---- the end ---- */

TEST_CARRIED(a_finished_queue_is_emptied_and_then_closed)
{
	struct pair p = { .a = LONGS(0), .n = 10 };
	long x;

	carry(put_numbers, &p, sizeof p);
	carried_join();
	CHECK_EQ(crew_queue_finish(p.a), 0);
	CHECK_EQ(crew_queue_finish(p.a), 0);
	CHECK_EQ(crew_put(p.a, &x), CREW_ECLOSED);
	for (long i = 0; i < p.n; i++)
		CHECK_EQ(crew_get(p.a, &x), 0);
	CHECK_EQ(crew_get(p.a, &x), CREW_ECLOSED);
	CHECK_EQ(crew_get_within(p.a, &x, 0), CREW_ECLOSED);
	crew_queue_drop(p.a);
}

static void get_the_end(const void *arg)
{
	const struct pair *p = arg;
	long x = 0;

	CHECK_EQ(crew_put(p->b, &x), 0);
	CHECK_EQ(crew_get(p->a, &x), (int)p->n);
}

static void put_the_end(const void *arg)
{
	const struct pair *p = arg;
	long x = 0;

	CHECK_EQ(crew_put(p->b, &x), 0);
	CHECK_EQ(crew_put(p->a, &x), (int)p->n);
}

static void end_for_all(carried_fn *fn, size_t fill, int code)
{
	struct pair p = { .a = LONGS(1), .b = LONGS(0), .n = code };
	long x = 0;

	for (size_t i = 0; i < fill; i++)
		CHECK_EQ(crew_put(p.a, &x), 0);
	for (int i = 0; i < 4; i++)
		carry(fn, &p, sizeof p);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(crew_get(p.b, &x), 0);
	for (int i = 0; i < (int)(test_random() % 1000); i++) /* asleep, or on the way there */
		sched_yield();
	if (code == CREW_ECLOSED)
		CHECK_EQ(crew_queue_finish(p.a), 0);
	else
		crew_queue_drop(p.a);
	carried_join();
	crew_queue_drop(p.a);
	crew_queue_drop(p.b);
}

TEST_CARRIED(a_finish_ends_the_waits_for_items)
{
	end_for_all(get_the_end, 0, CREW_ECLOSED);
}
TEST_CARRIED(a_finish_ends_the_waits_for_room)
{
	end_for_all(put_the_end, 1, CREW_ECLOSED);
}
TEST_CARRIED(a_drop_ends_the_waits_for_items)
{
	end_for_all(get_the_end, 0, CREW_EHANDLE);
}
TEST_CARRIED(a_drop_ends_the_waits_for_room)
{
	end_for_all(put_the_end, 1, CREW_EHANDLE);
}

/* ---- to be done ---- */

static void do_slowly(const void *arg)
{
	const struct pair *p = arg;
	long x;

	for (long i = 0; i < p->n; i++) {
		CHECK_EQ(crew_get(p->a, &x), 0);
		sched_yield();
		CHECK_EQ(crew_put(p->b, &x), 0);
		CHECK_EQ(crew_queue_task_done(p->a), 0);
	}
}

TEST_CARRIED(a_join_waits_until_all_is_done)
{
	struct pair p = { .a = LONGS(0), .b = LONGS(0), .n = 200 };

	put_numbers(&p);
	CHECK_EQ(crew_queue_join(p.a, 0), -EAGAIN);
	CHECK_EQ(crew_queue_join(p.a, 20), -ETIMEDOUT);
	carry(do_slowly, &p, sizeof p);
	CHECK_EQ(crew_queue_join(p.a, CREW_FOREVER), 0);
	CHECK_EQ(crew_queue_len(p.b), 200);
	CHECK_EQ(crew_queue_task_done(p.a), -EINVAL);
	carried_join();
	crew_queue_drop(p.a);
	crew_queue_drop(p.b);
}

/* ---- handles ---- */

static void put_where_told(const void *arg)
{
	const struct pair *p = arg;
	crew_queue where;
	long x = 99;

	CHECK_EQ(crew_get(p->a, &where), 0);
	CHECK_EQ(crew_put(where, &x), 0);
}

/* A handle is a value: it goes through a queue as anything else. */
TEST_CARRIED(a_queue_travels_through_a_queue)
{
	struct pair p = { .a = crew_queue_make(.item = sizeof(crew_queue)) };
	crew_queue answer = LONGS(0);
	long x = 0;

	carry(put_where_told, &p, sizeof p);
	CHECK_EQ(crew_put(p.a, &answer), 0);
	CHECK_EQ(crew_get(answer, &x), 0);
	CHECK_EQ(x, 99);
	carried_join();
	crew_queue_drop(p.a);
	crew_queue_drop(answer);
}

/* As a length that is an error code in disguise. */
TEST(a_message_that_is_longer_than_memory_is_enomem)
{
	crew_queue q = crew_queue_make(.capacity = 0);
	crew_bytes got;
	char c = 'c';

	for (size_t below = 0; below < 40; below++)
		CHECK_EQ(crew_queue_put_bytes(q, (crew_bytes){ &c, SIZE_MAX - below }, 0), -ENOMEM);
	for (int bits = 42; bits < 64; bits++)
		CHECK_EQ(crew_queue_put_bytes(q, (crew_bytes){ &c, (size_t)1 << bits }, 0), -ENOMEM);
	CHECK_EQ(crew_queue_len(q), 0);
	CHECK_EQ(crew_queue_put_bytes(q, crew_bytes_make(&c, 1), 0), 0);
	CHECK_EQ(crew_queue_get_bytes(q, &got, 0), 0);
	CHECK_EQ(got.len, 1u);
	crew_bytes_free(got);
	crew_queue_drop(q);
}

/* More than can be counted is any number. */
TEST(a_bound_beyond_all_numbers_is_none)
{
	crew_queue q = crew_queue_make(.item = sizeof(long), .capacity = SIZE_MAX);
	long x;

	CHECK_EQ(crew_handle_error(q), 0);
	for (long i = 0; i < 100; i++)
		CHECK_EQ(crew_put_within(q, &i, 0), 0);
	CHECK_EQ(crew_queue_full(q), 0);
	for (long i = 0; i < 100; i++) {
		CHECK_EQ(crew_get(q, &x), 0);
		CHECK_EQ(x, i);
	}
	crew_queue_drop(q);
}

TEST(what_is_no_queue_is_refused)
{
	crew_queue none = { { 0, 0 } }, failed = crew_queue_make(.item = (size_t)1 << 40), dropped = LONGS(1), sound = crew_queue_make(.bytes = 100);
	crew_bytes bytes;
	long x = 0;

	crew_queue_drop(dropped);
	CHECK_EQ(crew_put(none, &x), CREW_EHANDLE);
	CHECK_EQ(crew_get(dropped, &x), CREW_EHANDLE);
	CHECK_EQ(crew_queue_len(dropped), CREW_EHANDLE);
	CHECK_EQ(crew_queue_full(none), CREW_EHANDLE);
	CHECK_EQ(crew_queue_finish(none), CREW_EHANDLE);
	CHECK_EQ(crew_queue_task_done(none), CREW_EHANDLE);
	CHECK_EQ(crew_queue_join(none, 0), CREW_EHANDLE);
	CHECK_EQ(crew_queue_fd(none), CREW_EHANDLE);
	CHECK_EQ(crew_queue_get_bytes(dropped, &bytes, 0), CREW_EHANDLE);
	CHECK_EQ(crew_handle_error(failed), -EINVAL);
	CHECK_EQ(crew_put(failed, &x), -EINVAL);
	CHECK_EQ(crew_queue_get_bytes(sound, NULL, 0), -EINVAL);
	crew_queue_drop(sound);
	crew_queue_drop(none);
	crew_queue_drop(failed);
	crew_queue_drop(dropped);
}

/* ---- event loops ---- */

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

TEST_CARRIED(a_queue_has_a_descriptor_for_event_loops)
{
	struct pair p = { .a = LONGS(0), .n = 3 };
	int fd = crew_queue_fd(p.a);
	long x;

	CHECK_GE(fd, 3);
	CHECK_EQ(crew_queue_fd(p.a), fd);
	CHECK(!readable(fd, 0));
	for (int round = 0; round < 20; round++) {
		if (carrier_is_thread() || round == 0)
			carry(put_numbers, &p, sizeof p);
		else
			put_numbers(&p);
		for (long i = 0; i < p.n;) {
			CHECK(readable(fd, 10000));
			while (crew_get_within(p.a, &x, 0) == 0)
				i++;
		}
		carried_join();
	}
	CHECK(!readable(fd, 0));
	CHECK_EQ(crew_queue_finish(p.a), 0);
	CHECK(readable(fd, 10000));
	crew_queue_drop(p.a);
}

TEST(a_descriptor_may_be_given_up_before_its_queue)
{
	crew_queue q = LONGS(0);
	long x = 1;

	CHECK_GE(crew_queue_fd(q), 3);
	crew_queue_unfd(q);
	crew_queue_unfd(q);
	CHECK_EQ(crew_put(q, &x), 0);
	CHECK(readable(crew_queue_fd(q), 10000));
	crew_queue_drop(q);
}

/* Several at once: each descriptor is of its queue. */
TEST(each_queue_has_a_descriptor_of_its_own)
{
	crew_queue q[3] = { LONGS(0), LONGS(0), LONGS(0) };
	int fd[3];
	long x = 1;

	for (int i = 0; i < 3; i++)
		fd[i] = crew_queue_fd(q[i]);
	CHECK(fd[0] != fd[1] && fd[1] != fd[2] && fd[0] != fd[2]);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(crew_queue_fd(q[i]), fd[i]);
	CHECK_EQ(crew_put(q[1], &x), 0);
	CHECK(readable(fd[1], 10000) && !readable(fd[0], 0) && !readable(fd[2], 0));
	for (int i = 0; i < 3; i++) /* the oldest first */
		crew_queue_drop(q[i]);
}
