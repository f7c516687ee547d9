#include "xvec/dispatch.h"

#include <gtest/gtest.h>

#include <algorithm>

TEST(Dispatch, PortableIsAlwaysThereAndLast) {
  const auto names = xvec::kernels();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names.back(), "portable");
}

TEST(Dispatch, NamesAreUnique) {
  auto names = xvec::kernels();
  std::ranges::sort(names);
  EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
}

TEST(Dispatch, TheKernelInUseIsListed) {
  const auto names = xvec::kernels();
  EXPECT_NE(std::ranges::find(names, xvec::kernel()), names.end());
}

TEST(Dispatch, ThereIsAThread) { EXPECT_GE(xvec::max_threads(), 1); }
