/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * identity.c: tasks by name, through the program headers of what is loaded.
 *
 *	descriptor's address → the module it lies in → { hash of the build-id, address - base, hash of the name } → and back elsewhere
 *
 * A module is known by its build-id, so that an executable that was rebuilt in between, or another library of the same path, is not taken for it; a
 * module that was linked without one is known by its path. On the way back nothing is believed: descriptor and name must lie whole in
 * segments of loaded modules, and the name must have the hash that was asked for. A module that is missing is loaded from where the other process
 * has it, and is used only if it is the same build.
 *
 * Each call walks the list of modules under the dynamic linker's lock: callers remember the answer.
 */
#include "core/identity.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/futex.h"

#define HASH_START 0xcbf29ce484222325ull

/* FNV-1a: names and build-ids only have to differ, nobody attacks them. */
static uint64_t hash(uint64_t h, const void *data, size_t n)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h;
}

static uint64_t hash_text(const char *text)
{
	return hash(HASH_START, text, strlen(text));
}

/* ---- modules ---- */

/* The segment of this module in which p lies, as what is left of it from p on; 0: none. */
static size_t room_at(const struct dl_phdr_info *module, uintptr_t p)
{
	for (int i = 0; i < module->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &module->dlpi_phdr[i];
		uintptr_t begin = module->dlpi_addr + h->p_vaddr;

		if (h->p_type == PT_LOAD && (h->p_flags & PF_R) && p >= begin && p - begin < h->p_memsz)
			return h->p_memsz - (p - begin);
	}
	return 0;
}

/* The build-id among the notes at p; 0: not there. */
static uint64_t build_id_in(const unsigned char *p, size_t size, size_t alignment)
{
	size_t mask = alignment == 8 ? 7 : 3;

	while (size >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)(const void *)p;
		size_t name = (note->n_namesz + mask) & ~mask, desc = (note->n_descsz + mask) & ~mask;
		const unsigned char *text = p + sizeof *note;

		if (name > size - sizeof *note || desc > size - sizeof *note - name)
			return 0;
		if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && memcmp(text, "GNU", 4) == 0)
			return hash(HASH_START, text + name, note->n_descsz);
		p = text + name + desc;
		size -= sizeof *note + name + desc;
	}
	return 0;
}

static uint64_t path_hash(const char *path)
{
	char program[4096];
	ssize_t n;

	if (path[0])
		return hash_text(path);
	n = readlink("/proc/self/exe", program, sizeof program);
	return hash(HASH_START, program, n > 0 ? (size_t)n : 0);
}

static uint64_t module_hash(const struct dl_phdr_info *module)
{
	for (int i = 0; i < module->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &module->dlpi_phdr[i];
		uint64_t id;

		if (h->p_type != PT_NOTE || room_at(module, module->dlpi_addr + h->p_vaddr) < h->p_memsz)
			continue;
		id = build_id_in((const unsigned char *)module->dlpi_addr + h->p_vaddr, h->p_memsz, h->p_align);
		if (id)
			return id;
	}
	return path_hash(module->dlpi_name);
}

/* ---- all modules ---- */

/*
 * dl_iterate_phdr() holds a lock of the loader's that no fork mends: if another thread has it then, it is taken in the child for ever, and a worker would never
 * come to its first task. So whoever forks waits until none of ours is inside, and nobody enters until it has forked. While it waits they may: a program
 * may call us from inside of a dl_iterate_phdr() of its own, for whose end another of ours is waiting.
 */
enum { FORKING = INT32_MAX };
static uint32_t inside; /* how many of ours are, or FORKING. Any thread; FORKING is taken back by who set it, and in the child by its copy */

void crew__identity_before_fork(void)
{
	while (!ck_pr_cas_32(&inside, 0, FORKING))
		sched_yield();
	ck_pr_fence_acquire();
}

void crew__identity_after_fork(void)
{
	store_release_32(&inside, 0);
	crew__futex_wake(&inside, INT_MAX, false); /* pairs with the wait in enter */
}

static void enter(void)
{
	uint32_t n = ck_pr_load_32(&inside);

	for (;;)
		if (n == FORKING) {
			crew__futex_wait(&inside, FORKING, NEVER, false);
			n = ck_pr_load_32(&inside);
		} else if (ck_pr_cas_32_value(&inside, n, n + 1, &n)) {
			break;
		}
	ck_pr_fence_acquire();
}

static void leave(void)
{
	ck_pr_fence_release();
	ck_pr_faa_32(&inside, (uint32_t)-1);
}

static int each_module(int (*visit)(struct dl_phdr_info *module, size_t size, void *search), void *search)
{
	int rc;

	enter();
	rc = dl_iterate_phdr(visit, search);
	leave();
	return rc;
}

/* ---- there ---- */

struct identify {
	uintptr_t p;
	size_t size;
	struct task_identity *ret;
	struct module_file *ret_file; /* may be NULL */
};

static int identify_in(struct dl_phdr_info *module, size_t size, void *arg)
{
	struct identify *search = arg;

	(void)size;
	if (room_at(module, search->p) < search->size)
		return 0;
	search->ret->module = module_hash(module);
	search->ret->offset = search->p - module->dlpi_addr;
	search->ret->name = 0;
	if (search->ret_file)
		snprintf(search->ret_file->path, sizeof search->ret_file->path, "%s", module->dlpi_name);
	return 1;
}

/* The other process may have another working directory. */
static void make_absolute(struct module_file *file)
{
	char *whole = file->path[0] && file->path[0] != '/' ? realpath(file->path, NULL) : NULL;

	if (whole)
		snprintf(file->path, sizeof file->path, "%s", whole);
	free(whole);
}

static bool identify(struct identify *search)
{
	if (each_module(identify_in, search) != 1)
		return false;
	if (search->ret_file)
		make_absolute(search->ret_file);
	return true;
}

int crew__identify(const crew_task *task, struct task_identity *ret, struct module_file *ret_file)
{
	if (!identify(&(struct identify){ (uintptr_t)task, sizeof *task, ret, ret_file }))
		return CREW_ENOTASK;
	ret->name = hash_text(task->name);
	return 0;
}

int crew__identify_function(void (*function)(void), struct task_identity *ret, struct module_file *ret_file)
{
	return identify(&(struct identify){ (uintptr_t)function, 1, ret, ret_file }) ? 0 : CREW_EPOINTER;
}

void *crew__identity_hold(const struct module_file *file)
{
	return file->path[0] ? dlopen(file->path, RTLD_LAZY | RTLD_NOLOAD) : NULL;
}

/* ---- and back ---- */

struct find_room {
	uintptr_t p;
	size_t room;
};

static int find_room_in(struct dl_phdr_info *module, size_t size, void *arg)
{
	struct find_room *search = arg;

	(void)size;
	search->room = room_at(module, search->p);
	return search->room != 0;
}

/* Is there a whole string at p, in memory of any module, with that hash? */
static bool named(const char *p, uint64_t name)
{
	struct find_room search = { (uintptr_t)p, 0 };

	each_module(find_room_in, &search);
	return memchr(p, 0, search.room) && hash_text(p) == name;
}

struct find_place {
	const struct task_identity *id;
	size_t alignment, size;
	uintptr_t found; /* 0: not there */
	bool loaded;	 /* the module is */
};

static int find_place_in(struct dl_phdr_info *module, size_t size, void *arg)
{
	struct find_place *search = arg;
	uintptr_t p = module->dlpi_addr + search->id->offset;

	(void)size;
	if (module_hash(module) != search->id->module)
		return 0;
	search->loaded = true;
	if (p % search->alignment == 0 && room_at(module, p) >= search->size)
		search->found = p;
	return search->found != 0;
}

const crew_task *crew__identified(const struct task_identity *id)
{
	struct find_place search = { .id = id, .alignment = __alignof__(crew_task), .size = sizeof(crew_task) };
	const crew_task *task;

	each_module(find_place_in, &search);
	task = (const crew_task *)search.found;
	if (!task || task->size < sizeof(crew_task) || !named(task->name, id->name))
		return NULL;
	return task;
}

void (*crew__identified_function(const struct task_identity *id))(void)
{
	struct find_place search = { .id = id, .alignment = 1, .size = 1 };

	each_module(find_place_in, &search);
	return (void (*)(void))search.found;
}

static bool is_loaded(const struct task_identity *id)
{
	struct find_place search = { .id = id, .alignment = 1, .size = 1 };

	each_module(find_place_in, &search);
	return search.loaded;
}

const char *crew__identity_load(const struct task_identity *id, const char *path)
{
	static __thread char text[240] __attribute__((__tls_model__("initial-exec")));
	void *module;
	const char *why;

	if (is_loaded(id))
		return NULL;
	if (!path[0])
		return "the worker is an execution of another build of the program";
	module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (module && is_loaded(id))
		return NULL; /* for good */
	why = module ? NULL : dlerror();
	if (module) {
		dlclose(module);
		snprintf(text, sizeof text, "'%.160s' is not the build that the program has loaded", path);
	} else {
		snprintf(text, sizeof text, "its module cannot be loaded: %.180s", why ? why : path);
	}
	return text;
}
