#include "record_masks.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "affine_map.h"
#include "shake256.h"

namespace xvec {

struct RecordKey::Impl {
  std::uint32_t epoch;
  std::size_t writer_size;
  SecureBuffer memory;  // the secret, then the writer's name

  [[nodiscard]] std::span<const std::uint8_t> secret() const { return {memory.data(), kRecordSecretSize}; }
  [[nodiscard]] std::span<const std::uint8_t> writer() const {
    return {memory.data() + kRecordSecretSize, writer_size};
  }
};

namespace {

std::unique_ptr<const RecordKey::Impl> make_impl(std::span<const std::uint8_t> secret, std::uint32_t epoch,
                                                 std::string_view writer) {
  if (secret.size() != kRecordSecretSize) {
    throw std::invalid_argument("secret: expected " + std::to_string(kRecordSecretSize) + " bytes");
  }
  if (writer.size() > kMaxWriterSize) {
    throw std::invalid_argument("writer: at most " + std::to_string(kMaxWriterSize) + " bytes");
  }
  auto impl = std::make_unique<RecordKey::Impl>(
      RecordKey::Impl{epoch, writer.size(), SecureBuffer(kRecordSecretSize + kMaxWriterSize)});
  std::memcpy(impl->memory.data(), secret.data(), secret.size());
  if (!writer.empty()) std::memcpy(impl->memory.data() + kRecordSecretSize, writer.data(), writer.size());
  return impl;
}

// The input of the function: every part behind its length in one byte.
class Parts {
 public:
  explicit Parts(std::uint8_t* at) : at_(at) {}
  void add(std::span<const std::uint8_t> bytes) {
    *at_++ = static_cast<std::uint8_t>(bytes.size());
    if (!bytes.empty()) std::memcpy(at_, bytes.data(), bytes.size());
    at_ += bytes.size();
  }
  void add(std::string_view text) { add({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}); }
  void add(std::uint32_t number) {
    std::uint8_t bytes[4];
    for (int i = 0; i < 4; ++i) bytes[i] = static_cast<std::uint8_t>(number >> 8 * i);
    add(bytes);
  }
  [[nodiscard]] std::uint8_t* end() const { return at_; }

 private:
  std::uint8_t* at_;
};

constexpr std::size_t kLongestInput = 7 + kRecordSecretSize + 5 + kMaxWriterSize + 3 * 4 + kNonceSize;
constexpr std::size_t kTail = 1 + 4 + 1 + kNonceSize;  // chunk and nonce

std::size_t write_input(std::uint8_t* to, const RecordKey& key, std::string_view label, std::size_t dimensions,
                        std::size_t chunk, std::span<const std::uint8_t> nonce) {
  Parts parts(to);
  parts.add(key.impl().secret());
  parts.add(label);
  parts.add(key.impl().epoch);
  parts.add(key.impl().writer());
  parts.add(static_cast<std::uint32_t>(dimensions));
  parts.add(static_cast<std::uint32_t>(chunk));
  parts.add(nonce);
  return static_cast<std::size_t>(parts.end() - to);
}

std::size_t mask_size(const Modulus& n) { return (n.bits() + 7) / 8 + 16; }

}  // namespace

RecordKey::RecordKey(std::span<const std::uint8_t> secret, std::uint32_t epoch, std::string_view writer)
    : impl_(make_impl(secret, epoch, writer)) {}
RecordKey::~RecordKey() = default;
RecordKey::RecordKey(RecordKey&&) noexcept = default;
RecordKey& RecordKey::operator=(RecordKey&&) noexcept = default;

RecordMasks::RecordMasks(const RecordKey& key, const Modulus& n, std::size_t dimensions, MaskUse use,
                         const Keccak& keccak)
    : keccak_(keccak),
      size_(mask_size(n)),
      length_(0),
      input_(kLongestInput),
      scale_memory_(n.limbs() * sizeof(Limb)) {
  static_assert(kRecordSecretSize < 256 && kMaxWriterSize < 256 && kNonceSize < 256);
  length_ = write_input(input_.data(), key, "scale", 0, 0, {});
  WipedArray<Limb, kMaxMaskLimbs> wide;
  const std::size_t limbs = (size_ + 7) / 8;
  wide[limbs - 1] = 0;
  shake256({reinterpret_cast<std::uint8_t*>(wide.values), size_}, {input_.data(), length_});
  reduce(scale_memory_.as<Limb>(), wide, limbs, n);
  const std::uint8_t no_nonce[kNonceSize] = {};
  length_ = write_input(input_.data(), key, use == MaskUse::record ? "vec" : "qry", dimensions, 0, no_nonce);
}

void RecordMasks::masks(Limb* out, const MaskedItems& items) const noexcept {
  WipedArray<std::uint8_t, kMaskGroup * kLongestInput> inputs;
  const std::size_t stride = AffineMap::f_stride(bits() + 1);
  for (std::size_t done = 0; done < items.count; done += kMaskGroup, out += kMaskGroup * stride) {
    const std::size_t count = std::min(kMaskGroup, items.count - done);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t item = items.first + done + i;
      std::uint8_t* input = inputs + i * length_;
      std::memcpy(input, input_.data(), length_ - kTail);
      Parts tail(input + (length_ - kTail));
      tail.add(static_cast<std::uint32_t>(item % items.chunks));
      tail.add({items.nonces + item / items.chunks * kNonceSize, kNonceSize});
      std::memset(out + i * stride + size_ / 8, 0, (stride - size_ / 8) * sizeof(Limb));
    }
    shake256(keccak_, reinterpret_cast<std::uint8_t*>(out), size_, stride * sizeof(Limb), {inputs, length_, count});
  }
}

}  // namespace xvec
