/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * undertaker.c: what becomes of children. A child that has ended and that nobody has waited for is a zombie; whatever is
 * done next with children reaps it. A child whose parent is killed would be an orphan; here it dies with the parent.
 */
#define _GNU_SOURCE
#include <crew/crew.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What ps would print behind a pid: R, S, T, Z; '-' when there is no such process. */
static char state_of(pid_t pid)
{
	char path[64], text[256] = "", *paren = NULL;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (file && fgets(text, sizeof text, file))
		paren = strrchr(text, ')');
	if (file)
		fclose(file);
	return paren ? paren[2] : '-';
}

CREW_TASK(int, answer)
{
	return 42;
}

CREW_TASK(void, sleep_for_ever)
{
	for (;;)
		pause();
}

/* A child with a child, whose pid it writes to its standard output. */
CREW_TASK(void, have_a_child)
{
	crew_process *p = crew_start(sleep_for_ever);

	printf("%d\n", (int)crew_process_pid(p));
	fflush(stdout);
	crew_process_join(p, CREW_FOREVER);
}

static void wait_for_one(void)
{
	crew_process *p = crew_start(answer);
	struct crew_status status;

	crew_must(crew_process_join(p, CREW_FOREVER));
	crew_must(crew_process_status(p, &status));
	printf("a child has ended with %d\n", status.exit_code);
	crew_process_close(p);
}

static void see_a_zombie(void)
{
	crew_process *p = crew_start_with((.start = CREW_START_FORK), answer);
	struct pollfd end = { crew_process_fd(p), POLLIN, 0 };
	pid_t pid = crew_process_pid(p);

	poll(&end, 1, -1); /* it has ended, and nobody has asked how */
	printf("before anybody asks: %c\n", state_of(pid));
	printf("children that are alive: %d\n", crew_children(NULL, 0));
	printf("and now: %c\n", state_of(pid));
	crew_process_close(p);
}

static void leave_an_orphan(void)
{
	crew_process *p = crew_start_with((.stdout_fd = CREW_PIPE), have_a_child);
	FILE *out = fdopen(crew_process_pipe(p, 1), "r");
	struct pollfd end = { -1, POLLIN, 0 };
	int grandchild = 0;

	if (!out || fscanf(out, "%d", &grandchild) != 1)
		return;
	end.fd = (int)syscall(SYS_pidfd_open, grandchild, 0);
	printf("grandchild: %s\n", poll(&end, 1, 0) == 0 ? "alive" : "gone");
	crew_process_kill(p);
	crew_process_join(p, CREW_FOREVER);
	printf("its parent was killed, and it is %s\n", poll(&end, 1, 5000) == 1 ? "gone" : "an orphan");
	close(end.fd);
	fclose(out);
	crew_process_close(p);
}

int main(void)
{
	wait_for_one();
	see_a_zombie();
	leave_an_orphan();
}
