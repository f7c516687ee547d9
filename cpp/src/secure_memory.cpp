#include "secure_memory.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace xvec {

void wipe(void* data, std::size_t size) noexcept {
  if (size == 0) return;
  std::memset(data, 0, size);
  // Tells the compiler that the zeros are read.
#if defined(__GNUC__)
  __asm__ __volatile__("" : : "r"(data) : "memory");
#else
  volatile auto* bytes = static_cast<volatile std::uint8_t*>(data);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = 0;
#endif
}

namespace {

constexpr const char* kCannotLock =
    "cannot lock memory for a secret key: raise the limit of locked memory (ulimit -l, LimitMEMLOCK=, "
    "RLIMIT_MEMLOCK)";

#if defined(_WIN32)

std::size_t page_size() {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwPageSize;
}

std::uint8_t* allocate(std::size_t size, Locking locking) {
  void* data = VirtualAlloc(nullptr, size, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
  if (data == nullptr) throw std::bad_alloc();
  if (VirtualLock(data, size) == 0 && locking == Locking::required) {
    VirtualFree(data, 0, MEM_RELEASE);
    throw std::runtime_error(kCannotLock);
  }
  return static_cast<std::uint8_t*>(data);
}

void deallocate(std::uint8_t* data, std::size_t) noexcept { VirtualFree(data, 0, MEM_RELEASE); }

#else

std::size_t page_size() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

std::uint8_t* allocate(std::size_t size, Locking locking) {
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  if (mlock(data, size) != 0 && locking == Locking::required) {
    const std::string reason = std::strerror(errno);
    munmap(data, size);
    throw std::runtime_error(std::string(kCannotLock) + ": " + reason);
  }
#if defined(MADV_DONTDUMP)
  madvise(data, size, MADV_DONTDUMP);
#endif
  return static_cast<std::uint8_t*>(data);
}

void deallocate(std::uint8_t* data, std::size_t size) noexcept { munmap(data, size); }

#endif

}  // namespace

SecureBuffer::SecureBuffer(std::size_t size, Locking locking) {
  if (size == 0) return;
  const std::size_t page = page_size();
  const std::size_t rounded = (size + page - 1) / page * page;
  data_ = allocate(rounded, locking);
  size_ = rounded;
}

SecureBuffer::SecureBuffer(SecureBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

SecureBuffer& SecureBuffer::operator=(SecureBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

SecureBuffer::~SecureBuffer() { release(); }

void SecureBuffer::release() noexcept {
  if (data_ == nullptr) return;
  wipe(data_, size_);
  deallocate(data_, size_);
}

}  // namespace xvec
