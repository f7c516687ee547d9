// The kernels' self-test: every kernel passes it, and one that computes a wrong bit does not.
#include "self_test.h"
#include "xvec/dispatch.h"

#include "kernel_test.h"

namespace xvec {
namespace {

class SelfTest : public testing::TestWithParam<const Kernel*> {};

TEST_P(SelfTest, Passes) {
  EXPECT_TRUE(passes_self_test(*GetParam(), Operation::product));
  EXPECT_TRUE(passes_self_test(*GetParam(), Operation::decryptor));
  EXPECT_TRUE(passes_self_test(*GetParam(), Operation::owner_encryptor));
  EXPECT_TRUE(passes_self_test(*GetParam(), Operation::public_encryptor));
  EXPECT_TRUE(passes_self_test(*GetParam(), Operation::affine_map));
  EXPECT_TRUE(passes_self_test(*GetParam(), Operation::keccak));
}

INSTANTIATE_TEST_SUITE_P(Kernels, SelfTest, testing::ValuesIn(test::kernels_here()), test::name_of);

// The portable kernel with one wrong bit in the last item of each operation.
class BrokenProduct final : public Product {
 public:
  explicit BrokenProduct(std::unique_ptr<Product> right) : right_(std::move(right)) {}
  void run(const std::uint8_t* in, std::uint8_t* out, std::size_t stride, std::size_t count) const noexcept override {
    right_->run(in, out, stride, count);
    out[(count - 1) * stride + 100] ^= 1;
  }

 private:
  std::unique_ptr<Product> right_;
};

class BrokenProductModulus final : public ProductModulus {
 public:
  explicit BrokenProductModulus(std::unique_ptr<ProductModulus> right) : right_(std::move(right)) {}
  [[nodiscard]] std::unique_ptr<Product> fix(const Integer& query) const override {
    return std::make_unique<BrokenProduct>(right_->fix(query));
  }

 private:
  std::unique_ptr<ProductModulus> right_;
};

class BrokenDecryptor final : public Decryptor {
 public:
  explicit BrokenDecryptor(std::unique_ptr<Decryptor> right) : right_(std::move(right)) {}
  void run(const std::uint8_t* in, std::size_t stride, std::uint64_t* plain, std::uint8_t* valid,
           std::size_t count) const noexcept override {
    right_->run(in, stride, plain, valid, count);
    plain[0] ^= 1;
  }

 private:
  std::unique_ptr<Decryptor> right_;
};

// Accepts every ciphertext.
class CredulousDecryptor final : public Decryptor {
 public:
  explicit CredulousDecryptor(std::unique_ptr<Decryptor> right) : right_(std::move(right)) {}
  void run(const std::uint8_t* in, std::size_t stride, std::uint64_t* plain, std::uint8_t* valid,
           std::size_t count) const noexcept override {
    right_->run(in, stride, plain, valid, count);
    std::fill(valid, valid + count, std::uint8_t{1});
  }

 private:
  std::unique_ptr<Decryptor> right_;
};

class BrokenOwnerEncryptor final : public OwnerEncryptor {
 public:
  explicit BrokenOwnerEncryptor(std::unique_ptr<OwnerEncryptor> right) : right_(std::move(right)) {}
  void run(const std::uint64_t* m_p, const std::uint64_t* m_q, const std::uint64_t* r_p, const std::uint64_t* r_q,
           std::uint8_t* out, std::size_t stride, std::size_t count) const noexcept override {
    right_->run(m_p, m_q, r_p, r_q, out, stride, count);
    out[3 * stride] ^= 1;
  }

 private:
  std::unique_ptr<OwnerEncryptor> right_;
};

class BrokenPublicEncryptor final : public PublicEncryptor {
 public:
  explicit BrokenPublicEncryptor(std::unique_ptr<PublicEncryptor> right) : right_(std::move(right)) {}
  void run(const std::uint64_t* m, const std::uint64_t* r, std::uint8_t* out, std::size_t stride,
           std::size_t count) const noexcept override {
    right_->run(m, r, out, stride, count);
    out[stride - 1] ^= 1;
  }

 private:
  std::unique_ptr<PublicEncryptor> right_;
};

class BrokenAffineMap final : public AffineMap {
 public:
  explicit BrokenAffineMap(std::unique_ptr<AffineMap> right) : right_(std::move(right)) {}
  void run(std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
           std::size_t count) const noexcept override {
    right_->run(y, x, f, count);
    y[16 * count - 1] ^= 1;
  }

 private:
  std::unique_ptr<AffineMap> right_;
};

// Two states of which the second comes out wrong.
const Keccak kBrokenKeccak{2, [](std::uint64_t* at) noexcept {
                             std::uint64_t one[25];
                             for (std::size_t i = 0; i < 2; ++i) {
                               for (std::size_t k = 0; k < 25; ++k) one[k] = at[2 * k + i];
                               kPortableKeccak.permute(one);
                               for (std::size_t k = 0; k < 25; ++k) at[2 * k + i] = one[k];
                             }
                             at[49] ^= 1;
                           }};

const Kernel kBroken{
    "broken",
    "",
    []() noexcept { return true; },
    [](const Integer& modulus, std::size_t width) -> std::unique_ptr<ProductModulus> {
      return std::make_unique<BrokenProductModulus>(kPortable.product(modulus, width));
    },
    [](const DecryptionKey& key) -> std::unique_ptr<Decryptor> {
      return std::make_unique<BrokenDecryptor>(kPortable.decryptor(key));
    },
    [](const OwnerKey& key) -> std::unique_ptr<OwnerEncryptor> {
      return std::make_unique<BrokenOwnerEncryptor>(kPortable.owner_encryptor(key));
    },
    [](const PublicEncryptionKey& key) -> std::unique_ptr<PublicEncryptor> {
      return std::make_unique<BrokenPublicEncryptor>(kPortable.public_encryptor(key));
    },
    [](const AffineMapKey& key) -> std::unique_ptr<AffineMap> {
      return std::make_unique<BrokenAffineMap>(kPortable.affine_map(key));
    },
    &kBrokenKeccak,
};

const Kernel kCredulous{
    "credulous",
    "",
    []() noexcept { return true; },
    nullptr,
    [](const DecryptionKey& key) -> std::unique_ptr<Decryptor> {
      return std::make_unique<CredulousDecryptor>(kPortable.decryptor(key));
    },
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

TEST(SelfTestOfBrokenKernels, Fails) {
  EXPECT_FALSE(passes_self_test(kBroken, Operation::product));
  EXPECT_FALSE(passes_self_test(kBroken, Operation::decryptor));
  EXPECT_FALSE(passes_self_test(kBroken, Operation::owner_encryptor));
  EXPECT_FALSE(passes_self_test(kBroken, Operation::public_encryptor));
  EXPECT_FALSE(passes_self_test(kBroken, Operation::affine_map));
  EXPECT_FALSE(passes_self_test(kBroken, Operation::keccak));
  EXPECT_FALSE(passes_self_test(kBroken, Operation::product)) << "the second time";
  EXPECT_FALSE(passes_self_test(kCredulous, Operation::decryptor));
}

TEST(SelfTestOfBrokenKernels, KeepsThemFromBeingUsed) {
  const Integer modulus = Integer::power_of_two(127) - Integer(1);
  EXPECT_THROW((void)make_product(kBroken, modulus, 16), KernelUnavailable);
  EXPECT_THROW((void)keccak_of(kBroken), KernelUnavailable);
  EXPECT_NE(make_product(kCredulous, modulus, 16), nullptr) << "the portable kernel's";
}

TEST(SelfTestOfBrokenKernels, IsNotFailedByWhatAKernelDoesNotMake) {
  EXPECT_TRUE(passes_self_test(kCredulous, Operation::product));
}

}  // namespace
}  // namespace xvec
