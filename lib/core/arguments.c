/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arguments.c: copying arguments within one process.
 *
 * Strings and bytes are packed behind the struct by the same code that packs them for another process (packing.h); here the pointers are turned
 * back at once, since the copy stays where it is. In a process worker bytes in the executor's shared blocks stay where they are.
 */
#include "core/arguments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/packing.h"
#include "core/shared_block.h"

static struct annex *annex_new(const crew_task *task, size_t size)
{
	struct annex *a = malloc(sizeof *a + size); /* half of all numbers at most: see crew__packed_size() */

	if (!a)
		return NULL;
	memset(a, 0, sizeof *a);
	a->task = task;
	a->deadline = NEVER;
	a->argument_size = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
	return a;
}

/* Bytes in a shared block are not packed: `kept` remembers them, the struct to pack has none there. */
static void set_aside(crew_executor *ex, const crew_task *task, void *arguments, crew_bytes *kept)
{
	for (uint32_t i = 0; i < task->parameter_count; i++) {
		crew_bytes *bytes = (crew_bytes *)((unsigned char *)arguments + task->parameters[i].offset);

		if (CREW_TYPE_CLASS(task->parameters[i].type) == CREW_BYTES && crew__shared_find(ex, *bytes)) {
			kept[i] = *bytes;
			*bytes = (crew_bytes){ NULL, 0 };
		}
	}
}

static void put_back(const crew_task *task, void *arguments, const crew_bytes *kept)
{
	for (uint32_t i = 0; i < task->parameter_count; i++)
		if (kept[i].data)
			*(crew_bytes *)((unsigned char *)arguments + task->parameters[i].offset) = kept[i];
}

/* From a struct whose shared bytes were set aside. */
static int store(crew_future *f, const crew_task *task, const void *arguments, const crew_bytes *kept)
{
	struct annex *a;
	size_t size;
	int rc = crew__packed_size(task, arguments, &crew__shared_here, &size);

	if (rc)
		return rc;
	a = annex_new(task, size);
	if (!a)
		return -ENOMEM;
	crew__pack(task, arguments, &crew__shared_here, a->arguments);
	rc = crew__unpack(task, a->arguments, a->arguments, size, &crew__shared_here);
	if (rc) {
		free(a);
		return rc;
	}
	if (kept)
		put_back(task, a->arguments, kept);
	store_release_ptr((void **)&f->about, (void *)((uintptr_t)a | 1));
	return 0;
}

/* The executor has shared blocks: what lies in one of its own is not copied. */
static int store_beside_blocks(crew_executor *ex, crew_future *f, const crew_task *task, const void *arguments)
{
	crew_bytes kept[8] = { 0 };
	void *copy = malloc(task->arguments);
	int rc;

	if (!copy)
		return -ENOMEM;
	memcpy(copy, arguments, task->arguments);
	set_aside(ex, task, copy, kept);
	rc = store(f, task, copy, kept);
	free(copy);
	return rc;
}

int crew__store_arguments(crew_executor *ex, crew_future *f, const void *arguments, bool annexed)
{
	const crew_task *task = task_of(f);

	if (crew__fits(task) && !annexed) {
		crew__copy_small(f->value.word, arguments, task);
		return 0;
	}
	if (ck_pr_load_32(&ex->has_blocks) && (task->flags & CREW_TASK_DEEP) && task->parameter_count <= 8)
		return store_beside_blocks(ex, f, task, arguments);
	return store(f, task, arguments, NULL);
}

void crew__gather(const crew_task *task, const void *const *columns, size_t i, void *arguments)
{
	for (uint32_t p = 0; p < task->parameter_count; p++) {
		const struct crew_parameter *parameter = &task->parameters[p];
		size_t size = CREW_TYPE_SIZE(parameter->type);

		memcpy((unsigned char *)arguments + parameter->offset, (const unsigned char *)columns[p] + i * size, size);
	}
}
