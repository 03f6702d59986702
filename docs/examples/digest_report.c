/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * digest_report.c: lines, failures and progress, as sha256sum prints them.
 *
 * Whole lines at any time. Lines are gathered up to PIPE_BUF bytes and written by one write(2), which a
 * pipe takes whole or not at all. Before it poll(2) waits for room or for the order to stop, whichever is
 * first: a reader that has gone to sleep cannot keep Ctrl-C from working. Once a line is begun, it is
 * ended.
 *
 * Names. On stdout a backslash, newline or carriage return in a name is written \\, \n, \r, and the line
 * then begins with a backslash. On stderr a name is quoted for the shell where need be, as GNU programs do
 * in the C locale.
 */
#define _GNU_SOURCE
#include "digest_report.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PROGRESS_MS = 100 };

/* ---- progress ---- */

static double seconds_since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - then->tv_sec) + (double)(now.tv_nsec - then->tv_nsec) * 1e-9;
}

double digest_report_seconds(const struct digest_report *report)
{
	return seconds_since(&report->begun);
}

static void progress_hide(struct digest_report *report)
{
	if (report->progress_shown)
		fputs("\r\033[K", stderr);
	report->progress_shown = false;
}

static void progress_show(struct digest_report *report)
{
	double mb = (double)report->bytes / 1e6;

	if (!report->progress || seconds_since(&report->shown) * 1000 < PROGRESS_MS)
		return;
	fprintf(stderr, "\r\033[K%" PRIu64 " files, %.0f MB, %.0f MB/s", report->files, mb,
		mb / digest_report_seconds(report));
	fflush(stderr);
	clock_gettime(CLOCK_MONOTONIC, &report->shown);
	report->progress_shown = true;
}

/* ---- lines ---- */

/* 0: there is room for PIPE_BUF bytes, or an error that write(2) will tell. -EINTR: told to stop. */
static int wait_for_room(const struct digest_report *report)
{
	struct pollfd fds[] = { { .fd = STDOUT_FILENO, .events = POLLOUT },
				{ .fd = report->stop_fd, .events = POLLIN } };

	while (poll(fds, 2, -1) < 0)
		if (errno != EINTR)
			return -errno;
	return fds[0].revents ? 0 : -EINTR;
}

static void flush(struct digest_report *report)
{
	size_t done = 0, used = report->used;

	report->used = 0;
	if (report->code == 0 && used > 0)
		report->code = wait_for_room(report);
	while (report->code == 0 && done < used) {
		ssize_t n = write(STDOUT_FILENO, report->lines + done, used - done);
		if (n < 0 && errno == EAGAIN) /* somebody made our stdout non-blocking */
			poll(&(struct pollfd){ .fd = STDOUT_FILENO, .events = POLLOUT }, 1, -1);
		else if (n < 0 && errno != EINTR)
			report->code = -errno;
		done += n > 0 ? (size_t)n : 0;
	}
}

/* The line of one file, at `at`; returns its end. */
static char *format_line(char *at, const char *path, const unsigned char sha256[32])
{
	static const char digits[] = "0123456789abcdef", special[] = "\\\n\r", letters[] = "\\nr";

	if (strpbrk(path, special))
		*at++ = '\\';
	for (int i = 0; i < 32; i++) {
		*at++ = digits[sha256[i] >> 4];
		*at++ = digits[sha256[i] & 15];
	}
	*at++ = ' ';
	*at++ = ' ';
	for (; *path; path++) {
		const char *escape = strchr(special, *path);
		if (escape)
			*at++ = '\\';
		*at++ = escape ? letters[escape - special] : *path;
	}
	*at++ = '\n';
	return at;
}

void digest_report_line(struct digest_report *report, const char *path, const unsigned char sha256[32],
			uint64_t size)
{
	size_t longest = 1 + 64 + 2 + 2 * strlen(path) + 1;

	assert(longest <= sizeof report->lines); /* it was opened by this name */
	if (report->used + longest > PIPE_BUF)
		flush(report);
	report->used = (size_t)(format_line(report->lines + report->used, path, sha256) - report->lines);
	report->files++;
	report->bytes += size;
	if (report->lines_to_terminal) {
		progress_hide(report);
		flush(report);
	}
	progress_show(report);
}

/* ---- failures ---- */

/* Between '…' all is itself but ' and what cannot be printed, which are written outside, as \' and $'\n'. */
static void quote_hard(const char *name)
{
	static const char controls[] = "\a\b\f\n\r\t\v", letters[] = "abfnrtv";
	bool escaping = false; /* between $'…' */

	for (putc('\'', stderr); *name; name++) {
		const char *control = strchr(controls, *name);
		bool escape = !isprint((unsigned char)*name);

		if (*name == '\'')
			fputs("'\\'", stderr);
		else if (escape != escaping)
			fputs(escape ? "'$'" : "''", stderr);
		escaping = escape;
		if (control)
			fprintf(stderr, "\\%c", letters[control - controls]);
		else if (escape)
			fprintf(stderr, "\\%03o", (unsigned char)*name);
		else
			putc(*name, stderr);
	}
	putc('\'', stderr);
}

static void quote(const char *name)
{
#define SAFE "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%+,-./@]_"
	bool first = *name == '#' || *name == '~', lone = (*name == '{' || *name == '}') && !name[1];

	if (*name && !first && !lone && !name[strspn(name, SAFE "#~{}")])
		fputs(name, stderr);
	else if (strchr(name, '\'') && !name[first + strspn(name + first, SAFE ":' ")])
		fprintf(stderr, "\"%s\"", name);
	else
		quote_hard(name);
}

void digest_report_failure(struct digest_report *report, const char *path, const char *message)
{
	progress_hide(report);
	report->failures++;
	fputs("digest: ", stderr);
	quote(path);
	fprintf(stderr, ": %s\n", message);
}

/* ---- life ---- */

void digest_report_init(struct digest_report *report, int stop_fd)
{
	*report = (struct digest_report){ .stop_fd = stop_fd,
					  .lines_to_terminal = isatty(STDOUT_FILENO),
					  .progress = isatty(STDERR_FILENO) };
	setvbuf(stderr, NULL, _IOLBF, BUFSIZ); /* a failure is one write */
	clock_gettime(CLOCK_MONOTONIC, &report->begun);
	report->shown = report->begun;
}

void digest_report_fini(struct digest_report *report)
{
	flush(report);
	progress_hide(report);
	if (report->code < 0 && report->code != -EINTR)
		fprintf(stderr, "digest: standard output: %s\n", strerror(-report->code));
}
