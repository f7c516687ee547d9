// Runs under valgrind: the portable kernel's decryption and owner's encryption branch on no secret and use none as an
// address. Secrets are marked as undefined, and valgrind reports every branch and address that depends on such memory.
// As a proof that it would, the schedule that depends on the key must be reported.
#include <sys/syscall.h>
#include <unistd.h>
#include <valgrind/memcheck.h>

#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "kernel.h"

// Everything in locked memory is secret: these take the place of the C library's functions, and note where it is.
namespace {
std::vector<std::pair<const void*, std::size_t>> locked;
}

extern "C" int mlock(const void* data, std::size_t size) noexcept {
  locked.emplace_back(data, size);
  return static_cast<int>(syscall(SYS_mlock, data, size));
}
extern "C" int munmap(void* data, std::size_t size) noexcept {
  std::erase_if(locked, [&](const auto& range) { return range.first == data; });
  return static_cast<int>(syscall(SYS_munmap, data, size));
}

namespace xvec {
namespace {

constexpr std::size_t kItems = 2;

void poison(std::vector<std::uint64_t>& secret) {
  (void)VALGRIND_MAKE_MEM_UNDEFINED(secret.data(), secret.size() * sizeof secret[0]);
}

// The number of reports while `run` works on `result`, with all locked memory poisoned.
template <class Run, class Result>
unsigned reports(const Run& run, const std::vector<Result>& result) {
  for (const auto& [data, size] : locked) (void)VALGRIND_MAKE_MEM_UNDEFINED(data, size);
  const unsigned before = VALGRIND_COUNT_ERRORS;
  run();
  const unsigned during = VALGRIND_COUNT_ERRORS - before;
  VALGRIND_DISABLE_ERROR_REPORTING;
  const bool depends = VALGRIND_CHECK_MEM_IS_DEFINED(result.data(), result.size() * sizeof result[0]) != 0;
  for (const auto& [data, size] : locked) (void)VALGRIND_MAKE_MEM_DEFINED(data, size);
  VALGRIND_ENABLE_ERROR_REPORTING;
  if (!depends) {
    std::puts("FAILED: the results do not depend on the secrets");
    std::exit(EXIT_FAILURE);
  }
  return during;
}

unsigned decryption(const Integer& p, Schedule schedule) {
  const std::size_t n = p.limbs(), width = (4 * p.bits() + 7) / 8;
  const Integer exponent = p >> (p.bits() - 45);
  const auto decryptor = kPortable.decryptor({p, exponent, p - Integer(12345), width, schedule});
  const std::vector<std::uint8_t> in(kItems * width, 0x5a);
  std::vector<std::uint64_t> plain(kItems * n);
  std::vector<std::uint8_t> valid(kItems);
  return reports([&] { decryptor->run(in.data(), width, plain.data(), valid.data(), kItems); }, plain);
}

unsigned encryption(const Integer& p) {
  const Integer q = p - Integer(2), order = p >> (p.bits() - 45);
  const std::size_t n = p.limbs(), width = (4 * p.bits() + 7) / 8;
  const auto encryptor = kPortable.owner_encryptor({p, q, order, order, 12345, p >> 1, q >> 1, width});
  std::vector<std::uint64_t> m(kItems * n, 77), r(kItems * order.limbs(), 0x123456789);
  poison(m);
  poison(r);
  std::vector<std::uint8_t> out(kItems * width);
  return reports([&] { encryptor->run(m.data(), m.data(), r.data(), r.data(), out.data(), width, kItems); }, out);
}

int run() {
  if (RUNNING_ON_VALGRIND == 0) {
    std::puts("FAILED: this needs valgrind");
    return EXIT_FAILURE;
  }
  bool good = true;
  const auto expect = [&](const char* what, std::size_t bits, unsigned found, bool wanted) {
    std::printf("%s, %zu bits: %u reports\n", what, bits, found);
    good = good && (found > 0) == wanted;
  };
  // Few limbs, whole numbers of the 16 limbs that tables are read by, and more than that.
  for (const std::size_t bits : {100u, 1024u, 1100u, 1536u}) {
    const Integer p = Integer::power_of_two(bits) - Integer(105);
    expect("decryption by a constant schedule", bits, decryption(p, Schedule::constant), false);
    expect("decryption by a schedule that depends on the key", bits, decryption(p, Schedule::vartime), true);
    expect("encryption", bits, encryption(p), false);
  }
  std::puts(good ? "passed" : "FAILED");
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace xvec

int main() { return xvec::run(); }
