/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * call_sites.c: which function of lib/ a step is in, and faults, which are given by such names.
 *
 * The names come from this program's own symbol table, which has static functions too. A fault is a range of code and a kind of operation: the
 * sources of lib/ stay as they are, every broken variant is in the same program. What is inline in lib/ is inlined here too, so that it counts to
 * the function that uses it; other functions are not (see CMakeLists.txt).
 */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "interleaving/search.h"

#define NAMESAKES_MAX 8

static struct {
	const unsigned char *image;
	const ElfW(Sym) *symbols;
	size_t count;
	const char *names;
	uintptr_t base;
} program;

static struct {
	enum fault_kind kind;
	struct range {
		uintptr_t from, to;
	} code[NAMESAKES_MAX];
	int count;
	bool reached;
} fault;

static int find_base(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size, (void)arg;
	program.base = info->dlpi_addr;
	return 1;
}

static void read_sections(void)
{
	const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)(const void *)program.image;
	const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(const void *)(program.image + header->e_shoff);

	for (int i = 0; i < header->e_shnum; i++) {
		if (sections[i].sh_type != SHT_SYMTAB)
			continue;
		program.symbols = (const ElfW(Sym) *)(const void *)(program.image + sections[i].sh_offset);
		program.count = sections[i].sh_size / sizeof(ElfW(Sym));
		program.names = (const char *)(program.image + sections[sections[i].sh_link].sh_offset);
	}
}

static void read_program(void)
{
	int fd = program.image ? -1 : open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat status;

	if (fd < 0)
		return;
	dl_iterate_phdr(find_base, NULL);
	if (fstat(fd, &status) == 0) {
		void *p = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

		if (p != MAP_FAILED) {
			program.image = p;
			read_sections();
		}
	}
	close(fd);
}

static bool is_function(const ElfW(Sym) *symbol)
{
	return ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_size;
}

void site_name(char *text, unsigned long size, const void *site)
{
	uintptr_t at = (uintptr_t)site - 1;

	read_program();
	at -= program.base;
	for (size_t i = 0; i < program.count; i++) {
		const ElfW(Sym) *s = &program.symbols[i];

		if (is_function(s) && at >= s->st_value && at < s->st_value + s->st_size) {
			snprintf(text, size, "%s+%#lx", program.names + s->st_name, (unsigned long)(at - s->st_value + 1));
			return;
		}
	}
	snprintf(text, size, "%p", site);
}

/* "join.isra.0" is join. */
static bool same_name(const char *symbol, const char *name)
{
	size_t n = strlen(name);

	return strncmp(symbol, name, n) == 0 && (symbol[n] == 0 || symbol[n] == '.');
}

void fault_set(const struct fault *f)
{
	read_program();
	fault.kind = f->kind;
	fault.count = 0;
	for (size_t i = 0; i < program.count; i++) {
		const ElfW(Sym) *s = &program.symbols[i];

		if (is_function(s) && same_name(program.names + s->st_name, f->function) && fault.count < NAMESAKES_MAX)
			fault.code[fault.count++] =
				(struct range){ program.base + s->st_value, program.base + s->st_value + s->st_size };
	}
}

bool fault_covers(const void *site)
{
	uintptr_t at = (uintptr_t)site - 1;

	for (int i = 0; i < fault.count; i++)
		if (at >= fault.code[i].from && at < fault.code[i].to)
			return true;
	return false;
}

bool fault_at(enum fault_kind kind, const void *site)
{
	bool here = kind == fault.kind && fault_covers(site);

	fault.reached |= here;
	return here;
}

bool fault_reached(void)
{
	return fault.reached;
}
