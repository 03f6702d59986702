/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * driver.c: the exercise of the driver and the conductor of a bus, two processes that talk by signals.
 *
 *	SIGINT  (Ctrl-C)  conductor → SIGUSR1 → driver: "off we go"
 *	SIGQUIT (Ctrl-\)  conductor → SIGUSR2 → driver: "next stop"
 *	SIGTSTP (Ctrl-Z)  driver → SIGUSR1 → conductor: gets off; the driver waits for the conductor, then goes home
 *
 * Signals are read from a descriptor, one after the other, so neither needs a handler. With the argument `ride` the program
 * presses the keys itself.
 */
#define _GNU_SOURCE
#include <crew/crew.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

CREW_TASK(int, conduct)
{
	int fd = crew_signal_fd((int[]){ SIGINT, SIGQUIT, SIGTSTP, SIGUSR1 }, 4), signal;

	crew_process_signal(crew_process_parent(), SIGUSR1); /* aboard */
	while ((signal = crew_signal_read(fd, CREW_FOREVER)) > 0) {
		if (signal == SIGINT)
			crew_process_signal(crew_process_parent(), SIGUSR1);
		if (signal == SIGQUIT)
			crew_process_signal(crew_process_parent(), SIGUSR2);
		if (signal == SIGUSR1) {
			printf("conductor: everybody gets off\n");
			return 3;
		}
	}
	return 1;
}

/* The next signal that is for the driver: keys reach both of them. */
static int listen(int fd)
{
	int signal;

	do
		signal = crew_signal_read(fd, CREW_FOREVER);
	while (signal == SIGINT || signal == SIGQUIT);
	return signal;
}

int main(int argc, char **argv)
{
	static const int keys[] = { SIGINT, SIGQUIT, SIGINT };
	bool ride = argc > 1 && strcmp(argv[1], "ride") == 0;
	int fd = crew_signal_fd((int[]){ SIGINT, SIGQUIT, SIGTSTP, SIGUSR1, SIGUSR2 }, 5), signal, stop = 0;
	crew_process *conductor = crew_start_with((.name = "conductor"), conduct);

	listen(fd);
	printf("driver: the conductor is aboard\n");
	for (;;) {
		if (ride && stop < 3)
			crew_process_signal(conductor, keys[stop++]);
		else if (ride)
			kill(getpid(), SIGTSTP);
		signal = listen(fd);
		if (signal == SIGUSR1)
			printf("driver: off we go\n");
		else if (signal == SIGUSR2)
			printf("driver: next stop\n");
		else
			break;
	}
	fflush(stdout);
	crew_process_signal(conductor, SIGUSR1);
	crew_must(crew_process_join(conductor, CREW_FOREVER));
	crew_must(crew_process_exitcode(conductor, &stop));
	printf("driver: the conductor got off with %d, I go home\n", stop);
	crew_process_close(conductor);
	close(fd);
}
