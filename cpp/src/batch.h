// Runs a batch over threads, in slices between which the caller may report progress or stop.
#pragma once

#include <cstddef>
#include <functional>

#include "xvec/hamming.h"

namespace xvec {

// Calls body(first, last) for blocks of at most `block` items that cover [0, count), from several threads; body must
// not throw. Before each slice, begin_slice(first, last) runs on the calling thread, if given; items of a slice are
// at most kMaxSlice. Throws Interrupted when batch.progress returns false.
void run_batch(std::size_t count, std::size_t block, const Batch& batch,
               const std::function<void(std::size_t, std::size_t)>& body,
               const std::function<void(std::size_t, std::size_t)>& begin_slice = {});

inline constexpr std::size_t kMaxSlice = std::size_t{1} << 14;

}  // namespace xvec
