/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * raw.c: a raw task: bytes in, bytes out, no types. For generated code, other languages, and formats of
 * one's own.
 */
#include <crew/crew.h>
#include <errno.h>
#include <stdio.h>

static int reverse_bytes(crew_call *call)
{
	crew_bytes in = crew_call_args(call);
	const char *text = in.data;
	char reversed[64];

	if (in.len > sizeof reversed)
		return crew_call_raise(call, E2BIG, "%zu bytes are too many", in.len);
	for (size_t i = 0; i < in.len; i++)
		reversed[i] = text[in.len - 1 - i];
	return crew_call_return(call, reversed, in.len); /* copies */
}

CREW_RAW_TASK(reverse, reverse_bytes);

int main(void)
{
	static char large[100];

	CREW_SCOPE (ex, crew_processes(2)) {
		crew_future *good = crew_submit(ex, reverse, crew_bytes_str("a raw task"));
		crew_future *bad = crew_submit(ex, reverse, crew_bytes_make(large, sizeof large));
		crew_bytes out;

		if (crew_result(good, &out) == 0) /* borrowed from the future */
			printf("%.*s\n", (int)out.len, (const char *)out.data);
		if (crew_result(bad, &out) == CREW_ERAISED)
			printf("%s\n", crew_future_error(bad)->message);
	}
}
