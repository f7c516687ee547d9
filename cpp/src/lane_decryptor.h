// Decryption by kernels that work on blocks of lanes: what is the same for all of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "exponent_schedule.h"
#include "kernel.h"
#include "secure_memory.h"

namespace xvec {

// The steps of an ExponentSchedule; the caller wipes them. exponent > 0.
std::vector<std::uint8_t> exponent_steps(const Integer& exponent, Schedule schedule);

// Lanes: the kernel, with
//   key_len, block           bits of p, and items of a block
//   Tables                   plain data, filled by static void fill(Tables&, const DecryptionKey&)
//   static void decrypt(const Tables&, const ExponentSchedule&, in, stride, plain, valid, count) noexcept
//                            as Decryptor::run, for whole blocks
template <class Lanes>
class LaneDecryptor final : public Decryptor {
 public:
  explicit LaneDecryptor(const DecryptionKey& key) {
    std::vector<std::uint8_t> steps = exponent_steps(key.exponent, key.schedule);
    memory_ = SecureBuffer(sizeof(Tables) + steps.size());
    Lanes::fill(*memory_.as<Tables>(), key);
    std::uint8_t* own_steps = memory_.data() + sizeof(Tables);
    std::memcpy(own_steps, steps.data(), steps.size());
    exponent_ = {own_steps, steps.size(), key.schedule == Schedule::constant};
    wipe(steps.data(), steps.size());
  }

  // Null if the key is not of this size.
  static std::unique_ptr<Decryptor> make(const DecryptionKey& key) {
    if (!key.p.is_odd() || key.exponent.is_zero() || key.p.bits() != Lanes::key_len || key.width != kWidth) {
      return nullptr;
    }
    return std::make_unique<LaneDecryptor>(key);
  }

  void run(const std::uint8_t* in, std::size_t stride, std::uint64_t* plain, std::uint8_t* valid,
           std::size_t count) const noexcept override {
    constexpr std::size_t kWords = Lanes::key_len / 64, kBlock = Lanes::block;
    const auto& tables = *memory_.as<Tables>();
    const std::size_t whole = count / kBlock * kBlock, rest = count - whole;
    if (whole > 0) Lanes::decrypt(tables, exponent_, in, stride, plain, valid, whole);
    if (rest == 0) return;
    // The last rows in a block that is filled up with zeros.
    std::uint8_t rows[kBlock * kWidth] = {};
    std::uint64_t last_plain[kBlock * kWords];
    std::uint8_t last_valid[kBlock];
    for (std::size_t i = 0; i < rest; ++i) std::memcpy(rows + i * kWidth, in + (whole + i) * stride, kWidth);
    Lanes::decrypt(tables, exponent_, rows, kWidth, last_plain, last_valid, kBlock);
    std::memcpy(plain + whole * kWords, last_plain, rest * kWords * sizeof(std::uint64_t));
    std::memcpy(valid + whole, last_valid, rest);
    wipe(last_plain, sizeof last_plain);
  }

 private:
  using Tables = typename Lanes::Tables;
  static constexpr std::size_t kWidth = 4 * Lanes::key_len / 8;
  SecureBuffer memory_;
  ExponentSchedule exponent_;
};

}  // namespace xvec
