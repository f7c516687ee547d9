// Whether a kernel computes correctly on this machine: a processor that claims instructions which it, its emulator or
// its microcode gets wrong must not produce ciphertexts or distances.
#pragma once

#include "kernel.h"

namespace xvec {

enum class Operation { product, decryptor, owner_encryptor, public_encryptor, affine_map, keccak };

// Runs one operation of a kernel for key_len = 1024 and compares every result with Integer's. True also if the kernel
// does not make the operation. Takes about half a millisecond for products and for decryption, two for the owner's
// encryption and three for the public one, most of it in making tables and GMP's answers; later calls remember.
bool passes_self_test(const Kernel& kernel, Operation operation);

}  // namespace xvec
