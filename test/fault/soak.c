/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * soak.c: sixteen processes use everything that processes share at once, and every ten milliseconds one of them is killed and another takes its seat.
 *
 *	workers, 16		one act after another, at random (soak_acts.c); each is in the books before it begins and after it has ended
 *	conductor, this process	kill -9, wait, fork again; once a second nobody is killed, all park, and the books are compared with what is there
 *
 * The books have a page for each seat, written by who sits there, and by the conductor for one who died. An act that was interrupted may have happened or
 * not: so every count is exact but for the deaths in such an act. Within locks there is no such margin: whoever has one finds its two counters equal, or is
 * told -EOWNERDEAD.
 *
 * A few seconds; SOAK=600 in the environment makes it ten minutes. A worker that has not parked in a minute hangs; the books say in what.
 */
#include "soak.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/family.h"

enum { TICK_MS = 10, CHECK_MS = 1000, PARK_MS = 60000, LEFT_MOST = 1 << 20 /* tables of the library's; and what the dead were about to take */ };

static const char *const act_names[ACTS] = { "nothing", "lock", "rlock", "semaphore", "condition: make", "condition: take", "set an event", "wait for an event",
					     "barrier", "read", "write", "put", "get", "put work", "do work", "join", "send", "receive", "value", "array",
					     "ask", "answer", "named block" };
struct books *books;
struct shared all;

/* ---- killing ---- */

static void hire(uint32_t i)
{
	struct page *page = &books->page[i];
	pid_t parent = getpid(), pid;

	page->parked = 0;
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		soak_work(i, parent);
	page->pid = pid;
}

static void kill_one(void)
{
	uint32_t i = (uint32_t)(test_random() % SEATS);
	struct page *page = &books->page[i];
	int status;

	CHECK_EQ(kill(page->pid, SIGKILL), 0);
	CHECK_EQ(waitpid(page->pid, &status, 0), page->pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* it had not ended by itself, that is, badly */
	page->deaths[page->doing]++;
	page->doing = NOTHING;
	hire(i);
}

/* ---- checking ---- */

static unsigned long sum_of(size_t offset)
{
	unsigned long sum = 0;

	for (int i = 0; i < SEATS; i++)
		sum += *(unsigned long *)(void *)((char *)&books->page[i] + offset);
	return sum;
}
#define DONE(act_) sum_of(offsetof(struct page, done) + (act_) * sizeof(long))
#define DEATHS(act_) sum_of(offsetof(struct page, deaths) + (act_) * sizeof(long))
#define PASSES(i_) sum_of(offsetof(struct page, passes) + (i_) * sizeof(long))

static bool is_parked(const struct page *page)
{
	return __atomic_load_n(&page->parked, __ATOMIC_SEQ_CST) == books->pause;
}

static void complain_of_hang(void)
{
	for (int i = 0; i < SEATS; i++)
		if (!is_parked(&books->page[i]))
			printf("seat %d, process %d: %s\n", i, (int)books->page[i].pid, act_names[books->page[i].doing]);
}

/* A pause: all come to the end of their act, and stay there. */
static void park_all(void)
{
	int64_t limit = test_now_ms() + PARK_MS;

	__atomic_fetch_add(&books->pause, 1, __ATOMIC_SEQ_CST);
	CHECK_EQ(crew_event_clear(all.go), 0);
	for (int i = 0; i < SEATS; i++)
		while (!is_parked(&books->page[i])) {
			if (test_now_ms() > limit)
				complain_of_hang();
			CHECK(test_now_ms() <= limit); /* nobody hangs */
			CHECK_EQ(crew_event_wait(all.go, 1), -ETIMEDOUT);
		}
}

/* n is what it should be, but for `margin` that may be there in addition. */
static void within(const char *what, unsigned long least, unsigned long n, unsigned long margin)
{
	if (n < least || n > least + margin) {
		printf("%s: %lu, and not %lu to %lu\n", what, n, least, least + margin);
		wrong(what, (long)n);
	}
}

/* What went into a line has come out of it, or is among the `rest`. */
static void check_line(const char *what, enum act in, enum act out, unsigned long rest)
{
	unsigned long sent = DONE(in), got = DONE(out) + rest;

	if (got > sent + DEATHS(in) || got + DEATHS(out) < sent) {
		printf("%s: %lu to %lu in, %lu to %lu out\n", what, sent, sent + DEATHS(in), got, got + DEATHS(out));
		wrong(what, (long)(got - sent));
	}
}

static void check_units(void)
{
	static unsigned long deaths;
	int value = crew_semaphore_value(all.units);

	if (value > UNITS || value < 0 || (unsigned long)(UNITS - value) > DEATHS(SEMAPHORE) - deaths)
		wrong("units do not add up", value);
	for (; value < UNITS; value++)
		CHECK_EQ(crew_release(all.units), 0);
	deaths = DEATHS(SEMAPHORE);
	books->inside = 0;
}

/* What died with it is what nobody will do. */
static void check_work(void)
{
	static unsigned long deaths, drained;
	unsigned long undone = 0;

	while (do_work(0))
		drained++;
	for (; crew_queue_join(all.work, 0) == -EAGAIN; undone++)
		CHECK_EQ(crew_queue_task_done(all.work), 0);
	if (undone > DEATHS(WORK) - deaths)
		wrong("more work is undone than workers died", (long)undone);
	deaths = DEATHS(WORK);
	check_line("work", ORDER, WORK, drained);
}

static void check_pipe(void)
{
	static unsigned long drained;

	while (receive_one(0))
		drained++;
	check_line("messages", SEND, RECEIVE, drained);
}

static void check_books(void)
{
	within("changes in the lock", DONE(LOCK), (unsigned long)books->locked.a, DEATHS(LOCK));
	within("changes in the rlock", DONE(RLOCK), (unsigned long)books->rlocked.a, DEATHS(RLOCK));
	within("writes", DONE(WRITING), (unsigned long)books->written.a, DEATHS(WRITING));
	within("tokens", DONE(MAKE), (unsigned long)books->made, DEATHS(MAKE));
	within("additions", DONE(ADD), (unsigned long)crew_value_load(all.value), DEATHS(ADD));
	for (int i = 0; i < PARTIES; i++) /* each round has one of each, but for who died before he could say so */
		within("passes of a barrier", PASSES(0), PASSES(i) + DEATHS(MEETING), 2 * DEATHS(MEETING));
	check_line("items", PUT, GET, (unsigned long)crew_queue_len(all.items));
	check_units();
	check_work();
	check_pipe();
	if (books->wrong)
		printf("%lu times something was wrong, first: %s\n", books->wrong, books->what);
	CHECK_EQ(books->wrong, 0u);
}

static void open_all(void)
{
	books = mmap(NULL, sizeof *books, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(books != MAP_FAILED);
	snprintf(books->prefix, sizeof books->prefix, "crew-soak-%d-", (int)getpid());
	all.lock = crew_lock_make();
	all.rlock = crew_rlock_make();
	all.units = crew_semaphore_make(UNITS, 0);
	all.condition = crew_condition_make((crew_rlock){ { 0, 0 } });
	all.go = crew_event_make();
	all.news = crew_event_make();
	all.barrier = crew_barrier_make(PARTIES);
	all.rwlock = crew_rwlock_make();
	all.items = crew_queue_make(.item = sizeof(struct item), .capacity = 8);
	all.work = crew_queue_make(.item = sizeof(struct item), .capacity = 8);
	all.questions = crew_queue_make(.item = sizeof(struct question), .capacity = 4);
	all.value = crew_value_make(long, 0);
	all.array = crew_array_make(long, CELLS);
	CHECK_EQ(crew_pipe_make(all.pipe, CREW_PIPE_ONEWAY), 0);
	CHECK_EQ(crew_handle_error(all.array), 0);
}

static void close_all(void)
{
	crew_drop(all.lock);
	crew_drop(all.rlock);
	crew_drop(all.units);
	crew_drop(all.condition);
	crew_drop(all.go);
	crew_drop(all.news);
	crew_drop(all.barrier);
	crew_drop(all.rwlock);
	crew_drop(all.items);
	crew_drop(all.work);
	crew_drop(all.questions);
	crew_drop(all.value);
	crew_drop(all.array);
	crew_pipe_drop(all.pipe[0]);
	crew_pipe_drop(all.pipe[1]);
	munmap(books, sizeof *books);
}

/* ---- leaks ---- */

static int entries_of(const char *path, const char *prefix)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int n = 0;

	CHECK(dir != NULL);
	while ((entry = readdir(dir)) != NULL)
		n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
	closedir(dir);
	return n;
}

static int open_files(void)
{
	return entries_of("/proc/self/fd", "");
}

/* The tracker takes the names of the dead away, soon. */
static void await_names_gone(void)
{
	int64_t limit = test_now_ms() + PARK_MS;

	while (entries_of("/dev/shm", books->prefix) && test_now_ms() < limit)
		(void)crew_event_wait(all.news, 1);
	CHECK_EQ(entries_of("/dev/shm", books->prefix), 0);
}

/* ---- the soak ---- */

/* Until the next check. How many were killed. */
static unsigned long kill_for(int64_t ms)
{
	int64_t start = test_now_ms(), end = start + ms, left;
	unsigned long kills = 0;

	CHECK_EQ(crew_event_set(all.go), 0);
	for (int64_t next = start; next < end; kills++) {
		kill_one();
		next += TICK_MS;
		left = next - test_now_ms();
		if (left > 0)
			poll(NULL, 0, (int)left);
		else
			next -= left;
	}
	return kills;
}

static void send_home(void)
{
	int status;

	__atomic_store_n(&books->over, 1, __ATOMIC_SEQ_CST);
	CHECK_EQ(crew_event_set(all.go), 0);
	for (int i = 0; i < SEATS; i++) {
		CHECK_EQ(waitpid(books->page[i].pid, &status, 0), books->page[i].pid);
		CHECK_EQ(status, 0);
	}
}

static void report(unsigned long kills, int pauses)
{
	unsigned long acts = 0, deaths = 0;

	for (int act = NOTHING + 1; act < ACTS; act++) {
		printf("%-18s %10lu done, %6lu killed in it\n", act_names[act], DONE(act), DEATHS(act));
		acts += DONE(act);
		deaths += DEATHS(act);
	}
	printf("%lu acts, %lu kills, %lu of them in an act; %d checks; %lu times something was wrong\n", acts, kills, deaths, pauses, books->wrong);
}

TEST_WITHIN(everything_shared_survives_a_kill_every_ten_milliseconds, 7200)
{
	const char *text = getenv("SOAK");
	int64_t end = test_now_ms() + (text ? 1000 * strtoll(text, NULL, 10) : (int64_t)test_scaled(3000));
	unsigned long kills = 0;
	int pauses = 0, files = 0;
	size_t used;

	CHECK_EQ(crew__family_join(), 0);
	used = crew__family_used();
	open_all();
	for (uint32_t i = 0; i < SEATS; i++)
		hire(i);
	do {
		kills += kill_for(CHECK_MS);
		park_all();
		check_books();
		if (pauses++ == 0)
			files = open_files();
		CHECK_EQ(open_files(), files);
	} while (test_now_ms() < end);
	report(kills, pauses);
	send_home();
	await_names_gone();
	close_all();
	printf("%zu bytes of the family's memory are still somebody's\n", crew__family_used() - used);
	CHECK_LE(crew__family_used() - used, LEFT_MOST);
}
