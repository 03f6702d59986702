/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * server.c: tasks behind an event loop. The loop never blocks in a task and needs no lock: what a worker
 * has finished makes the executor's fd readable, and crew_drain() then calls reply() here, in the loop's
 * own thread.
 *
 * The program is its own client: it puts requests into one end of a socket pair, serves the other, and
 * reads the answers.
 */
#include <crew/crew.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct message {
	int id;
	long n; /* request: a number; answer: how many steps it takes it to 1 (Collatz) */
};

CREW_TASK(struct message, answer, (struct message, request))
{
	long steps = 0;

	for (unsigned long n = (unsigned long)request.n; n > 1; steps++)
		n = n % 2 ? 3 * n + 1 : n / 2;
	return (struct message){ request.id, steps };
}

struct server {
	int fd, under_way;
};

/* Called by crew_drain(); the future gives itself back afterwards. */
static void reply(crew_future *f, void *arg)
{
	struct server *server = arg;
	struct message message;

	server->under_way--;
	if (crew_result(f, &message) == 0)
		crew_must((int)send(server->fd, &message, sizeof message, MSG_NOSIGNAL));
}

static void serve(int fd)
{
	CREW_SCOPE (ex, crew_threads(3)) {
		struct server server = { fd, 0 };
		int ep = epoll_create1(EPOLL_CLOEXEC), done = crew_executor_fd(ex), open = 1;

		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = EPOLLIN, .data.fd = fd });
		epoll_ctl(ep, EPOLL_CTL_ADD, done,
			  &(struct epoll_event){ .events = EPOLLIN, .data.fd = done });
		while (open || server.under_way > 0) {
			struct epoll_event event;
			struct message request;
			if (epoll_wait(ep, &event, 1, -1) < 1)
				continue;
			if (event.data.fd == done) {
				crew_must(crew_drain(ex));
			} else if (recv(fd, &request, sizeof request, 0) > 0) {
				crew_submit_to(ex, reply, &server, answer, request);
				server.under_way++;
			} else { /* the client has no more */
				open = 0;
				epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL);
			}
		}
		close(ep);
	}
}

int main(void)
{
	const long n[] = { 1, 7, 27, 97, 871, 6171 };
	long steps[6] = { 0 };
	struct message message;
	int fds[2];

	crew_must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
	for (int i = 0; i < 6; i++)
		crew_must((int)send(fds[0], &(struct message){ i, n[i] }, sizeof message, 0));
	shutdown(fds[0], SHUT_WR);
	serve(fds[1]);
	close(fds[1]);
	while (recv(fds[0], &message, sizeof message, 0) > 0)
		steps[message.id] = message.n;
	for (int i = 0; i < 6; i++)
		printf("%ld: %ld steps\n", n[i], steps[i]);
	close(fds[0]);
}
