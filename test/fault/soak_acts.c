/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * soak_acts.c: what a worker of the soak does, one act after another; see soak.c.
 *
 * An act is said to be begun, is done, and is said to be done. Whatever it finds is compared with what must be; a worker that finds something wrong says so in the books and goes on.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "soak.h"

enum { MESSAGE_MAX = 100000, NAME_SELDOM = 8, IN_A_ROW = 16 };

static struct page *mine;
static uint32_t seat;
static uint32_t newest[LINES][SEATS]; /* that this process has seen, of each seat */

void wrong(const char *what, long x)
{
	if (__atomic_fetch_add(&books->wrong, 1, __ATOMIC_SEQ_CST) == 0)
		snprintf(books->what, sizeof books->what, "%s (%ld)", what, x);
}

/* Each process its own: those that are forked one after another would all begin with the same number of test_random(). */
static uint64_t chance(void)
{
	static uint64_t state;

	if (state == 0)
		state = (test_random() ^ (uint64_t)getpid() << 32) | 1;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 8;
}

static void set(long *p, long x)
{
	__atomic_store_n(p, x, __ATOMIC_SEQ_CST);
}

/* ---- what locks guard ---- */

static void look(struct pair *p, int rc)
{
	if (rc == -EOWNERDEAD)
		set(&p->b, p->a);
	else if (p->a != p->b)
		wrong("a death in a lock went unsaid, or two were in it", p->a - p->b);
}

static void change(struct pair *p)
{
	set(&p->a, p->a + 1);
	if (chance() % 16 == 0)
		sched_yield();
	set(&p->b, p->b + 1);
}

#define GUARDED(handle_, pair_)                                      \
	do {                                                         \
		int rc_ = crew_acquire(handle_);                     \
                                                                     \
		if (rc_ && rc_ != -EOWNERDEAD) {                     \
			wrong("a lock could not be had", rc_);       \
			break;                                       \
		}                                                    \
		look((pair_), rc_);                                  \
		if (rc_)                                             \
			crew_handle_recover(handle_);                \
		change(pair_);                                       \
		if (crew_release(handle_))                           \
			wrong("a lock could not be released", 0);    \
	} while (0)

static void use_lock(void)
{
	GUARDED(all.lock, &books->locked);
}

static void use_rlock(void)
{
	int rc = crew_acquire(all.rlock);

	if (rc == 0 || rc == -EOWNERDEAD) {
		look(&books->rlocked, rc);
		crew_handle_recover(all.rlock);
		if (crew_acquire(all.rlock))
			wrong("an rlock was not its owner's", 0);
		change(&books->rlocked);
		crew_release(all.rlock);
		crew_release(all.rlock);
	} else {
		wrong("an rlock could not be had", rc);
	}
}

static void use_writer(void)
{
	GUARDED(all.rwlock, &books->written);
}

static void use_reader(void)
{
	crew_reader reader = crew_reading(all.rwlock);
	int rc = crew_acquire(reader);

	if (rc && rc != -EOWNERDEAD) {
		wrong("a rwlock could not be read", rc);
		return;
	}
	look(&books->written, rc);
	if (rc)
		crew_handle_recover(all.rwlock);
	else if (books->written.a != books->written.b)
		wrong("a write was seen half done", 0);
	crew_release(reader);
}

static void move_cells(void)
{
	int rc = crew_acquire(all.array);
	long *cell = crew_array_as(long, all.array), sum = 0;
	uint64_t at = chance();

	for (int i = 0; i < CELLS; i++)
		sum += cell[i];
	if (rc == -EOWNERDEAD) {
		set(&cell[0], cell[0] - sum);
		crew_handle_recover(all.array);
	} else if (rc || sum) {
		wrong("an array does not add up", sum);
	}
	set(&cell[at % CELLS], cell[at % CELLS] - 1);
	set(&cell[at / CELLS % CELLS], cell[at / CELLS % CELLS] + 1);
	crew_release(all.array);
}

/* ---- condition, semaphore, event, barrier ---- */

static bool there_is_one(void *arg)
{
	(void)arg;
	return books->tokens > 0;
}

static bool into_condition(void)
{
	int rc = crew_acquire(all.condition);

	if (rc == -EOWNERDEAD) {
		set(&books->tokens, books->made - books->taken);
		crew_handle_recover(all.condition);
	} else if (rc) {
		wrong("a condition's lock could not be had", rc);
		return false;
	} else if (books->tokens != books->made - books->taken) {
		wrong("tokens do not add up", books->tokens);
	}
	return true;
}

static void make_token(void)
{
	if (!into_condition())
		return;
	set(&books->made, books->made + 1);
	set(&books->tokens, books->tokens + 1);
	if (crew_condition_notify(all.condition, 1) < 0)
		wrong("a notify failed", 0);
	crew_release(all.condition);
}

static bool take_token(void)
{
	int rc;

	if (!into_condition())
		return false;
	rc = crew_condition_wait_for(all.condition, there_is_one, NULL, MOMENT_MS);
	if (rc == -EOWNERDEAD) {
		set(&books->tokens, books->made - books->taken);
		crew_handle_recover(all.condition);
	} else if (rc == 0) {
		set(&books->taken, books->taken + 1);
		set(&books->tokens, books->tokens - 1);
	} else if (rc != -ETIMEDOUT) {
		wrong("a wait on a condition failed", rc);
	}
	crew_release(all.condition);
	return rc == 0;
}

static bool use_unit(void)
{
	int rc = crew_acquire_within(all.units, MOMENT_MS);

	if (rc) {
		if (rc != -ETIMEDOUT)
			wrong("a semaphore failed", rc);
		return false;
	}
	if (__atomic_add_fetch(&books->inside, 1, __ATOMIC_SEQ_CST) > UNITS) /* a dead one's stays there, as his unit is gone */
		wrong("more have units than there are", 0);
	sched_yield();
	__atomic_sub_fetch(&books->inside, 1, __ATOMIC_SEQ_CST);
	if (crew_release(all.units))
		wrong("a unit could not be given back", 0);
	return true;
}

static void set_event(void)
{
	crew_event_set(all.news);
	crew_event_clear(all.news);
}

static bool wait_for_event(void)
{
	int rc = crew_event_wait(all.news, MOMENT_MS);

	if (rc && rc != -ETIMEDOUT)
		wrong("a wait for an event failed", rc);
	return rc == 0;
}

static bool meet(void)
{
	int rc = crew_barrier_wait(all.barrier, MOMENT_MS);

	if (rc >= 0 && rc < PARTIES)
		__atomic_fetch_add(&mine->passes[rc], 1, __ATOMIC_SEQ_CST);
	else if (rc == CREW_EBROKEN)
		crew_barrier_reset(all.barrier);
	else if (rc != -ETIMEDOUT)
		wrong("a barrier failed", rc);
	return rc >= 0;
}

/* ---- what goes through queues and pipes: once, whole, in the order of each sender ---- */

static struct item next_item(enum line line)
{
	return (struct item){ seat, __atomic_add_fetch(&mine->numbers[line], 1, __ATOMIC_SEQ_CST) };
}

static void came(enum line line, struct item item)
{
	if (item.seat >= SEATS) {
		wrong("something came that nobody has sent", item.seat);
		return;
	}
	if (__atomic_exchange_n(&books->marks[line][item.seat][item.number % MARKS], item.number, __ATOMIC_SEQ_CST) == item.number)
		wrong("something came twice", item.number);
	if (item.number <= newest[line][item.seat])
		wrong("something came out of its order", item.number);
	newest[line][item.seat] = item.number;
}

/* True: it happened. */
static bool happened(const char *what, ssize_t rc)
{
	if (rc < 0 && rc != -ETIMEDOUT && rc != -EAGAIN)
		wrong(what, rc);
	return rc >= 0;
}

static bool put_into(crew_queue q, enum line line)
{
	struct item item = next_item(line);

	return happened("a put failed", crew_put_within(q, &item, MOMENT_MS));
}

static bool get_from(crew_queue q, enum line line, int ms)
{
	struct item item;

	if (!happened("a get failed", crew_get_within(q, &item, ms)))
		return false;
	came(line, item);
	return true;
}

bool do_work(int ms)
{
	if (!get_from(all.work, WORKS, ms))
		return false;
	if (crew_queue_task_done(all.work))
		wrong("work could not be done", 0);
	return true;
}

static unsigned char *message(size_t n, struct item item)
{
	static unsigned char buffer[MESSAGE_MAX];

	memset(buffer, (int)(item.number * 7 + item.seat), n);
	memcpy(buffer, &item, sizeof item);
	return buffer;
}

static bool send_one(void)
{
	struct item item = next_item(MESSAGES);
	size_t n = sizeof item + chance() % (chance() % 8 ? 500 : MESSAGE_MAX - sizeof item);

	return happened("a send failed", crew_pipe_send(all.pipe[1], message(n, item), n, MOMENT_MS));
}

bool receive_one(int ms)
{
	static unsigned char buffer[MESSAGE_MAX];
	ssize_t n = crew_pipe_recv(all.pipe[0], buffer, sizeof buffer, ms);
	struct item item;

	if (!happened("a receive failed", n))
		return false;
	memcpy(&item, buffer, sizeof item);
	if (n < (ssize_t)sizeof item || memcmp(buffer, message((size_t)n, item), (size_t)n) != 0)
		wrong("a message is not what was sent", n);
	else
		came(MESSAGES, item);
	return true;
}

/* ---- futures, names ---- */

static void ask(void)
{
	crew_future *f = crew_future_new(CREW_TYPE_OF(long));
	struct question question = { crew_future_share(f), (long)(chance() % 1000) };
	long y = -1;
	int rc = crew_put_within(all.questions, &question, MOMENT_MS);

	if (rc == 0) {
		rc = crew_result_within(f, &y, 5 * MOMENT_MS);
		if (rc == 0 ? y != question.x * 3 : rc != -ETIMEDOUT && crew_future_error(f)->code != CREW_EBROKEN)
			wrong("a promise was kept wrongly", rc ? rc : y);
	}
	crew_future_free(f);
}

static bool answer(void)
{
	struct question question;
	crew_future *f;
	long y;

	if (crew_get_within(all.questions, &question, MOMENT_MS))
		return false;
	f = crew_promise_future(question.promise);
	y = question.x * 3;
	(void)!crew_future_set_result(f, &y, CREW_TYPE_OF(long)); /* who asked may be dead */
	crew_future_free(f);
	return true;
}

/* A name that is its maker's, so that it is known who has left it. */
static void use_name(void)
{
	char name[80];
	crew_block block;
	crew_bytes at;

	snprintf(name, sizeof name, "%s%d", books->prefix, (int)getpid());
	block = crew_block_make(name, 5000);
	at = crew_block_at(block);
	if (at.len < 5000) {
		wrong("a named block could not be had", crew_handle_error(block));
		return;
	}
	memset(at.data, 1, at.len);
	if (crew_block_unlink(name))
		wrong("a name could not be taken away", 0);
	crew_drop(block);
}

/* ---- workers ---- */

/* One act; true: it happened. */
static bool perform(enum act act)
{
	switch (act) {
	case LOCK: use_lock(); return true;
	case RLOCK: use_rlock(); return true;
	case SEMAPHORE: return use_unit();
	case MAKE: make_token(); return true;
	case TAKE: return take_token();
	case SETTING: set_event(); return true;
	case WAITING: return wait_for_event();
	case MEETING: return meet();
	case READING: use_reader(); return true;
	case WRITING: use_writer(); return true;
	case PUT: return put_into(all.items, ITEMS);
	case GET: return get_from(all.items, ITEMS, MOMENT_MS);
	case ORDER: return put_into(all.work, WORKS);
	case WORK: return do_work(MOMENT_MS);
	case JOINING: return happened("a join failed", crew_queue_join(all.work, MOMENT_MS));
	case SEND: return send_one();
	case RECEIVE: return receive_one(MOMENT_MS);
	case ADD: crew_value_add(all.value, 1); return true;
	case MOVE: move_cells(); return true;
	case ASK: ask(); return true;
	case ANSWER: return answer();
	case NAME: use_name(); return true;
	default: return false;
	}
}

static bool try(enum act act)
{
	bool did;

	__atomic_store_n(&mine->doing, act, __ATOMIC_SEQ_CST);
	did = perform(act);
	if (did)
		__atomic_fetch_add(&mine->done[act], 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&mine->doing, NOTHING, __ATOMIC_SEQ_CST);
	return did && crew_event_is_set(all.go);
}

static void park(void)
{
	int rc;

	__atomic_store_n(&mine->parked, __atomic_load_n(&books->pause, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
	rc = crew_event_wait(all.go, CREW_FOREVER);
	if (rc)
		wrong("a wait for the start failed", rc);
}

_Noreturn void soak_work(uint32_t i, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	seat = i;
	mine = &books->page[i];
	while (getppid() == parent && !__atomic_load_n(&books->over, __ATOMIC_SEQ_CST)) {
		enum act act = (enum act)(1 + chance() % (ACTS - 1));

		if (act == NAME && chance() % NAME_SELDOM)
			act = LOCK;
		if (!crew_event_is_set(all.go))
			park();
		for (uint64_t n = chance() % IN_A_ROW; try(act) && n > 0; n--)
			;
	}
	_exit(0);
}
