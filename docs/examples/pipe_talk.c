/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipe_talk.c: a pipe both ways: a child answers every message with its words in reverse, until the other end is closed.
 */
#include <crew/crew.h>
#include <stdio.h>
#include <string.h>

static size_t reverse(const char *in, size_t n, char *out)
{
	size_t at = 0, end = n;

	while (end > 0) {
		size_t begin = end;

		while (begin > 0 && in[begin - 1] != ' ')
			begin--;
		memcpy(out + at, in + begin, end - begin);
		at += end - begin;
		end = begin;
		if (end > 0)
			out[at++] = in[--end];
	}
	return at;
}

CREW_TASK(int, answer, (crew_pipe, pipe))
{
	char in[200], out[200];
	ssize_t n;

	while ((n = crew_pipe_recv(pipe, in, sizeof in, CREW_FOREVER)) >= 0)
		if (crew_pipe_send(pipe, out, reverse(in, (size_t)n, out), CREW_FOREVER))
			return 1;
	return n == CREW_ECLOSED ? 0 : 1;
}

int main(void)
{
	static const char *const lines[] = { "hello there", "the message is the unit", "" };
	crew_pipe end[2];
	crew_process *child;
	char text[200];
	int status;

	crew_must(crew_pipe_make(end, 0));
	child = crew_start(answer, end[1]);
	crew_must(crew_pipe_give(end[1])); /* it is the child's now: when that ends, we would be told */
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		ssize_t n;

		crew_must(crew_pipe_send(end[0], lines[i], strlen(lines[i]), CREW_FOREVER));
		n = crew_pipe_recv(end[0], text, sizeof text, CREW_FOREVER);
		crew_must((int)n);
		printf("%zd bytes: %.*s\n", n, (int)n, text);
	}
	crew_pipe_drop(end[0]); /* which the child hears as CREW_ECLOSED */
	crew_must(crew_process_result(child, &status));
	crew_process_close(child);
	printf("the child ended with %d\n", status);
}
