// Memory for secrets: zeroed when made, kept out of swap and core dumps, wiped before it is given back.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xvec {

// Overwrites memory in a way that the compiler may not remove.
void wipe(void* data, std::size_t size) noexcept;

enum class Locking {
  required,  // throws std::runtime_error if the memory cannot be locked
  if_possible,
};

// An array for the stack, not initialised, that is wiped when its scope ends.
template <class T, std::size_t kSize>
struct WipedArray {
  WipedArray() noexcept {}  // NOLINT: filling it costs more than most of its uses
  WipedArray(const WipedArray&) = delete;
  WipedArray& operator=(const WipedArray&) = delete;
  ~WipedArray() { wipe(values, sizeof values); }
  operator T*() noexcept { return values; }  // NOLINT: used as the array that it is
  T values[kSize];
};

class SecureBuffer {
 public:
  SecureBuffer() = default;
  explicit SecureBuffer(std::size_t size, Locking locking = Locking::required);
  SecureBuffer(SecureBuffer&&) noexcept;
  SecureBuffer& operator=(SecureBuffer&&) noexcept;
  SecureBuffer(const SecureBuffer&) = delete;
  SecureBuffer& operator=(const SecureBuffer&) = delete;
  ~SecureBuffer();

  [[nodiscard]] std::uint8_t* data() noexcept { return data_; }
  [[nodiscard]] const std::uint8_t* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  // Page-aligned, so also aligned for any vector type.
  template <class T>
  [[nodiscard]] T* as() noexcept {
    return reinterpret_cast<T*>(data_);
  }
  template <class T>
  [[nodiscard]] const T* as() const noexcept {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  void release() noexcept;
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace xvec
