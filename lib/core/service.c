/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * service.c: see service.h. The count may run ahead of the kernel's by threads that are about to start or have just left; who compares the two
 * (server_link.c) asks again for a while before it believes that there are strangers.
 */
#include "core/service.h"

#include "base/atomic.h"
#include "base/signals.h"

uint32_t crew__service_threads;

int crew__service_start(pthread_t *ret, void *(*run)(void *), void *arg)
{
	sigset_t before = signals_block();
	pthread_t thread;
	int rc;

	ck_pr_inc_32(&crew__service_threads);
	rc = pthread_create(&thread, NULL, run, arg);
	signals_restore(&before);
	if (rc)
		ck_pr_dec_32(&crew__service_threads);
	else if (ret)
		*ret = thread;
	else
		pthread_detach(thread);
	return -rc;
}

void crew__service_join(pthread_t thread)
{
	pthread_join(thread, NULL);
	ck_pr_dec_32(&crew__service_threads);
}

void crew__service_leave(void)
{
	ck_pr_dec_32(&crew__service_threads);
}
