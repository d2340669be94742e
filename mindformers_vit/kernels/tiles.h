// Panels and products of matrices by the tiles of AMX, for `gemm`.
//
// A tile multiplies bf16. A float32 is the sum of three of them, each the rounding of what the ones
// before it leave: x = x0 + x1 + x2, exactly. With three slices the product is that of float32: of
// its nine parts x0 y0, x0 y1, x1 y0, x1 y1, x0 y2 and x2 y0 are summed, and what the other three
// amount to is at most 2^-24 of |x y|, the rounding of float32 (Henry et al. 2019, arXiv 1904.06376).
// They are summed one by one: of 2000 positive products the sum is off by 2.1e-7 (root of the mean
// square; 1.1e-6 at most of 87,640), where vectors are by 0.9e-7 (4.4e-7).
// Tiles take what is below 2^-126 for 0, slices and their products too: that accuracy holds for
// numbers and products from 2^-110 up. Infinity, and what is above 3.396e38, gives NaN.
#pragma once
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <type_traits>

#include "lanes.h"

// A process asks Linux for the tiles' registers, once for all its threads.
inline bool may_multiply() {
  constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

template <int kSlices>
struct Tiles {
  static constexpr int kRows = 32, kColumns = 32;            // two tiles by two
  static constexpr int64_t kStep = 32;                       // of k, that a tile holds
  static constexpr int64_t kDepth = kSlices == 1 ? 24 : 16;  // steps of a panel
  static constexpr int64_t kTask = kSlices == 1 ? 8 : 4;     // panels of B that a task takes
  static constexpr int64_t kTile = 256;                      // floats in the memory of one

  // Tiles can be used while it lives.
  struct Session {
    Session() {
      struct alignas(64) {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t row_bytes[16] = {};
        uint8_t rows[16] = {};
      } shape;
      for (int i = 0; i < 8; ++i) shape.row_bytes[i] = 64, shape.rows[i] = 16;
      asm volatile("ldtilecfg %0" : : "m"(shape));
    }
    ~Session() { _tile_release(); }
  };

  static int64_t size(int width, int64_t k) {
    return blocks(k, kStep) * kSlices * (width / 16) * kTile;
  }

  // Of each step: of each slice: two tiles, of A with a row in each of their rows, of B with a
  // column of C in each of their columns.
  static void pack_a(Matrix m, int64_t valid, int64_t k, float* to) { pack<false>(m, valid, k, to); }
  static void pack_b(Matrix m, int64_t valid, int64_t k, float* to) { pack<true>(m, valid, k, to); }

  static void multiply(int64_t k, const float* a, const float* b, float* c, int64_t ldc,
                       int64_t rows, int64_t columns, const float* bias, bool add) {
    const int64_t steps = blocks(k, kStep);
    if (rows == kRows && columns == kColumns) {
      block<2, 2>(steps, a, b, c, ldc, bias, add);
      return;
    }
    alignas(64) float edge[kRows * kColumns], edge_bias[kColumns] = {};
    const size_t bytes = columns * sizeof(float);
    if (bias) std::memcpy(edge_bias, bias, bytes);
    for (int64_t i = 0; add && i < rows; ++i) std::memcpy(edge + i * kColumns, c + i * ldc, bytes);
    const auto part = rows > 16 ? columns > 16 ? block<2, 2> : block<2, 1>
                                : columns > 16 ? block<1, 2> : block<1, 1>;
    part(steps, a, b, edge, kColumns, bias ? edge_bias : nullptr, add);
    for (int64_t i = 0; i < rows; ++i) std::memcpy(c + i * ldc, edge + i * kColumns, bytes);
  }

 private:
  static constexpr int kPartner = 16;  // a word holds k and k + 16 of a step

  // The slices of the words (low, high).
  static void slice(V low, V high, V* to) {
    const I upper = I{} + (int32_t)0xffff0000u;
    for (int s = 0; s + 1 < kSlices; ++s) {
      const I x = (bits_of(low) + 0x8000) & upper, y = (bits_of(high) + 0x8000) & upper;
      to[s] = words(x, y);
      low -= of_bits(x);
      high -= of_bits(y);
    }
    to[kSlices - 1] = kSlices == 1 ? pair_up(low, high) : words(bits_of(low), bits_of(high) & upper);
  }
  static V words(I low, I high) {
    return (V)_mm512_or_si512(_mm512_srli_epi32((__m512i)low, 16), (__m512i)high);
  }

  template <bool kIsB>
  static void pack(Matrix m, int64_t valid, int64_t k, float* to) {
    const bool by_rows = m.k_stride == 1;
    for (int half = 0; half < 2; ++half, valid -= 16, to += kTile, m = m.from(16, 0)) {
      for (int64_t done = 0; done < k; done += kStep) {
        float part[16 * kStep];
        const bool whole = valid >= 16 && k - done >= kStep;
        const Matrix step = whole ? m.from(0, done) : padded(m.from(0, done), valid, k - done, part);
        float* tiles = to + done / kStep * kSlices * 2 * kTile;
        if (by_rows) {
          fill<kIsB>(step.data, step.stride, kPartner, 16 * step.stride, tiles);
        } else {
          fill<!kIsB>(step.data, step.k_stride, kPartner * step.k_stride, kStep * step.k_stride, tiles);
        }
      }
    }
  }

  // A copy of what there is of 16 x 32 elements, zeros beyond.
  static Matrix padded(Matrix m, int64_t valid, int64_t k, float* part) {
    const Matrix copy = m.k_stride == 1 ? Matrix{part, kStep, 1} : Matrix{part, 1, 16};
    std::fill(part, part + 16 * kStep, 0.0f);
    for (int64_t i = 0; i < std::min<int64_t>(valid, 16); ++i)
      for (int64_t j = 0; j < std::min(k, kStep); ++j)
        part[i * copy.stride + j * copy.k_stride] = m.data[i * m.stride + j * m.k_stride];
    return copy;
  }

  // The tile of each slice: its row i is made of vector i and its partner, or its column. What is
  // needed next lies `ahead`.
  template <bool kIsColumn>
  static void fill(const float* from, int64_t stride, int64_t partner, int64_t ahead, float* to) {
    V x[kSlices][16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      V parts[kSlices];
      __builtin_prefetch(from + i * stride + ahead);
      __builtin_prefetch(from + i * stride + ahead + partner);
      slice(load(from + i * stride), load(from + i * stride + partner), parts);
      for (int s = 0; s < kSlices; ++s) {
        if (kIsColumn) x[s][i] = parts[s];
        else store(to + s * 2 * kTile + i * 16, parts[s]);
      }
    }
    for (int s = 0; kIsColumn && s < kSlices; ++s) {
      transpose(x[s]);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) store(to + s * 2 * kTile + i * 16, x[s][i]);
    }
  }

  // Tiles 0 to 3 are those of C, one more holds a tile of A and one a tile of B. Each is loaded just
  // before it is needed: CPUs were seen that, for seconds at a time, load tiles slowly, the more so
  // the more different ones are in use.
  static constexpr int kA = 4, kB = 5;

  template <int kR, int kC>
  static void block(int64_t steps, const float* a, const float* b, float* c, int64_t ldc,
                    const float* bias, bool add) {
    asm volatile("" : : : "memory");  // the compiler does not know that tiles read and write memory
    each_tile<kR, kC>([=](auto tile, int row, int column) {
      if (add) load_tile<tile>(c + row * ldc + column, ldc);
      else if (bias) load_tile<tile>(bias + column, 0);  // the same row 16 times
      else asm volatile("tilezero %%tmm%c0" : : "i"(tile()));
    });
    for (; steps > 0; --steps, a += kSlices * 2 * kTile, b += kSlices * 2 * kTile) {
      if constexpr (kSlices == 3) {  // the small parts first; each pair shares a slice with the next
        walk<kR, kC, true, true, true>(a + 4 * kTile, b);
        walk<kR, kC, false, true, false>(a + 2 * kTile, b);
        walk<kR, kC, true, false, true>(a + 2 * kTile, b + 2 * kTile);
        walk<kR, kC, false, true, false>(a, b + 2 * kTile);
        walk<kR, kC, true, false, true>(a, b + 4 * kTile);
        walk<kR, kC, false, false, true>(a, b);
      } else {
        walk<kR, kC, true, true, true>(a, b);
      }
    }
    each_tile<kR, kC>([=](auto tile, int row, int column) {
      asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
                   : : "r"(c + row * ldc + column), "r"(ldc * sizeof(float)), "i"(tile()));
    });
    asm volatile("" : : : "memory");
  }

  // f(number, row, column) for the tiles of C.
  template <int kR, int kC, class F>
  static void each_tile(F f) {
    f(std::integral_constant<int, 0>(), 0, 0);
    if constexpr (kC > 1) f(std::integral_constant<int, 1>(), 0, 16);
    if constexpr (kR > 1) f(std::integral_constant<int, 2>(), 16, 0);
    if constexpr (kR > 1 && kC > 1) f(std::integral_constant<int, 3>(), 16, 16);
  }

  template <int kNumber>
  static void load_tile(const float* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
                 : : "r"(from), "r"(stride * sizeof(float)), "i"(kNumber));
  }

  // Adds the products of one slice of A and one of B to C, there and back by turns, so that two
  // neighbours of the walk share a tile: (0, 0), (0, 1), (1, 1), (1, 0). `kLoadA` and `kLoadB`:
  // the first needs its tile of A, of B; else they are those that the walk before ended with.
  template <int kR, int kC, bool kForward, bool kLoadA, bool kLoadB, int kAt = 0>
  static void walk(const float* a, const float* b) {
    constexpr int cell = kForward ? kAt : kR * kC - 1 - kAt, row = cell / kC;
    constexpr int column = row % 2 ? kC - 1 - cell % kC : cell % kC;
    if constexpr (kLoadA) load_tile<kA>(a + row * kTile, 16);
    if constexpr (kLoadB) load_tile<kB>(b + column * kTile, 16);
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(row * 2 + column), "i"(kA), "i"(kB));
    if constexpr (kAt + 1 < kR * kC) {
      constexpr int next = kForward ? cell + 1 : cell - 1;
      walk<kR, kC, kForward, next / kC != row, next / kC == row, kAt + 1>(a, b);
    }
  }
};
