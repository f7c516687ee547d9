// Every operation of every kernel that runs here, on one thread and on all, by Google Benchmark.
//
//   xvec_bench --benchmark_filter='decode/.*/1024' --benchmark_out=kernels.json
//
// Names: operation/kernel/key_len/threads. Each answer is checked before it is timed.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "hamming_internal.h"
#include "kernel.h"
#include "xvec/dispatch.h"

namespace {

using namespace xvec;
using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kRows = 512;

// One key, and one encrypted search under it whose distances are known.
struct Material {
  explicit Material(std::size_t key_len) : key(SecretKey::generate(key_len)), dimensions(key_len / 2) {
    const HammingEncryptor encryptor(key, dimensions);
    width = encryptor.width();
    bits.resize(kRows * dimensions);
    std::mt19937 engine(1);
    for (auto& bit : bits) bit = engine() & 1;
    stored.resize(kRows * width);
    encryptor.encrypt(bits, stored);
    query.assign(stored.begin(), stored.begin() + static_cast<std::ptrdiff_t>(width));
    products.resize(stored.size());
    Multiplier(key.public_key().n_squared()).products(query, stored, products);
    distances.resize(kRows);
    for (std::size_t i = 0; i < bits.size(); ++i) distances[i / dimensions] += bits[i] != bits[i % dimensions];
  }

  SecretKey key;
  std::size_t dimensions, width = 0;
  Bytes bits, stored, query, products;
  std::vector<std::int32_t> distances;
};

const Material& material(std::size_t key_len) {
  static std::map<std::size_t, Material> made;
  return made.try_emplace(key_len, key_len).first->second;
}

void require(bool right, const char* what) {
  if (!right) throw std::runtime_error(std::string("wrong answer: ") + what);
}

void finish(benchmark::State& state, std::size_t items) {
  state.counters["per_item"] = benchmark::Counter(
      static_cast<double>(items), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void product(benchmark::State& state, const Kernel& kernel, std::size_t key_len, int threads) {
  const Material& m = material(key_len);
  const Multiplier multiplier = detail::make_multiplier(m.key.public_key().n_squared(), kernel);
  Bytes out(m.stored.size());
  multiplier.products(m.query, m.stored, out, {.threads = threads});
  require(out == m.products, "product");
  for (auto _ : state) multiplier.products(m.query, m.stored, out, {.threads = threads});
  finish(state, kRows);
}

void decode(benchmark::State& state, const Kernel& kernel, std::size_t key_len, int threads, Schedule schedule) {
  const Material& m = material(key_len);
  const HammingDecoder decoder = detail::make_decoder(m.key, m.dimensions, schedule, kernel);
  std::vector<std::int32_t> distances(kRows);
  decoder.decode(m.products, distances, {.threads = threads});
  require(distances == m.distances, "decode");
  for (auto _ : state) decoder.decode(m.products, distances, {.threads = threads});
  finish(state, kRows);
}

void encrypt(benchmark::State& state, const Kernel& kernel, std::size_t key_len, int threads, bool owner) {
  const Material& m = material(key_len);
  const HammingEncryptor encryptor =
      owner ? detail::make_encryptor(m.key, m.dimensions, kernel)
            : detail::make_encryptor(m.key.public_key(), m.dimensions, m.key.alpha_len(), kernel);
  Bytes out(m.stored.size()), products(out.size());
  encryptor.encrypt(m.bits, out, {.threads = threads});
  Multiplier(m.key.public_key().n_squared()).products(m.query, out, products);
  std::vector<std::int32_t> distances(kRows);
  HammingDecoder(m.key, m.dimensions).decode(products, distances);
  require(distances == m.distances, "encrypt");
  for (auto _ : state) encryptor.encrypt(m.bits, out, {.threads = threads});
  finish(state, kRows);
}

void tables(benchmark::State& state, const Kernel& kernel, std::size_t key_len) {
  const Material& m = material(key_len);
  for (auto _ : state) benchmark::DoNotOptimize(detail::make_encryptor(m.key, m.dimensions, kernel));
  finish(state, 1);
}

template <typename Function, typename... Arguments>
benchmark::internal::Benchmark* add(const std::string& name, Function function, Arguments... arguments) {
  return benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { function(state, arguments...); })
      ->Unit(benchmark::kMillisecond);
}

void add_all(const Kernel& kernel, std::size_t key_len) {
  const auto name = [&](const char* operation) {
    return std::string(operation) + '/' + kernel.name + '/' + std::to_string(key_len);
  };
  add(name("tables"), tables, std::cref(kernel), key_len);
  const auto k = std::cref(kernel);
  for (const int threads : {1, 0}) {
    const std::string suffix = threads == 1 ? "/1" : "/all";
    for (auto* added : {add(name("product") + suffix, product, k, key_len, threads),
                        add(name("decode") + suffix, decode, k, key_len, threads, Schedule::constant),
                        add(name("decode_vartime") + suffix, decode, k, key_len, threads, Schedule::vartime),
                        add(name("encrypt_owner") + suffix, encrypt, k, key_len, threads, true),
                        add(name("encrypt_public") + suffix, encrypt, k, key_len, threads, false)}) {
      if (threads == 0) added->UseRealTime();  // one thread is timed by its CPU time: others disturb it less
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (const Kernel* kernel : all_kernels()) {
    if (!kernel->runs_here()) continue;
    for (const std::size_t key_len : {1024u, 1536u, 2048u}) add_all(*kernel, key_len);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return EXIT_FAILURE;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return EXIT_SUCCESS;
}
