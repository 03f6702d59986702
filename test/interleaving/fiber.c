/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fiber.c: a switch of a few nanoseconds between stacks, thread pointers included.
 *
 * lib/ keeps words in thread-local memory, and threads write each other's (crew_frames.limit). So each fiber needs a block of its own at
 * an address of its own. libc alone can make one: hence a real thread is started for each fiber, sleeps for ever, and lends us its thread pointer. What runs on
 * that pointer is this one thread all the time: the kernel sees a single thread that changes its FS base.
 *
 * swapcontext() would do two system calls for each switch to save the signal mask, fifty times the price of the rest.
 */
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "interleaving/fiber.h"

#define STACK_SIZE ((size_t)256 << 10)

extern int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);

struct fiber {
	void *sp;
	uintptr_t thread_pointer;
	unsigned char *stack;
	void (*main)(int i);
};

static struct fiber fibers[FIBERS_MAX + 1]; /* the last one is who called fibers_open() */
static uint32_t lent;

static struct {
	ptrdiff_t offset; /* from the thread pointer */
	const void *image;
	size_t image_size, size;
} thread_local_part;

/* ---- thread-local memory ---- */

static uintptr_t thread_pointer(void)
{
	uintptr_t p;

	__asm__("mov %%fs:0, %0" : "=r"(p));
	return p;
}

static _Noreturn void lend(struct fiber *fiber)
{
	fiber->thread_pointer = thread_pointer();
	__atomic_fetch_add(&lent, 1, __ATOMIC_SEQ_CST);
	for (;;)
		pause();
}

static void *lend_arg(void *arg)
{
	lend(arg);
}

/* The program's own part; dl_iterate_phdr() begins with it. */
static int find_part(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size, (void)arg;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];

		if (part->p_type != PT_TLS || !info->dlpi_tls_data)
			continue;
		thread_local_part.offset = (ptrdiff_t)((uintptr_t)info->dlpi_tls_data - thread_pointer());
		thread_local_part.image = (const void *)(info->dlpi_addr + part->p_vaddr);
		thread_local_part.image_size = part->p_filesz;
		thread_local_part.size = part->p_memsz;
	}
	return 1;
}

static void clear_part(const struct fiber *fiber)
{
	unsigned char *part = (unsigned char *)(fiber->thread_pointer + (uintptr_t)thread_local_part.offset);

	memcpy(part, thread_local_part.image, thread_local_part.image_size);
	memset(part + thread_local_part.image_size, 0, thread_local_part.size - thread_local_part.image_size);
}

bool fibers_open(void)
{
	pthread_t thread;

	if (!(getauxval(AT_HWCAP2) & 2)) /* FSGSBASE */
		return false;
	dl_iterate_phdr(find_part, NULL);
	for (int i = 0; i < FIBERS_MAX; i++) {
		fibers[i].stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (fibers[i].stack == MAP_FAILED || __real_pthread_create(&thread, NULL, lend_arg, &fibers[i]))
			return false;
	}
	while (__atomic_load_n(&lent, __ATOMIC_SEQ_CST) < FIBERS_MAX)
		usleep(100);
	fibers[FIBERS_MAX].thread_pointer = thread_pointer();
	return true;
}

/* ---- switching ---- */

/* What a function may not change: on the stack, then the stack is exchanged. The thread pointer goes along. */
__asm__(".text\n"
	".type switch_stacks, @function\n"
	"switch_stacks:\n"
	"	push %rbp\n"
	"	push %rbx\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	wrfsbase %rdx\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbx\n"
	"	pop %rbp\n"
	"	ret\n"
	".size switch_stacks, . - switch_stacks\n");
void switch_stacks(void **save, void *sp, uintptr_t thread_pointer) __attribute__((__visibility__("hidden")));

static int starting;

static void start(void)
{
	fibers[starting].main(starting);
	__builtin_trap();
}

void fiber_reset(int i, void (*main)(int i))
{
	void **top = (void **)(fibers[i].stack + STACK_SIZE);

	clear_part(&fibers[i]);
	fibers[i].main = main;
	*--top = NULL; /* where start() would return to: keeps the stack aligned */
	*--top = (void *)(uintptr_t)start;
	for (int k = 0; k < 6; k++)
		*--top = NULL;
	fibers[i].sp = top;
}

void fiber_switch(int from, int to)
{
	struct fiber *here = &fibers[from < 0 ? FIBERS_MAX : from], *there = &fibers[to < 0 ? FIBERS_MAX : to];

	starting = to;
	switch_stacks(&here->sp, there->sp, there->thread_pointer);
}
