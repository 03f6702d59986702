/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * task_book.c: numbers for tasks. A worker is told a number; what it means stands in the shared table: build-id of the module, offset, name, and the path of
 * the module's file, from which a worker loads it that was forked before, or executed without it.
 *
 * The book is kept by the addresses of descriptors. So that an address cannot become another task's, the book keeps each module loaded that it has tasks of:
 * a program may dlclose() it, and it goes when the executor does.
 *
 * The dynamic linker runs constructors under its lock, and those may submit; so it is not called under ours.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/table.h"
#include "process/process_executor.h"

int crew__task_book_init(struct task_book *book)
{
	book->slots = crew__table_new(2 * TASKS_MAX, sizeof *book->slots);
	book->by_number = crew__table_new(TASKS_MAX, sizeof *book->by_number);
	return book->slots && book->by_number ? 0 : -ENOMEM;
}

void crew__task_book_fini(struct task_book *book)
{
	struct task_module *module;

	while ((module = book->modules)) {
		book->modules = module->next;
		if (module->hold)
			dlclose(module->hold);
		free(module);
	}
	crew__table_free(book->slots, 2 * TASKS_MAX, sizeof *book->slots);
	crew__table_free(book->by_number, TASKS_MAX, sizeof *book->by_number);
}

static struct task_slot *slot_for(const struct task_book *book, const crew_task *task)
{
	uint32_t i = (uint32_t)(((uintptr_t)task >> 4) * 0x9e3779b97f4a7c15ull >> 40) % (2 * TASKS_MAX);

	while (book->slots[i].task && book->slots[i].task != task)
		i = (i + 1) % (2 * TASKS_MAX);
	return &book->slots[i];
}

/* ---- modules ---- */

static struct task_module *module_of(const struct task_book *book, uint64_t id)
{
	struct task_module *module = book->modules;

	while (module && module->id != id)
		module = module->next;
	return module;
}

/* A module that the book has not heard of. *hold is taken over. NULL: no memory. */
static struct task_module *module_new(struct process_executor *p, uint64_t id, const struct module_file *file, void **hold)
{
	struct task_module *module = calloc(1, sizeof *module);
	size_t n = file->path[0] ? strlen(file->path) + 1 : 0;

	if (!module || (n && crew__arena_alloc(&p->in, n, &module->path.offset))) {
		free(module);
		return NULL;
	}
	memcpy(p->ring.in + module->path.offset, file->path, n);
	module->path.size = n;
	module->id = id;
	module->hold = *hold;
	*hold = NULL;
	module->next = p->tasks.modules;
	p->tasks.modules = module;
	return module;
}

int crew__module_publish(struct process_executor *p, uint64_t id, const struct module_file *file, struct extent *ret)
{
	struct task_module *module = module_of(&p->tasks, id);
	void *hold = module ? NULL : crew__identity_hold(file);

	if (!module)
		module = module_new(p, id, file, &hold);
	if (hold)
		dlclose(hold);
	if (!module)
		return -ENOMEM;
	*ret = module->path;
	return 0;
}

/* ---- tasks ---- */

static bool find(struct process_executor *p, const crew_task *task, uint32_t *ret)
{
	struct task_slot *slot;
	bool found;

	latch_take(&p->lock);
	slot = slot_for(&p->tasks, task);
	found = slot->task != NULL;
	*ret = slot->number;
	latch_release(&p->lock);
	return found;
}

/* The lock is held. */
static int enter(struct process_executor *p, const crew_task *task, const struct task_identity *id, const struct module_file *file, void **hold,
		 uint32_t *ret)
{
	struct task_slot *slot = slot_for(&p->tasks, task);
	struct numbered_task *entry = &p->ring.tasks[p->tasks.count];
	struct task_module *module = module_of(&p->tasks, id->module);
	int rc;

	*ret = slot->number;
	if (slot->task)
		return 0; /* another thread was faster */
	if (p->tasks.count == TASKS_MAX)
		return -ENOSPC;
	if (!module)
		module = module_new(p, id->module, file, hold);
	if (!module)
		return -ENOMEM;
	rc = crew__mapping_populate(&p->mappings[0], (size_t)((unsigned char *)entry - p->mappings[0].base), sizeof *entry);
	if (rc)
		return rc;
	*entry = (struct numbered_task){ *id, module->path }; /* published by the ticket of the first cell that names it */
	*slot = (struct task_slot){ task, p->tasks.count };
	p->tasks.by_number[p->tasks.count] = task;
	*ret = p->tasks.count++;
	return 0;
}

int crew__task_number(struct process_executor *p, const crew_task *task, uint32_t *ret)
{
	struct task_identity id;
	struct module_file file;
	void *hold;
	int rc;

	if (find(p, task, ret))
		return 0;
	rc = crew__identify(task, &id, &file);
	if (rc)
		return rc;
	hold = crew__identity_hold(&file);
	latch_take(&p->lock);
	rc = enter(p, task, &id, &file, &hold, ret);
	latch_release(&p->lock);
	if (hold)
		dlclose(hold);
	return rc;
}
