/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quotas.c: crew_cpu_count() in control groups of both versions.
 *
 * What a group may use is read from files. Each case is a child in a mount namespace of its own, where /sys/fs/cgroup and /proc/self/cgroup
 * are what the case says; it asks once, as what was read is believed for a second.
 */
#include <crew/crew.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../runner.h"

enum { NO_STAGE = 255, FILES = 5 };

struct quota_case {
	const char *groups; /* /proc/self/cgroup */
	struct {
		const char *path, *text;
	} files[FILES]; /* below /sys/fs/cgroup */
};

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

/* The file, and the folders that lead there. */
static bool make_file(const char *name, const char *text)
{
	char path[200];

	snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
	for (char *slash = strchr(path + strlen("/sys/fs/cgroup/"), '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0700) && errno != EEXIST)
			return false;
		*slash = '/';
	}
	return write_text(path, text);
}

static bool set_stage(const struct quota_case *c)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("none", "/sys/fs/cgroup", "tmpfs", 0, NULL))
		return false;
	for (int i = 0; i < FILES && c->files[i].path; i++)
		if (!make_file(c->files[i].path, c->files[i].text))
			return false;
	return make_file("groups", c->groups) && mount("/sys/fs/cgroup/groups", "/proc/self/cgroup", NULL, MS_BIND, NULL) == 0;
}

/* As many CPUs as crew_cpu_count() says there. */
static int count_in(const struct quota_case *c)
{
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0)
		_exit(set_stage(c) ? crew_cpu_count() : NO_STAGE);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	if (WEXITSTATUS(status) == NO_STAGE)
		SKIP("no mounts can be made here");
	return WEXITSTATUS(status);
}

/* Without any quota. */
static int free_count(void)
{
	return count_in(&(struct quota_case){ "0::/\n", { { NULL, NULL } } });
}

TEST(a_quota_of_cgroup_2_counts)
{
	int all = free_count();

	CHECK_EQ(count_in(&(struct quota_case){ "0::/a\n", { { "a/cpu.max", "100000 100000\n" } } }), 1);
	CHECK_EQ(count_in(&(struct quota_case){ "0::/a\n", { { "a/cpu.max", "max 100000\n" } } }), all);
	CHECK_EQ(count_in(&(struct quota_case){ "0::/a\n", { { "a/cpu.max", "20000 100000\n" } } }), 1); /* less than one is one */
	CHECK_EQ(count_in(&(struct quota_case){ "0::/a\n", { { "a/cpu.max", "150000 100000\n" } } }), all < 2 ? all : 2);
	CHECK_EQ(count_in(&(struct quota_case){ "0::/a\n", { { "b/cpu.max", "100000 100000\n" } } }), all); /* another's */
}

TEST(a_quota_of_cgroup_1_counts)
{
	int all = free_count();

	CHECK_EQ(count_in(&(struct quota_case){ "4:cpu:/a\n", { { "cpu/a/cpu.cfs_quota_us", "100000\n" }, { "cpu/a/cpu.cfs_period_us", "100000\n" } } }), 1);
	CHECK_EQ(count_in(&(struct quota_case){ "4:cpu,cpuacct:/a\n", { { "cpu/a/cpu.cfs_quota_us", "-1\n" }, { "cpu/a/cpu.cfs_period_us", "100000\n" } } }), all);
	CHECK_EQ(count_in(&(struct quota_case){ "4:cpuacct,cpu:/a\n",
						{ { "cpu,cpuacct/a/cpu.cfs_quota_us", "50000\n" }, { "cpu,cpuacct/a/cpu.cfs_period_us", "50000\n" } } }),
		 1);
}

/* A group has what all groups above it have together, at most. */
TEST(the_quota_of_a_group_above_counts)
{
	CHECK_EQ(count_in(&(struct quota_case){ "0::/a/b/c\n", { { "a/b/c/cpu.max", "max 100000\n" }, { "a/cpu.max", "100000 100000\n" } } }), 1);
	CHECK_EQ(count_in(&(struct quota_case){ "0::/a/b\n", { { "cpu.max", "100000 100000\n" } } }), 1); /* a container: its own group is the root */
}

/* The lines of cpuset and cpuacct name groups of other hierarchies. */
TEST(groups_of_other_controllers_do_not_count)
{
	struct quota_case c = { "5:cpuset:/a\n4:cpuacct:/a\n3:cpu:/\n",
				{ { "cpu/a/cpu.cfs_quota_us", "100000\n" }, { "cpu/a/cpu.cfs_period_us", "100000\n" } } };

	CHECK_EQ(count_in(&c), free_count());
}
