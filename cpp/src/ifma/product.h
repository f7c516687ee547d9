// A fixed linear map modulo N, applied to eight numbers at a time, and with it the server's product.
//
// Multiplication by a fixed query is linear: with x = sum of x_j B^j (B = 2^51) and rows
// T_j = query * B^j * B^2 mod N,
//
//     X = sum of x_j T_j = query * x * B^2 (mod N),     0 <= X < rows * B * N.
//
// Two Montgomery limbs m0, m1 < B make X + m0 N + m1 B N divisible by B^2. The quotient r = query * x (mod N) is
// below N (1 + rows / B), hence canonical up to one subtraction that practically never happens. That is one limb
// product for each entry of the matrix; Winograd's pairing (1968) halves them: in every column, with T_j's limb t_j,
//
//     sum x_2i t_2i + x_2i+1 t_2i+1 = sum (x_2i + t_2i+1)(x_2i+1 + t_2i) - sum x_2i x_2i+1 - sum t_2i t_2i+1.
//
// The second sum is the same for all columns, the third is the matrix's `correction`. Additions are free here: the
// processor starts one multiply-add and one other vector instruction in every cycle (design notes: docs/design.md).
//
// Bounds. x_j, t_j < 2^51, so factors are < 2^52 and nothing is cut off. `low` and `high` collect the low and the
// high 52 bits of the products of one column, at most rows/2 + 3 <= 85 of each: < 2^59. The corrections subtract at
// most rows/2 * (2^52 + 2 * 2^50) twice: > -2^60. Signed 64-bit lanes hold every column, and carries are arithmetic
// shifts. As high's weight is 2^52 = 2 B, column k is low_k + 2 high_{k-1}.
#pragma once

#include "ifma.h"
#include "lanes.h"

namespace xvec::ifma {
namespace {

// What one strip of columns hands to the next.
struct MatrixCarry {
  Lanes carry;
  Lanes high;  // of the column before
  Lanes quotient0, quotient1;
};

// m0 and m1, from the first two columns before reduction.
template <int Bits>
XVEC_INLINE void montgomery_quotients(MatrixCarry& state, const Lanes* low, const Lanes* high,
                                      const MatrixModulus<Bits>& modulus) {
  const Lanes mask = broadcast((std::uint64_t{1} << kMatrixBits) - 1);
  const Lanes inverse = broadcast(modulus.negated_inverse);
  const Lanes n0 = broadcast(modulus.limbs[0]), n1 = broadcast(modulus.limbs[1]);
  const Lanes m0 = bit_and(madd_lo(zero(), bit_and(low[0], mask), inverse), mask);
  const Lanes low0 = madd_lo(low[0], m0, n0), high0 = madd_hi(high[0], m0, n0);
  const Lanes column1 = add(add(madd_lo(low[1], m0, n1), add(high0, high0)), shift_right<kMatrixBits>(low0));
  state.quotient0 = m0;
  state.quotient1 = bit_and(madd_lo(zero(), bit_and(column1, mask), inverse), mask);
}

// Columns first .. first + Width - 1 of X + m0 N + m1 B N, carried. The strip's `low` start at low_start, except
// column 0 of the number, which has no column before it.
template <int Width, int Bits, int Rows>
XVEC_INLINE void matrix_strip(Lanes* columns, int strip, int first, const Lanes* x, const Matrix<Bits, Rows>& matrix,
                              const MatrixModulus<Bits>& modulus, Lanes low_start, Lanes low_start0,
                              MatrixCarry& state) {
  const Lanes mask = broadcast((std::uint64_t{1} << kMatrixBits) - 1);
  Lanes low[Width], high[Width];
  XVEC_UNROLL for (int k = 0; k < Width; ++k) {
    low[k] = add(low_start, broadcast(matrix.correction[first + k]));
    high[k] = zero();
  }
  if (strip == 0) low[0] = add(low_start0, broadcast(matrix.correction[0]));

  XVEC_ROLLED for (int i = 0; i < Rows / 2; ++i) {
    const std::uint64_t (*partners)[kStripWidth] = matrix.pairs[strip][i];
    const Lanes even = x[2 * i], odd = x[2 * i + 1];
    XVEC_UNROLL for (int k = 0; k < Width; ++k) {
      const Lanes a = add(even, broadcast(partners[0][k]));
      const Lanes b = add(odd, broadcast(partners[1][k]));
      low[k] = madd_lo(low[k], a, b);
      high[k] = madd_hi(high[k], a, b);
    }
  }

  const auto add_row = [&](Lanes factor, const std::uint64_t* row) __attribute__((always_inline)) {
    XVEC_UNROLL for (int k = 0; k < Width; ++k) {
      const Lanes entry = broadcast(row[k]);
      low[k] = madd_lo(low[k], factor, entry);
      high[k] = madd_hi(high[k], factor, entry);
    }
  };
  if constexpr (Rows % 2 == 1) add_row(x[Rows - 1], matrix.singles[strip][0]);
  if (strip == 0) montgomery_quotients(state, low, high, modulus);
  add_row(state.quotient0, matrix.singles[strip][1]);
  add_row(state.quotient1, matrix.singles[strip][2]);

  XVEC_UNROLL for (int k = 0; k < Width; ++k) {
    const Lanes column = add(add(low[k], state.carry), add(state.high, state.high));
    state.high = high[k];
    state.carry = shift_right<kMatrixBits>(column);
    columns[first + k] = bit_and(column, mask);
  }
}

// Subtracts N in every lane where r >= N. r: limbs of radix 2^51, < 2 N. In scalar code, as it hardly ever runs.
template <int Bits>
XVEC_NOINLINE void subtract_modulus(Lanes* r, const MatrixModulus<Bits>& modulus) noexcept {
  constexpr int kLimbs = MatrixSize<Bits>::limbs;
  constexpr std::int64_t kMask = (std::int64_t{1} << kMatrixBits) - 1;
  alignas(64) std::int64_t limbs[kLimbs][kLanes];
  for (int k = 0; k < kLimbs; ++k) store(limbs[k], r[k]);
  for (int lane = 0; lane < kLanes; ++lane) {
    std::int64_t difference[kLimbs], borrow = 0;
    for (int k = 0; k < kLimbs; ++k) {
      const std::int64_t t = limbs[k][lane] - static_cast<std::int64_t>(modulus.limbs[k]) + borrow;
      difference[k] = t & kMask;
      borrow = t >> kMatrixBits;
    }
    if (borrow == 0) {
      for (int k = 0; k < kLimbs; ++k) limbs[k][lane] = difference[k];
    }
  }
  for (int k = 0; k < kLimbs; ++k) r[k] = load(limbs[k]);
}

// For apply_matrix(): nothing is done between strips.
constexpr auto kNothing = [](int) {};

// columns[2 + k], k < limbs, becomes limb k of sum x_j w_j mod N, canonical (see Matrix for w_j); columns holds limbs
// + 2. x: Rows vectors with 0 <= x_j < 2^51. before(strip) runs before every strip: loads and stores that wait on
// memory cost least in small portions.
template <int Bits, int Rows, class Before>
XVEC_INLINE void apply_matrix(Lanes* columns, const Lanes* x, const Matrix<Bits, Rows>& matrix,
                              const MatrixModulus<Bits>& modulus, Before before) {
  using Size = MatrixSize<Bits>;
  constexpr int kLimbs = Size::limbs;
  const Lanes mask = broadcast((std::uint64_t{1} << kMatrixBits) - 1);

  // Sums of x_2i x_2i+1, in two chains each to hide the latency of four cycles.
  Lanes low_sum[2] = {zero(), zero()}, high_sum[2] = {zero(), zero()};
  XVEC_ROLLED for (int i = 0; i + 1 < Rows / 2; i += 2) {
    XVEC_UNROLL for (int c = 0; c < 2; ++c) {
      low_sum[c] = madd_lo(low_sum[c], x[2 * (i + c)], x[2 * (i + c) + 1]);
      high_sum[c] = madd_hi(high_sum[c], x[2 * (i + c)], x[2 * (i + c) + 1]);
    }
  }
  if constexpr (Rows / 2 % 2 == 1) {
    constexpr int last = Rows / 2 * 2 - 2;
    low_sum[0] = madd_lo(low_sum[0], x[last], x[last + 1]);
    high_sum[0] = madd_hi(high_sum[0], x[last], x[last + 1]);
  }
  const Lanes twice_high = shift_left_1(add(high_sum[0], high_sum[1]));
  const Lanes low_start0 = sub(zero(), add(low_sum[0], low_sum[1]));
  const Lanes low_start = sub(low_start0, twice_high);

  MatrixCarry state{zero(), zero(), zero(), zero()};
  XVEC_ROLLED for (int strip = 0; strip < Size::wide_strips; ++strip) {
    before(strip);
    matrix_strip<Size::width>(columns, strip, strip * Size::width, x, matrix, modulus, low_start, low_start0, state);
  }
  if constexpr (Size::wide_strips < Size::strips) {
    constexpr int kWidth = Size::width - 1;
    XVEC_ROLLED for (int strip = Size::wide_strips; strip < Size::strips; ++strip) {
      before(strip);
      matrix_strip<kWidth>(columns, strip, strip * kWidth + Size::wide_strips, x, matrix, modulus, low_start,
                           low_start0, state);
    }
  }

  // Two columns more: what is left of column limbs - 1, and the top limb of m1 B N.
  const Lanes top = broadcast(modulus.limbs[kLimbs - 1]);
  Lanes column = sub(broadcast(matrix.correction[kLimbs]), twice_high);
  column = add(add(column, state.carry), add(state.high, state.high));
  column = madd_lo(column, state.quotient1, top);
  columns[kLimbs] = bit_and(column, mask);
  columns[kLimbs + 1] = add(shift_right<kMatrixBits>(column), shift_left_1(madd_hi(zero(), state.quotient1, top)));

  // r >= N needs its top two limbs to be at least those of N: chance 2^-44 for a random input, as
  // r < N (1 + rows / B).
  const Lanes r1 = columns[kLimbs + 1], r0 = columns[kLimbs], below = broadcast(modulus.limbs[kLimbs - 2]);
  const __mmask8 suspects =
      _mm512_cmpgt_epu64_mask(r1, top) | (_mm512_cmpeq_epu64_mask(r1, top) & _mm512_cmpge_epu64_mask(r0, below));
  if (__builtin_expect(suspects != 0, 0)) subtract_modulus<Bits>(columns + 2, modulus);
}

// Whether results go round the caches. They are not read again before the whole batch is done, so for large batches
// streaming saves reading the destination's lines from memory first.
enum class Stores { cached, streaming };
constexpr std::size_t kStreamingRows = 64;

// Results of a block on their way round the caches: written while the next block is worked on, a few lines at a time,
// as the processor has room for few.
template <int KeyLen>
struct StreamedBlock {
  static constexpr int bytes = kLanes * 8 * MatrixSize<4 * KeyLen>::words, lines = bytes / 64;
  alignas(64) std::uint8_t rows[bytes];
  std::uint8_t* to = nullptr;  // any alignment; null: nothing waits

  // Lines first .. last - 1. The first and the last, where `to` is not aligned, are written in parts.
  XVEC_INLINE void write(int first, int last) const {
    const int head = static_cast<int>(-reinterpret_cast<std::uintptr_t>(to) % 64);
    if (head != 0) {
      if (first == 0) __builtin_memcpy(to, rows, head);
      if (last == lines) {
        --last;
        __builtin_memcpy(to + bytes - (64 - head), rows + bytes - (64 - head), 64 - head);
      }
    }
    for (int k = first; k < last; ++k) {
      _mm512_stream_si512(reinterpret_cast<Lanes*>(to + head + 64 * k), load(rows + head + 64 * k));
    }
  }
};

// One block of eight rows, contiguous if streaming. next: the block that follows, to be fetched meanwhile; streamed:
// the block before, if streaming, and then this one.
template <int KeyLen, Stores kStores>
XVEC_NOINLINE void multiply_block(const MatrixModulus<4 * KeyLen>& modulus, const QueryMatrix<KeyLen>& query,
                                  const std::uint8_t* in, const std::uint8_t* next, std::uint8_t* out,
                                  std::size_t stride, StreamedBlock<KeyLen>& streamed) noexcept {
  using Size = MatrixSize<4 * KeyLen>;
  constexpr int kBytes = 8 * Size::words, kLines = StreamedBlock<KeyLen>::lines;
  constexpr int kPerStrip = (kLines + Size::strips - 1) / Size::strips;
  Lanes words[Size::words], limbs[Size::limbs], columns[Size::limbs + 2];
  load_rows<Size::words>(words, in, stride);
  words_to_limbs<kMatrixBits, Size::words, Size::limbs>(limbs, words);
  apply_matrix(columns, limbs, query, modulus, [&](int strip) __attribute__((always_inline)) {
    const int first = strip * kPerStrip, last = first + kPerStrip < kLines ? first + kPerStrip : kLines;
    for (int line = first; line < last; ++line) {
      const std::size_t at = line * 64 / kBytes * stride + line * 64 % kBytes;
      _mm_prefetch(next + at, _MM_HINT_T0);
      if constexpr (kStores == Stores::cached) __builtin_prefetch(out + at, 1);
    }
    if constexpr (kStores == Stores::streaming) {
      if (streamed.to != nullptr && first < last) streamed.write(first, last);
    }
  });
  limbs_to_words<kMatrixBits, Size::limbs, Size::words>(words, columns + 2);
  if constexpr (kStores == Stores::cached) {
    store_rows<Size::words>(out, stride, words);
  } else {
    store_rows<Size::words>(streamed.rows, kBytes, words);
    streamed.to = out;
  }
}

template <int KeyLen>
XVEC_INLINE void multiply_rows(const MatrixModulus<4 * KeyLen>& modulus, const QueryMatrix<KeyLen>& query,
                               const std::uint8_t* in, std::uint8_t* out, std::size_t stride, std::size_t count) {
  // In place, the lines are in the cache already; apart, rows begin and end in too many partial lines.
  const bool streaming = in != out && stride == 8 * MatrixSize<4 * KeyLen>::words && count >= kStreamingRows;
  StreamedBlock<KeyLen> streamed;
  for (std::size_t i = 0; i < count; i += kLanes) {
    const std::uint8_t* block = in + i * stride;
    const std::uint8_t* next = i + kLanes < count ? block + kLanes * stride : block;
    if (streaming) {
      multiply_block<KeyLen, Stores::streaming>(modulus, query, block, next, out + i * stride, stride, streamed);
    } else {
      multiply_block<KeyLen, Stores::cached>(modulus, query, block, next, out + i * stride, stride, streamed);
    }
  }
  if (streaming) {
    streamed.write(0, StreamedBlock<KeyLen>::lines);
    // Streamed rows must be visible before whatever tells another thread that they are there.
    _mm_sfence();
  }
}

}  // namespace
}  // namespace xvec::ifma
