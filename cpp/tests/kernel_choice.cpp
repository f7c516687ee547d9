// Prints the kernel that would run, or the reason why there is none. ctest runs it under several XTRACE_KERNEL,
// each in a fresh process because the choice is made once.
#include <exception>
#include <iostream>

#include "xvec/dispatch.h"

int main() {
  try {
    const auto name = xvec::kernel();
    std::cout << "kernel: " << name << '\n';
  } catch (const xvec::KernelUnavailable& error) {
    std::cout << "refused: " << error.what() << '\n';
  }
}
