// The only file with OpenMP in it.
#include "batch.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "xvec/dispatch.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace xvec {

namespace {

// libgomp's threads do not survive fork, and a parallel region in the child would wait for them for ever. A child of
// a process that had them works on one thread.
std::atomic<bool> used_threads{false};
std::atomic<bool> lost_threads{false};

void watch_forks() {
#if !defined(_WIN32)
  static const int registered = pthread_atfork(nullptr, nullptr, [] { lost_threads.store(used_threads.load()); });
  (void)registered;
#endif
}

int usable_threads(int requested, std::size_t blocks) {
  if (lost_threads.load()) return 1;
  const int wanted = requested > 0 ? requested : max_threads();
  return static_cast<int>(std::min<std::size_t>(static_cast<std::size_t>(wanted), std::max<std::size_t>(blocks, 1)));
}

void run_slice(std::size_t first, std::size_t last, std::size_t block, int threads,
               const std::function<void(std::size_t, std::size_t)>& body) {
  const auto blocks = static_cast<std::ptrdiff_t>((last - first + block - 1) / block);
  const auto run_block = [&](std::ptrdiff_t b) {
    const std::size_t begin = first + static_cast<std::size_t>(b) * block;
    body(begin, std::min(begin + block, last));
  };
  if (threads == 1 || blocks == 1) {
    for (std::ptrdiff_t b = 0; b < blocks; ++b) run_block(b);
    return;
  }
  watch_forks();
  used_threads.store(true);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (std::ptrdiff_t b = 0; b < blocks; ++b) run_block(b);
}

}  // namespace

int max_threads() { return omp_get_max_threads(); }

void run_batch(std::size_t count, std::size_t block, const Batch& batch,
               const std::function<void(std::size_t, std::size_t)>& body,
               const std::function<void(std::size_t, std::size_t)>& begin_slice) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kShort = std::chrono::milliseconds(25), kLong = std::chrono::milliseconds(100);
  const int threads = usable_threads(batch.threads, (count + block - 1) / block);
  const std::size_t least = block * static_cast<std::size_t>(threads);
  std::size_t slice = least;
  for (std::size_t done = 0; done < count;) {
    const std::size_t last = std::min(count, done + slice);
    const auto start = Clock::now();
    if (begin_slice) begin_slice(done, last);
    run_slice(done, last, block, threads, body);
    done = last;
    if (batch.progress && !batch.progress(done, count)) throw Interrupted();
    const auto took = Clock::now() - start;
    if (took < kShort) slice = std::max(std::min(2 * slice, kMaxSlice), least);
    if (took > kLong) slice = std::max(slice / 2, least);
  }
}

}  // namespace xvec
