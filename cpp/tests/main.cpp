// Runs the tests and names what they ran on. An environment and not a line in main(), so that listing the
// tests prints nothing else.
#include <gtest/gtest.h>

#include <iostream>

#include "xvec/dispatch.h"

namespace {

class Header : public testing::Environment {
 public:
  void SetUp() override { std::cout << "kernel: " << xvec::kernel() << ", threads: " << xvec::max_threads() << '\n'; }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new Header);  // owned by GoogleTest
  return RUN_ALL_TESTS();
}
