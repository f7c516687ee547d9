// The IFMA kernel's operations; each returns null for sizes that it does not make.
#pragma once

#include <memory>

#include "kernel.h"

namespace xvec::ifma {

// make<KeyLen>() for the sizes that the kernel makes; null for others.
template <class Made, class Make>
std::unique_ptr<Made> of_key_len(std::size_t key_len, Make make) {
  switch (key_len) {
    case 1024:
      return make.template operator()<1024>();
    case 1536:
      return make.template operator()<1536>();
    case 2048:
      return make.template operator()<2048>();
    default:
      return nullptr;
  }
}

std::unique_ptr<ProductModulus> make_product(const Integer& modulus, std::size_t width);
std::unique_ptr<Decryptor> make_decryptor(const DecryptionKey& key);
std::unique_ptr<OwnerEncryptor> make_owner_encryptor(const OwnerKey& key);
std::unique_ptr<PublicEncryptor> make_public_encryptor(const PublicEncryptionKey& key);
std::unique_ptr<AffineMap> make_affine_map(const AffineMapKey& key);
extern const Keccak kKeccak8;

}  // namespace xvec::ifma
