// Everything that is compiled for AVX-512 IFMA, and nothing else: see ifma/lanes.h and ifma/ifma.h.
#include "ifma/decrypt.h"
#include "ifma/ifma.h"
#include "ifma/padic.h"
#include "ifma/padic1024.h"
#include "ifma/product.h"

namespace xvec::ifma {

void multiply(const MatrixModulus<1024>& modulus, const QueryMatrix<1024>& query, const std::uint8_t* in,
              std::uint8_t* out, std::size_t stride, std::size_t count) noexcept {
  multiply_rows<1024>(modulus, query, in, out, stride, count);
}
void multiply(const MatrixModulus<1536>& modulus, const QueryMatrix<1536>& query, const std::uint8_t* in,
              std::uint8_t* out, std::size_t stride, std::size_t count) noexcept {
  multiply_rows<1536>(modulus, query, in, out, stride, count);
}
void multiply(const MatrixModulus<2048>& modulus, const QueryMatrix<2048>& query, const std::uint8_t* in,
              std::uint8_t* out, std::size_t stride, std::size_t count) noexcept {
  multiply_rows<2048>(modulus, query, in, out, stride, count);
}

void decrypt(const WovenTables& tables, const ExponentSchedule& exponent, const std::uint8_t* in, std::size_t stride,
             std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept {
  decrypt_rows<Padic1024>(tables, exponent, in, stride, plain, valid, count);
}
void decrypt(const PadicTables<1536>& tables, const ExponentSchedule& exponent, const std::uint8_t* in,
             std::size_t stride, std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept {
  decrypt_rows<Padic<1536>>(tables, exponent, in, stride, plain, valid, count);
}
void decrypt(const PadicTables<2048>& tables, const ExponentSchedule& exponent, const std::uint8_t* in,
             std::size_t stride, std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept {
  decrypt_rows<Padic<2048>>(tables, exponent, in, stride, plain, valid, count);
}

}  // namespace xvec::ifma
