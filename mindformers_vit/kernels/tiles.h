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
    return (k + kStep - 1) / kStep * kSlices * (width / 16) * kTile;
  }

  // Of each step: of each slice: two tiles, of A with a row in each of their rows, of B with a
  // column of C in each of their columns.
  static void pack_a(Matrix m, int64_t valid, int64_t k, float* to) { pack<false>(m, valid, k, to); }
  static void pack_b(Matrix m, int64_t valid, int64_t k, float* to) { pack<true>(m, valid, k, to); }

  static void multiply(int64_t k, const float* a, const float* b, float* c, int64_t ldc,
                       int64_t rows, int64_t columns, const float* bias, bool add) {
    const int64_t steps = (k + kStep - 1) / kStep;
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

  // Tiles 0 to 3 are those of C, 4 and 5 of A, 6 and 7 of B.
  template <int kR, int kC>
  static void block(int64_t steps, const float* a, const float* b, float* c, int64_t ldc,
                    const float* bias, bool add) {
    const int64_t stride = ldc * sizeof(float);
    asm volatile("" : : : "memory");  // the compiler does not know that tiles read and write memory
    if (add) {
      _tile_loadd(0, c, stride);
      if constexpr (kC > 1) _tile_loadd(1, c + 16, stride);
      if constexpr (kR > 1) _tile_loadd(2, c + 16 * ldc, stride);
      if constexpr (kR > 1 && kC > 1) _tile_loadd(3, c + 16 * ldc + 16, stride);
    } else if (bias) {  // the same row 16 times
      _tile_loadd(0, bias, 0);
      _tile_loadd(2, bias, 0);
      _tile_loadd(1, bias + 16, 0);
      _tile_loadd(3, bias + 16, 0);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (; steps > 0; --steps, a += kSlices * 2 * kTile, b += kSlices * 2 * kTile) {
      if constexpr (kSlices == 3) {  // the small parts first, each slice as seldom as can be
        load_a<kR>(a, 2);
        load_b<kC>(b, 0);
        multiply_tiles<kR, kC>();
        load_a<kR>(a, 1);
        multiply_tiles<kR, kC>();
        load_b<kC>(b, 1);
        multiply_tiles<kR, kC>();
        load_a<kR>(a, 0);
        multiply_tiles<kR, kC>();
        load_b<kC>(b, 2);
        multiply_tiles<kR, kC>();
      }
      if constexpr (kSlices == 1) load_a<kR>(a, 0);
      load_b<kC>(b, 0);
      multiply_tiles<kR, kC>();
    }
    _tile_stored(0, c, stride);
    if constexpr (kC > 1) _tile_stored(1, c + 16, stride);
    if constexpr (kR > 1) _tile_stored(2, c + 16 * ldc, stride);
    if constexpr (kR > 1 && kC > 1) _tile_stored(3, c + 16 * ldc + 16, stride);
    asm volatile("" : : : "memory");
  }

  template <int kR>
  static void load_a(const float* a, int slice) {
    _tile_loadd(4, a + slice * 2 * kTile, 64);
    if constexpr (kR > 1) _tile_loadd(5, a + (slice * 2 + 1) * kTile, 64);
  }

  template <int kC>
  static void load_b(const float* b, int slice) {
    _tile_loadd(6, b + slice * 2 * kTile, 64);
    if constexpr (kC > 1) _tile_loadd(7, b + (slice * 2 + 1) * kTile, 64);
  }

  template <int kR, int kC>
  static void multiply_tiles() {
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kC > 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kR > 1) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kR > 1 && kC > 1) _tile_dpbf16ps(3, 5, 7);
  }
};
