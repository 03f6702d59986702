/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * runner.c: forks a process for each test, watches it through a pidfd, and says what happened.
 *
 *	runner ──fork──> test process: census, run, census, exit(0)
 *	   ^                 │ first failed check (also from worker processes) → `report`, a shared page
 *	   └──pidfd, limit───┘ stdout and stderr → a memory file, shown only when the test failed
 *
 * The runner stays single-threaded, so that the fork is always safe, also under sanitizers. A test that is over its limit has its
 * stacks and those of its children printed by gdb, where that is installed, and is then killed with all it started. What a test leaves behind is
 * counted by census.c. LeakSanitizer runs at the exit of each test process and fails it by its exit status.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "census.h"
#include "noise.h"

enum { JOBS_MAX = 64, TESTS_MAX = 8192, GDB_SECONDS = 20, FAMILY_MAX = 64 };

/* Shared by the runner, the test process and its worker processes. */
struct report {
	uint32_t taken; /* by the first that fails or skips; atomic */
	bool skipped;
	char where[160], text[800];
};

struct job {
	const struct test *test; /* NULL: free */
	pid_t pid;
	int pidfd, output;
	int64_t started, deadline;
	struct report *report;
};

static struct test tests[TESTS_MAX];
static int test_count;
static bool left_out[TESTS_MAX]; /* not drawn */
static struct report *report; /* the test's, in its process */
static uint64_t seed, random_state;
static bool verbose;
static int passed, failed, skipped;

/* Programs that use processes find it in the library: tests may then execute them again. */
int crew_init(int argc, char **argv) __attribute__((__weak__));

void test_register(const struct test *test)
{
	if (test_count == TESTS_MAX)
		abort();
	tests[test_count++] = *test;
}

int64_t test_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* splitmix64, shared by the threads of a test */
uint64_t test_random(void)
{
	uint64_t z = __atomic_add_fetch(&random_state, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static long environment(const char *name, long otherwise)
{
	const char *text = getenv(name);

	return text && atol(text) > 0 ? atol(text) : otherwise;
}

size_t test_scaled(size_t n)
{
	size_t scaled = n * (size_t)environment("STRESS", 100) / 100 / (TEST_TSAN ? 20 : TEST_ASAN ? 2 : 1);

	return scaled ? scaled : 1;
}

/* ---- in the test process ---- */

static bool take_report(void)
{
	return __atomic_exchange_n(&report->taken, 1, __ATOMIC_ACQ_REL) == 0;
}

void test_fail(const char *file, int line, const char *format, ...)
{
	va_list arguments;

	if (take_report()) {
		snprintf(report->where, sizeof report->where, "%s:%d", file, line);
		va_start(arguments, format);
		vsnprintf(report->text, sizeof report->text, format, arguments);
		va_end(arguments);
	}
	_exit(1);
}

int test_first_cpu(void)
{
	cpu_set_t ours;
	int cpu = 0;

	CHECK_EQ(sched_getaffinity(0, sizeof ours, &ours), 0);
	while (!CPU_ISSET(cpu, &ours))
		cpu++;
	return cpu;
}

void test_have_one_cpu(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)test_first_cpu(), &one);
	if (sched_setaffinity(0, sizeof one, &one))
		SKIP("affinity cannot be set here");
}

void test_skip(const char *why)
{
	if (take_report()) {
		report->skipped = true;
		snprintf(report->text, sizeof report->text, "%s", why);
	}
	_exit(0);
}

void test_same_string(const char *a, const char *b, const char *text, const char *file, int line)
{
	if (a == b || (a && b && strcmp(a, b) == 0))
		return;
	test_fail(file, line, "%s is \"%.300s\", not \"%.300s\"", text, a ? a : "(null)", b ? b : "(null)");
}

void test_has_string(const char *a, const char *b, const char *text, const char *file, int line)
{
	if (!a || !strstr(a, b))
		test_fail(file, line, "%s is \"%.300s\", without \"%.300s\"", text, a ? a : "(null)", b);
}

const char *test_show(char text[48], int kind, const void *value, size_t size)
{
	uint64_t bits = 0;
	int unused = 64 - 8 * (int)size;

	if (kind == 'f') {
		long double number = 0;

		number = size == sizeof(float) ? (long double)*(const float *)value :
			 size == sizeof(double) ? (long double)*(const double *)value : *(const long double *)value;
		snprintf(text, 48, "%.12Lg", number);
		return text;
	}
	memcpy(&bits, value, size < sizeof bits ? size : sizeof bits);
	if (kind == 'p')
		snprintf(text, 48, "%#" PRIx64, bits);
	else if (kind == 'u')
		snprintf(text, 48, "%" PRIu64, bits);
	else
		snprintf(text, 48, "%" PRId64, (int64_t)(bits << unused) >> unused);
	return text;
}

static void *nothing(void *argument)
{
	return argument;
}

static void start_a_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, nothing, NULL) == 0)
		pthread_join(thread, NULL);
}

/* Have all that libc and sanitizers make at their first thread made, so that it is in the census before the test. */
static void warm_up(struct census *before)
{
	char text[256];

	census_take(before);
	start_a_thread();
	census_settled(before, text, sizeof text);
	census_take(before);
}

_Noreturn static void run_here(const struct test *test, int output, pid_t runner)
{
	static struct census before; /* large */
	char text[400];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != runner)
		_exit(1);
	setpgid(0, 0);
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
	close(output);
	warm_up(&before);
	test->run(test->argument);
	if (!census_settled(&before, text, sizeof text))
		test_fail(test->file, test->line, "%s", text);
	exit(0);
}

/* ---- in the runner ---- */

static int pid_fd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void job_start(struct job *job, const struct test *test)
{
	static uint64_t runs;
	pid_t runner = getpid();
	const char *limit = getenv("TEST_LIMIT");
	double factor = (limit && atof(limit) > 0 ? atof(limit) : 1) * (TEST_TSAN ? 8 : TEST_ASAN ? 4 : 1);

	memset(job->report, 0, sizeof *job->report);
	job->test = test;
	job->output = memfd_create("test output", MFD_CLOEXEC);
	fcntl(job->output, F_SETFL, O_APPEND);
	job->started = test_now_ms();
	job->deadline = job->started + (int64_t)(test->seconds * 1000 * factor);
	random_state = seed + runs++ * 0x632be59bd9b4e019u;
	fflush(NULL);
	job->pid = fork();
	if (job->pid == 0) {
		report = job->report;
		run_here(test, job->output, runner);
	}
	job->pidfd = job->pid < 0 ? -1 : pid_fd(job->pid);
	if (job->pidfd < 0) {
		perror("runner: fork");
		exit(2);
	}
}

/* pid and what descends from it, oldest first. */
static int family(pid_t pid, pid_t *members, int count)
{
	char command[64];
	FILE *children;
	int child;

	members[count++] = pid;
	snprintf(command, sizeof command, "cat /proc/%d/task/*/children 2>/dev/null", (int)pid);
	children = popen(command, "re");
	while (children && count < FAMILY_MAX && fscanf(children, "%d", &child) == 1)
		count = family(child, members, count);
	if (children)
		pclose(children);
	return count;
}

static void print_stacks(pid_t pid, int output)
{
	char number[16], seconds[16];
	pid_t gdb = fork();

	if (gdb == 0) {
		dup2(output, STDOUT_FILENO);
		dup2(output, STDERR_FILENO);
		snprintf(number, sizeof number, "%d", (int)pid);
		snprintf(seconds, sizeof seconds, "%d", GDB_SECONDS);
		execlp("timeout", "timeout", "-s", "KILL", seconds, "gdb", "-nx", "-batch", "-p", number, "-ex",
		       "thread apply all bt", (char *)NULL);
		_exit(127);
	}
	if (gdb > 0)
		waitpid(gdb, NULL, 0);
}

static void job_kill(struct job *job)
{
	pid_t members[FAMILY_MAX];
	int count = family(job->pid, members, 0);

	for (int i = 0; i < count; i++)
		print_stacks(members[i], job->output);
	for (int i = 0; i < count; i++)
		kill(members[i], SIGKILL);
}

/* Why a test process that ended this way has failed, or NULL. */
static const char *verdict(const struct job *job, int status, bool hung, char text[120])
{
	if (hung)
		snprintf(text, 120, "no end within %" PRId64 " s", (job->deadline - job->started) / 1000);
	else if (WIFSIGNALED(status))
		snprintf(text, 120, "killed by signal %d, %s", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0)
		snprintf(text, 120, "exit status %d", WEXITSTATUS(status));
	else
		return NULL;
	return text;
}

static void print_output(int output)
{
	char buffer[4096];
	ssize_t n;
	off_t at = 0;

	while ((n = pread(output, buffer, sizeof buffer, at)) > 0) {
		fwrite(buffer, 1, (size_t)n, stdout);
		at += n;
	}
}

static void print_name(const struct test *test)
{
	printf("%s%s%s", test->name, test->variant ? "/" : "", test->variant ? test->variant : "");
}

static void judge(const struct job *job, int status, bool hung)
{
	const struct report *said = job->report;
	char text[120];
	const char *why = verdict(job, status, hung, text);
	long took = (long)(test_now_ms() - job->started);

	if (said->taken && !said->skipped) {
		printf("%s: FAILED: ", said->where);
		print_name(job->test);
		printf(": %s (seed %" PRIu64 ")\n", said->text, seed);
	} else if (why) {
		printf("%s:%d: FAILED: ", job->test->file, job->test->line);
		print_name(job->test);
		printf(": %s (seed %" PRIu64 ")\n", why, seed);
	} else {
		passed += !said->skipped;
		skipped += said->skipped;
		if (verbose) {
			printf("%s %5ld ms ", said->skipped ? "skip" : "ok  ", took);
			print_name(job->test);
			printf("%s%s\n", said->skipped ? ": " : "", said->text);
			print_output(job->output);
		}
		return;
	}
	failed++;
	print_output(job->output);
}

static void job_end(struct job *job, bool hung)
{
	int status = 0;

	if (hung)
		job_kill(job);
	while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR)
		;
	judge(job, status, hung);
	fflush(stdout);
	close(job->pidfd);
	close(job->output);
	job->test = NULL;
}

static bool has_ended(const struct job *job)
{
	struct pollfd end = { job->pidfd, POLLIN, 0 };

	return poll(&end, 1, 0) == 1;
}

/* Wait until a job has ended or is over its limit, and judge all that are: by what they are then, for we may have been without a CPU since the poll. */
static void await_jobs(struct job *jobs, int count)
{
	struct pollfd fds[JOBS_MAX];
	int64_t now = test_now_ms(), next = now + 3600000;

	for (int i = 0; i < count; i++) {
		fds[i] = (struct pollfd){ jobs[i].test ? jobs[i].pidfd : -1, POLLIN, 0 };
		if (jobs[i].test && jobs[i].deadline < next)
			next = jobs[i].deadline;
	}
	poll(fds, (nfds_t)count, next > now ? (int)(next - now) : 0);
	now = test_now_ms();
	for (int i = 0; i < count; i++)
		if (jobs[i].test && (fds[i].revents || now >= jobs[i].deadline))
			job_end(&jobs[i], !has_ended(&jobs[i]));
}

static bool chosen(const struct test *test, char **filters, int count)
{
	char name[512];

	if (count == 0)
		return true;
	snprintf(name, sizeof name, "%s/%s %s", test->name, test->variant ? test->variant : "", test->file);
	for (int i = 0; i < count; i++)
		if (strstr(name, filters[i]))
			return true;
	return false;
}

/* n of those that are chosen, each as likely as the others. */
static void draw(char **filters, int filter_count, size_t n)
{
	size_t rest = 0;

	for (int i = 0; i < test_count; i++)
		rest += chosen(&tests[i], filters, filter_count);
	random_state = seed;
	for (int i = 0; i < test_count; i++)
		if (chosen(&tests[i], filters, filter_count)) {
			left_out[i] = test_random() % rest-- >= n;
			n -= !left_out[i];
		}
}

static void run_all(char **filters, int filter_count, long repeat, int job_count)
{
	static struct job jobs[JOBS_MAX];
	int busy, k;

	for (k = 0; k < job_count; k++)
		jobs[k].report = mmap(NULL, sizeof(struct report), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (long round = 0; round < repeat; round++)
		for (int i = 0; i < test_count; i++) {
			if (left_out[i] || !chosen(&tests[i], filters, filter_count))
				continue;
			for (k = 0; jobs[k].test; k = k + 1 < job_count ? k + 1 : (await_jobs(jobs, job_count), 0))
				;
			job_start(&jobs[k], &tests[i]);
		}
	do {
		for (k = busy = 0; k < job_count; k++)
			busy += jobs[k].test != NULL;
		if (busy)
			await_jobs(jobs, job_count);
	} while (busy);
}

static int usable_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int main(int argc, char **argv)
{
	long repeat = 1, sample = 0, noise = 0, jobs = environment("TEST_JOBS", usable_cpus());
	bool list = false;
	int filters = 0;

	if (crew_init && crew_init(argc, argv))
		return 2;
	seed = environment("TEST_SEED", (long)(((uint64_t)test_now_ms() << 16 ^ (uint64_t)getpid()) & INT64_MAX));
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--list") == 0)
			list = true;
		else if (strcmp(argv[i], "--verbose") == 0)
			verbose = true;
		else if (strcmp(argv[i], "--repeat") == 0 && i + 1 < argc)
			repeat = atol(argv[++i]);
		else if (strcmp(argv[i], "--jobs") == 0 && i + 1 < argc)
			jobs = atol(argv[++i]);
		else if (strcmp(argv[i], "--sample") == 0 && i + 1 < argc)
			sample = atol(argv[++i]);
		else if (strcmp(argv[i], "--noise") == 0 && i + 1 < argc)
			noise = atol(argv[++i]);
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else
			argv[filters++] = argv[i]; /* never ahead of i */
	}
	for (int i = 0; list && i < test_count; i++)
		if (chosen(&tests[i], argv, filters)) {
			print_name(&tests[i]);
			printf("\n");
		}
	if (list)
		return 0;
	/* ThreadSanitizer has one thread of its own, but two in the child of a process that never had another. */
	if (TEST_TSAN)
		start_a_thread();
	if (sample > 0)
		draw(argv, filters, test_scaled((size_t)sample));
	noise_start((int)noise);
	run_all(argv, filters, repeat, (int)(jobs < 1 ? 1 : jobs > JOBS_MAX ? JOBS_MAX : jobs));
	noise_stop();
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed != 0 || passed + skipped == 0;
}
