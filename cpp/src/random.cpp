#include "random.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "secure_memory.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
// windows.h first
#include <bcrypt.h>
#elif defined(__APPLE__)
#include <sys/random.h>
#else
#include <sys/random.h>
#endif

namespace xvec {

namespace {

[[noreturn]] void fail(const char* reason) {
  throw std::runtime_error(std::string("the system's random generator failed: ") + reason);
}

class SystemRandom final : public RandomSource {
 public:
  void fill(std::span<std::uint8_t> out) override {
#if defined(_WIN32)
    if (BCryptGenRandom(nullptr, out.data(), static_cast<ULONG>(out.size()), BCRYPT_USE_SYSTEM_PREFERRED_RNG) < 0) {
      fail("BCryptGenRandom");
    }
#elif defined(__APPLE__)
    for (std::size_t done = 0; done < out.size(); done += 256) {
      if (getentropy(out.data() + done, std::min<std::size_t>(256, out.size() - done)) != 0)
        fail(std::strerror(errno));
    }
#else
    for (std::size_t done = 0; done < out.size();) {
      const ssize_t got = getrandom(out.data() + done, out.size() - done, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) fail(std::strerror(errno));
      done += static_cast<std::size_t>(got);
    }
#endif
  }
};

}  // namespace

RandomSource& system_random() {
  static SystemRandom source;
  return source;
}

Integer random_bits(RandomSource& source, std::size_t bits) {
  std::vector<std::uint8_t> bytes((bits + 7) / 8);
  source.fill(bytes);
  if (bits % 8 != 0) bytes.back() &= static_cast<std::uint8_t>((1u << (bits % 8)) - 1);
  Integer r = Integer::from_bytes(bytes);
  wipe(bytes.data(), bytes.size());
  return r;
}

Integer random_below(RandomSource& source, const Integer& bound) {
  for (;;) {
    Integer r = random_bits(source, bound.bits());
    if (r < bound) return r;
  }
}

}  // namespace xvec
