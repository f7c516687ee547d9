// Encrypted Hamming distances in one program: the key's owner encrypts, somebody without the key multiplies,
// the owner reads the distances.
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <vector>

#include "xvec/dispatch.h"
#include "xvec/hamming.h"
#include "xvec/paillier.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

// What a server does. It sees the public modulus and ciphertexts, nothing else.
Bytes multiply(const xvec::Number& n_squared, const Bytes& query, const Bytes& rows) {
  const xvec::Multiplier multiplier(n_squared);
  Bytes products(rows.size());
  multiplier.products(query, rows, products);
  return products;
}

}  // namespace

int main() try {
  constexpr std::size_t dimensions = 8;
  const Bytes query = {1, 0, 1, 0, 1, 0, 1, 0};
  const Bytes vectors = {
      1, 0, 1, 0, 1, 0, 1, 0,  // the query itself
      1, 1, 1, 0, 1, 0, 0, 1,  // three bits differ
      0, 1, 0, 1, 0, 1, 0, 1,  // all bits differ
  };
  const std::size_t count = vectors.size() / dimensions;

  const auto key = xvec::SecretKey::generate(1024);
  const xvec::HammingEncryptor encryptor(key, dimensions);
  const std::size_t row = encryptor.chunks() * encryptor.width();
  Bytes encrypted_query(row);
  Bytes encrypted_vectors(count * row);
  encryptor.encrypt(query, encrypted_query);
  encryptor.encrypt(vectors, encrypted_vectors);

  const Bytes products = multiply(key.public_key().n_squared(), encrypted_query, encrypted_vectors);

  const xvec::HammingDecoder decoder(key, dimensions);
  std::vector<std::int32_t> distances(count);
  decoder.decode(products, distances);

  std::cout << "kernel: " << xvec::kernel() << "\ndistances:";
  for (const auto distance : distances) std::cout << ' ' << distance;
  std::cout << '\n';
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
