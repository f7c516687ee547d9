// Everything that is compiled for AVX2, and nothing else: see ifma/lanes.h and avx2/avx2.h.
#include "avx2/avx2.h"
#include "avx2/decrypt.h"
#include "avx2/keccak.h"
#include "avx2/product.h"

namespace xvec::avx2 {

void multiply(const QueryMatrix<1024>& query, const std::uint8_t* in, std::uint8_t* out, std::size_t stride,
              std::size_t count) noexcept {
  multiply_rows(query, in, out, stride, count);
}
void multiply(const QueryMatrix<1536>& query, const std::uint8_t* in, std::uint8_t* out, std::size_t stride,
              std::size_t count) noexcept {
  multiply_rows(query, in, out, stride, count);
}
void multiply(const QueryMatrix<2048>& query, const std::uint8_t* in, std::uint8_t* out, std::size_t stride,
              std::size_t count) noexcept {
  multiply_rows(query, in, out, stride, count);
}

void decrypt(const DecryptionTables<1024>& tables, const ExponentSchedule& exponent, const std::uint8_t* in,
             std::size_t stride, std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept {
  decrypt_rows<1024>(tables, exponent, in, stride, plain, valid, count);
}
void decrypt(const DecryptionTables<1536>& tables, const ExponentSchedule& exponent, const std::uint8_t* in,
             std::size_t stride, std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept {
  decrypt_rows<1536>(tables, exponent, in, stride, plain, valid, count);
}
void decrypt(const DecryptionTables<2048>& tables, const ExponentSchedule& exponent, const std::uint8_t* in,
             std::size_t stride, std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept {
  decrypt_rows<2048>(tables, exponent, in, stride, plain, valid, count);
}

void permute(std::uint64_t* states) noexcept { permute_states(states); }

}  // namespace xvec::avx2
