#include "xvec/dispatch.h"

#include <cstdlib>

#include "kernel.h"
#include "self_test.h"

namespace xvec {

#if XVEC_KERNEL_IFMA
extern const Kernel kIfma;
#endif
#if XVEC_KERNEL_AVX2
extern const Kernel kAvx2;
#endif

namespace {

constexpr const Kernel* kAll[] = {
#if XVEC_KERNEL_IFMA
    &kIfma,
#endif
#if XVEC_KERNEL_AVX2
    &kAvx2,
#endif
    &kPortable,
};

const Kernel& choose() {
  const char* wanted = std::getenv("XTRACE_KERNEL");
  if (wanted == nullptr || *wanted == '\0') {
    for (const Kernel* kernel : kAll) {
      if (kernel->runs_here()) return *kernel;
    }
  }
  for (const Kernel* kernel : kAll) {
    if (wanted != nullptr && kernel->name == std::string(wanted) && kernel->runs_here()) return *kernel;
  }
  std::string names;
  for (const std::string& name : kernels()) names += (names.empty() ? "" : ", ") + name;
  throw KernelUnavailable("XTRACE_KERNEL=" + std::string(wanted == nullptr ? "" : wanted) +
                          " does not run here; this machine can run: " + names);
}

}  // namespace

std::span<const Kernel* const> all_kernels() { return kAll; }

const Kernel& active_kernel() {
  static const Kernel& chosen = choose();
  return chosen;
}

std::vector<std::string> kernels() {
  std::vector<std::string> names;
  for (const Kernel* kernel : kAll) {
    if (kernel->runs_here()) names.emplace_back(kernel->name);
  }
  return names;
}

std::string kernel() { return active_kernel().name; }

namespace {

void require_self_test(const Kernel& kernel, Operation operation) {
  if (!passes_self_test(kernel, operation)) {
    throw KernelUnavailable(std::string("the kernel ") + kernel.name +
                            " computes wrong results on this machine; set XTRACE_KERNEL=portable");
  }
}

// What `kernel` makes, once it has shown that it computes correctly here; what the portable kernel makes if it does not
// do this operation or size. `maker` is the operation's member of the table.
template <class Maker, class... Arguments>
auto make(const Kernel& kernel, Operation operation, Maker Kernel::* maker, const Arguments&... arguments) {
  if (&kernel != &kPortable && kernel.*maker != nullptr) {
    if (auto made = (kernel.*maker)(arguments...)) {
      require_self_test(kernel, operation);
      return made;
    }
  }
  return (kPortable.*maker)(arguments...);
}

}  // namespace

std::unique_ptr<ProductModulus> make_product(const Kernel& kernel, const Integer& modulus, std::size_t width) {
  return make(kernel, Operation::product, &Kernel::product, modulus, width);
}

std::unique_ptr<Decryptor> make_decryptor(const Kernel& kernel, const DecryptionKey& key) {
  return make(kernel, Operation::decryptor, &Kernel::decryptor, key);
}

std::unique_ptr<OwnerEncryptor> make_owner_encryptor(const Kernel& kernel, const OwnerKey& key) {
  return make(kernel, Operation::owner_encryptor, &Kernel::owner_encryptor, key);
}

std::unique_ptr<PublicEncryptor> make_public_encryptor(const Kernel& kernel, const PublicEncryptionKey& key) {
  return make(kernel, Operation::public_encryptor, &Kernel::public_encryptor, key);
}

std::unique_ptr<AffineMap> make_affine_map(const Kernel& kernel, const AffineMapKey& key) {
  return make(kernel, Operation::affine_map, &Kernel::affine_map, key);
}

const Keccak& keccak_of(const Kernel& kernel) {
  if (kernel.keccak == nullptr) return kPortableKeccak;
  require_self_test(kernel, Operation::keccak);
  return *kernel.keccak;
}

}  // namespace xvec
