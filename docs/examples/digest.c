/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * digest.c: the SHA-256 of every regular file below some folders, in parallel, printed as by sha256sum.
 *
 *	digest /usr/include /usr/lib		is, to the byte, but sooner:
 *	find /usr/include /usr/lib -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
 *
 * The one idea: crew_imap() pulls. Asking it for the next digest makes it ask feed() for as many paths as
 * there is room for on the way, and feed() asks the walk. So nothing is ever listed, memory does not depend
 * on the number of files, and as results come in the order of their paths, the output is sorted.
 *
 *	digest_tree ──path──▶ feed() ──▶ crew_imap ──▶ digest_file() in a worker
 *	                        └─ path ─▶ under way        │ struct digest, or an error
 *	                                      └─────────────┴──▶ digest_report ──▶ stdout, stderr
 *
 * Ctrl-C belongs to the program, not to the library: a thread of ours waits for the signal and then shuts
 * the executor down. Tasks look for that between two chunks of a file. A second Ctrl-C waits for nobody.
 */
#define _GNU_SOURCE
#include "digest_report.h"
#include "digest_tree.h"

#include <crew/crew.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	CHUNK = 128 * 1024,
	WINDOW = 1024,	 /* files on their way: while one worker reads a huge one, others get so far ahead */
	GRACE_MS = 1000, /* for tasks to stop after Ctrl-C; then worker processes are killed */
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

/* ---- the task ---- */

struct digest {
	unsigned char sha256[32];
	uint64_t size;
};

/* 0 or what is wrong with the file. */
static int digest_fd(int fd, EVP_MD_CTX *sha256, struct digest *ret)
{
	static _Thread_local unsigned char chunk[CHUNK];

	if (!sha256 || !EVP_DigestInit_ex(sha256, EVP_sha256(), NULL))
		return ENOMEM;
	for (;;) {
		ssize_t n = read(fd, chunk, sizeof chunk);
		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return errno;
		if (crew_task_cancelled())
			return ECANCELED;
		if (n > 0 && !EVP_DigestUpdate(sha256, chunk, (size_t)n))
			return EIO;
		ret->size += n > 0 ? (uint64_t)n : 0;
	}
	return EVP_DigestFinal_ex(sha256, ret->sha256, NULL) ? 0 : EIO;
}

/* O_NONBLOCK: what was a file when it was listed may be a fifo by now, and open() would wait for its writer. */
CREW_TASK(struct digest, digest_file, (const char *, path))
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK), code;
	EVP_MD_CTX *sha256;
	struct digest digest = { .size = 0 };

	if (fd < 0)
		return crew_raise_as(struct digest, errno, "%s", strerror(errno));
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	sha256 = EVP_MD_CTX_new();
	code = digest_fd(fd, sha256, &digest);
	EVP_MD_CTX_free(sha256);
	close(fd);
	return code ? crew_raise_as(struct digest, code, "%s", strerror(code)) : digest;
}

/* ---- Ctrl-C ---- */

struct interrupt {
	sigset_t signals;
	pthread_t thread;
	crew_executor *ex;
	int stop_fd;	      /* eventfd: readable once a signal came */
	atomic_int signal;    /* which; 0 none yet */
	atomic_bool finished; /* main needs no more of it */
};

static void *interrupt_thread(void *arg)
{
	struct interrupt *interrupt = arg;
	int signal;

	while (sigwait(&interrupt->signals, &signal) == 0 && !interrupt->finished) {
		if (interrupt->signal)
			_exit(128 + signal); /* workers die with us */
		interrupt->signal = signal;
		eventfd_write(interrupt->stop_fd, 1);
		crew_executor_shutdown(interrupt->ex, CREW_CANCEL_PENDING | CREW_KILL_RUNNING, GRACE_MS);
	}
	return NULL;
}

/* Before there is any thread or child: they inherit the mask. A Ctrl-C that is ignored, as in a background
   job, stays ignored. */
static int interrupt_init(struct interrupt *interrupt)
{
	struct sigaction action;

	sigemptyset(&interrupt->signals);
	sigaddset(&interrupt->signals, SIGTERM);
	if (sigaction(SIGINT, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
		sigaddset(&interrupt->signals, SIGINT);
	interrupt->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return interrupt->stop_fd < 0 ? -errno : -pthread_sigmask(SIG_BLOCK, &interrupt->signals, NULL);
}

/* After the executor was opened: processes are not forked from a program that has threads. */
static int interrupt_begin(struct interrupt *interrupt, crew_executor *ex)
{
	interrupt->ex = ex;
	return -pthread_create(&interrupt->thread, NULL, interrupt_thread, interrupt);
}

/* Before the executor is closed: the thread uses it. The signal only wakes it. */
static void interrupt_end(struct interrupt *interrupt)
{
	interrupt->finished = true;
	pthread_kill(interrupt->thread, SIGTERM);
	pthread_join(interrupt->thread, NULL);
}

/* ---- the job ---- */

struct path {
	struct path *next;
	char *name;
};

struct job {
	struct digest_tree *tree;
	struct digest_report report;
	struct interrupt interrupt;
	struct path *first, **last; /* under way, oldest first: results come in the same order */
	int workers;
};

static int feed(void *state, CREW_ARGS(digest_file) *args)
{
	struct job *job = state;
	char *name;
	int got = job->interrupt.signal ? 0 : digest_tree_next(job->tree, &name);
	struct path *path;

	if (got == 0)
		return 0;
	path = malloc(sizeof *path);
	crew_must(path && name ? 0 : -ENOMEM);
	*path = (struct path){ .name = name };
	*job->last = path;
	job->last = &path->next;
	args->path = name;
	return got;
}

static void forget_first(struct job *job)
{
	struct path *path = job->first;

	job->first = path->next;
	if (!job->first)
		job->last = &job->first;
	free(path->name);
	free(path);
}

/* Until the end, a Ctrl-C, or a stdout that takes no more. */
static void digest_all(struct job *job, crew_executor *ex)
{
	crew_stream *stream = crew_imap(ex, digest_file, feed, job, .window = WINDOW);
	struct digest digest;
	int got;

	while (job->report.code == 0 && (got = crew_next(stream, &digest)) != 0 && !job->interrupt.signal) {
		if (got > 0)
			digest_report_line(&job->report, job->first->name, digest.sha256, digest.size);
		else
			digest_report_failure(&job->report, job->first->name,
					      crew_stream_error(stream)->message);
		forget_first(job);
	}
	crew_stream_close(stream);
	while (job->first)
		forget_first(job);
}

/* 0, or why ex could not be opened. */
static int run(struct job *job, crew_executor *ex)
{
	crew_error error;

	if (crew_executor_error(ex, &error) < 0) {
		fprintf(stderr, "digest: %s\n", error.message);
		return error.code;
	}
	job->workers = crew_executor_workers(ex);
	crew_must(interrupt_begin(&job->interrupt, ex));
	digest_all(job, ex);
	interrupt_end(&job->interrupt);
	return 0;
}

/* ---- the command line ---- */

struct options {
	const char *backend;
	int workers;
	bool summary;
};

static const char help[] =
	"digest [OPTION]... FOLDER...\n"
	"The SHA-256 of every regular file below the folders, as sha256sum prints it, sorted by path.\n"
	"\n"
	"  --backend inline|threads|processes  where the files are read (threads)\n"
	"  --workers N                         how many at a time (as many as there are CPUs to use)\n"
	"  --summary                           say on stderr how many files it was, and how long it took\n"
	"  --help                              this\n"
	"\n"
	"Exit status: 0, 1 when a file or folder could not be read, 2 for a wrong command line, 130 after Ctrl-C.\n";

static crew_executor *open_executor(const struct options *options)
{
	if (strcmp(options->backend, "inline") == 0)
		return crew_inline();
	if (strcmp(options->backend, "processes") == 0)
		return crew_processes(.workers = options->workers, .name = "digest");
	return crew_threads(.workers = options->workers, .name = "digest");
}

static bool backend_known(const char *name)
{
	return strcmp(name, "inline") == 0 || strcmp(name, "threads") == 0 || strcmp(name, "processes") == 0;
}

/* 0 to more than enough; -1: not a number of workers. */
static int workers_of(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	return end == text || *end || n < 1 || n > 1024 ? -1 : (int)n;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct options *ret)
{
	static const struct option known[] = { { "backend", required_argument, NULL, 'b' },
					       { "workers", required_argument, NULL, 'w' },
					       { "summary", no_argument, NULL, 's' },
					       { "help", no_argument, NULL, 'h' },
					       { NULL, 0, NULL, 0 } };
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == 'h')
			return fputs(help, stdout) < 0 || fflush(stdout) ? EXIT_FAILED : 0;
		if (option == 'b')
			ret->backend = optarg;
		else if (option == 'w')
			ret->workers = workers_of(optarg);
		else if (option == 's')
			ret->summary = true;
		else
			return EXIT_USAGE;
	}
	if (optind < argc && backend_known(ret->backend) && ret->workers >= 0)
		return -1;
	fputs("usage: digest [--backend inline|threads|processes] [--workers 1…1024] FOLDER...\n", stderr);
	return EXIT_USAGE;
}

static void summarise(const struct job *job)
{
	const struct digest_report *report = &job->report;

	fprintf(stderr,
		"%" PRIu64 " files, %" PRIu64 " bytes, %.3f seconds, %d workers, %" PRIu64 " unreadable\n",
		report->files, report->bytes, digest_report_seconds(report), job->workers, report->failures);
}

int main(int argc, char **argv)
{
	static struct job job = { .last = &job.first };
	struct options options = { .backend = "threads" };
	int status = parse(argc, argv, &options), code = 0;

	if (status >= 0)
		return status;
	crew_must(interrupt_init(&job.interrupt));
	job.tree = digest_tree_open(argv + optind, (size_t)(argc - optind));
	crew_must(job.tree ? 0 : -ENOMEM);
	digest_report_init(&job.report, job.interrupt.stop_fd);
	CREW_SCOPE (ex, open_executor(&options))
		code = run(&job, ex);
	digest_report_fini(&job.report);
	digest_tree_close(job.tree);
	if (job.interrupt.signal)
		return 128 + job.interrupt.signal;
	if (options.summary)
		summarise(&job);
	return code < 0 || job.report.code < 0 || job.report.failures ? EXIT_FAILED : 0;
}
