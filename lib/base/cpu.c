/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cpu.c: how many CPUs this process may really use.
 *
 * sysconf() counts the machine. A container sees the machine but may use two CPUs of it: by affinity (sched_getaffinity) or by a quota
 * of its control group (cpu.max of cgroup 2, cfs_quota_us of cgroup 1), which also binds through every group above. The least counts.
 *
 * The quota stands in half a dozen files, a tenth of a millisecond, and each opening of an executor asks: what was read is believed for a second.
 */
#include <crew/base.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/spinning.h"

static int affinity_count(void)
{
	/* a machine may have more CPUs than cpu_set_t: grow until the kernel is satisfied */
	for (int cpus = CPU_SETSIZE; cpus <= 1 << 20; cpus *= 2) {
		size_t size = CPU_ALLOC_SIZE(cpus);
		cpu_set_t *set = CPU_ALLOC(cpus);
		int rc, n;

		if (!set)
			break;
		rc = sched_getaffinity(0, size, set);
		n = rc == 0 ? CPU_COUNT_S(size, set) : 0;
		CPU_FREE(set);
		if (n > 0)
			return n;
		if (errno != EINVAL)
			break;
	}
	return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Quota and period of one group: rounded up, at least 1; INT_MAX when it has none. */
static int cpus_of(long long quota, long long period)
{
	long long n;

	if (quota <= 0 || period <= 0)
		return INT_MAX;
	n = (quota + period - 1) / period;
	return n < 1 ? 1 : n > INT_MAX ? INT_MAX : (int)n;
}

static bool read_number(const char *path, long long *ret)
{
	FILE *file = fopen(path, "re");
	bool ok = file && fscanf(file, "%lld", ret) == 1;

	if (file)
		fclose(file);
	return ok;
}

static int quota_v2(const char *group)
{
	char path[PATH_MAX];
	long long quota, period;
	FILE *file;
	int n = INT_MAX;

	if (snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group) >= (int)sizeof path)
		return n;
	file = fopen(path, "re");
	if (!file)
		return n;
	if (fscanf(file, "%lld %lld", &quota, &period) == 2) /* "max 100000" does not scan */
		n = cpus_of(quota, period);
	fclose(file);
	return n;
}

static int quota_v1(const char *group)
{
	static const char *const roots[] = { "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct" };
	char path[PATH_MAX];
	long long quota, period;

	for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
		if (snprintf(path, sizeof path, "%s%s/cpu.cfs_quota_us", roots[i], group) >= (int)sizeof path ||
		    !read_number(path, &quota))
			continue;
		if (snprintf(path, sizeof path, "%s%s/cpu.cfs_period_us", roots[i], group) >= (int)sizeof path ||
		    !read_number(path, &period))
			continue;
		return cpus_of(quota, period);
	}
	return INT_MAX;
}

/* Is "cpu" among the controllers of a line, "cpu,cpuacct"? cpuset and cpuacct have hierarchies of their own. */
static bool has_cpu(const char *controllers)
{
	for (const char *p = controllers; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (strncmp(p, "cpu", 3) == 0 && (p[3] == '\0' || p[3] == ','))
			return true;
	}
	return false;
}

/* The least quota of `group` and all groups above it. */
static int least_quota(char *group, int (*quota)(const char *))
{
	int least = INT_MAX;

	for (;;) {
		char *slash = strrchr(group, '/');
		int n = quota(group);

		if (n < least)
			least = n;
		if (!slash)
			return least;
		*slash = '\0';
	}
}

static int read_quota(void)
{
	char line[PATH_MAX + 64];
	int least = INT_MAX;
	FILE *file = fopen("/proc/self/cgroup", "re");

	while (file && fgets(line, sizeof line, file)) {
		char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
		int n = INT_MAX;

		if (!group)
			continue;
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		if (strcmp(group, "/") == 0)
			*group = '\0';
		if (controllers[1] == '\0')
			n = least_quota(group, quota_v2);
		else if (has_cpu(controllers + 1))
			n = least_quota(group, quota_v1);
		if (n < least)
			least = n;
	}
	if (file)
		fclose(file);
	return least;
}

/* Any thread; one word says all: the second in which it was read, from 1 on << 32 | the quota. 0: never. */
static int quota_count(void)
{
	static uint64_t last;
	uint64_t now = crew__now() / 1000000000u + 1, known = ck_pr_load_64(&last);

	if (known >> 32 != now) {
		known = now << 32 | (uint32_t)read_quota();
		ck_pr_store_64(&last, known);
	}
	return (int)(uint32_t)known;
}

int crew_cpu_count(void)
{
	int affinity = affinity_count(), quota = quota_count();
	int n = quota < affinity ? quota : affinity;

	return n < 1 ? 1 : n;
}

bool crew__cpu_to_spare(void)
{
	static uint32_t count; /* the same for all who write it */
	uint32_t n = ck_pr_load_32(&count);

	if (n == 0) {
		n = (uint32_t)crew_cpu_count();
		ck_pr_store_32(&count, n);
	}
	return n > 1;
}

/* ---- which one ---- */

__thread uint64_t crew__answered __attribute__((__tls_model__("initial-exec")));

bool crew__cpu_without(const cpu_set_t *set, int cpu, cpu_set_t *ret)
{
	if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET((size_t)cpu, set))
		return false;
	*ret = *set;
	CPU_CLR((size_t)cpu, ret);
	return CPU_COUNT(ret) > 0;
}

/* The mask is the user's to set at any time: it is read right before, and put back right after. */
void crew__cpu_leave(int cpu)
{
	cpu_set_t all, others;

	if (sched_getcpu() == cpu && sched_getaffinity(0, sizeof all, &all) == 0 && crew__cpu_without(&all, cpu, &others) &&
	    sched_setaffinity(0, sizeof others, &others) == 0)
		sched_setaffinity(0, sizeof all, &all);
}
