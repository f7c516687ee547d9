// Whether a kernel computes correctly on this machine: a processor that claims instructions which it, its emulator or
// its microcode gets wrong must not produce ciphertexts or distances.
#pragma once

#include "kernel.h"

namespace xvec {

enum class Operation { product, decryptor, owner_encryptor, public_encryptor, affine_map, keccak };

// Runs one operation of a kernel for key_len = 1024 and compares every result with Integer's. True also if the kernel
// does not make the operation. Later calls remember. The run itself takes microseconds; the whole takes 0.1 ms for
// products, 0.4 for decryption, 1.2 for the owner's encryption and 1.5 for the public one, most of it in making the
// tables of a known key, by the code that makes everybody's, so that it is tested, too; the first run of any takes
// 0.2 ms more, until its code is loaded. Maps take 50 microseconds, the permutation five.
bool passes_self_test(const Kernel& kernel, Operation operation);

}  // namespace xvec
