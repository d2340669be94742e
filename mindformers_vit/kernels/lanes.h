// Panels and products of matrices by vector instructions, for `gemm`.
//
// A "word" is what one lane multiplies at once: a float, or two bf16 of neighbouring k.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "vectors.h"

// Element (i, k) of a matrix; one of the strides is 1.
struct Matrix {
  const float* data;
  int64_t stride, k_stride;
  Matrix from(int64_t i, int64_t k) const {
    return {data + i * stride + k * k_stride, stride, k_stride};
  }
};

#if defined(__AVX512BF16__)
constexpr bool kHasBf16 = true;
inline V pairs(V first, V second) {  // 2 * kLanes neighbours -> kLanes words
  return (V)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
}
inline V pair_up(V low, V high) {
  alignas(64) static constexpr int16_t kOrder[32] = {
      0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return (V)_mm512_permutexvar_epi16(_mm512_load_si512(kOrder), (__m512i)pairs(low, high));
}
inline V dot(V a, V b, V c) {
  return (V)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
}
#else
constexpr bool kHasBf16 = false;
inline V pair_up(V low, V) { return low; }
inline V pairs(V first, V) { return first; }
inline V dot(V a, V b, V c) { return c + a * b; }
#endif

// Lane j of the result is lane order[j] of a, or order[j] - kLanes of b.
inline V shuffle(V a, V b, I order) {
#if defined(__clang__)
  V x;
  for (int j = 0; j < kLanes; ++j) x[j] = order[j] < kLanes ? a[order[j]] : b[order[j] - kLanes];
  return x;
#else
  return __builtin_shuffle(a, b, order);
#endif
}

// In place: lane j of x[i] becomes lane i of x[j].
inline void transpose(V* x) {
#pragma GCC unroll 8
  for (int s = 1; s < kLanes; s *= 2) {
    I low, high;
    for (int j = 0; j < kLanes; ++j) {
      low[j] = j & s ? kLanes + j - s : j;
      high[j] = j & s ? kLanes + j : j + s;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i & s) continue;
      const V a = x[i], b = x[i + s];
      x[i] = shuffle(a, b, low);
      x[i + s] = shuffle(a, b, high);
    }
  }
}

template <bool kBf16>
struct Lanes {
  static constexpr int kRows = kLanes == 16 ? 14 : kLanes == 8 ? 6 : 4;  // of a tile of C
  static constexpr int kColumns = 2 * kLanes;
  static constexpr int64_t kStep = kBf16 ? 2 : 1;  // of k, that a word holds
  static constexpr int64_t kDepth = 320;           // words of a panel
  static constexpr int64_t kTask = 4;              // panels of B that a task takes
  struct Session {};

  static_assert(kRows <= kLanes, "what `pack` writes beyond a word must be written again");

  // Floats of a panel: whole vectors, one of them for what `pack` writes beyond the last word.
  static int64_t size(int width, int64_t k) {
    return padded(blocks_of(k) * width + kLanes);
  }
  static void pack_a(Matrix m, int64_t valid, int64_t k, float* to) { pack(m, kRows, valid, k, to); }
  static void pack_b(Matrix m, int64_t valid, int64_t k, float* to) {
    pack(m, kColumns, valid, k, to);
  }

  // The tile of C that two panels give; of it rows x columns are written.
  static void multiply(int64_t k, const float* a, const float* b, float* c, int64_t ldc,
                       int64_t rows, int64_t columns, const float* bias, bool add) {
    tile<true>(k, a, 1, b, c, ldc, rows, columns, bias, add);
  }
  // The same with kRows rows of A where they lie.
  static void multiply_rows(int64_t k, const float* a, int64_t lda, const float* b, float* c,
                            int64_t ldc, int64_t columns, const float* bias, bool add) {
    tile<false>(k, a, lda, b, c, ldc, kRows, columns, bias, add);
  }

  // The words of `valid` <= width rows of m to `to[word * width + row]`.
  static void pack(Matrix m, int width, int64_t valid, int64_t k, float* to) {
    const int64_t words = blocks_of(k);
    if (m.stride == 1 && m.k_stride != 1) {
      for (int64_t w = 0; w < words; ++w, to += width) {
        const float* row = m.data + w * kStep * m.k_stride;
        const bool pair = kBf16 && w * 2 + 1 < k;
        for (int j = 0; j < width; j += kLanes) {
          const int64_t count = std::clamp<int64_t>(valid - j, 0, kLanes);
          V x = count == kLanes ? load(row + j) : load_part(row + j, count);
          if (kBf16) x = pair_up(x, pair ? load_part(row + m.k_stride + j, count) : V{});
          store(to + j, x);  // beyond the width the next word overwrites it
        }
      }
      return;
    }
    for (int j = 0; j < width; j += kLanes) {
      for (int64_t w = 0; w < words; w += kLanes) {
        V x[kLanes];
        read_rows(m.from(j, w * kStep), valid - j, k - w * kStep, x);
        transpose(x);
        const int64_t count = std::min<int64_t>(kLanes, words - w);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          if (i >= count) break;
          store(to + (w + i) * width + j, x[i]);
        }
      }
    }
  }

 private:
  static int64_t blocks_of(int64_t k) { return blocks(k, kStep); }

  // Element (i, k) of A is a[i * stride + k], or in a panel a[i + k * kRows].
  template <bool kPanel>
  static void tile(int64_t k, const float* a, int64_t stride, const float* b, float* c, int64_t ldc,
                   int64_t rows, int64_t columns, const float* bias, bool add) {
    if (kPanel) stride = 1;
    V sum[kRows][2] = {};
    const float* first[] = {a, a + 5 * stride, a + 10 * stride};  // of 5 rows each
    for (int64_t w = blocks_of(k); w > 0; --w, b += kColumns) {
      const V b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const V x = splat(first[i / 5][i % 5 * stride]);
        if constexpr (kBf16) {
          sum[i][0] = dot(x, b0, sum[i][0]);
          sum[i][1] = dot(x, b1, sum[i][1]);
        } else {
          sum[i][0] += x * b0;
          sum[i][1] += x * b1;
        }
      }
#pragma GCC unroll 3
      for (const float*& from : first) from += kPanel ? kRows : 1;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      if (i >= rows) break;
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const int64_t j = half * kLanes, count = std::clamp<int64_t>(columns - j, 0, kLanes);
        float* to = c + i * ldc + j;
        V x = sum[i][half];
        if (count == kLanes) {
          if (bias) x += load(bias + j);
          if (add) x += load(to);
          store(to, x);
        } else {
          if (bias) x += load_part(bias + j, count);
          if (add) x += load_part(to, count);
          store_part(to, x, count);
        }
      }
    }
  }

  // A vector of words from each of kLanes rows of which `valid` are there.
  static void read_rows(Matrix m, int64_t valid, int64_t k, V* x) {
    if (kLanes <= valid && k >= kStep * kLanes) {
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        x[i] = load(m.data + i * m.stride);
        if (kBf16) x[i] = pairs(x[i], load(m.data + i * m.stride + kLanes));
      }
      return;
    }
    const int64_t first = std::clamp<int64_t>(k, 0, kLanes),
                  second = std::clamp<int64_t>(k - kLanes, 0, kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      x[i] = V{};
      if (i >= valid) continue;
      x[i] = load_part(m.data + i * m.stride, first);
      if (kBf16) x[i] = pairs(x[i], load_part(m.data + i * m.stride + kLanes, second));
    }
  }
};
