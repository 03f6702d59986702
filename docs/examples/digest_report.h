/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * digest_report.h: what digest tells the world, in sha256sum's words: lines on stdout, failures on stderr,
 * and how far it is where stderr is a terminal.
 *
 * Stdout gets whole lines only, whenever the program is interrupted, and a reader that has stopped reading
 * does not keep it from ending.
 */
#ifndef DIGEST_REPORT_H
#define DIGEST_REPORT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct digest_report {
	int stop_fd; /* readable: write no more that would block */
	bool lines_to_terminal, progress, progress_shown;
	int code; /* 0, or the first failure of stdout; -EINTR: stopped */
	uint64_t files, bytes, failures;
	struct timespec begun, shown;
	size_t used;
	char lines[2 * PATH_MAX + 128]; /* the longest line fits */
};

void digest_report_init(struct digest_report *report, int stop_fd);

/* One file: its SHA-256 and size. Nothing once stdout has failed. */
void digest_report_line(struct digest_report *report, const char *path, const unsigned char sha256[32],
			uint64_t size);

/* One file or folder that could not be read. */
void digest_report_failure(struct digest_report *report, const char *path, const char *message);

/* Write what is left, wipe the progress off the terminal, say what was wrong with stdout. */
void digest_report_fini(struct digest_report *report);

double digest_report_seconds(const struct digest_report *report);

#endif
