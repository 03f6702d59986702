/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * posix_locks.c: L1–L3 put to what libc has: mutexes, plain (L1 alone: processes cannot share it), process-shared and robust; a semaphore.
 */
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/mman.h>

#include "../exclusion.h"

struct locks {
	_Alignas(64) pthread_mutex_t plain;
	_Alignas(64) pthread_mutex_t shared;
	_Alignas(64) pthread_mutex_t robust;
	_Alignas(64) sem_t semaphore;
};

static void take_mutex(void *lock)
{
	measure_require(pthread_mutex_lock(lock) == 0, "not locked");
}

static void give_mutex(void *lock)
{
	measure_require(pthread_mutex_unlock(lock) == 0, "not unlocked");
}

static void take_semaphore(void *lock)
{
	while (sem_wait(lock))
		;
}

static void give_semaphore(void *lock)
{
	measure_require(sem_post(lock) == 0, "not posted");
}

int main(int argc, char **argv)
{
	struct locks *l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct measure_options o;
	pthread_mutexattr_t a;

	measure_options(&o, argc, argv);
	measure_require(l != MAP_FAILED, "out of memory");
	pthread_mutex_init(&l->plain, NULL);
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&l->shared, &a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&l->robust, &a);
	sem_init(&l->semaphore, 1, 1);
	if (strcmp(o.bench, "L1") == 0)
		exclusion_ask(&o, &(struct exclusion){ "pthread mutex", take_mutex, give_mutex, &l->plain });
	exclusion_ask(&o, &(struct exclusion){ "pthread shared mutex", take_mutex, give_mutex, &l->shared });
	exclusion_ask(&o, &(struct exclusion){ "pthread robust mutex", take_mutex, give_mutex, &l->robust });
	exclusion_ask(&o, &(struct exclusion){ "POSIX semaphore", take_semaphore, give_semaphore, &l->semaphore });
	return 0;
}
