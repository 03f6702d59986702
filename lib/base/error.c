/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * error.c: what a code is called and what it means.
 *
 * The library's own codes come from the one list in base.h; everything else is an errno, in either sign, because people print both.
 */
#include <crew/base.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *crew_version(void)
{
	return CREW_VERSION;
}

static int errno_of(int code)
{
	return code < 0 && code != INT_MIN ? -code : code;
}

const char *crew_strerror(int code)
{
	const char *text;

	switch (code) {
#define X(name_, value_, text_) \
	case name_:             \
		return text_;
		CREW_CODES(X)
#undef X
	case 0:
		return "success";
	}
	text = strerrordesc_np(errno_of(code));
	return text ? text : "a code of the program's own";
}

const char *crew_errname(int code)
{
	const char *text;

	switch (code) {
#define X(name_, value_, text_) \
	case name_:             \
		return #name_;
		CREW_CODES(X)
#undef X
	case 0:
		return "0";
	}
	text = strerrorname_np(errno_of(code));
	return text ? text : "?";
}

int crew_must_at(int code, const char *expression, const char *file, int line)
{
	if (code >= 0)
		return code;
	fprintf(stderr, "%s:%d: %s: %s (%s)\n", file, line, expression, crew_strerror(code), crew_errname(code));
	exit(1);
}
