/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mortal.c: seats: taken, left, and looked at; see mortal.h for the idea.
 *
 * The table is segments of 512 seats, each a block of its own, which are made when the others are full and stay. A segment is furnished before its offset is
 * put into the family's head; of two made at once one is thrown away.
 *
 * Who finds a seat whose holder died holds its mutex for that moment. He buries: if the dead slept in an object, it counts one death more; the
 * generation moves on, so that the id is nobody's for ever; then the seat is free. Should he die over this, the next one finds the seat as he did, and at worst the
 * object counts one death twice.
 *
 * A thread that ends in order while something still has its id in it (a lock may be released by others, later) leaves its seat marked with its process,
 * which is then asked after by pid and time of birth. Whoever takes the last such id away frees the seat.
 */
#include "ipc/mortal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/futex.h"
#include "ipc/object.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

enum { SEATS = CHUNK_SIZE / sizeof(struct mortal) };

__thread uint64_t crew__mortal_id;
__thread uint32_t crew__mortal_holds;
__thread struct mortal *crew__mortal_seat;

static struct {
	pthread_once_t once;
	pthread_key_t key; /* for the end of threads */
	int rc;		   /* of making it */
} hooks = { .once = PTHREAD_ONCE_INIT };

/* ---- the table ---- */

uint32_t crew__mortal_seats(void)
{
	struct family *m = family_here();

	return m ? ck_pr_load_32(&head_of(m)->seats) : 0;
}

struct mortal *crew__mortal_at(uint32_t index)
{
	struct family *m = family_here();
	uint64_t offset;

	if (!m || index / SEATS >= SEGMENTS_MAX)
		return NULL;
	offset = load_acquire_64(&head_of(m)->segments[index / SEATS]); /* pairs with the exchange in add_segment() */
	return offset && offset < m->size ? (struct mortal *)(void *)(m->base + offset) + index % SEATS : NULL;
}

static int furnish(struct mortal *seats)
{
	pthread_mutexattr_t a;
	int rc = pthread_mutexattr_init(&a);

	if (rc)
		return -rc;
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	for (uint32_t i = 0; i < SEATS; i++)
		pthread_mutex_init(&seats[i].life, &a);
	pthread_mutexattr_destroy(&a);
	return 0;
}

/* A segment after the `count` that there are, by us or another. */
static int add_segment(struct family *m, uint32_t count)
{
	struct family_head *head = head_of(m);
	uint64_t offset;
	int rc;

	if (count == SEGMENTS_MAX)
		return -EAGAIN;
	if (ck_pr_load_64(&head->segments[count]) == 0) {
		rc = crew__family_alloc(SEATS * sizeof(struct mortal), &offset);
		if (rc)
			return rc;
		rc = furnish(crew__family_at(offset));
		ck_pr_fence_release();
		if (rc || !ck_pr_cas_64(&head->segments[count], 0, offset))
			crew__family_free(offset);
		if (rc)
			return rc;
	}
	ck_pr_cas_32(&head->segment_count, count, count + 1); /* also for one that died before it could */
	return 0;
}

/* ---- life and death ---- */

/* When a process began, in the kernel's ticks; 0: it is no more, or only its remains are there. */
static uint64_t birth_of(pid_t pid)
{
	char path[32], text[512], *p, state = 'X';
	unsigned long long born = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	p = strrchr(text, ')'); /* the name before it may be anything */
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state, &born) != 2)
		return 0;
	return born;
}

static bool process_lives(pid_t pid, uint64_t born)
{
	struct pollfd ended = { (int)syscall(SYS_pidfd_open, pid, 0), POLLIN, 0 };
	bool lives = ended.fd >= 0 && poll(&ended, 1, 0) == 0;

	if (ended.fd >= 0)
		close(ended.fd);
	return lives && birth_of(pid) == born;
}

static uint64_t id_of(uint32_t index, uint32_t generation)
{
	return (uint64_t)generation << 32 | (uint64_t)(index + 1) << 2;
}

static struct mortal *seat_of(uint64_t id)
{
	uint32_t index = (uint32_t)id >> 2;

	return index ? crew__mortal_at(index - 1) : NULL;
}

/* The object that this member slept in learns of his death, and so do those who sleep there, when they next look. */
static void tell(struct mortal *seat)
{
	struct family *m = family_here();
	uint64_t stamp = ck_pr_load_64(&seat->sleeps_on), place = seat->sleeps_at;

	if (stamp && place && place < m->size && place % CREW__CACHELINE == 0) {
		struct sleeping_object *object = (struct sleeping_object *)(void *)(m->base + place);

		if (ck_pr_load_64(&object->stamp) == stamp)
			ck_pr_inc_32(&object->deaths);
	}
	ck_pr_store_64(&seat->sleeps_on, 0);
}

static void next_generation(struct mortal *seat)
{
	store_release_32(&seat->generation, seat->generation + 1); /* pairs with the acquires in crew__mortal_state() and crew__mortal_name() */
}

/* Hold the life of a seat whose holder is no more: 0. -EBUSY: he lives, or another looks after him just now. */
static int take(struct mortal *seat)
{
	int rc = pthread_mutex_trylock(&seat->life);

	if (rc == EOWNERDEAD)
		rc = pthread_mutex_consistent(&seat->life);
	else if (rc == 0)
		return 0;
	else
		return -EBUSY;
	if (rc == 0 && !seat->left)
		tell(seat);
	return rc ? -EBUSY : 0;
}

/* Is the seat we hold one whose thread ended while its process goes on, and still named somewhere? */
static bool kept(struct mortal *seat)
{
	if (!seat->left)
		return false;
	if (seat->left != load_acquire_32(&seat->relieved) && process_lives(seat->pid, seat->born))
		return true;
	seat->left = 0;
	return false;
}

enum mortal_state crew__mortal_state(uint64_t id)
{
	struct mortal *seat = seat_of(id);
	uint32_t generation = (uint32_t)(id >> 32);
	enum mortal_state state = MORTAL_GONE;

	if (!seat || load_acquire_32(&seat->generation) != generation) /* pairs with the release in next_generation() */
		return MORTAL_GONE;
	if (take(seat))
		return MORTAL_LIVES;
	if (seat->generation == generation) {
		if (kept(seat))
			state = MORTAL_LEFT;
		else
			next_generation(seat);
	}
	pthread_mutex_unlock(&seat->life);
	return state;
}

enum mortal_state crew__mortal_state_at(uint32_t index)
{
	struct mortal *seat = crew__mortal_at(index);

	return seat ? crew__mortal_state(id_of(index, ck_pr_load_32(&seat->generation))) : MORTAL_GONE;
}

void crew__mortal_relieve(uint64_t id)
{
	struct mortal *seat = seat_of(id);

	if (seat && load_acquire_32(&seat->generation) == (uint32_t)(id >> 32))
		ck_pr_faa_32(&seat->relieved, 1); /* pairs with the acquires in kept() and thread_ended() */
}

void crew__mortal_name(uint64_t id, pid_t *ret_pid, pid_t *ret_tid)
{
	struct mortal *seat = seat_of(id);
	pid_t pid = 0, tid = 0;

	if (seat) {
		pid = (pid_t)ck_pr_load_32((const uint32_t *)&seat->pid);
		tid = (pid_t)ck_pr_load_32((const uint32_t *)&seat->tid);
		if (load_acquire_32(&seat->generation) != (uint32_t)(id >> 32)) /* they are another's; as above */
			pid = tid = 0;
	}
	*ret_pid = pid;
	*ret_tid = tid;
}

/* ---- coming and going ---- */

static void forget(void)
{
	crew__mortal_id = 0;
	crew__mortal_holds = 0;
	crew__mortal_seat = NULL;
}

static void thread_ended(void *p)
{
	struct mortal *seat = p;
	uint32_t relieved;

	if (crew__mortal_seat != seat)
		return; /* a copy of before a fork */
	relieved = load_acquire_32(&seat->relieved);
	if (crew__mortal_holds != relieved) { /* both counted from the beginning, modulo 2^32; from here on it is the rest */
		ck_pr_faa_32(&seat->relieved, -relieved);
		seat->born = birth_of(getpid());
		ck_pr_store_32(&seat->left, crew__mortal_holds - relieved);
	} else {
		next_generation(seat);
		pthread_mutex_unlock(&seat->life);
	}
	forget();
}

static void install(void)
{
	hooks.rc = -pthread_key_create(&hooks.key, thread_ended);
	if (hooks.rc == 0)
		hooks.rc = -pthread_atfork(NULL, NULL, forget);
}

/* Walks over the seats come by here from now on. */
static void count_in(uint32_t index)
{
	uint32_t *seats = &head_of(family_here())->seats, seen = ck_pr_load_32(seats);

	while (seen <= index && !ck_pr_cas_32_value(seats, seen, index + 1, &seen))
		;
}

/* Be the holder of this seat, if it is free. */
static bool sit(struct mortal *seat, uint32_t index)
{
	if (take(seat))
		return false;
	if (kept(seat) || pthread_setspecific(hooks.key, seat)) {
		pthread_mutex_unlock(&seat->life);
		return false;
	}
	ck_pr_store_32((uint32_t *)&seat->pid, (uint32_t)getpid());
	ck_pr_store_32((uint32_t *)&seat->tid, (uint32_t)syscall(SYS_gettid));
	ck_pr_store_32(&seat->relieved, 0);
	next_generation(seat);
	count_in(index);
	crew__mortal_seat = seat;
	crew__mortal_id = id_of(index, seat->generation);
	return true;
}

int crew__mortal_join(void)
{
	struct family_head *head;
	int rc = crew__family_join();

	if (rc)
		return rc;
	pthread_once(&hooks.once, install);
	if (hooks.rc)
		return hooks.rc;
	head = head_of(family_here());
	for (;;) {
		uint32_t count = ck_pr_load_32(&head->segment_count);

		for (uint32_t i = 0; i < count * SEATS; i++) /* from the front, so that walks over all seats are short */
			if (sit(crew__mortal_at(i), i))
				return 0;
		rc = add_segment(family_here(), count);
		if (rc)
			return rc;
	}
}

/* ---- sleepers ---- */

void crew__mortal_sleeps(crew_handle handle)
{
	crew__mortal_seat->sleeps_at = handle.place;
	store_release_64(&crew__mortal_seat->sleeps_on, handle.stamp); /* pairs with the acquire in crew__mortal_bury_sleepers() */
}

void crew__mortal_awakes(void)
{
	ck_pr_store_64(&crew__mortal_seat->sleeps_on, 0);
}

void crew__mortal_bury_sleepers(uint64_t stamp)
{
#ifdef CREW_FAULT_NO_BURIAL
	return;
#endif
	for (uint32_t i = 0; i < crew__mortal_seats(); i++) {
		struct mortal *seat = crew__mortal_at(i);

		if (load_acquire_64(&seat->sleeps_on) == stamp) /* pairs with the release in crew__mortal_sleeps() */
			(void)crew__mortal_state_at(i);
	}
}
