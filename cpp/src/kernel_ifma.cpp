// Everything that is compiled for AVX-512 IFMA, and nothing else: see ifma/lanes.h and ifma/ifma.h.
#include "ifma/affine.h"
#include "ifma/decrypt.h"
#include "ifma/ifma.h"
#include "ifma/keccak.h"
#include "ifma/owner.h"
#include "ifma/padic.h"
#include "ifma/padic1024.h"
#include "ifma/product.h"
#include "ifma/public.h"

namespace xvec::ifma {

void multiply(const MatrixModulus<4096>& modulus, const QueryMatrix<1024>& query, const std::uint8_t* in,
              std::uint8_t* out, std::size_t stride, std::size_t count) noexcept {
  multiply_rows<1024>(modulus, query, in, out, stride, count);
}
void multiply(const MatrixModulus<6144>& modulus, const QueryMatrix<1536>& query, const std::uint8_t* in,
              std::uint8_t* out, std::size_t stride, std::size_t count) noexcept {
  multiply_rows<1536>(modulus, query, in, out, stride, count);
}
void multiply(const MatrixModulus<8192>& modulus, const QueryMatrix<2048>& query, const std::uint8_t* in,
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

void build_windows(const PublicTables<1024>& tables, const WindowTable& table, const PublicElements<1024>& one,
                   const PublicElements<1024>& start) noexcept {
  build_public<1024>(tables, table, one, start);
}
void build_windows(const PublicTables<1536>& tables, const WindowTable& table, const PublicElements<1536>& one,
                   const PublicElements<1536>& start) noexcept {
  build_public<1536>(tables, table, one, start);
}
void build_windows(const PublicTables<2048>& tables, const WindowTable& table, const PublicElements<2048>& one,
                   const PublicElements<2048>& start) noexcept {
  build_public<2048>(tables, table, one, start);
}

void encrypt_public_vartime(const PublicTables<1024>& tables, const std::uint64_t* const* m,
                            const std::uint64_t* const* r, std::uint8_t* out, std::size_t stride) noexcept {
  encrypt_block_vartime<1024>(tables, m, r, out, stride);
}
void encrypt_public_vartime(const PublicTables<1536>& tables, const std::uint64_t* const* m,
                            const std::uint64_t* const* r, std::uint8_t* out, std::size_t stride) noexcept {
  encrypt_block_vartime<1536>(tables, m, r, out, stride);
}
void encrypt_public_vartime(const PublicTables<2048>& tables, const std::uint64_t* const* m,
                            const std::uint64_t* const* r, std::uint8_t* out, std::size_t stride) noexcept {
  encrypt_block_vartime<2048>(tables, m, r, out, stride);
}

void build_windows(const DigitModulus<20>& modulus, const WindowTable& table, const FactoredElements<20>& one,
                   const FactoredElements<20>& start) noexcept {
  build_owner<1024>(modulus, table, one, start);
}
void build_windows(const DigitModulus<30>& modulus, const WindowTable& table, const FactoredElements<30>& one,
                   const FactoredElements<30>& start) noexcept {
  build_owner<1536>(modulus, table, one, start);
}
void build_windows(const DigitModulus<40>& modulus, const WindowTable& table, const FactoredElements<40>& one,
                   const FactoredElements<40>& start) noexcept {
  build_owner<2048>(modulus, table, one, start);
}

void encrypt_owner_vartime(const OwnerTables<1024>& tables, const OwnerItems& items, std::uint8_t* out,
                           std::size_t stride) noexcept {
  encrypt_items_vartime<1024>(tables, items, out, stride);
}
void encrypt_owner_vartime(const OwnerTables<1536>& tables, const OwnerItems& items, std::uint8_t* out,
                           std::size_t stride) noexcept {
  encrypt_items_vartime<1536>(tables, items, out, stride);
}
void encrypt_owner_vartime(const OwnerTables<2048>& tables, const OwnerItems& items, std::uint8_t* out,
                           std::size_t stride) noexcept {
  encrypt_items_vartime<2048>(tables, items, out, stride);
}

void map(const AffineTables<1024, 1>& tables, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept {
  map_rows(tables, y, x, f, count);
}
void map(const AffineTables<1024, 2>& tables, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept {
  map_rows(tables, y, x, f, count);
}
void map(const AffineTables<1536, 1>& tables, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept {
  map_rows(tables, y, x, f, count);
}
void map(const AffineTables<1536, 2>& tables, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept {
  map_rows(tables, y, x, f, count);
}
void map(const AffineTables<2048, 1>& tables, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept {
  map_rows(tables, y, x, f, count);
}
void map(const AffineTables<2048, 2>& tables, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept {
  map_rows(tables, y, x, f, count);
}

void permute(std::uint64_t* states) noexcept { permute_states(states); }

}  // namespace xvec::ifma
