/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * asio_pool.cc: Boost.Asio's thread_pool. A task is posted; the future is a C++20 atomic that is waited on, which costs
 * less than the std::future that Asio offers (two allocations and a mutex more).
 */
#include "peer.h"

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>

struct peer_future {
	peer_task_fn *fn;
	long x;
	std::atomic<bool> done{ false };
};

namespace
{
std::unique_ptr<boost::asio::thread_pool> pool;

void open_pool(int workers)
{
	pool = std::make_unique<boost::asio::thread_pool>(workers);
}

void close_pool()
{
	pool->join();
	pool.reset();
}

peer_future *submit(peer_task_fn *fn, long x)
{
	auto f = new peer_future;

	f->fn = fn;
	f->x = x;
	boost::asio::post(*pool, [f] {
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
} // namespace

const struct peer peer = { "Boost.Asio", open_pool, close_pool, 1, submit, take, nullptr, nullptr, nullptr };
