/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * modules.c: tasks of modules that came after the workers, and went before them.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <crew/crew.h>

#include "../runner.h"

static const enum crew_start starts[] = { CREW_START_SERVER, CREW_START_FORK, CREW_START_SPAWN };

static const crew_task *task_in(void *module)
{
	const crew_task *const *task = module ? dlsym(module, "late_task") : NULL;

	CHECK(task != NULL);
	return *task;
}

static crew_future *multiplied(crew_executor *ex, const crew_task *task, long x)
{
	return crew_executor_submit(ex, task, &x, NULL, 0);
}

static void check_product(crew_executor *ex, const crew_task *task, long x, long expected)
{
	long y = 0;

	CHECK_EQ(crew_take(multiplied(ex, task, x), &y, NULL), 0);
	CHECK_EQ(y, expected);
}

CREW_TASK(int, here)
{
	return 1;
}

TEST(a_task_of_a_module_loaded_later_runs)
{
	int y;

	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_processes(.workers = 2, .start = starts[i])) {
			void *module;

			CHECK_EQ(crew_run(ex, &y, here), 0);
			module = dlopen(LATE_2, RTLD_NOW);
			CHECK(module != NULL);
			for (long x = 0; x < 20; x++)
				check_product(ex, task_in(module), x, 2 * x);
			dlclose(module);
		}
}

/* Also one that the program knows by a path of its own, from a folder in which no worker is. */
TEST(a_module_loaded_by_a_relative_path_runs)
{
	char path[] = LATE_2, *name = strrchr(path, '/');
	int y;

	CREW_SCOPE (ex, crew_processes(.workers = 1)) {
		void *module;

		CHECK_EQ(crew_run(ex, &y, here), 0);
		*name = '\0';
		CHECK_EQ(chdir(path), 0);
		*name = '/';
		*--name = '.';
		module = dlopen(name, RTLD_NOW);
		CHECK(module != NULL);
		check_product(ex, task_in(module), 5, 10);
		dlclose(module);
	}
}

/* One that was linked without a build id is known by its path. */
TEST(a_module_without_a_build_id_is_found_by_its_path)
{
	int y;

	CREW_SCOPE (ex, crew_processes(.workers = 1)) {
		void *module;

		CHECK_EQ(crew_run(ex, &y, here), 0);
		module = dlopen(NAMELESS, RTLD_NOW);
		CHECK(module != NULL);
		check_product(ex, task_in(module), 5, 20);
		dlclose(module);
	}
}

/* A map's items travel in another way. */
TEST(a_map_of_a_module_loaded_later_runs)
{
	long in[100], out[100];
	const void *columns[] = { in };

	for (int i = 0; i < 100; i++)
		in[i] = i;
	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_processes(.workers = 2, .start = starts[i])) {
			void *module = dlopen(LATE_2, RTLD_NOW);

			CHECK_EQ(crew_executor_map(ex, task_in(module), columns, out, 100, NULL, 0), 0);
			for (int k = 0; k < 100; k++)
				CHECK_EQ(out[k], 2l * k);
			dlclose(module);
		}
}

/* A number that was given to a task means that task for as long as the executor is there, whatever is loaded at its address meanwhile. */
TEST(a_module_that_takes_the_place_of_another_runs_its_own_tasks)
{
	for (int i = 0; i < 3; i++)
		CREW_SCOPE (ex, crew_processes(.workers = 2, .start = starts[i]))
			for (int round = 0; round < 3; round++) {
				void *module = dlopen(LATE_2, RTLD_NOW);

				check_product(ex, task_in(module), 7, 14);
				dlclose(module);
				module = dlopen(LATE_3, RTLD_NOW);
				check_product(ex, task_in(module), 7, 21);
				dlclose(module);
			}
}

/* The program lets go of a module whose tasks wait, run, or have results that nobody has read. It stays until the executor is closed, and goes then. */
TEST(a_module_is_kept_as_long_as_its_tasks_are)
{
	for (int i = 0; i < 3; i++) {
		CREW_SCOPE (ex, crew_processes(.workers = 2, .start = starts[i])) {
			void *module = dlopen(LATE_2, RTLD_NOW);
			crew_future *fs[500];
			long y;

			for (long x = 0; x < 500; x++)
				fs[x] = multiplied(ex, task_in(module), x);
			dlclose(module);
			for (long x = 0; x < 500; x++) {
				CHECK_EQ(crew_result(fs[x], &y), 0);
				CHECK_EQ(y, 2 * x);
			}
			CHECK_STR(crew_future_task(fs[3]), "multiply");
		}
		CHECK(dlopen(LATE_2, RTLD_NOW | RTLD_NOLOAD) == NULL);
	}
}

static void copy(const char *from, const char *to)
{
	char command[1200];

	snprintf(command, sizeof command, "cp '%s' '%s.new' && mv '%s.new' '%s'", from, to, to, to);
	CHECK_EQ(system(command), 0);
}

static void check_refused(crew_executor *ex, const crew_task *task, const char *why)
{
	crew_future *f = multiplied(ex, task, 1);

	CHECK_EQ(crew_future_wait(f, CREW_FOREVER), CREW_ERAISED);
	CHECK_EQ(crew_future_error(f)->code, CREW_ENOTASK);
	CHECK_HAS(crew_future_error(f)->message, why);
	crew_future_free(f);
}

TEST(a_module_that_cannot_be_had_is_named)
{
	char folder[64], path[80];
	int y;

	snprintf(folder, sizeof folder, "/tmp/crew-modules-%d", (int)getpid());
	CHECK_EQ(mkdir(folder, 0700), 0);
	snprintf(path, sizeof path, "%s/late.so", folder);
	copy(LATE_2, path);
	CREW_SCOPE (ex, crew_processes(.workers = 1)) {
		void *module;

		CHECK_EQ(crew_run(ex, &y, here), 0);
		module = dlopen(path, RTLD_NOW);
		unlink(path);
		check_refused(ex, task_in(module), "cannot be loaded");
		dlclose(module);
	}
	copy(LATE_2, path);
	CREW_SCOPE (ex, crew_processes(.workers = 1)) { /* in a map, too */
		const long in[] = { 1, 2 };
		const void *columns[] = { in };
		crew_error error;
		void *module;
		long out[2];

		CHECK_EQ(crew_run(ex, &y, here), 0);
		module = dlopen(path, RTLD_NOW);
		unlink(path);
		CHECK_EQ(crew_executor_map(ex, task_in(module), columns, out, 2, &(struct crew_map_options){ .error = &error }, sizeof(struct crew_map_options)),
			 CREW_ENOTASK);
		CHECK_HAS(error.message, "cannot be loaded");
		dlclose(module);
	}
	copy(LATE_2, path);
	CREW_SCOPE (ex, crew_processes(.workers = 1)) {
		void *module;

		CHECK_EQ(crew_run(ex, &y, here), 0);
		module = dlopen(path, RTLD_NOW);
		copy(LATE_3, path);
		check_refused(ex, task_in(module), "not the build");
		dlclose(module);
	}
	unlink(path);
	rmdir(folder);
}
