/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * imap.c: a stream: the number of words in each line of stdin, in order, however many lines there are. The
 * next line is read when there is room for it: no more than 64 are on their way, so memory does not grow.
 */
#define _GNU_SOURCE
#include <crew/crew.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

CREW_TASK(int, count_words, (const char *, line))
{
	int words = 0;

	if (strchr(line, '\t'))
		return crew_raise(EILSEQ, "a tab, of all things");
	for (line += strspn(line, " \n"); *line; line += strspn(line, " \n")) {
		line += strcspn(line, " \n");
		words++;
	}
	return words;
}

struct input {
	char *line;
	size_t room;
};

/* Called by crew_next(), in this thread. What it fills is copied before it is called again. */
static int next_line(void *state, CREW_ARGS(count_words) *args)
{
	struct input *input = state;

	if (getline(&input->line, &input->room, stdin) < 0)
		return 0;
	args->line = input->line;
	return 1;
}

int main(void)
{
	struct input input = { NULL, 0 };
	int words, got, total = 0;

	CREW_SCOPE (ex, crew_processes(2)) {
		crew_stream *s = crew_imap(ex, count_words, next_line, &input, .window = 64);
		for (int line = 1; (got = crew_next(s, &words)) != 0; line++) {
			if (got < 0) { /* this item failed; the stream goes on */
				printf("%d: %s\n", line, crew_stream_error(s)->message);
				continue;
			}
			printf("%d: %d\n", line, words);
			total += words;
		}
		crew_stream_close(s);
	}
	printf("total %d\n", total);
	free(input.line);
}
