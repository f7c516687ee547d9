// Runs under valgrind: the portable kernel's decryption and owner's encryption, and the whole way of records from bits
// to ciphertexts and from answers to distances, branch on no secret and use none as an address. Secrets are marked as
// undefined, and valgrind reports every branch and address that depends on such memory. As a proof that it would, the
// schedule that depends on the key must be reported.
#include <sys/syscall.h>
#include <unistd.h>
#include <valgrind/memcheck.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "hamming_internal.h"
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

using Bytes = std::vector<std::uint8_t>;

// The lowest bit of each byte, so that they are known to be bits.
void poison_bits(Bytes& bits) {
  const Bytes lowest(bits.size(), 1);
  (void)VALGRIND_SET_VBITS(bits.data(), lowest.data(), bits.size());
}

// Draws that are as secret as the keys.
class PoisonedRandom final : public RandomSource {
 public:
  void fill(std::span<std::uint8_t> out) override {
    for (auto& byte : out) byte = static_cast<std::uint8_t>(engine_());
    (void)VALGRIND_MAKE_MEM_UNDEFINED(out.data(), out.size());
  }

 private:
  std::mt19937 engine_{1};
};

// Records of a key, a writer and an owner: encrypted, multiplied, decoded. Whoever asks works on one thread.
struct RecordWork {
  RecordWork(const SecretKey& key, std::size_t dimensions)
      : owner(detail::make_encryptor(key, dimensions, kPortable)),
        decoder(detail::make_decoder(key, dimensions, Schedule::constant, kPortable)),
        bits(kItems * dimensions, 1),
        query(dimensions, 0),
        rows(kItems * owner.chunks() * owner.width()),
        asked(owner.chunks() * owner.width()) {}

  unsigned encrypt(const HammingEncryptor& encryptor) {
    poison_bits(bits);
    return reports(
        [&] {
          PoisonedRandom random;
          detail::encrypt_records(encryptor, bits, nonces, writer, MaskUse::record, rows, {1, {}}, random);
          detail::encrypt_records(encryptor, query, query_nonce, asker, MaskUse::query, asked, {1, {}}, random);
        },
        rows);
  }

  // Ciphertexts are known to everybody.
  void publish() {
    for (Bytes* known : {&rows, &asked}) (void)VALGRIND_MAKE_MEM_DEFINED(known->data(), known->size());
  }

  unsigned decode(const SecretKey& key) {
    publish();
    const Multiplier server = detail::make_multiplier(key.public_key().n_squared(), kPortable);
    Bytes answer(rows.size());
    server.products(asked, rows, answer);
    poison_bits(query);
    std::vector<std::int32_t> distances(kItems);
    return reports(
        [&] { decoder.decode_records(answer, nonces, writer, {query, query_nonce, asker}, distances, {1, {}}); },
        distances);
  }

  unsigned open() {
    publish();
    Bytes opened(bits.size());
    return reports([&] { decoder.open_records(rows, nonces, writer, opened, {1, {}}); }, opened);
  }

  HammingEncryptor owner;
  HammingDecoder decoder;
  RecordKey writer{Bytes(kRecordSecretSize, 1), 3, "a writer"}, asker{Bytes(kRecordSecretSize, 2), 4, ""};
  Bytes nonces = Bytes(kItems * kNonceSize, 7), query_nonce = Bytes(kNonceSize, 8), bits, query, rows, asked;
};

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
  for (const std::size_t key_len : {128u, 208u}) {  // bits are checked by eights
    const SecretKey key = SecretKey::generate(key_len, 0, Floors::waived);
    const Integer n = Integer::from_bytes(key.public_key().n());
    const PublicKey direct(key.public_key().n(), (n + Integer(1)).to_bytes(), key.public_key().g_n());
    // One prime, both, and several chunks.
    for (const std::size_t dimensions : {key_len / 2, key_len, 2 * key_len + 8}) {
      RecordWork work(key, dimensions);
      expect("records by a public key", dimensions,
             work.encrypt(detail::make_encryptor(direct, dimensions, 0, kPortable)), false);
      expect("records by the owner", dimensions, work.encrypt(work.owner), false);
      expect("distances", dimensions, work.decode(key), false);
      expect("vectors of records", dimensions, work.open(), false);
    }
  }
  std::puts(good ? "passed" : "FAILED");
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace xvec

int main() { return xvec::run(); }
