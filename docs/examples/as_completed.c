/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * as_completed.c: take results in the order in which they come. Each future carries a pointer of ours, to
 * know whose it is: Python's dictionary {future: url}.
 */
#include <crew/crew.h>
#include <stdio.h>
#include <string.h>

struct page {
	const char *name, *text;
};

CREW_TASK(int, count_words, (const char *, text))
{
	int words = 0;

	for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
		text += strcspn(text, " ");
		words++;
	}
	return words;
}

int main(void)
{
	struct page pages[] = {
		{ "one", "the quick brown fox" },
		{ "two", "jumps over the lazy dog and does not look back" },
		{ "three", "" },
	};
	crew_future *fs[3];

	CREW_SCOPE (ex, crew_threads(3)) {
		for (int i = 0; i < 3; i++)
			fs[i] = crew_submit_with(ex, (.data = &pages[i]), count_words, pages[i].text);
		CREW_AS_COMPLETED (f, fs, 3) {
			const struct page *page = crew_future_data(f);
			int words;
			if (crew_result(f, &words) == 0)
				printf("%s: %d words\n", page->name, words);
		}
	}
}
