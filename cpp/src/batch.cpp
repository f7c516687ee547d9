// The only file with OpenMP in it.
#include "batch.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>

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

// One call of run_batch: hands out blocks until there are none or somebody asks to stop.
class Run {
 public:
  Run(std::size_t count, std::size_t block, const Batch& batch, const std::function<void(const Block&)>& body,
      const std::function<void(const Block&)>& take)
      : count_(count), block_(block), batch_(batch), body_(body), take_(take) {}

  void work(std::size_t worker) noexcept {
    auto reported = Clock::now();
    Block mine{0, 0, worker};
    while (next(mine)) {
      body_(mine);
      done_ += mine.last - mine.first;
      if (worker == 0 && Clock::now() - reported > kReportEvery) {
        report();
        reported = Clock::now();
      }
    }
  }

  void finish() {
    if (!failure_) report();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kReportEvery = std::chrono::milliseconds(50);

  bool next(Block& mine) noexcept {
    const std::lock_guard lock(mutex_);
    if (stop_ || taken_ == count_) return false;
    mine.first = taken_;
    mine.last = taken_ = std::min(taken_ + block_, count_);
    try {
      if (take_) take_(mine);
    } catch (...) {
      fail(std::current_exception());
      return false;
    }
    return true;
  }

  // Only the calling thread reports: it is the one that may run the caller's code.
  void report() noexcept {
    const std::size_t done = done_;
    if (!batch_.progress || done == told_) return;
    told_ = done;
    try {
      if (!batch_.progress(done, count_)) throw Interrupted();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      fail(std::current_exception());
    }
  }

  void fail(std::exception_ptr failure) noexcept {
    if (!failure_) failure_ = std::move(failure);
    stop_ = true;
  }

  const std::size_t count_, block_;
  const Batch& batch_;
  const std::function<void(const Block&)>&body_, &take_;
  std::atomic<std::size_t> done_{0};
  std::size_t told_ = 0;  // what progress was last told; the calling thread's
  std::mutex mutex_;      // guards what follows
  std::size_t taken_ = 0;
  bool stop_ = false;
  std::exception_ptr failure_;
};

}  // namespace

// When the system refuses a thread, libgomp ends the process: what nobody needs is not asked for.
constexpr int kMostThreads = 256;

int max_threads() { return omp_get_max_threads(); }

std::size_t batch_workers(std::size_t count, std::size_t block, const Batch& batch) {
  if (lost_threads.load()) return 1;
  const int wanted =
      batch.threads > 0 ? std::min(batch.threads, std::max(kMostThreads, max_threads())) : max_threads();
  return std::clamp<std::size_t>((count + block - 1) / block, 1, static_cast<std::size_t>(wanted));
}

void run_batch(std::size_t count, std::size_t block, const Batch& batch,
               const std::function<void(const Block&)>& body, const std::function<void(const Block&)>& take) {
  Run run(count, block, batch, body, take);
  const auto workers = static_cast<int>(batch_workers(count, block, batch));
  if (workers == 1) {
    run.work(0);
  } else {
    watch_forks();
    used_threads.store(true);
    // A region for the whole call rather than one for each slice of it: threads that wait for a region spin, which
    // on a busy machine keeps the others from finishing it.
#pragma omp parallel num_threads(workers)
    run.work(static_cast<std::size_t>(omp_get_thread_num()));
  }
  run.finish();
}

}  // namespace xvec
