#include "xvec/dispatch.h"

#include <cstdlib>

#include "kernel.h"

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

std::unique_ptr<ProductModulus> make_product(const Kernel& kernel, const Integer& modulus, std::size_t width) {
  if (kernel.product != nullptr) {
    if (auto made = kernel.product(modulus, width)) return made;
  }
  return kPortable.product(modulus, width);
}

std::unique_ptr<Decryptor> make_decryptor(const Kernel& kernel, const DecryptionKey& key) {
  if (kernel.decryptor != nullptr) {
    if (auto made = kernel.decryptor(key)) return made;
  }
  return kPortable.decryptor(key);
}

std::unique_ptr<OwnerEncryptor> make_owner_encryptor(const Kernel& kernel, const OwnerKey& key) {
  if (kernel.owner_encryptor != nullptr) {
    if (auto made = kernel.owner_encryptor(key)) return made;
  }
  return kPortable.owner_encryptor(key);
}

std::unique_ptr<PublicEncryptor> make_public_encryptor(const Kernel& kernel, const PublicEncryptionKey& key) {
  if (kernel.public_encryptor != nullptr) {
    if (auto made = kernel.public_encryptor(key)) return made;
  }
  return kPortable.public_encryptor(key);
}

}  // namespace xvec
