// Straight-line vector programs, written as loops that emit instructions at compile time, and woven into each other.
//
// A processor that starts one multiply-add and one other vector instruction in every cycle runs a reduction (many
// additions) and a product (few) faster together than one after the other, but its window is too short to find the
// mixture by itself: measured, two functions take the sum of their times. So each is written as a Stream of
// instructions with registers of its own, weave() merges the streams in proportion, and run() turns the result into
// intrinsics, one after the other. The compiler allocates registers and encodes; a fence now and then keeps it from
// merging loads across the program, which would cost it more registers than there are.
#pragma once

#include <cstdint>
#include <utility>  // std::index_sequence, a type only

#include "lanes.h"
#include "scan.h"

namespace xvec::ifma {
namespace {

// Memory that a program reads and writes: one base pointer for each, given to run().
enum class Area : std::uint8_t {
  constants,  // 64-bit words, each broadcast to all lanes
  work,       // vectors, as all others
  u,          // digits of the element that is squared or multiplied, limbs from the least
  v,
  new_u,  // digits of the result
  new_v,
  squared,    // the digit with whose square the next operation begins: new_u, or another number's
  factor,     // the other element, u then v
  scan_from,  // scanning a table: what is chosen so far; the entries of this pass; the choice
  scan_entries,
  scan_to,
};

struct Operand {
  enum Kind : std::uint8_t { none, vector_register, memory } kind = none;
  Area area = {};
  std::int16_t index = 0;  // of the register, or of the word or vector in the area
};

constexpr Operand at(Area area, int index) { return {Operand::memory, area, static_cast<std::int16_t>(index)}; }

enum class Op : std::uint8_t {
  move,
  clear,
  store,
  add,
  subtract,
  bit_and,
  shift,
  shift_left_2,
  madd_lo,
  madd_hi,
  choose
};

struct Instruction {
  Op op = {};
  std::int16_t to = 0;  // register; for choose: also the number of the mask, times 256
  Operand a, b;
  int group = 0;
};

// Registers that programs name: more than there are, as long as few enough are live at a time (the compiler
// allocates).
constexpr int kVirtualRegisters = 40;
// Limbs of woven programs.
constexpr int kWovenBits = 50;

// A register of a stream.
struct Register {
  int index;
  constexpr operator Operand() const { return {Operand::vector_register, {}, static_cast<std::int16_t>(index)}; }
};

// Instructions of one group stay together when streams are woven.
class Stream {
 public:
  static constexpr int kCapacity = 3072;

  constexpr void begin_group() {
    ++group_;
    in_group_ = true;
  }
  constexpr void end_group() { in_group_ = false; }

  constexpr void move(Register to, Operand from) { emit({Op::move, index(to), from, {}}); }
  constexpr void clear(Register to) { emit({Op::clear, index(to), {}, {}}); }
  constexpr void store(Operand to, Register from) { emit({Op::store, 0, from, to}); }
  constexpr void add(Register to, Operand a, Operand b) { emit({Op::add, index(to), a, b}); }
  constexpr void subtract(Register to, Operand a, Operand b) { emit({Op::subtract, index(to), a, b}); }
  constexpr void bit_and(Register to, Operand a, Operand b) { emit({Op::bit_and, index(to), a, b}); }
  // The bits above the low kWovenBits, arithmetically.
  constexpr void shift(Register to, Operand a) { emit({Op::shift, index(to), a, {}}); }
  constexpr void shift_left_2(Register to, Operand a) { emit({Op::shift_left_2, index(to), a, {}}); }
  // accumulator += the low or the high 52 bits of a b.
  constexpr void madd_lo(Register accumulator, Operand a, Operand b) {
    emit({Op::madd_lo, index(accumulator), a, b});
  }
  constexpr void madd_hi(Register accumulator, Operand a, Operand b) {
    emit({Op::madd_hi, index(accumulator), a, b});
  }
  // to = from, where the mask of that number says so.
  constexpr void choose(Register to, int number, Operand from) {
    emit({Op::choose, static_cast<std::int16_t>(index(to) + 256 * number), from, {}});
  }

  constexpr int size() const { return size_; }
  constexpr const Instruction& operator[](int i) const { return code_[i]; }
  constexpr int group_end(int from) const {
    int i = from;
    while (i < size_ && code_[i].group == code_[from].group) ++i;
    return i;
  }

 private:
  static constexpr std::int16_t index(Register r) { return static_cast<std::int16_t>(r.index); }
  constexpr void emit(Instruction instruction) {
    if (!in_group_) ++group_;
    instruction.group = group_;
    code_[size_++] = instruction;  // past the capacity this is no constant expression, hence an error
  }

  Instruction code_[kCapacity] = {};
  int size_ = 0;
  int group_ = 0;
  bool in_group_ = false;
};

struct Program {
  static constexpr int kCapacity = 2 * Stream::kCapacity;
  Instruction code[kCapacity] = {};
  int size = 0;
};

// What an instruction costs, in quarters of an issue slot.
constexpr int cost(Op op) {
  switch (op) {
    case Op::move:
    case Op::clear:
    case Op::choose:
      return 1;
    case Op::store:
      return 2;
    default:
      return 4;
  }
}

// Merges streams in proportion to their cost, group by group. Their registers must be disjoint.
template <class... Streams>
constexpr Program weave(const Streams&... streams) {
  constexpr int kCount = sizeof...(Streams);
  const Stream* const all[kCount] = {&streams...};
  std::int64_t total[kCount] = {}, done[kCount] = {};
  int at[kCount] = {};
  for (int s = 0; s < kCount; ++s) {
    for (int i = 0; i < all[s]->size(); ++i) total[s] += cost((*all[s])[i].op);
  }
  Program program;
  for (;;) {
    int next = -1;
    for (int s = 0; s < kCount; ++s) {
      if (at[s] == all[s]->size()) continue;
      // The stream that is least advanced: done / total, without division.
      if (next < 0 || done[s] * total[next] < done[next] * total[s]) next = s;
    }
    if (next < 0) return program;
    const Stream& stream = *all[next];
    for (const int end = stream.group_end(at[next]); at[next] < end; ++at[next]) {
      program.code[program.size++] = stream[at[next]];
      done[next] += cost(stream[at[next]].op);
    }
  }
}

// The memory of one run.
struct Memory {
  const std::uint64_t* constants;
  Lanes* work;
  const Lanes* u;
  const Lanes* v;
  Lanes* new_u;
  Lanes* new_v;
  const Lanes* squared;
  const Lanes* factor;
  const Lanes* scan_from;
  const Lanes* scan_entries;
  Lanes* scan_to;
  __mmask8 scan_masks[kScanEntries];
};

template <Area area>
XVEC_INLINE auto* base(const Memory& memory) {
  if constexpr (area == Area::constants) return memory.constants;
  if constexpr (area == Area::work) return memory.work;
  if constexpr (area == Area::u) return memory.u;
  if constexpr (area == Area::v) return memory.v;
  if constexpr (area == Area::new_u) return memory.new_u;
  if constexpr (area == Area::new_v) return memory.new_v;
  if constexpr (area == Area::squared) return memory.squared;
  if constexpr (area == Area::factor) return memory.factor;
  if constexpr (area == Area::scan_from) return memory.scan_from;
  if constexpr (area == Area::scan_entries) return memory.scan_entries;
  if constexpr (area == Area::scan_to) return memory.scan_to;
}

template <Operand::Kind kind, Area area, int index>
XVEC_INLINE Lanes read(const Lanes* registers, const Memory& memory) {
  if constexpr (kind == Operand::vector_register) {
    return registers[index];
  } else if constexpr (area == Area::constants) {
    return broadcast(memory.constants[index]);
  } else {
    return base<area>(memory)[index];
  }
}

template <Op op, int to, Operand a, Operand b>
XVEC_INLINE void execute(Lanes* registers, const Memory& memory) {
#define XVEC_A read<a.kind, a.area, a.index>(registers, memory)
#define XVEC_B read<b.kind, b.area, b.index>(registers, memory)
  if constexpr (op == Op::move) registers[to] = XVEC_A;
  if constexpr (op == Op::clear) registers[to] = zero();
  if constexpr (op == Op::store) base<b.area>(memory)[b.index] = XVEC_A;
  if constexpr (op == Op::add) registers[to] = add(XVEC_A, XVEC_B);
  if constexpr (op == Op::subtract) registers[to] = sub(XVEC_A, XVEC_B);
  if constexpr (op == Op::bit_and) registers[to] = bit_and(XVEC_A, XVEC_B);
  if constexpr (op == Op::shift) registers[to] = shift_right<kWovenBits>(XVEC_A);
  if constexpr (op == Op::shift_left_2) registers[to] = _mm512_slli_epi64(XVEC_A, 2);
  if constexpr (op == Op::madd_lo) registers[to] = madd_lo(registers[to], XVEC_A, XVEC_B);
  if constexpr (op == Op::madd_hi) registers[to] = madd_hi(registers[to], XVEC_A, XVEC_B);
  if constexpr (op == Op::choose) {
    registers[to % 256] = _mm512_mask_mov_epi64(registers[to % 256], memory.scan_masks[to / 256], XVEC_A);
  }
#undef XVEC_A
#undef XVEC_B
}

constexpr int kFenceEvery = 16;

template <const Program& program, int first, std::size_t... i>
XVEC_INLINE void run_part(Lanes* registers, const Memory& memory, std::index_sequence<i...>) {
  (execute<program.code[first + i].op, program.code[first + i].to, program.code[first + i].a,
           program.code[first + i].b>(registers, memory),
   ...);
  __asm__ __volatile__("" : : : "memory");
}

template <const Program& program, std::size_t... part>
XVEC_INLINE void run_parts(Lanes* registers, const Memory& memory, std::index_sequence<part...>) {
  (run_part<program, static_cast<int>(part) * kFenceEvery>(
       registers, memory,
       std::make_index_sequence<(program.size - static_cast<int>(part) * kFenceEvery < kFenceEvery
                                     ? program.size - static_cast<int>(part) * kFenceEvery
                                     : kFenceEvery)>{}),
   ...);
}

template <const Program& program>
XVEC_NOINLINE void run(Memory memory) noexcept {
  Lanes registers[kVirtualRegisters];
  run_parts<program>(registers, memory, std::make_index_sequence<(program.size + kFenceEvery - 1) / kFenceEvery>{});
}

}  // namespace
}  // namespace xvec::ifma
