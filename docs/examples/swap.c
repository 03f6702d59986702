/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * swap.c: one program, any executor: swap inline, swap threads, swap processes print the same.
 */
#include <crew/crew.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct point {
	double x, y;
};

CREW_TASK(struct point, middle, (struct point, a), (struct point, b))
{
	return (struct point){ (a.x + b.x) / 2, (a.y + b.y) / 2 };
}

CREW_TASK(crew_bytes, greet, (const char *, whom))
{
	if (!*whom)
		return crew_raise_as(crew_bytes, EINVAL, "nobody to greet");
	return crew_result_printf("hello, %s", whom);
}

static void program(crew_executor *ex)
{
	const char *whom[] = { "Ada", "", "Grace" };
	crew_bytes texts[3] = { { NULL, 0 } };
	struct point a = { 0, 2 }, b = { 4, 4 }, p;
	int codes[3];

	crew_must(crew_run(ex, &p, middle, a, b));
	printf("(%g, %g)\n", p.x, p.y);
	printf("map: %s\n", crew_errname(crew_map_with(ex, (.errors = codes), greet, whom, texts, 3)));
	for (int i = 0; i < 3; i++) {
		printf("%d: %.*s\n", codes[i], (int)texts[i].len, (const char *)texts[i].data);
		crew_bytes_free(texts[i]);
	}
}

int main(int argc, char **argv)
{
	const char *where = argc > 1 ? argv[1] : "inline";

	CREW_SCOPE (ex, strcmp(where, "processes") == 0 ? crew_processes(2)
			: strcmp(where, "threads") == 0 ? crew_threads(2)
							: crew_inline())
		program(ex);
}
