/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * raw_cxx.cpp: crew from C++: every function, and raw tasks. An exception must not leave a task: catch it
 * and raise it as an error.
 */
#include <crew/crew.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

static std::string shout(const std::string &text)
{
	if (text.empty())
		throw std::invalid_argument("nothing to shout");
	std::string loud;
	for (char c : text)
		loud += c >= 'a' && c <= 'z' ? char(c - 'a' + 'A') : c;
	return loud + "!";
}

static int shout_bytes(crew_call *call)
{
	crew_bytes in = crew_call_args(call);
	try {
		std::string loud = shout(std::string(static_cast<const char *>(in.data), in.len));
		return crew_call_return(call, loud.data(), loud.size());
	} catch (const std::exception &e) {
		return crew_call_raise(call, -1, "%s", e.what());
	}
}

CREW_RAW_TASK(shouted, shout_bytes);

/* A scope in C++ is a destructor. */
struct close_executor {
	void operator()(crew_executor *ex) const
	{
		crew_executor_close(ex);
	}
};

int main()
{
	std::unique_ptr<crew_executor, close_executor> ex(crew_threads_open(nullptr, 0));

	for (const char *text : { "hello", "" }) {
		crew_bytes in = crew_bytes_str(text), out;
		crew_future *f = crew_executor_submit(ex.get(), CREW_TASK_OF(shouted), &in, nullptr, 0);
		if (crew_future_result(f, &out, sizeof out, CREW_TYPE(CREW_BYTES, sizeof out),
				       CREW_FOREVER) == 0)
			std::printf("%.*s\n", int(out.len), static_cast<const char *>(out.data));
		else
			std::printf("%s\n", crew_future_error(f)->message);
	}
}
