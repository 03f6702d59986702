/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tbb_arena.cc: oneTBB. Tasks of an outside producer are enqueued in an arena that keeps no place for the
 * caller, and the future is a C++20 atomic that is waited on; oneTBB itself has none. Fork/join and loops run
 * in an arena where the caller has a place, as oneTBB means it.
 */
#include "peer.h"

#include <atomic>
#include <memory>
#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>

struct peer_future {
	peer_task_fn *fn;
	long x;
	std::atomic<bool> done{ false };
};

namespace
{
std::unique_ptr<tbb::global_control> control;
std::unique_ptr<tbb::task_arena> outside, inside;

void open_pool(int workers)
{
	control = std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism,
							workers + 1);
	outside = std::make_unique<tbb::task_arena>(workers, 0);
	inside = std::make_unique<tbb::task_arena>(workers, 1);
}

void close_pool()
{
	outside.reset();
	inside.reset();
	control.reset();
}

peer_future *submit(peer_task_fn *fn, long x)
{
	auto f = new peer_future;

	f->fn = fn;
	f->x = x;
	outside->enqueue([f] {
		f->x = f->fn(f->x);
		f->done.store(true, std::memory_order_release);
		f->done.notify_one();
	});
	return f;
}

long take(peer_future *f)
{
	long y;

	f->done.wait(false, std::memory_order_acquire);
	y = f->x;
	delete f;
	return y;
}

long fib_task(long n)
{
	long a, b;

	if (n < 2)
		return n;
	tbb::task_group group;
	group.run([&a, n] { a = fib_task(n - 1); });
	b = fib_task(n - 2);
	group.wait();
	return a + b;
}

long fib(long n)
{
	return inside->execute([n] { return fib_task(n); });
}

void scale(const double *in, double *out, size_t n)
{
	inside->execute([=] {
		tbb::parallel_for(tbb::blocked_range<size_t>(0, n),
				  [=](const tbb::blocked_range<size_t> &range) {
					  for (size_t i = range.begin(); i != range.end(); i++)
						  out[i] = in[i] * 1.5 + 2;
				  });
	});
}
} // namespace

const struct peer peer = { "oneTBB", open_pool, close_pool, 0, submit, take, fib, scale, nullptr };
