// Runs a batch over threads, while the calling thread reports progress and may stop it.
#pragma once

#include <cstddef>
#include <functional>

#include "xvec/hamming.h"

namespace xvec {

// A range of items and the thread that works on it: 0, the caller, up to batch_workers() - 1.
struct Block {
  std::size_t first, last;
  std::size_t worker;
};

// Threads that run_batch uses for `count` items in blocks of `block`.
std::size_t batch_workers(std::size_t count, std::size_t block, const Batch& batch);

// Calls body for blocks of at most `block` items that cover [0, count); body must not throw. take, if given, runs
// before body on the same thread, one block at a time and in ascending order. Throws what take or batch.progress
// throws, and Interrupted when progress returns false; some blocks are then left undone.
void run_batch(std::size_t count, std::size_t block, const Batch& batch,
               const std::function<void(const Block&)>& body, const std::function<void(const Block&)>& take = {});

}  // namespace xvec
