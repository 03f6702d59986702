/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stepper.c: see stepper.h. What all killers do alike; what they make their victims do, and what they look for afterwards, is theirs.
 */
#include "stepper.h"

#include <crew/crew.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EVERY_ONE = 1000, LOOKS = 64, SEEN_ASLEEP = 4 };

extern const char __executable_start[];

const struct victims stepper_kinds[VICTIMS] = { { "fork", CREW_START_DEFAULT, 1 }, { "server", CREW_START_SERVER, 20 }, { "spawn", CREW_START_SPAWN, 20 } };
const struct victims *stepper_victims = &stepper_kinds[0];

static long made; /* steps, or borders of system calls, of this victim */
static crew_process *child; /* the victim, if it is no fork */

long stepper_stride(long usual)
{
	long stress = (long)test_scaled(100);

	return stress >= EVERY_ONE || usual * 100 < stress ? 1 : usual * 100 / stress;
}

long stepper_first(long stride)
{
	return (long)(test_random() % (uint64_t)stride);
}

/* A round that is never interrupted counts the steps. */
static long stride_for(bool (*round)(long k, void *arg), void *arg, long kills)
{
	long stress = (long)test_scaled(100), stride;

	if (stress >= EVERY_ONE || kills >= EVERY_STEP)
		return 1;
	(void)round(LONG_MAX, arg);
	stride = made * 100 / (kills * stress);
	return stride ? stride : 1;
}

struct sweep stepper_sweep(bool (*round)(long k, void *arg), void *arg, long kills)
{
	struct sweep sweep = { 0, 0 };
	long stride;

	kills = kills >= EVERY_STEP ? kills : kills / stepper_victims->share;
	stride = stride_for(round, arg, kills);

	for (long k = stepper_first(stride); round(k, arg); k += stride)
		if (++sweep.kills % (2 * kills) == 0 && stride > 1)
			stride *= 2; /* what the dead have left behind makes the way longer */
	sweep.steps = made;
	return sweep;
}

static unsigned long complaints;

void stepper_complain(long k, const char *what, long code)
{
	complaints++;
	printf("after %ld steps: %s", k, what);
	if (code)
		printf(" (%ld)", code);
	printf("\n");
}

static bool round_is_good(long k, void *round)
{
	return (*(bool (**)(long k))round)(k) && complaints == 0;
}

void stepper_judge(bool (*round)(long k), long kills, bool faulty)
{
	struct sweep sweep = stepper_sweep(round_is_good, &round, faulty ? EVERY_STEP : kills);

	printf("%ld kills in %ld steps, %lu violations\n", sweep.kills, sweep.steps, complaints);
	CHECK_EQ(complaints == 0, !faulty);
}

pid_t stepper_fork(void (*prepare)(void *arg), void (*act)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (prepare)
			prepare(arg);
		CHECK_EQ(ptrace(PTRACE_TRACEME, 0, 0, 0), 0L);
		raise(SIGSTOP);
		act(arg);
		raise(SIGSTOP);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	made = 0;
	return pid;
}

size_t stepper_place_of(stepper_function *fn)
{
	return fn ? (uintptr_t)fn - (uintptr_t)__executable_start : 0;
}

stepper_function *stepper_function_at(size_t place)
{
	return place ? (stepper_function *)((uintptr_t)__executable_start + place) : NULL;
}

static void call_at(size_t place, void *arg)
{
	if (place)
		((void (*)(void *))stepper_function_at(place))(arg);
}

/* A victim that is no fork is a child with this task. It waits at the gate, without a system call, until it is seized. */
enum { CLOSED, CAME, OPEN };

CREW_TASK(int, be_victim, (size_t, prepare), (size_t, act), (crew_value, gate), (crew_bytes, arg))
{
	call_at(prepare, arg.data);
	crew_value_store(gate, CAME);
	while (crew_value_load(gate) != OPEN)
		;
	call_at(act, arg.data);
	raise(SIGSTOP);
	return 0;
}

pid_t stepper_start(void (*prepare)(void *arg), void (*act)(void *arg), const void *arg, size_t size)
{
	static crew_value gate;
	pid_t pid;

	if (stepper_victims->start == CREW_START_DEFAULT)
		return stepper_fork(prepare, act, (void *)(uintptr_t)arg);
	if (crew_handle_error(gate))
		gate = crew_value_make(int, CLOSED);
	crew_value_store(gate, CLOSED);
	child = crew_start_with((.start = stepper_victims->start), be_victim, stepper_place_of((stepper_function *)prepare),
				stepper_place_of((stepper_function *)act), gate, crew_bytes_make(arg, size));
	pid = crew_process_pid(child);
	while (crew_value_load(gate) != CAME) {
		CHECK(crew_process_alive(child));
		sched_yield();
	}
	stepper_seize(pid);
	crew_value_store(gate, OPEN);
	made = 0;
	return pid;
}

void stepper_seize(pid_t pid)
{
	int status;

	CHECK_EQ(ptrace(PTRACE_SEIZE, pid, 0, 0), 0L);
	CHECK_EQ(ptrace(PTRACE_INTERRUPT, pid, 0, 0), 0L);
	CHECK_EQ(waitpid(pid, &status, __WALL), pid);
	CHECK(WIFSTOPPED(status));
}

/* Wait for a step of which somebody must say what to do when it sleeps. False: it is to be left asleep. */
static bool await_step(pid_t pid, int *ret_status, bool (*asleep)(void *arg), void *arg)
{
	int seen = 0;

	for (unsigned looks = 1; waitpid(pid, ret_status, __WALL | WNOHANG) == 0; looks++) {
		if (looks % LOOKS)
			continue;
		seen = stepper_state(pid) == 'S' ? seen + 1 : 0;
		if (seen < SEEN_ASLEEP)
			continue;
		if (!asleep(arg))
			return false;
		seen = 0;
	}
	return true;
}

bool stepper_step(pid_t pid, bool (*asleep)(void *arg), void *arg)
{
	int status = 0;

	made++;
	CHECK_EQ(ptrace(PTRACE_SINGLESTEP, pid, 0, 0), 0L);
	if (asleep) {
		if (!await_step(pid, &status, asleep, arg))
			return false;
	} else {
		CHECK_EQ(waitpid(pid, &status, __WALL), pid);
	}
	if (!WIFSTOPPED(status) || WSTOPSIG(status) == SIGSTOP)
		return false;
	CHECK(WSTOPSIG(status) != SIGSEGV && WSTOPSIG(status) != SIGBUS && WSTOPSIG(status) != SIGABRT); /* other signals are withheld */
	return true;
}

bool stepper_call(pid_t pid)
{
	int status;

	made++;
	CHECK_EQ(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD), 0L);
	do {
		CHECK_EQ(ptrace(PTRACE_SYSCALL, pid, 0, 0), 0L);
		CHECK_EQ(waitpid(pid, &status, __WALL), pid);
		if (!WIFSTOPPED(status) || WSTOPSIG(status) == SIGSTOP)
			return false;
		CHECK(WSTOPSIG(status) != SIGSEGV && WSTOPSIG(status) != SIGBUS && WSTOPSIG(status) != SIGABRT);
	} while (WSTOPSIG(status) != (SIGTRAP | 0x80)); /* a signal: withheld */
	return true;
}

void stepper_kill_running(pid_t pid)
{
	CHECK_EQ(ptrace(PTRACE_CONT, pid, 0, 0), 0L);
	stepper_kill(pid);
}

void stepper_let_go(pid_t pid)
{
	CHECK_EQ(ptrace(PTRACE_DETACH, pid, 0, 0), 0L);
}

void stepper_run(pid_t pid, int signal)
{
	int status;

	CHECK_EQ(ptrace(PTRACE_CONT, pid, 0, 0), 0L);
	CHECK_EQ(waitpid(pid, &status, __WALL), pid);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == signal);
}

bool stepper_would_sleep(pid_t pid)
{
	struct user_regs_struct regs;
	long word;

	CHECK_EQ(ptrace(PTRACE_GETREGS, pid, 0, &regs), 0L);
	if (regs.rax != SYS_futex || (regs.rsi & FUTEX_CMD_MASK) != FUTEX_WAIT_BITSET)
		return false;
	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, pid, (void *)regs.rip, 0);
	return errno == 0 && (word & 0xffff) == 0x050f; /* syscall */
}

void stepper_kill(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	while (waitpid(pid, &status, __WALL) == pid && !WIFSIGNALED(status) && !WIFEXITED(status))
		;
	if (child && crew_process_pid(child) == pid)
		child = crew_process_close(child);
}

bool stepper_kill_after(pid_t pid, long k, bool until_sleep)
{
	bool more = true;

	for (long i = 0; i < k && more; i++)
		more = !(until_sleep && stepper_would_sleep(pid)) && stepper_step(pid, NULL, NULL);
	stepper_kill(pid);
	return more;
}

char stepper_state(pid_t pid)
{
	char path[64], state = 'Z';
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 'Z';
	if (fscanf(file, "%*d %*s %c", &state) != 1)
		state = 'Z';
	fclose(file);
	return state;
}

bool stepper_ends(pid_t pid, int ms)
{
	int64_t limit = test_now_ms() + ms;
	int status;
	pid_t rc;

	while ((rc = waitpid(pid, &status, WNOHANG)) == 0 && test_now_ms() < limit)
		sched_yield();
	if (rc == 0) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		return false;
	}
	return rc == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
