// The public classes with the kernel and the random source chosen by the caller: for tests and benchmarks.
#pragma once

#include <memory>

#include "kernel.h"
#include "random.h"
#include "record_masks.h"
#include "xvec/hamming.h"
#include "xvec/multiset_hash.h"

namespace xvec::detail {

HammingEncryptor make_encryptor(const SecretKey& key, std::size_t dimensions, const Kernel& kernel);
HammingEncryptor make_encryptor(const PublicKey& key, std::size_t dimensions, std::size_t alpha_len,
                                const Kernel& kernel);
// The bytes depend on what `source` gives, never on the kernel, the number of threads or the slices.
void encrypt(const HammingEncryptor& encryptor, std::span<const std::uint8_t> bits, std::span<std::uint8_t> out,
             const Batch& batch, RandomSource& source);
void encrypt_records(const HammingEncryptor& encryptor, std::span<const std::uint8_t> bits,
                     std::span<const std::uint8_t> nonces, const RecordKey& key, MaskUse use,
                     std::span<std::uint8_t> out, const Batch& batch, RandomSource& source);

HammingDecoder make_decoder(const SecretKey& key, std::size_t dimensions, Schedule schedule, const Kernel& kernel);
Multiplier make_multiplier(const Number& n_squared, const Kernel& kernel);
MultisetHash make_multiset_hash(std::span<const std::uint8_t> key, const Kernel& kernel);

}  // namespace xvec::detail
