/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * blocks.c: blocks with and without names, who takes the names away, and shareable lists.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sharers.h"
#include "shared/tracker.h"

static char name[64];

static const char *fresh_name(const char *what)
{
	snprintf(name, sizeof name, "crew-test-%s-%d", what, (int)getpid());
	return name;
}

static bool is_there(const char *block)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof path, "/dev/shm/%s", block);
	return stat(path, &st) == 0;
}

static void await_gone(const char *block)
{
	while (is_there(block))
		sched_yield();
}

/* And is no zombie that init has not got round to. */
static bool lives(pid_t pid)
{
	char path[64], state = 'Z';
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file && fscanf(file, "%*d %*s %c", &state) != 1)
		state = 'Z';
	if (file)
		fclose(file);
	return state != 'Z';
}

/* ---- without a name ---- */

static void fill(int i, void *arg)
{
	crew_bytes run = crew_block_at(*(crew_block *)arg);

	memset((char *)run.data + i * 1000, 'a' + i, 1000);
}
TEST_CARRIED(a_block_without_a_name_is_everybodys)
{
	crew_block block = crew_block_make(NULL, 1 << 20);
	crew_bytes run = crew_block_at(block);
	char text[8];

	CHECK(run.data && run.len == 1 << 20);
	for (size_t i = 0; i < run.len; i++)
		CHECK_EQ(((char *)run.data)[i], 0);
	crowd_start(4, fill, &block);
	crowd_join();
	CHECK_EQ(((char *)run.data)[0], 'a');
	CHECK_EQ(((char *)run.data)[3999], 'd');
	CHECK_EQ(crew_block_name(block, text, sizeof text), 0);
	CHECK_EQ(crew_drop(block), 0);
	CHECK(crew_block_at(block).data == NULL);
	CHECK_EQ(crew_drop(block), CREW_EHANDLE);
}

/* ---- with one ---- */

static void fill_by_name(int i, void *arg)
{
	crew_block block = crew_block_attach(arg);
	crew_bytes run = crew_block_at(block);

	CHECK(run.data && run.len == 5000);
	memset((char *)run.data + i * 1000, 'a' + i, 1000);
	CHECK_EQ(crew_drop(block), 0);
}
TEST_CARRIED(a_named_block_is_found_by_its_name)
{
	crew_block block = crew_block_make(fresh_name("named"), 5000);
	crew_bytes run = crew_block_at(block);
	char text[64];

	CHECK_EQ(crew_handle_error(block), 0);
	CHECK(run.data && run.len == 5000 && is_there(name));
	crowd_start(4, fill_by_name, &name);
	crowd_join();
	crowd_start(1, fill, &block); /* by its handle too, in a process that has not mapped it */
	crowd_join();
	CHECK_EQ(((char *)run.data)[0], 'a');
	CHECK_EQ(((char *)run.data)[3999], 'd');
	CHECK_EQ(crew_block_name(block, text, sizeof text), (int)strlen(name));
	CHECK_STR(text, name);
	CHECK_EQ(crew_block_name(block, text, 3), -ERANGE);
	CHECK_EQ(crew_handle_error(crew_block_make(name, 10)), -EEXIST);
	CHECK(is_there(name));
	CHECK_EQ(crew_block_unlink(name), 0);
	CHECK_EQ(crew_block_unlink(name), -ENOENT);
	CHECK_EQ(crew_handle_error(crew_block_attach(name)), -ENOENT);
	((char *)run.data)[4] = 5; /* what is mapped stays */
	CHECK_EQ(crew_drop(block), 0);
}

/* The rules for names and sizes. */
TEST(bad_names_and_sizes_are_refused)
{
	char longest[252];
	struct rlimit limit = { 1 << 20, RLIM_INFINITY };
	crew_block block;

	memset(longest, 'x', sizeof longest);
	longest[251] = '\0';
	CHECK_EQ(crew_handle_error(crew_block_make(longest, 1)), -ENAMETOOLONG);
	CHECK_EQ(crew_block_unlink(longest), -ENAMETOOLONG);
	longest[250] = '\0';
	snprintf(longest, 20, "crew-test-%08d", (int)getpid());
	longest[strlen(longest)] = 'x';
	block = crew_block_make(longest, 1);
	CHECK_EQ(crew_handle_error(block), 0);
	CHECK_EQ(crew_block_name(block, NULL, sizeof longest), -ERANGE);
	CHECK_EQ(crew_block_name(block, longest, 250), -ERANGE);
	CHECK_EQ(crew_block_unlink(longest), 0);
	CHECK_EQ(crew_drop(block), 0);
	CHECK_EQ(crew_handle_error(crew_block_make("a/b", 1)), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_block_make("..", 1)), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_block_attach("")), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_block_attach(NULL)), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_block_make(fresh_name("size"), 0)), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_block_make(NULL, 0)), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_block_make_with(name, 1, 128)), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_block_make(NULL, (size_t)1 << 50)), -ENOMEM);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	CHECK_EQ(crew_handle_error(crew_block_make(name, 2 << 20)), -EFBIG);
	CHECK(!is_there(name));
	block = crew_block_make(name, 4096);
	CHECK_EQ(crew_handle_error(block), 0);
	CHECK_EQ(crew_block_unlink(name), 0);
	CHECK_EQ(crew_drop(block), 0);
}

/* A file of that name that is no block, of any size: a folder, one that is empty, another's behind a link. */
TEST(what_is_no_block_is_not_attached)
{
	char path[300];

	snprintf(path, sizeof path, "/dev/shm/%s", fresh_name("none"));
	CHECK_EQ(close(open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600)), 0);
	CHECK_EQ(crew_handle_error(crew_block_attach(name)), -EINVAL);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(mkdir(path, 0700), 0);
	CHECK(crew_handle_error(crew_block_attach(name)) < 0);
	CHECK_EQ(rmdir(path), 0);
	CHECK_EQ(symlink("/proc/self/exe", path), 0);
	CHECK(crew_handle_error(crew_block_attach(name)) < 0);
	CHECK_EQ(unlink(path), 0);
}

/* "" is a name that nobody has; colons, spaces and newlines are as good as letters. */
TEST(names_can_be_made_up_and_odd)
{
	crew_block a = crew_block_make("", 100), b = crew_block_make("", 100), odd;
	char first[64], second[64];

	CHECK_EQ(crew_block_name(a, first, sizeof first), 37);
	CHECK_EQ(crew_block_name(b, second, sizeof second), 37);
	CHECK(strcmp(first, second) != 0 && is_there(first) && is_there(second));
	CHECK_EQ(crew_block_unlink(first), 0);
	CHECK_EQ(crew_block_unlink(second), 0);
	strcat(strcpy(first, fresh_name("odd")), ": a\nb");
	odd = crew_block_make(first, 10);
	CHECK_EQ(crew_handle_error(odd), 0);
	CHECK_EQ(crew_block_unlink(first), 0);
	CHECK_EQ(crew_drop(a), 0);
	CHECK_EQ(crew_drop(b), 0);
	CHECK_EQ(crew_drop(odd), 0);
}

/* A process that was there before the block is and has only its handle finds it by its name, and no other block of that name. */
CREW_TASK(int, first_byte, (crew_block, block))
{
	crew_bytes run = crew_block_at(block);

	return run.data ? ((unsigned char *)run.data)[0] : -1;
}
TEST(a_named_block_is_found_by_its_handle)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		crew_block first, other;
		pid_t worker;
		int y = 0;

		first = crew_block_make(fresh_name("found"), 100);
		other = crew_block_make(NULL, 100);
		((char *)crew_block_at(first).data)[0] = 'x';
		CHECK_EQ(crew_run(ex, &y, first_byte, first), 0);
		CHECK_EQ(y, 'x');
		CHECK_EQ(crew_run(ex, &y, first_byte, other), 0);
		CHECK_EQ(y, 0);
		CHECK_EQ(crew_drop(other), 0);
		CHECK_EQ(crew_block_unlink(name), 0);
		other = crew_block_make(name, 100);
		worker = crew_executor_worker_pid(ex, 0);
		CHECK_EQ(kill(worker, SIGKILL), 0); /* the next has nothing of the first's open */
		while (lives(worker))
			sched_yield();
		while (crew_run(ex, &y, first_byte, other))
			;
		CHECK_EQ(y, 0);
		CHECK_EQ(crew_run(ex, &y, first_byte, first), 0);
		CHECK_EQ(y, -1);
		CHECK_EQ(crew_drop(first), 0);
		CHECK_EQ(crew_block_unlink(name), 0);
		CHECK_EQ(crew_drop(other), 0);
	}
}

/* Cut short by somebody in the meantime, it is not mapped where it would end in SIGBUS. */
TEST(a_block_that_was_cut_short_is_not_mapped_anew)
{
	CREW_SCOPE (ex, crew_processes(1)) {
		char path[300];
		crew_block block;
		int y = 0;

		CHECK_EQ(crew_run(ex, &y, first_byte, (crew_block){ { 0, 0 } }), 0); /* the worker is there, the block is not */
		block = crew_block_make(fresh_name("short"), 100000);
		snprintf(path, sizeof path, "/dev/shm/%s", name);
		CHECK_EQ(truncate(path, 4096), 0);
		CHECK_EQ(crew_run(ex, &y, first_byte, block), 0);
		CHECK_EQ(y, -1);
		CHECK_EQ(crew_block_unlink(name), 0);
		CHECK_EQ(crew_drop(block), 0);
	}
}

/* ---- the tracker ---- */

static void make_and_stay(void *arg)
{
	crew_event *ready = arg;

	CHECK_EQ(crew_handle_error(crew_block_make(name, 100)), 0);
	crew_event_set(*ready);
	pause();
}
/* `maker` makes the block, says so, and is killed. */
static void check_killed(const char *called, void (*maker)(void *ready))
{
	crew_event ready = crew_event_make();
	pid_t pid;

	fresh_name(called);
	pid = child_start(maker, &ready);
	CHECK_EQ(crew_event_wait(ready, CREW_FOREVER), 0);
	CHECK(is_there(name));
	child_kill(pid);
	await_gone(name);
	CHECK_EQ(crew_drop(ready), 0);
}
TEST(a_killed_maker_leaves_no_name)
{
	check_killed("killed", make_and_stay);
}

static void make_and_end(void *arg)
{
	(void)arg;
	CHECK_EQ(crew_handle_error(crew_block_make(name, 100)), 0);
}
TEST(a_maker_that_ends_leaves_no_name)
{
	fresh_name("ended");
	child_join(child_start(make_and_end, NULL));
	await_gone(name);
}

static void make_untracked(void *arg)
{
	(void)arg;
	CHECK_EQ(crew_handle_error(crew_block_make_with(name, 100, CREW_UNTRACKED)), 0);
	CHECK_EQ(crew__tracker_pid(), 0);
}
TEST(an_untracked_name_stays)
{
	crew_block block;

	fresh_name("untracked");
	child_join(child_start(make_untracked, NULL));
	block = crew_block_attach(name);
	CHECK_EQ(crew_handle_error(block), 0);
	CHECK_EQ(crew_block_at(block).len, 100u);
	CHECK_EQ(crew_block_unlink(name), 0);
	CHECK_EQ(crew_drop(block), 0);
}

static void lose_trackers(void *arg)
{
	crew_event *ready = arg;
	pid_t first, second;
	char other[80];

	snprintf(other, sizeof other, "%s-2", name);
	CHECK_EQ(crew_handle_error(crew_block_make(name, 100)), 0);
	first = crew__tracker_pid();
	CHECK(first > 0);
	CHECK_EQ(kill(first, SIGINT), 0);
	CHECK_EQ(kill(first, SIGTERM), 0);
	CHECK_EQ(kill(first, SIGHUP), 0);
	CHECK_EQ(kill(first, SIGKILL), 0);
	while (lives(first))
		sched_yield();
	CHECK_EQ(crew_handle_error(crew_block_make(other, 100)), 0);
	second = crew__tracker_pid();
	CHECK(second > 0 && second != first);
	crew_event_set(*ready);
	pause();
}
/* A tracker that is killed is replaced, and its successor knows all names. */
TEST(a_killed_tracker_is_started_anew)
{
	crew_event ready = crew_event_make();
	char other[80];
	pid_t pid;

	fresh_name("tracker");
	snprintf(other, sizeof other, "%s-2", name);
	pid = child_start(lose_trackers, &ready);
	CHECK_EQ(crew_event_wait(ready, CREW_FOREVER), 0);
	CHECK(is_there(name) && is_there(other));
	child_kill(pid);
	await_gone(name);
	await_gone(other);
	CHECK_EQ(crew_drop(ready), 0);
}

/* Also when it is a name that goes by which the loss is found, be it the last. */
static void lose_trackers_at_unlink(void *arg)
{
	crew_event *ready = arg;
	char other[80];

	snprintf(other, sizeof other, "%s-2", name);
	for (int left = 1; left >= 0; left--) {
		pid_t tracker;

		if (left) {
			CHECK_EQ(crew_handle_error(crew_block_make(name, 100)), 0);
			CHECK_EQ(crew_handle_error(crew_block_make(other, 100)), 0);
		}
		tracker = crew__tracker_pid();
		CHECK_EQ(kill(tracker, SIGKILL), 0);
		while (lives(tracker))
			sched_yield();
		CHECK_EQ(crew_block_unlink(left ? other : name), 0);
		CHECK_EQ(crew__tracker_pid() != 0 && crew__tracker_pid() != tracker, left == 1);
	}
	CHECK_EQ(crew_handle_error(crew_block_make(name, 100)), 0);
	crew_event_set(*ready);
	pause();
}
TEST(a_killed_tracker_is_missed_by_an_unlink)
{
	check_killed("missed", lose_trackers_at_unlink);
}

/* It keeps as many names as there are. */
static void make_many(void *arg)
{
	char one[100];

	for (int i = 0; i < *(int *)arg; i++) {
		snprintf(one, sizeof one, "%s-%d", name, i);
		CHECK_EQ(crew_handle_error(crew_block_make(one, 10)), 0);
	}
}
TEST(a_tracker_keeps_many_names)
{
	int count = 40;
	char one[100];

	fresh_name("many");
	child_join(child_start(make_many, &count));
	for (int i = 0; i < count; i++) {
		snprintf(one, sizeof one, "%s-%d", name, i);
		await_gone(one);
	}
}

/* Behind the library's back, so that the tracker does not learn of it. */
static void hand_over(void *arg)
{
	crew_value *told = arg;
	char path[100];
	pid_t tracker;

	CHECK_EQ(crew_handle_error(crew_block_make(name, 100)), 0);
	tracker = crew__tracker_pid();
	for (int i = 0; i < 3; i++)
		CHECK_EQ(kill(tracker, (int[]){ SIGINT, SIGTERM, SIGHUP }[i]), 0);
	snprintf(path, sizeof path, "/dev/shm/%s", name);
	CHECK_EQ(unlink(path), 0);
	CHECK(lives(tracker));
	CHECK_EQ(crew_handle_error(crew_block_make_with(name, 200, CREW_UNTRACKED)), 0);
	crew_value_store(*told, tracker);
}
/* It takes away what it was told of, not another file that has got the name since; signals that end others do not end it. */
TEST(the_tracker_leaves_other_files_of_the_name_alone)
{
	crew_value tracker = crew_value_make(pid_t, 0);
	crew_block block;

	fresh_name("other");
	child_join(child_start(hand_over, &tracker));
	while (lives((pid_t)crew_value_load(tracker))) /* until it has taken away what it means to */
		sched_yield();
	block = crew_block_attach(name);
	CHECK_EQ(crew_block_at(block).len, 200u);
	CHECK_EQ(crew_block_unlink(name), 0);
	CHECK_EQ(crew_drop(block), 0);
	CHECK_EQ(crew_drop(tracker), 0);
}

static void uses_only(void *arg)
{
	crew_block *block = arg;

	CHECK_EQ(crew_block_at(*block).len, 300u);
	CHECK_EQ(crew__tracker_pid(), 0);
}
/* A child that ends takes nothing of its parent's with it. */
TEST(a_childs_end_leaves_the_parents_names)
{
	crew_block block = crew_block_make(fresh_name("parent"), 300);

	child_join(child_start(uses_only, &block));
	for (int i = 0; i < 1000; i++)
		sched_yield();
	CHECK(is_there(name));
	CHECK_EQ(crew_block_unlink(name), 0);
	CHECK_EQ(crew_drop(block), 0);
}

/* ---- lists ---- */

static bool is_text(crew_shareable_list list, size_t i, const char *text)
{
	crew_item item;
	bool same;

	CHECK_EQ(crew_shareable_list_get(list, i, &item), 0);
	CHECK_EQ((int)item.kind, (int)CREW_ITEM_BYTES);
	same = item.is.bytes.len == strlen(text) && memcmp(item.is.bytes.data, text, item.is.bytes.len) == 0;
	crew_bytes_free(item.is.bytes);
	return same;
}

static void change(int i, void *arg)
{
	crew_shareable_list list = *(crew_shareable_list *)arg;

	(void)i;
	CHECK_EQ(crew_shareable_list_set(list, 0, crew_item_integer(-5)), 0);
	CHECK_EQ(crew_shareable_list_set(list, 1, crew_item_string("eightchr")), 0);
	CHECK_EQ(crew_shareable_list_set(list, 1, crew_item_string("ninechars")), -EMSGSIZE);
	CHECK_EQ(crew_shareable_list_set(list, 0, crew_item_string("x")), -EMSGSIZE);
	CHECK_EQ(crew_shareable_list_set(list, 2, crew_item_string("now text?")), -EMSGSIZE);
	CHECK_EQ(crew_shareable_list_set(list, 2, crew_item_real(2.5)), 0);
	CHECK_EQ(crew_shareable_list_set(list, 4, crew_item_real(2.5)), -ERANGE);
}
/* Items keep their room; what does not fit changes nothing. */
TEST_CARRIED(a_shareable_list_changes_in_place_or_not_at_all)
{
	crew_item items[] = { crew_item_integer(7), crew_item_string("one"), { .kind = CREW_ITEM_NONE }, crew_item_string("") }, item;
	crew_shareable_list list = crew_shareable_list_make(items, 4);

	CHECK_EQ(crew_shareable_list_len(list), 4);
	CHECK(is_text(list, 1, "one"));
	CHECK_EQ(crew_shareable_list_get(list, 2, &item), 0);
	CHECK_EQ((int)item.kind, (int)CREW_ITEM_NONE);
	crowd_start(1, change, &list);
	crowd_join();
	CHECK_EQ(crew_shareable_list_get(list, 0, &item), 0);
	CHECK(item.kind == CREW_ITEM_INTEGER && item.is.integer == -5);
	CHECK(is_text(list, 1, "eightchr"));
	CHECK_EQ(crew_shareable_list_get(list, 2, &item), 0);
	CHECK(item.kind == CREW_ITEM_REAL && item.is.real > 2.4);
	CHECK(is_text(list, 3, ""));
	CHECK_EQ(crew_shareable_list_get(list, 4, &item), -ERANGE);
	CHECK_EQ(crew_shareable_list_get(list, 0, NULL), -EINVAL);
	CHECK_EQ(crew_drop(list), 0);
	CHECK_EQ(crew_shareable_list_len(list), CREW_EHANDLE);
	CHECK_EQ(crew_shareable_list_set(list, 0, items[0]), CREW_EHANDLE);
	CHECK_EQ(crew_handle_error(crew_shareable_list_make(items, 0)), 0);
	CHECK_EQ(crew_handle_error(crew_shareable_list_make(NULL, 0)), 0);
	CHECK_EQ(crew_handle_error(crew_shareable_list_make(NULL, 4)), -EINVAL);
	items[0].kind = (enum crew_item_kind)77;
	CHECK_EQ(crew_handle_error(crew_shareable_list_make(items, 1)), -EINVAL);
}

static void end_well(int signal)
{
	(void)signal;
	_exit(0);
}
static void set_from_nowhere(void *arg)
{
	void *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(nowhere != MAP_FAILED);
	CHECK(signal(SIGSEGV, end_well) != SIG_ERR);
	crew_shareable_list_set(*(crew_shareable_list *)arg, 1, (crew_item){ .kind = CREW_ITEM_BYTES, .is.bytes = { nowhere, 8 } });
	CHECK(false);
}
/* Who dies in the middle of an item leaves that one said to be so, until it is set anew; the others are as they were. */
TEST(a_death_within_an_item_is_told_by_that_item)
{
	crew_item items[] = { { .kind = CREW_ITEM_BOOL, .is.boolean = true }, crew_item_string("whatever"), { .kind = CREW_ITEM_BOOL } }, item;
	crew_shareable_list list = crew_shareable_list_make(items, 3);

	child_join(child_start(set_from_nowhere, &list));
	CHECK_EQ(crew_shareable_list_get(list, 1, &item), -EOWNERDEAD);
	CHECK_EQ(crew_shareable_list_get(list, 1, &item), -EOWNERDEAD);
	CHECK_EQ(crew_shareable_list_get(list, 0, &item), 0);
	CHECK(item.kind == CREW_ITEM_BOOL && item.is.boolean);
	CHECK_EQ(crew_shareable_list_get(list, 2, &item), 0);
	CHECK(item.kind == CREW_ITEM_BOOL && !item.is.boolean);
	CHECK_EQ(crew_shareable_list_set(list, 1, crew_item_string("new")), 0);
	CHECK(is_text(list, 1, "new"));
	CHECK_EQ(crew_drop(list), 0);
}

/* Bytes that are none have no length; more of them than there is memory for make no list. */
TEST(items_that_are_none_are_refused)
{
	crew_item item = { .kind = CREW_ITEM_BYTES }, got = { .kind = CREW_ITEM_NONE };
	crew_shareable_list list = crew_shareable_list_make(&item, 1);

	CHECK_EQ(crew_handle_error(list), 0);
	CHECK_EQ(crew_shareable_list_set(list, 0, item), 0);
	CHECK_EQ(crew_shareable_list_get(list, 0, &got), 0);
	CHECK(got.kind == CREW_ITEM_BYTES && got.is.bytes.len == 0);
	crew_bytes_free(got.is.bytes);
	item.is.bytes.len = 5;
	CHECK_EQ(crew_shareable_list_set(list, 0, item), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_shareable_list_make(&item, 1)), -EINVAL);
	item.is.bytes = crew_bytes_make(name, SIZE_MAX);
	CHECK_EQ(crew_handle_error(crew_shareable_list_make(&item, 1)), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_shareable_list_make(&item, SIZE_MAX / 2)), -EINVAL);
	CHECK_EQ(crew_drop(list), 0);
}
