// The AVX2 kernel's operations; each returns null for sizes that it does not make.
#pragma once

#include <memory>

#include "kernel.h"

namespace xvec::avx2 {

std::unique_ptr<ProductModulus> make_product(const Integer& modulus, std::size_t width);
std::unique_ptr<Decryptor> make_decryptor(const DecryptionKey& key);
extern const Keccak kKeccak4;

}  // namespace xvec::avx2
