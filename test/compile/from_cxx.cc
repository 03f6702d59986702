/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * from_cxx.cc: crew as a C++17 program uses it: functions, raw tasks, and typed tasks that a C file defines. Runs on every executor and
 * exits with the number of things that went wrong.
 */
#include <crew/crew.h>

#include "shared_task.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>

namespace
{

int reverse(crew_call *call)
{
	crew_bytes in = crew_call_args(call);
	std::string text(static_cast<const char *>(in.data), in.len);

	if (text.empty())
		return crew_call_raise(call, EINVAL, "nothing to %s", "reverse");
	std::reverse(text.begin(), text.end());
	return crew_call_return(call, text.data(), text.size());
}
CREW_RAW_TASK(reversed, reverse);

constexpr int bytes_type = CREW_TYPE(CREW_BYTES, sizeof(crew_bytes));
constexpr int long_type = CREW_TYPE(CREW_INTEGER, sizeof(long));

int failures = 0;

void check(bool holds, const char *sentence, crew_executor *ex)
{
	if (holds)
		return;
	failures++;
	std::printf("%s: FAILED on %s\n", sentence, crew_executor_name(ex));
}

void everything_on(crew_executor *ex)
{
	const struct {
		long a;
		int b;
	} factors = { 6, 7 };
	crew_bytes word = crew_bytes_str("crew"), empty = crew_bytes_make(nullptr, 0), drow = {};
	long answer = 0;

	crew_future *f = crew_executor_submit(ex, CREW_TASK_OF(reversed), &word, nullptr, 0);
	check(crew_future_take(f, &drow, sizeof drow, bytes_type, nullptr) == 0 &&
		      std::string(static_cast<char *>(drow.data), drow.len) == "werc",
	      "a raw task returns its bytes", ex);
	crew_bytes_free(drow);

	f = crew_executor_submit(ex, CREW_TASK_OF(reversed), &empty, nullptr, 0);
	check(crew_future_error(f)->code == EINVAL, "a raw task raises", ex);

	f = crew_executor_submit(ex, CREW_TASK_OF(product), &factors, nullptr, 0);
	check(crew_future_result(f, &answer, sizeof answer, long_type, CREW_FOREVER) == 0 && answer == 42,
	      "a task defined in C is submitted from C++", ex);

	crew_executor_close(ex);
}

} // namespace

int main()
{
	struct crew_threads_options threads = {};
	struct crew_processes_options processes = {};

	threads.workers = processes.workers = 2;
	everything_on(crew_inline_open());
	everything_on(crew_processes_open(&processes, sizeof processes));
	everything_on(crew_threads_open(&threads, sizeof threads));
	return failures;
}
