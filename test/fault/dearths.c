/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dearths.c: what if there is no more, for all that is no executor of its own: locks, shared values, queues, pipes, listeners, children, promises; and for
 * what starts only once in a program: the memory of the family, the server, the tracker.
 *
 *	for each scene, for each call: k = 1, 2, … { a fresh process: a life under the shortage, one in plenty, more under the shortage }
 *
 * Only a fresh process still has all of that before it. The larger k, the wider the steps, but for STRESS=1000. What must hold: under the shortage each
 * call works or says that it did not; in plenty everything works, whatever had failed before; the lives that come after leave nothing, no block of
 * memory, no descriptor, child, thread or mapping.
 */
#include <crew/crew.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "census.h"
#include "runner.h"
#include "shortage.h"

static bool plenty; /* nothing may fail */
static char circumstances[200];

/* It worked. That it did not is said by an error, not by silence, and not by a wait. */
static bool had_at(int rc, int line)
{
	if (rc >= 0)
		return true;
	if (plenty || rc == -ETIMEDOUT || rc == -EDEADLK)
		test_fail(__FILE__, line, "%s, %s", crew_strerror(rc), circumstances);
	return false;
}

#define had(rc_) had_at((rc_), __LINE__)

/* ---- scenes ---- */

static void use_locks(void)
{
	crew_lock lock = crew_lock_make();
	crew_rlock rlock = crew_rlock_make();
	crew_semaphore semaphore = crew_semaphore_make(1, 1);
	crew_rwlock rwlock = crew_rwlock_make();

	if (had(crew_acquire(lock)))
		CHECK_EQ(crew_release(lock), 0);
	if (had(crew_acquire(rlock)))
		CHECK_EQ(crew_release(rlock), 0);
	if (had(crew_acquire(semaphore)))
		CHECK_EQ(crew_release(semaphore), 0);
	if (had(crew_acquire(rwlock)))
		CHECK_EQ(crew_release(rwlock), 0);
	if (had(crew_acquire(crew_reading(rwlock))))
		CHECK_EQ(crew_release(crew_reading(rwlock)), 0);
	had(crew_drop(lock));
	had(crew_drop(rlock));
	had(crew_drop(semaphore));
	had(crew_drop(rwlock));
}

static void use_meetings(void)
{
	crew_condition condition = crew_condition_make((crew_rlock){ 0 });
	crew_event event = crew_event_make();
	crew_barrier barrier = crew_barrier_make(1);

	if (had(crew_acquire(condition))) {
		CHECK_EQ(crew_condition_notify(condition, 1), 0);
		CHECK_EQ(crew_release(condition), 0);
	}
	if (had(crew_event_set(event)))
		CHECK_EQ(crew_event_wait(event, 20000), 0);
	had(crew_barrier_wait(barrier, 20000));
	had(crew_drop(condition));
	had(crew_drop(event));
	had(crew_drop(barrier));
}

static void use_values(void)
{
	crew_value value = crew_value_make(long, 7);
	crew_array array = crew_array_make(double, 30000);
	crew_item items[] = { crew_item_integer(3), crew_item_string("a text"), crew_item_real(0.5) }, item;
	crew_shareable_list list = crew_shareable_list_make(items, 3);

	if (had(crew_handle_error(value)))
		CHECK_EQ(crew_value_add(value, 1), 7);
	if (had(crew_handle_error(array)))
		CHECK_EQ(crew_array_as(double, array)[29999], 0.0);
	if (had(crew_shareable_list_get(list, 1, &item))) {
		CHECK_EQ(item.is.bytes.len, 6u);
		crew_bytes_free(item.is.bytes);
	}
	had(crew_shareable_list_set(list, 0, crew_item_integer(4)));
	had(crew_drop(value));
	had(crew_drop(array));
	had(crew_drop(list));
}

static void use_blocks(void)
{
	crew_block block = crew_block_make(NULL, 300000), named = crew_block_make("", 5000), attached;
	char name[256];

	if (had(crew_handle_error(block)))
		memset(crew_block_at(block).data, 1, 300000);
	if (had(crew_block_name(named, name, sizeof name))) {
		attached = crew_block_attach(name);
		if (had(crew_handle_error(attached)) && crew_block_at(attached).data)
			CHECK_EQ(crew_block_at(attached).len, 5000u);
		had(crew_drop(attached));
		CHECK_EQ(crew_block_unlink(name), 0);
	}
	had(crew_drop(named));
	had(crew_drop(block));
}

static void use_queues(void)
{
	static char big[100000];
	crew_queue items = crew_queue_make(.item = sizeof(int)), messages = crew_queue_make(.bytes = 1 << 20);
	int put = 0, x;

	had(crew_queue_fd(items));
	for (int i = 0; i < 300; i++)
		put += had(crew_queue_put(items, &i, sizeof i, 20000));
	for (int i = 0; i < put; i++)
		CHECK_EQ(crew_queue_get(items, &x, sizeof x, 20000), 0);
	crew_queue_unfd(items);
	if (had(crew_queue_put_bytes(messages, (crew_bytes){ big, sizeof big }, 20000))) {
		crew_bytes got;

		if (had(crew_queue_get_bytes(messages, &got, 20000))) {
			CHECK_EQ(got.len, sizeof big);
			crew_bytes_free(got);
		}
	}
	crew_queue_drop(items);
	crew_queue_drop(messages);
}

static void use_pipes(void)
{
	static char big[50000];
	crew_pipe end[2];
	crew_bytes got;
	int fd;

	if (!had(crew_pipe_make(end, 0)))
		return;
	if (had(crew_pipe_send(end[0], big, sizeof big, 20000))) {
		if (had(crew_pipe_recv_bytes(end[1], &got, 20000)))
			crew_bytes_free(got);
		else
			had(crew_pipe_skip(end[1]));
	}
	if (had(crew_pipe_send_fd(end[1], STDERR_FILENO, 20000))) {
		fd = crew_pipe_recv_fd(end[0], 20000);
		if (had(fd))
			CHECK_EQ(close(fd), 0);
	}
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
}

static void use_waits(void)
{
	crew_queue queue = crew_queue_make(.item = sizeof(int));
	crew_future *f = crew_future_new(CREW_TYPE_OF(int));
	crew_pipe end[2];
	int one = 1;

	if (had(crew_pipe_make(end, 0))) {
		crew_waitable things[] = { crew_on_pipe(end[0]), crew_on_queue(queue), crew_on_future(f) };

		if (had(crew_pipe_send(end[1], "a", 1, 20000)))
			CHECK_NE(crew_wait_ready(things, 3, 20000), 0);
		crew_pipe_drop(end[0]);
		crew_pipe_drop(end[1]);
	}
	had(crew_future_set_result(f, &one, CREW_TYPE_OF(int)));
	crew_queue_drop(queue);
	crew_future_free(f);
}

static const crew_bytes key = { "a key", 5 };

struct client {
	const char *address;
	bool gone;
};

static void *be_client(void *arg)
{
	struct client *client = arg;
	crew_pipe p = crew_connect(client->address, key, 20000);

	if (had(crew_handle_error(p)))
		had(crew_pipe_send(p, "hello", 5, 20000));
	crew_pipe_drop(p);
	__atomic_store_n(&client->gone, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void use_listeners(void)
{
	int code = 0, met = 0;
	crew_listener *l = crew_listener_open(NULL, key, &code);
	struct client client = { crew_listener_address(l), false };
	pthread_t thread;

	if (!l) {
		CHECK(code < 0 && !had(code));
		return;
	}
	if (pthread_create(&thread, NULL, be_client, &client) == 0) {
		for (bool gone = false; !gone;) {
			crew_pipe p;
			char text[8];

			gone = __atomic_load_n(&client.gone, __ATOMIC_SEQ_CST);
			p = crew_listener_accept(l, 10);
			if (crew_handle_error(p) == 0) {
				met += crew_pipe_recv(p, text, sizeof text, 20000) == 5;
				crew_pipe_drop(p);
			}
		}
		pthread_join(thread, NULL);
	}
	CHECK(met == 1 || !plenty);
	CHECK_EQ(crew_listener_close(l), NULL);
}

CREW_TASK(long, thrice, (long, x))
{
	return 3 * x;
}

static void meet_child(crew_process *p)
{
	long y = 0;

	if (plenty)
		CHECK_STR(crew_process_error(p)->message, "");
	if (had(crew_process_result_within(p, &y, 20000)))
		CHECK_EQ(y, 21);
	else
		CHECK(crew_process_error(p)->code != 0);
	CHECK_EQ(crew_process_close(p), NULL);
}

static void use_forked_children(void)
{
	meet_child(crew_start_with((.start = CREW_START_FORK), thrice, 7));
	meet_child(crew_thread_start(thrice, 7));
}

static void use_served_children(void)
{
	meet_child(crew_start_with((.start = CREW_START_SERVER), thrice, 7));
}

static void use_programs(void)
{
	crew_process *p = crew_process_exec_with((.stdout_fd = CREW_PIPE, .stdin_fd = CREW_DEVNULL), ((char *[]){ "echo", "a", NULL }));
	int fd;
	char text[4];

	if (had(crew_process_join(p, 20000))) {
		fd = crew_process_pipe(p, 1);
		CHECK(fd >= 0 && read(fd, text, sizeof text) == 2);
		CHECK_EQ(close(fd), 0);
	}
	CHECK_EQ(crew_process_close(p), NULL);
}

static void use_shared_futures(void)
{
	crew_future *f = crew_future_new(CREW_TYPE_OF(long)), *other = crew_promise_future(crew_future_share(f));
	long x = 5, y = 0;

	had(crew_future_set_result(other, &x, CREW_TYPE_OF(long)));
	crew_future_set_error(f, -EIO, "nobody could"); /* no more than the second to set it, if the first has */
	if (had(crew_result_within(f, &y, 20000)))
		CHECK_EQ(y, 5);
	crew_future_free(other);
	crew_future_free(f);
}

static int feed(void *next, CREW_ARGS(thrice) *args)
{
	args->x = (*(long *)next)++;
	return args->x < 20;
}

static void use_streams(crew_executor *ex)
{
	long next = 0, y, sum = 0;
	crew_stream *s = crew_imap(ex, thrice, feed, &next, .window = 4);

	for (int rc; (rc = crew_next_within(s, &y, 20000)) != 0;) {
		if (had(rc))
			sum += y;
		else if (next == 0)
			break; /* a stream that could not be opened says so for ever */
	}
	CHECK(sum == 570 || !plenty);
	crew_stream_close(s);
}

static void use_groups(crew_executor *ex)
{
	crew_executor *g = crew_group(ex, .max_running = 1, .max_queued = 2, .timeout_ms = 20000);

	for (long i = 0; i < 6; i++)
		crew_future_free(crew_submit(g, thrice, i));
	had(crew_executor_wait(g, 20000));
	CHECK_EQ(crew_executor_close(g), NULL);
}

CREW_TASK(long, count_range, (size_t, begin), (size_t, end))
{
	return (long)(end - begin);
}
#define ADD(a_, b_) ((a_) + (b_))

static void done(crew_future *f, void *count)
{
	(void)f;
	__atomic_add_fetch((int *)count, 1, __ATOMIC_RELAXED);
}

static void use_pools(crew_pool *pool)
{
	crew_executor *ex = crew_pool_executor(pool);
	long in[40], out[40], sum = 0;
	int called = 0;
	crew_future *f, *each[4];

	for (long i = 0; i < 40; i++)
		in[i] = i;
	f = crew_pool_map_async(pool, thrice, in, out, 40);
	if (had(crew_future_wait(f, 20000)))
		CHECK_EQ(out[39], 117);
	crew_future_free(f);
	f = crew_pool_apply_async_with(pool, (.callback = done, .error_callback = done, .arg = &called), thrice, 7);
	had(crew_future_wait(f, 20000));
	crew_future_free(f);
	crew_submit_each(ex, thrice, in, each, 4);
	for (int i = 0; i < 4; i++) {
		had(crew_future_set_data(each[i], in));
		had(crew_result_within(each[i], &sum, 20000));
		crew_future_free(each[i]);
	}
	sum = 0;
	if (had(crew_reduce(ex, 1000, &sum, ADD, count_range)))
		CHECK_EQ(sum, 1000);
	use_streams(ex);
	use_groups(ex);
	crew_pool_finish(pool);
	had(crew_pool_join(pool, 20000));
	CHECK(called == 1 || !plenty);
	CHECK_EQ(crew_pool_close(pool), NULL);
}

static void use_thread_pools(void)
{
	use_pools(crew_threadpool(2));
}

static int initialize(void *arg, int worker)
{
	(void)worker;
	return *(const int *)arg;
}

static void use_workers(enum crew_start start)
{
	static const int zero = 0;
	crew_executor *ex = crew_processes(.workers = 1, .start = start, .spares = 1, .initializer = initialize, .arg = (void *)(uintptr_t)&zero,
					   .arg_size = sizeof zero);
	crew_future *f = crew_submit_with(ex, (.timeout_ms = 20000, .retries = 1), thrice, 7);
	long y;

	if (plenty)
		CHECK_STR(crew_future_error(f)->message, "");
	if (had(crew_result_within(f, &y, 20000)))
		CHECK_EQ(y, 21);
	crew_future_free(f);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

static void use_served_workers(void)
{
	use_workers(CREW_START_SERVER);
}

static void use_spawned_workers(void)
{
	use_workers(CREW_START_SPAWN);
}

static void use_process_pools(void)
{
	use_pools(crew_pool(2, .context = CREW_START_FORK));
}

/* What tasks make of memory while they run: text, bytes that grow and shrink, an error that is passed on. */
CREW_TASK(const char *, prints, (int, n))
{
	return crew_result_printf("%d and %0*d", n, n, 1).data;
}

CREW_TASK(crew_bytes, grows, (size_t, n))
{
	crew_bytes out = crew_result_alloc(n), more = crew_result_resize(out, 50 * n);

	if (!more.data)
		more = out;
	if (more.data)
		memset(more.data, 3, more.len);
	return crew_result_resize(more, n / 2);
}

CREW_TASK(int, passes_on)
{
	crew_future *f = crew_future_new(CREW_TYPE_OF(int));

	crew_future_set_error(f, EDOM, "a cause");
	crew_reraise_from(f);
	crew_future_free(f);
	return 0;
}

static void use_results(crew_executor *ex)
{
	const int ns[] = { 3, 300, 5 };
	const char *text[3] = { NULL };
	crew_bytes bytes;
	int y;

	if (had(crew_map(ex, prints, ns, text, 3)))
		CHECK_STR(text[0], "3 and 001");
	for (int i = 0; i < 3; i++)
		free((void *)(uintptr_t)text[i]);
	if (had(crew_take(crew_submit(ex, grows, 1000), &bytes, NULL))) {
		CHECK(bytes.len == 500 || !plenty);
		crew_bytes_free(bytes);
	}
	CHECK(crew_take(crew_submit(ex, passes_on), &y, NULL) < 0);
	had(crew_post(ex, prints, 3));
	CHECK_NE(crew_executor_wait(ex, 20000), -ETIMEDOUT);
}

static void use_results_of_callers(void)
{
	crew_executor *ex = crew_inline();
	crew_error error;

	crew_raise(EIO, "outside of a task");
	CHECK(crew_caught(&error) || !plenty);
	use_results(ex);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

static void use_results_of_threads(void)
{
	crew_executor *ex = crew_threads(2);

	use_results(ex);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

static void use_results_of_workers(void)
{
	crew_executor *ex = crew_processes(.workers = 1, .start = CREW_START_FORK);

	use_results(ex);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

/* More hands than have a place on the stack. */
static void use_crowds(void)
{
	crew_executor *ex = crew_threads(20);
	long in[40], out[40], sum = 0;

	for (long i = 0; i < 40; i++)
		in[i] = i;
	if (had(crew_map(ex, thrice, in, out, 40)))
		CHECK_EQ(out[39], 117);
	if (had(crew_reduce(ex, 1000, &sum, ADD, count_range)))
		CHECK_EQ(sum, 1000);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

/* ---- the sweep ---- */

static void live(void (*scene)(void), bool in_plenty, enum call call, long k, bool for_ever)
{
	plenty = in_plenty && call != KEY; /* what a program cannot have once, it says that it has not, from then on */
	snprintf(circumstances, sizeof circumstances, "%s %s, the %ld-th%s", plenty ? "after a shortage of" : "as there is a shortage of", shortage_of(call),
		 k, for_ever ? " and all that follow" : "");
	if (!plenty)
		shortage_begin(call, k, for_ever);
	scene();
	shortage_end();
}

/* Blocks that there are beyond so many, also after a while: a thread that nobody joins ends a moment after what it was for. */
static long blocks_beyond(long before, int ms)
{
	while (shortage_live() > before && ms-- > 0)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	return shortage_live() - before;
}

/* In a process of its own: is there no k-th such call in a first life? */
static bool was_the_last(void (*scene)(void), const char *name, enum call call, long k, bool for_ever)
{
	enum { LIVES = 5 }; /* to show a leak: what is needed only once may come in any of them, a leak comes in each */
	struct census before;
	char left[400];
	long blocks, more = 1;
	bool came;

	shortage_prepare();
	live(scene, false, call, k, for_ever);
	came = shortage_came();
	live(scene, true, call, k, for_ever);
	census_take(&before);
	for (int i = 0; i < LIVES && more > 0; i++) {
		blocks = shortage_live();
		live(scene, false, call, k, for_ever);
		if (!census_settled(&before, left, sizeof left))
			test_fail(__FILE__, __LINE__, "%s, the %ld-th %s fails: left behind: %s", name, k, shortage_of(call), left);
		more = blocks_beyond(blocks, i < LIVES - 1 ? 20 : 10000);
	}
	if (more > 0)
		test_fail(__FILE__, __LINE__, "%s, the %ld-th %s fails: %ld blocks are left", name, k, shortage_of(call), more);
	return !came;
}

static void sweep(void (*scene)(void), const char *name)
{
	for (enum call call = 0; call < CALLS; call++) {
		for (int for_ever = 0; for_ever < 2 && !(for_ever && call == SEND) /* a socket that never takes anything is a dead one */; for_ever++) {
			int status = 0;

			for (long k = 1; status == 0; k += test_scaled(100) >= 1000 ? 1 : 1 + k / (for_ever ? 2 : 6)) {
				pid_t pid = fork();

				CHECK(pid >= 0);
				if (pid == 0)
					_exit(was_the_last(scene, name, call, k, for_ever));
				CHECK_EQ(waitpid(pid, &status, 0), pid);
				CHECK(WIFEXITED(status));
			}
		}
	}
}

#define SCENE(sentence_, scene_)        \
	TEST_WITHIN (sentence_, 300)    \
	{                               \
		sweep(scene_, #scene_); \
	}

SCENE(locks_survive_any_call_that_fails, use_locks)
SCENE(meetings_survive_any_call_that_fails, use_meetings)
SCENE(values_survive_any_call_that_fails, use_values)
SCENE(blocks_survive_any_call_that_fails, use_blocks)
SCENE(queues_survive_any_call_that_fails, use_queues)
SCENE(pipes_survive_any_call_that_fails, use_pipes)
SCENE(waits_for_several_survive_any_call_that_fails, use_waits)
SCENE(listeners_survive_any_call_that_fails, use_listeners)
SCENE(forked_children_survive_any_call_that_fails, use_forked_children)
SCENE(served_children_survive_any_call_that_fails, use_served_children)
SCENE(programs_survive_any_call_that_fails, use_programs)
SCENE(shared_futures_survive_any_call_that_fails, use_shared_futures)
SCENE(results_of_callers_survive_any_call_that_fails, use_results_of_callers)
SCENE(results_of_threads_survive_any_call_that_fails, use_results_of_threads)
SCENE(results_of_workers_survive_any_call_that_fails, use_results_of_workers)
SCENE(crowds_survive_any_call_that_fails, use_crowds)
SCENE(pools_of_threads_survive_any_call_that_fails, use_thread_pools)
SCENE(pools_of_processes_survive_any_call_that_fails, use_process_pools)
SCENE(workers_of_a_server_survive_any_call_that_fails, use_served_workers)
SCENE(spawned_workers_survive_any_call_that_fails, use_spawned_workers)
