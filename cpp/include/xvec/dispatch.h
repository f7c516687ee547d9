// Which kernels exist, which one runs.
//
// A kernel is one implementation of the four hot operations (product modulo n², decryption, owner's and public
// encryption). The choice is made once, on first use: the fastest kernel that this machine can run, or the one
// that the environment variable XTRACE_KERNEL names.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace xvec {

// XTRACE_KERNEL names a kernel that does not exist or cannot run on this machine.
class KernelUnavailable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Names of the kernels that can run on this machine, fastest first. The last is always "portable".
std::vector<std::string> kernels();

// Name of the kernel in use. Throws KernelUnavailable.
std::string kernel();

// Number of threads that a call with threads = 0 uses.
int max_threads();

}  // namespace xvec
