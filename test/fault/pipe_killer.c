/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipe_killer.c: kill -9 a process after each single instruction of what it does with an end of a pipe, and see what the other end has.
 *
 * The victim is a child that we step (ptrace). It has a copy of end 1, we have end 0 and a copy of end 1 until it is dead. After k steps
 *
 *	a message that it was sending is there whole, or not at all, large ones and descriptors too
 *	a message that it was receiving is there whole, or gone with it; what came behind is there
 *	the pipe works as before for everybody else
 *	when nobody has end 1 any more, end 0 has what was sent, and then is at its end
 *
 * Also for a process that is only about to get its copy, from the lender of this one. Compiled with CREW_FAULT_TORN_MESSAGE, where a large message is sent before
 * it is written, the same killer must find it.
 */
#include <crew/crew.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner.h"
#include "stepper.h"

#ifdef CREW_FAULT_TORN_MESSAGE
enum { FAULTY = 1 };
#else
enum { FAULTY = 0 };
#endif

enum { KILLS = 40, SMALL = 100, LARGE = 200000, PATIENCE_MS = FAULTY ? 1500 : 20000 };

struct talk {
	crew_pipe end[2];
};

static unsigned char pattern[LARGE];

static void make_pattern(void)
{
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (unsigned char)(i * 7 + (i >> 8));
}

static struct talk open_talk(void)
{
	struct talk t;

	CHECK_EQ(crew_pipe_make(t.end, 0), 0);
	make_pattern();
	return t;
}

static void close_talk(struct talk *t)
{
	crew_pipe_drop(t->end[0]);
	crew_pipe_drop(t->end[1]);
}

/* ---- the acts ---- */

/* Whose end 0 is not this process's: else nobody would be at the end when we are. */
static void come(void *arg)
{
	const struct talk *t = arg;

	make_pattern();
	crew_pipe_drop(t->end[0]);
	CHECK_GE(crew_pipe_fd(t->end[1]), 0); /* the first use, with all that belongs to it */
}

static void send_small(void *arg)
{
	(void)!crew_pipe_send(((const struct talk *)arg)->end[1], pattern, SMALL, CREW_FOREVER);
}
static void send_large(void *arg)
{
	(void)!crew_pipe_send(((const struct talk *)arg)->end[1], pattern, LARGE, CREW_FOREVER);
}
static void send_descriptor(void *arg)
{
	(void)!crew_pipe_send_fd(((const struct talk *)arg)->end[1], 1, CREW_FOREVER);
}
static void recv_small(void *arg)
{
	unsigned char got[SMALL];

	(void)!crew_pipe_recv(((const struct talk *)arg)->end[1], got, sizeof got, CREW_FOREVER);
}
static void recv_as_bytes(void *arg)
{
	crew_bytes got;

	if (crew_pipe_recv_bytes(((const struct talk *)arg)->end[1], &got, CREW_FOREVER) == 0)
		crew_bytes_free(got);
}
static void recv_descriptor(void *arg)
{
	int fd = crew_pipe_recv_fd(((const struct talk *)arg)->end[1], CREW_FOREVER);

	if (fd >= 0)
		close(fd);
}
static void fetch_end(void *arg)
{
	(void)crew_pipe_fd(((const struct talk *)arg)->end[1]);
}
static void forget_both(void *arg)
{
	crew_pipe_drop(((const struct talk *)arg)->end[0]);
	crew_pipe_drop(((const struct talk *)arg)->end[1]);
}

/* ---- judging ---- */

static void send_again(long k, const struct talk *t, int from)
{
	if (crew_pipe_send(t->end[from], "again", 5, PATIENCE_MS))
		stepper_complain(k, "nobody can send any more", 0);
}

/* The next message is "again". */
static bool is_again(crew_pipe end)
{
	char text[8];

	return crew_pipe_recv(end, text, sizeof text, PATIENCE_MS) == 5 && memcmp(text, "again", 5) == 0;
}

static void expect_again(long k, const struct talk *t, int at)
{
	if (!is_again(t->end[at]))
		stepper_complain(k, "what was sent after the death did not come", 0);
}

/* What the victim sent is first, whole, or it is not there. Sent anew and last: "again", and then the end, as nobody else has end 1. */
static void judge_sender(long k, struct talk *t, size_t n)
{
	crew_bytes got = { NULL, 0 };
	ssize_t size;

	send_again(k, t, 1);
	size = crew_pipe_next_size(t->end[0]);
	if (size != 5) {
		int rc = crew_pipe_recv_bytes(t->end[0], &got, PATIENCE_MS);

		if (rc || got.len != n || memcmp(got.data, pattern, n))
			stepper_complain(k, "half a message came", rc ? rc : (long)got.len);
		if (rc == 0)
			crew_bytes_free(got);
	}
	expect_again(k, t, 0);
	crew_pipe_drop(t->end[1]);
	if (crew_pipe_recv_bytes(t->end[0], &got, PATIENCE_MS) != CREW_ECLOSED)
		stepper_complain(k, "nobody has the other end, and it is not the end", 0);
}

static void judge_descriptor(long k, struct talk *t)
{
	struct stat ours, theirs;
	int fd;

	send_again(k, t, 1);
	fd = crew_pipe_recv_fd(t->end[0], PATIENCE_MS);
	if (fd >= 0) {
		if (fstat(1, &ours) || fstat(fd, &theirs) || ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev)
			stepper_complain(k, "another descriptor came", fd);
		close(fd);
	} else if (fd != CREW_ETYPE) {
		stepper_complain(k, "neither a descriptor nor what came behind", fd);
	}
	expect_again(k, t, 0);
}

/* What was sent to the victim is there, or gone with it; "again" came behind it, in either case for us. */
static void judge_receiver(long k, struct talk *t, size_t n)
{
	ssize_t size = crew_pipe_next_size(t->end[1]);
	crew_bytes got;

	if (size != 5) {
		int rc = crew_pipe_recv_bytes(t->end[1], &got, PATIENCE_MS);

		if (rc || got.len != n || memcmp(got.data, pattern, n))
			stepper_complain(k, "half a message was left", rc ? rc : (long)got.len);
		if (rc == 0)
			crew_bytes_free(got);
	}
	expect_again(k, t, 1);
	send_again(k, t, 1);
	expect_again(k, t, 0);
}

/* ---- rounds: false: the victim was through before k ---- */

static bool round_send(void (*act)(void *arg), size_t n, long k)
{
	struct talk t = open_talk();
	bool more = stepper_kill_after(stepper_start(come, act, &t, sizeof t), k, false);

	judge_sender(k, &t, n);
	close_talk(&t);
	return more;
}
static bool round_send_small(long k)
{
	return round_send(send_small, SMALL, k);
}
static bool round_send_large(long k)
{
	return round_send(send_large, LARGE, k);
}
static bool round_send_descriptor(long k)
{
	struct talk t = open_talk();
	bool more = stepper_kill_after(stepper_start(come, send_descriptor, &t, sizeof t), k, false);

	judge_descriptor(k, &t);
	close_talk(&t);
	return more;
}

static bool round_receive(void (*act)(void *arg), size_t n, long k)
{
	struct talk t = open_talk();
	bool more;

	CHECK_EQ(crew_pipe_send(t.end[0], pattern, n, CREW_FOREVER), 0);
	send_again(k, &t, 0);
	more = stepper_kill_after(stepper_start(come, act, &t, sizeof t), k, false);
	judge_receiver(k, &t, n);
	close_talk(&t);
	return more;
}
static bool round_receive_small(long k)
{
	return round_receive(recv_small, SMALL, k);
}
static bool round_receive_large(long k)
{
	return round_receive(recv_as_bytes, LARGE, k);
}
static bool round_receive_descriptor(long k)
{
	struct talk t = open_talk();
	bool more;
	int fd;

	CHECK_EQ(crew_pipe_send_fd(t.end[0], 1, CREW_FOREVER), 0);
	send_again(k, &t, 0);
	more = stepper_kill_after(stepper_start(come, recv_descriptor, &t, sizeof t), k, false);
	fd = crew_pipe_recv_fd(t.end[1], PATIENCE_MS);
	if (fd >= 0)
		close(fd);
	else if (fd != CREW_ETYPE)
		stepper_complain(k, "neither the descriptor nor what came behind", fd);
	expect_again(k, &t, 1);
	close_talk(&t);
	return more;
}

/* It comes by a copy of end 1, while we have one: who comes next gets his, and the pipe ends when all are gone. */
static bool round_fetch(long k)
{
	struct talk t = open_talk();
	bool more = stepper_kill_after(stepper_start(NULL, fetch_end, &t, sizeof t), k, false);

	judge_sender(k, &t, 0);
	close_talk(&t);
	return more;
}
static bool round_forget(long k)
{
	struct talk t = open_talk();
	bool more = stepper_kill_after(stepper_start(NULL, forget_both, &t, sizeof t), k, false);

	judge_sender(k, &t, 0);
	close_talk(&t);
	return more;
}

/* ---- sweeps ---- */

static void kill_each_step(bool (*round)(long k))
{
	stepper_judge(round, KILLS, FAULTY);
}

TEST_VICTIM(a_sender_of_large_messages_may_die_after_any_instruction)
{
	kill_each_step(round_send_large);
}
#if !defined(CREW_FAULT_TORN_MESSAGE)
TEST_VICTIM(a_sender_may_die_after_any_instruction)
{
	kill_each_step(round_send_small);
}
TEST_VICTIM(a_sender_of_descriptors_may_die_after_any_instruction)
{
	kill_each_step(round_send_descriptor);
}
TEST_VICTIM(a_receiver_may_die_after_any_instruction)
{
	kill_each_step(round_receive_small);
}
TEST_VICTIM(a_receiver_of_large_messages_may_die_after_any_instruction)
{
	kill_each_step(round_receive_large);
}
TEST_VICTIM(a_receiver_of_descriptors_may_die_after_any_instruction)
{
	kill_each_step(round_receive_descriptor);
}
TEST_VICTIM(who_comes_for_an_end_may_die_after_any_instruction)
{
	kill_each_step(round_fetch);
}
TEST_VICTIM(who_closes_his_ends_may_die_after_any_instruction)
{
	kill_each_step(round_forget);
}
#endif
