/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kinds.h: one sentence, every executor.
 *
 *	TEST_EACH(a_result_is_delivered, ex)
 *	{
 *		…					an executor of each kind in turn, opened before and closed after
 *	}
 *	TEST_KIND(a_pool_of_one_takes_nested_submits)
 *	{
 *		CREW_SCOPE (ex, kind_open(.workers = 1))	the test opens for itself
 *			…
 *	}
 *
 * The table of kinds is in kinds.c; a new executor is one line there. A sentence that means nothing on some of them says so,
 * with the reason: NOT_WHERE(IMMEDIATE, "the task has run before anybody could cancel it").
 */
#ifndef CREW_TEST_KINDS_H
#define CREW_TEST_KINDS_H

#include <crew/crew.h>

#include "../runner.h"

enum kind_traits {
	IMMEDIATE = 1, /* a task runs at its submit, in the caller */
	SEPARATE = 2,  /* workers do not share our memory */
	GROUPED = 4,   /* a group over another executor: has no options of its own */
	SINGLE = 8,    /* one worker */
	INHERITS = 16, /* workers see the program as it was at the open */
	FRESH = 32     /* workers see it as it is when it begins */
};

/* The options that openers have in common. */
struct kind_options {
	int reserved_, workers;
	const char *name;
	crew_initializer_fn *initializer;
	crew_finalizer_fn *finalizer;
	void *arg;
	size_t arg_size;
	int max_tasks_per_child, nice;
	const char *cpus;
	size_t stack_size;
	int grace_ms; /* of processes */
};

struct kind {
	const char *name;
	unsigned traits;
	int workers; /* when a test does not say how many */
	crew_executor *(*open)(const struct kind_options *options);
};

/* The kind that the running test was stamped for. */
extern const struct kind *kind;

#define NOT_WHERE(traits_, why_)                  \
	do {                                      \
		if (kind->traits & (traits_))     \
			SKIP(why_);               \
	} while (0)

/* An executor of the current kind. Zero is the kind's default. What a group stands on is closed after the test. */
#define kind_open(...) kind_open_with(&(struct kind_options){ .reserved_ = 0, __VA_ARGS__ })
crew_executor *kind_open_with(const struct kind_options *options);

void kind_register(const char *name, const char *file, int line, int seconds, void (*run)(const void *kind));
void kind_run(const void *kind, void (*body)(void));
void kind_run_open(const void *kind, void (*body)(crew_executor *ex));

#define TEST_EACH(name_, ex_) TEST_EACH_WITHIN(name_, 30, ex_)
#define TEST_EACH_WITHIN(name_, seconds_, ex_)                                              \
	static void name_(crew_executor *ex_);                                              \
	static void name_##_run(const void *kind_)                                          \
	{                                                                                   \
		kind_run_open(kind_, name_);                                                \
	}                                                                                   \
	__attribute__((__constructor__)) static void name_##_register(void)                 \
	{                                                                                   \
		kind_register(#name_, __FILE__, __LINE__, seconds_, name_##_run);           \
	}                                                                                   \
	static void name_(crew_executor *ex_ __attribute__((__unused__)))

#define TEST_KIND(name_)                                                                    \
	static void name_(void);                                                            \
	static void name_##_run(const void *kind_)                                          \
	{                                                                                   \
		kind_run(kind_, name_);                                                     \
	}                                                                                   \
	__attribute__((__constructor__)) static void name_##_register(void)                 \
	{                                                                                   \
		kind_register(#name_, __FILE__, __LINE__, 30, name_##_run);                 \
	}                                                                                   \
	static void name_(void)

#endif
