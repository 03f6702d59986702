/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * children.h: one sentence, every way to start a child.
 *
 *	TEST_CHILD(a_void_task_ends_with_0)
 *	{
 *		crew_process *p = start(do_nothing);		by fork, by the server, by spawn, as a thread
 */
#ifndef CREW_TEST_CHILDREN_H
#define CREW_TEST_CHILDREN_H

#include <crew/crew.h>

#include "../runner.h"

enum { A_THREAD = 1, NO_POINTERS = 2 };

static const struct way {
	const char *name;
	enum crew_start start;
	unsigned traits;
} ways[] = {
	{ "fork", CREW_START_FORK, 0 },
	{ "server", CREW_START_SERVER, NO_POINTERS },
	{ "spawn", CREW_START_SPAWN, NO_POINTERS },
	{ "thread", CREW_START_DEFAULT, A_THREAD },
};
static const struct way *way;

#define TEST_CHILD(name_)                                                                                             \
	static void name_(void);                                                                                      \
	static void name_##_run(const void *which_)                                                                   \
	{                                                                                                             \
		way = which_;                                                                                         \
		name_();                                                                                              \
	}                                                                                                             \
	__attribute__((__constructor__)) static void name_##_register(void)                                           \
	{                                                                                                             \
		for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)                                             \
			test_register(&(struct test){ #name_, ways[i].name, __FILE__, __LINE__, 30, name_##_run, &ways[i] }); \
	}                                                                                                             \
	static void name_(void)

#define NOT_FOR_THREADS(why_)                    \
	do {                                     \
		if (way->traits & A_THREAD)      \
			SKIP(why_);              \
	} while (0)

#define start(...) start_with((.daemon = false), __VA_ARGS__)
#define start_with(options_, ...)                                                                                     \
	start_it(CREW__TASK_IN(__VA_ARGS__), CREW__FILL(__VA_ARGS__), &(struct crew_start_options){ .reserved_ = 0, CREW__UNWRAP options_ })

static crew_process *start_it(const crew_task *task, const void *arguments, struct crew_start_options *options)
{
	options->start = way->start;
	return way->traits & A_THREAD ? crew_process_start_thread(task, arguments, options, sizeof *options) :
					crew_process_start(task, arguments, options, sizeof *options);
}

__attribute__((__unused__)) static struct crew_status end_of(crew_process *p)
{
	struct crew_status status;

	CHECK_EQ(crew_process_join(p, CREW_FOREVER), 0);
	CHECK_EQ(crew_process_status(p, &status), 0);
	return status;
}

#endif
