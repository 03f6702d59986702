/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handshake.c: see handshake.h. Every frame has a fixed size, at most ANSWER_SIZE, so nothing is allocated for somebody who has shown nothing yet. They
 * are read in pieces, as they come, on packet sockets too.
 */
#include "ipc/handshake.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "ipc/hmac.h"
#include "ipc/pipe_end.h"

static int random_bytes(unsigned char *p, size_t n)
{
	ssize_t k;

	do
		k = getrandom(p, n, 0);
	while (k < 0 && errno == EINTR);
	return k == (ssize_t)n ? 0 : -EIO;
}

static int mac(const char *role, const struct handshake *h, crew_bytes key, unsigned char ret[MAC_SIZE])
{
	unsigned char text[16 + sizeof h->nonces] = { 0 };

	memcpy(text, role, strlen(role)); /* "crew 1 listener" is the longest, with its 0 */
	memcpy(text + 16, h->nonces, sizeof h->nonces);
	return crew__hmac(key.data, key.len, text, sizeof text, ret);
}

/* What is sent in a handshake fits into an empty socket's buffer; where it does not, somebody is not playing by the rules. */
static int send_now(int fd, const void *p, size_t n)
{
	ssize_t k = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	return k == (ssize_t)n ? 0 : k < 0 && errno != EAGAIN ? -errno : CREW_EPROTO;
}

/* Up to the end of this frame: 0; -EAGAIN; CREW_EAUTH: denied, or they went away; CREW_EPROTO. */
static int recv_frame(struct handshake *h, int fd, enum frame_kind kind, size_t size)
{
	for (;;) {
		int rc = crew__frame_expect(h->in, h->have, kind, size);
		ssize_t k;

		if (rc != -EAGAIN)
			return rc;
		k = recv(fd, h->in + h->have, size - h->have, MSG_DONTWAIT);
		if (k == 0 || (k < 0 && errno == ECONNRESET))
			return CREW_EAUTH;
		if (k < 0 && errno != EINTR)
			return -errno;
		if (k > 0)
			h->have += (size_t)k;
	}
}

int crew__handshake_challenge(struct handshake *h, int fd)
{
	unsigned char out[CHALLENGE_SIZE];
	int rc = random_bytes(h->nonces, NONCE_SIZE);

	if (rc)
		return rc;
	crew__frame_write(out, FRAME_CHALLENGE, NONCE_SIZE);
	memcpy(out + FRAME_HEAD, h->nonces, NONCE_SIZE);
	return send_now(fd, out, sizeof out);
}

static void deny(int fd)
{
	unsigned char out[FRAME_HEAD];

	crew__frame_write(out, FRAME_DENIED, 0);
	(void)send_now(fd, out, sizeof out);
}

int crew__handshake_finish(struct handshake *h, int fd, crew_bytes key)
{
	unsigned char want[MAC_SIZE], out[WELCOME_SIZE];
	int rc = recv_frame(h, fd, FRAME_ANSWER, ANSWER_SIZE);

	if (rc == 0) {
		memcpy(h->nonces + NONCE_SIZE, h->in + FRAME_HEAD, NONCE_SIZE);
		rc = mac("crew 1 client", h, key, want);
	}
	if (rc == 0 && !crew__same_mac(want, h->in + FRAME_HEAD + NONCE_SIZE))
		rc = CREW_EAUTH;
	if (rc == 0) {
		crew__frame_write(out, FRAME_WELCOME, MAC_SIZE);
		rc = mac("crew 1 listener", h, key, out + FRAME_HEAD);
	}
	if (rc == 0)
		return send_now(fd, out, sizeof out);
	if (rc != -EAGAIN)
		deny(fd);
	return rc;
}

static int await_frame(struct handshake *h, int fd, enum frame_kind kind, size_t size, uint64_t deadline)
{
	for (;;) {
		int rc = recv_frame(h, fd, kind, size);

		if (rc == -EAGAIN)
			rc = crew__fd_await(fd, POLLIN, deadline);
		else
			return rc;
		if (rc)
			return rc;
	}
}

int crew__handshake_answer(int fd, crew_bytes key, uint64_t deadline)
{
	unsigned char out[ANSWER_SIZE], want[MAC_SIZE];
	struct handshake h = { .have = 0 };
	int rc = await_frame(&h, fd, FRAME_CHALLENGE, CHALLENGE_SIZE, deadline);

	if (rc)
		return rc;
	memcpy(h.nonces, h.in + FRAME_HEAD, NONCE_SIZE);
	rc = random_bytes(h.nonces + NONCE_SIZE, NONCE_SIZE);
	crew__frame_write(out, FRAME_ANSWER, NONCE_SIZE + MAC_SIZE);
	memcpy(out + FRAME_HEAD, h.nonces + NONCE_SIZE, NONCE_SIZE);
	if (rc == 0)
		rc = mac("crew 1 client", &h, key, out + FRAME_HEAD + NONCE_SIZE);
	if (rc == 0)
		rc = send_now(fd, out, sizeof out);
	if (rc == 0)
		rc = mac("crew 1 listener", &h, key, want);
	h.have = 0;
	if (rc == 0)
		rc = await_frame(&h, fd, FRAME_WELCOME, WELCOME_SIZE, deadline);
	if (rc == 0 && !crew__same_mac(want, h.in + FRAME_HEAD))
		rc = CREW_EAUTH;
	return rc == -EPIPE ? CREW_EAUTH : rc;
}
