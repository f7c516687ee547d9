// The IFMA kernel's operations; each returns null for sizes that it does not make.
#pragma once

#include <memory>

#include "kernel.h"

namespace xvec::ifma {

std::unique_ptr<ProductModulus> make_product(const Integer& modulus, std::size_t width);
std::unique_ptr<Decryptor> make_decryptor(const DecryptionKey& key);
std::unique_ptr<OwnerEncryptor> make_owner_encryptor(const OwnerKey& key);
std::unique_ptr<PublicEncryptor> make_public_encryptor(const PublicEncryptionKey& key);
std::unique_ptr<AffineMap> make_affine_map(const AffineMapKey& key);
extern const Keccak kKeccak8;

}  // namespace xvec::ifma
