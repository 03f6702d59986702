/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * refusals.c: what is no lock, value, pipe, child or pool, and options that do not go together: each call answers with a code, none crashes or waits. With it,
 * the calls that nothing else here needs.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <crew/crew.h>

#include "../runner.h"

CREW_TASK(int, seven)
{
	return 7;
}
CREW_TASK(int, add, (int, a), (int, b))
{
	return a + b;
}
static int seen;
CREW_TASK(int *, point_at_it)
{
	return &seen;
}
CREW_TASK(long, span, (size_t, begin), (size_t, end))
{
	return (long)(end - begin);
}

/* ---- handles ---- */

TEST(locks_that_were_never_made_are_ehandle)
{
	crew_barrier barrier = { { 0, 0 } };
	crew_semaphore semaphore = { { 0, 0 } };
	crew_rwlock rwlock = { { 0, 0 } };
	crew_event event = { { 0, 0 } };
	crew_condition condition = { { 0, 0 } };
	crew_lock lock = { { 0, 0 } };

	CHECK_EQ(crew_drop(barrier), CREW_EHANDLE);
	CHECK_EQ(crew_barrier_wait(barrier, 0), CREW_EHANDLE);
	CHECK_EQ(crew_barrier_abort(barrier), CREW_EHANDLE);
	CHECK_EQ(crew_barrier_reset(barrier), CREW_EHANDLE);
	CHECK_EQ(crew_barrier_parties(barrier), CREW_EHANDLE);
	CHECK_EQ(crew_barrier_waiting(barrier), CREW_EHANDLE);
	CHECK_EQ(crew_drop(semaphore), CREW_EHANDLE);
	CHECK_EQ(crew_semaphore_value(semaphore), CREW_EHANDLE);
	CHECK_EQ(crew_drop(rwlock), CREW_EHANDLE);
	CHECK_EQ(crew_acquire(rwlock), CREW_EHANDLE);
	CHECK_EQ(crew_release(rwlock), CREW_EHANDLE);
	CHECK_EQ(crew_handle_recover(rwlock), CREW_EHANDLE);
	CHECK_EQ(crew_drop(event), CREW_EHANDLE);
	CHECK_EQ(crew_event_clear(event), CREW_EHANDLE);
	CHECK_EQ(crew_drop(condition), CREW_EHANDLE);
	CHECK_EQ(crew_condition_notify(condition, 1), CREW_EHANDLE);
	CHECK_EQ(crew_condition_wait(condition, 0), CREW_EHANDLE);
	CHECK_EQ(crew_handle_recover(condition), CREW_EHANDLE);
	CHECK_EQ(crew_owner_of(lock).whose, CREW_NOBODYS);
	CHECK(!crew_barrier_broken(barrier) && !crew_event_is_set(event));
	CHECK_EQ(crew_mutex_acquire(NULL, 0), -EINVAL);
	CHECK_EQ(crew_mutex_release(NULL), -EINVAL);
}

/* A block whose lock is none is skipped, and the raise says why. */
TEST(a_block_with_a_lock_that_is_none_is_skipped)
{
	crew_lock none = { { 0, 0 } };
	crew_error error;
	bool ran = false;

	CREW_WITH (none)
		ran = true;
	CHECK(!ran && crew_caught(&error));
	CHECK_EQ(error.code, CREW_EHANDLE);
}

/* What a make failed with goes on to what is made of it. */
TEST(a_condition_over_a_lock_that_could_not_be_made_has_its_error)
{
	crew_rlock failed = { crew_semaphore_make(1, -1).handle };

	CHECK_EQ(crew_handle_error(crew_condition_make(failed)), -EINVAL);
}

/* The lock of a condition may be dropped before it: then it is good for nothing but to be dropped. */
TEST(a_condition_whose_lock_was_dropped_is_ehandle)
{
	crew_rlock lock = crew_rlock_make();
	crew_condition condition = crew_condition_make(lock);

	CHECK_EQ(crew_handle_error(condition), 0);
	CHECK_EQ(crew_drop(lock), 0);
	CHECK_EQ(crew_condition_wait(condition, 0), CREW_EHANDLE);
	CHECK_EQ(crew_condition_wait_for(condition, NULL, NULL, 0), CREW_EHANDLE);
	CHECK_EQ(crew_condition_notify(condition, 1), CREW_EHANDLE);
	CHECK_EQ(crew_drop(condition), 0);
}

TEST(a_semaphore_has_no_negative_bound)
{
	CHECK_EQ(crew_handle_error(crew_semaphore_make(1, -1)), -EINVAL);
}

TEST(shared_memory_that_was_never_made_is_ehandle)
{
	crew_value value = { { 0, 0 } };
	crew_array array = { { 0, 0 } };
	crew_block block = { { 0, 0 } };
	crew_shareable_list list = { { 0, 0 } };
	char name[4];
	size_t n = 5;

	CHECK_EQ(crew_handle_recover(value), CREW_EHANDLE);
	CHECK_EQ(crew_release(value), CREW_EHANDLE);
	CHECK_EQ(crew_release(array), CREW_EHANDLE);
	CHECK_EQ(crew_handle_recover(array), CREW_EHANDLE);
	CHECK(!crew_array_at(array, &n));
	CHECK_EQ(crew_block_name(block, name, sizeof name), CREW_EHANDLE);
	CHECK_EQ(crew_drop(list), CREW_EHANDLE);
	CHECK_EQ(crew_value_exchange(value, 1), 0);
	CHECK(!crew_value_cas(value, 0, 1));
	CHECK_EQ(crew_handle_error(crew_block_make(NULL, SIZE_MAX)), -EINVAL);
	CHECK_EQ(crew_handle_error(crew_block_make(".", 10)), -EINVAL);
}

TEST(small_integers_are_exchanged_and_compared)
{
	crew_value byte = crew_value_make(signed char, -1), word = crew_value_make(short, -2);

	CHECK_EQ(crew_value_exchange(byte, 3), -1);
	CHECK(crew_value_cas(byte, 3, -4) && !crew_value_cas(byte, 3, 5));
	CHECK_EQ(crew_value_load(byte), -4);
	CHECK_EQ(crew_value_exchange(word, 300), -2);
	CHECK(crew_value_cas(word, 300, -400) && !crew_value_cas(word, 300, 5));
	CHECK_EQ(crew_value_load(word), -400);
	CHECK_EQ(crew_drop(byte), 0);
	CHECK_EQ(crew_drop(word), 0);
}

/* A child that ends while it holds the lock of a value. */
TEST(a_value_whose_owner_died_is_recovered)
{
	crew_value value = crew_value_make(int, 1);
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0)
		_exit(crew_acquire(value) != 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(crew_acquire_within(value, 20000), -EOWNERDEAD);
	CHECK_EQ(crew_handle_recover(value), 0);
	CHECK_EQ(crew_release(value), 0);
	CHECK_EQ(crew_acquire(value), 0);
	CHECK_EQ(crew_release(value), 0);
	CHECK_EQ(crew_drop(value), 0);
}

/* ---- pipes and listeners ---- */

TEST(pipes_without_a_place_are_refused)
{
	crew_pipe end[2];
	crew_bytes bytes;
	crew_waitable thing;

	CHECK_EQ(crew_pipe_make(NULL, 0), -EINVAL);
	CHECK_EQ(crew_pipe_make(end, 0), 0);
	CHECK_EQ(crew_pipe_send_fd(end[0], -1, 0), -EBADF);
	CHECK_EQ(crew_pipe_recv(end[0], NULL, 1, 0), -EINVAL);
	CHECK_EQ(crew_pipe_recv_bytes(end[0], NULL, 0), -EINVAL);
	CHECK_EQ(crew_wait_ready(&thing, SIZE_MAX, 0), -EINVAL);
	crew_pipe_drop(end[0]);
	crew_pipe_drop(end[1]);
	CHECK_EQ(crew_pipe_send_fd(end[0], 0, 0), CREW_EHANDLE);
	CHECK_EQ(crew_pipe_recv_fd(end[0], 0), CREW_EHANDLE);
	CHECK_EQ(crew_pipe_recv_bytes(end[0], &bytes, 0), CREW_EHANDLE);
	CHECK_EQ(crew_pipe_next_size(end[0]), CREW_EHANDLE);
	CHECK_EQ(crew_pipe_skip(end[0]), CREW_EHANDLE);
}

TEST(a_listener_is_readable_when_somebody_knocks)
{
	crew_listener *l = crew_listener_open(NULL, crew_bytes_str("key"), NULL);
	struct pollfd knock = { crew_listener_fd(l), POLLIN, 0 };
	pid_t pid;
	int status;

	CHECK(l && knock.fd >= 0);
	CHECK_EQ(poll(&knock, 1, 0), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(crew_handle_error(crew_connect(crew_listener_address(l), crew_bytes_str("other"), 20000)) == 0);
	CHECK_EQ(poll(&knock, 1, 20000), 1);
	while (waitpid(pid, &status, WNOHANG) == 0) /* who does not know the key is told so, and never seen */
		CHECK_NE(crew_handle_error(crew_listener_accept(l, 10)), 0);
	CHECK_EQ(status, 0);
	CHECK_EQ(crew_listener_close(l), NULL);
	CHECK_EQ(crew_listener_fd(NULL), -EINVAL);
	CHECK_EQ(crew_listener_close(NULL), NULL);
	CHECK_EQ(crew_handle_error(crew_listener_accept(NULL, 0)), -EINVAL);
}

/* ---- children ---- */

static void check_refused(crew_process *p, int code)
{
	struct crew_status status;

	CHECK_EQ(crew_process_status(p, &status), code);
	CHECK_EQ(status.state, CREW_PROCESS_FAILED);
	CHECK_EQ(crew_process_error(p)->code, code);
	CHECK_EQ(crew_process_close(p), NULL);
}

TEST(a_thread_has_nothing_that_only_a_process_has)
{
	check_refused(crew_thread_start_with((.stdin_fd = CREW_DEVNULL), seven), -EINVAL);
	check_refused(crew_thread_start_with((.stdout_fd = CREW_PIPE), seven), -EINVAL);
	check_refused(crew_thread_start_with((.stderr_fd = 2), seven), -EINVAL);
	check_refused(crew_thread_start_with((.detach = true), seven), -EINVAL);
	check_refused(crew_thread_start_with((.max_memory = 1 << 30), seven), -EINVAL);
	check_refused(crew_thread_start_with((.max_cpu_s = 1), seven), -EINVAL);
	check_refused(crew_thread_start_with((.max_files = 10), seven), -EINVAL);
	check_refused(crew_thread_start_with((.cpus = "nowhere"), seven), -EINVAL);
	check_refused(crew_process_start_thread(NULL, NULL, NULL, 0), CREW_ENOTASK);
	check_refused(crew_process_start_thread(&add_crew_task, NULL, NULL, 0), -EINVAL);
	check_refused(crew_process_start_thread(&seven_crew_task, NULL, &(struct crew_start_options){ .reserved_ = 1 }, sizeof(struct crew_start_options)),
		      -EINVAL);
	check_refused(crew_thread_start_with((.nice = 41), seven), -EINVAL);
	check_refused(crew_thread_start_with((.stack_size = 1), seven), -EINVAL);
	check_refused(crew_thread_start_with((.stack_size = 1, .daemon = true), seven), -EINVAL);
}

TEST(a_child_with_impossible_options_is_not_started)
{
	check_refused(crew_start_with((.max_cpu_s = -1), seven), -EINVAL);
	check_refused(crew_start_with((.max_files = -1), seven), -EINVAL);
	check_refused(crew_start_with((.stdin_fd = -7), seven), -EINVAL);
	check_refused(crew_start_with((.cpus = "nowhere"), seven), -EINVAL);
	check_refused(crew_process_start(NULL, NULL, NULL, 0), CREW_ENOTASK);
	check_refused(crew_process_start(&add_crew_task, NULL, NULL, 0), -EINVAL);
	check_refused(crew_process_exec_with((.max_files = -1), ((char *[]){ "true", NULL })), -EINVAL);
	check_refused(crew_process_start_program(NULL, NULL, 0), -EINVAL);
	check_refused(crew_process_start_program((char *[]){ NULL }, NULL, 0), -EINVAL);
	check_refused(crew_process_start(&seven_crew_task, NULL, &(struct crew_start_options){ .reserved_ = 1 }, sizeof(struct crew_start_options)),
		      -EINVAL);
	check_refused(crew_start_with((.stdout_fd = 100000), seven), -EBADF);
	check_refused(crew_start(point_at_it), CREW_EPOINTER);
}

/* Of a later version, with something set that this one does not have. */
TEST(a_program_with_unknown_options_is_not_executed)
{
	struct {
		struct crew_exec_options known;
		long unknown;
	} later = { .unknown = 1 };

	check_refused(crew_process_start_program((char *[]){ "true", NULL }, &later.known, sizeof later), -EINVAL);
}

TEST(half_a_task_is_not_started)
{
	crew_task empty = seven_crew_task, old = seven_crew_task;

	empty.run = NULL;
	old.size = sizeof old - 1;
	check_refused(crew_process_start(&empty, NULL, NULL, 0), CREW_ENOTASK);
	check_refused(crew_process_start(&old, NULL, NULL, 0), CREW_ENOTASK);
	check_refused(crew_process_start_thread(&empty, NULL, NULL, 0), CREW_ENOTASK);
	check_refused(crew_process_start_thread(&old, NULL, NULL, 0), CREW_ENOTASK);
}

/* Without parameters there is nothing to be passed. */
TEST(a_task_without_parameters_needs_no_arguments)
{
	crew_process *p = crew_process_start(&seven_crew_task, NULL, NULL, 0), *thread = crew_process_start_thread(&seven_crew_task, NULL, NULL, 0);
	int y = 0;

	CHECK_EQ(crew_process_result(p, &y), 0);
	CHECK_EQ(y, 7);
	CHECK_EQ(crew_process_result(thread, &y), 0);
	CHECK_EQ(y, 7);
	crew_process_close(p), crew_process_close(thread);
}

TEST(a_result_needs_a_place_of_its_size)
{
	crew_process *p = crew_start(seven);
	int y = 1;

	CHECK_EQ(crew_process_take_result(p, NULL, sizeof y, CREW_TYPE_OF(int), CREW_FOREVER), CREW_ETYPE);
	CHECK_EQ(crew_process_take_result(p, &y, sizeof y - 1, CREW_TYPE_OF(int), CREW_FOREVER), CREW_ETYPE);
	CHECK_EQ(y, 1);
	CHECK_EQ(crew_process_take_result(p, &y, sizeof y, CREW_TYPE_OF(int), CREW_FOREVER), 0);
	CHECK_EQ(y, 7);
	crew_process_close(p);
}

/* The runner has called it before. */
TEST(crew_init_counts_once)
{
	CHECK_EQ(crew_init(-1, NULL), -EINVAL);
	CHECK_EQ(crew_init(1, NULL), -EINVAL);
	CHECK_EQ(crew_init(0, NULL), 0);
	CHECK_EQ(crew_init(1, (char *[]){ "another", NULL }), 0);
}

TEST(what_is_no_child_is_ehandle)
{
	CHECK_EQ(crew_process_status(NULL, NULL), CREW_EHANDLE);
	CHECK_EQ(crew_process_exitcode(NULL, NULL), CREW_EHANDLE);
	CHECK_EQ(crew_process_pipe(NULL, 0), CREW_EHANDLE);
	CHECK(!crew_process_daemon(NULL));
	CHECK(crew_process_name(NULL) != NULL);
	CHECK_EQ(crew_process_status(crew_process_current(), NULL), -EINVAL);
	CHECK_EQ(crew_process_exitcode(crew_process_current(), NULL), -EINVAL);
	CHECK_EQ(crew_process_pipe(crew_process_current(), -1), -EINVAL);
	CHECK_EQ(crew_set_start_method((enum crew_start)-1, true), -EINVAL);
}

TEST(signals_are_read_one_by_one)
{
	int fd = crew_signal_fd((int[]){ SIGUSR1, SIGUSR2 }, 2);

	CHECK(fd >= 0);
	CHECK_EQ(crew_signal_read(fd, 0), -ETIMEDOUT);
	CHECK_EQ(raise(SIGUSR2), 0);
	CHECK_EQ(crew_signal_read(fd, 20000), SIGUSR2);
	CHECK_EQ(close(fd), 0);
	CHECK(crew_signal_read(fd, 0) < 0);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* there are no signals in it */
	CHECK(fd >= 0);
	CHECK_EQ(crew_signal_read(fd, 0), -EINVAL);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(crew_signal_fd(NULL, 1), -EINVAL);
	CHECK_EQ(crew_signal_fd((int[]){ 1000 }, 1), -EINVAL);
	CHECK_EQ(crew_signal_fd((int[]){ SIGKILL }, 1), -EINVAL); /* which nobody will ever read */
	CHECK_EQ(crew_signal_fd((int[]){ SIGUSR1, SIGSTOP }, 2), -EINVAL);
}

/* ---- executors and pools ---- */

static void check_closed(crew_executor *ex, int code)
{
	CHECK_EQ(crew_executor_error(ex, NULL), code);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

TEST(workers_with_impossible_options_are_not_started)
{
	check_closed(crew_processes(.workers = 1, .grace_ms = -1), -EINVAL);
	check_closed(crew_processes(.workers = 1, .task_timeout_ms = -1), -EINVAL);
	check_closed(crew_processes(.workers = 1, .retries = -1), -EINVAL);
	check_closed(crew_processes(.workers = 1, .spares = -1), -EINVAL);
	check_closed(crew_processes(.workers = 1, .spares = 100000), -EINVAL);
	check_closed(crew_processes(.workers = 1, .start = (enum crew_start)99), -EINVAL);
	check_closed(crew_processes_open(&(struct crew_processes_options){ .reserved_ = 1 }, sizeof(struct crew_processes_options)), -EINVAL);
	check_closed(crew_threads(.workers = 1, .nice = 41), -EINVAL);
	check_closed(crew_threads(.workers = 1, .nice = -41), -EINVAL);
}

TEST(what_is_no_range_is_not_run)
{
	crew_executor *ex = crew_inline();
	struct span_crew_args none = { 0, 0 };
	void *parts = NULL;
	size_t count = 0;

	CHECK_EQ(crew_executor_for(ex, 10, NULL, &none, NULL, 0), CREW_ENOTASK);
	CHECK_EQ(crew_executor_for(ex, 10, &span_crew_task, NULL, NULL, 0), -EINVAL);
	CHECK_EQ(crew_executor_for(ex, 10, &seven_crew_task, &none, NULL, 0), CREW_ETYPE);
	CHECK_EQ(crew_executor_for(NULL, 10, &span_crew_task, &none, NULL, 0), CREW_EHANDLE);
	CHECK_EQ(crew_executor_for(ex, 10, &span_crew_task, &none, &(struct crew_for_options){ .timeout_ms = -1 }, sizeof(struct crew_for_options)),
		 -EINVAL);
	CHECK_EQ(crew_executor_reduce(ex, 10, &span_crew_task, &none, CREW_TYPE_OF(crew_bytes), &parts, &count), CREW_ETYPE);
	CHECK_EQ(crew_executor_reduce(ex, 10, &span_crew_task, &none, CREW_TYPE_OF(double), &parts, &count), CREW_ETYPE);
	CHECK_EQ(crew_executor_close(ex), NULL);
}

TEST(what_is_no_pool_is_ehandle)
{
	crew_future *f = crew_pool_apply_async_with((crew_pool *)NULL, (.chunksize = 1), seven);
	int out[2], y;

	CHECK_EQ(crew_future_error(f)->code, CREW_EHANDLE);
	crew_future_free(f);
	f = crew_pool_map_async((crew_pool *)NULL, seven, out, 2);
	CHECK_EQ(crew_future_error(f)->code, CREW_EHANDLE);
	crew_future_free(f);
	CHECK_EQ(crew_pool_apply((crew_pool *)NULL, &y, seven), CREW_ERAISED);
	CHECK_EQ(crew_pool_error(NULL, NULL), CREW_EHANDLE);
	CHECK_EQ(crew_pool_finish(NULL), CREW_EHANDLE);
	CHECK_EQ(crew_pool_terminate(NULL), CREW_EHANDLE);
	CHECK_EQ(crew_pool_join(NULL, 0), CREW_EHANDLE);
	CHECK_EQ(crew_pool_close(NULL), NULL);
}

TEST(a_pool_with_impossible_options_says_so)
{
	crew_pool *pool = crew_pool(-1);

	CHECK_EQ(crew_pool_error(pool, NULL), -EINVAL);
	CHECK_EQ(crew_pool_close(pool), NULL);
	pool = crew_threadpool(-1);
	CHECK_EQ(crew_pool_error(pool, NULL), -EINVAL);
	CHECK_EQ(crew_pool_close(pool), NULL);
}

static bool is_set(void *flag)
{
	return *(bool *)flag;
}
TEST(a_condition_is_waited_for_by_whoever_has_its_lock)
{
	crew_condition none = { { 0, 0 } }, condition = crew_condition_make((crew_rlock){ { 0, 0 } });
	bool flag = true;

	CHECK_EQ(crew_release(none), CREW_EHANDLE);
	CHECK_EQ(crew_condition_wait_for(none, is_set, &flag, 0), CREW_EHANDLE);
	CHECK_EQ(crew_condition_wait_for(condition, is_set, &flag, 0), -EPERM);
	CHECK_EQ(crew_acquire(condition), 0);
	CHECK_EQ(crew_condition_wait_for(condition, is_set, &flag, CREW_FOREVER), 0);
	flag = false;
	CHECK_EQ(crew_condition_wait_for(condition, is_set, &flag, 20), -ETIMEDOUT);
	CHECK_EQ(crew_release(condition), 0);
	CHECK_EQ(crew_drop(condition), 0);
}
