// C = A B (+ bias) of float32 matrices, in float32 or with bf16 products summed in float32.
//
// The scheme is the usual one (Goto & van de Geijn 2008): panels of A and B are copied so that the
// innermost loop reads them in order, a tile of C stays in registers. Each element of C is summed
// over k in one fixed order, whatever the threads do.
//
// A "word" is what one lane multiplies at once: a float, or two bf16 of neighbouring k.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "threads.h"
#include "vectors.h"

constexpr int kRows = kLanes == 16 ? 14 : kLanes == 8 ? 6 : 4;  // of a tile of C
constexpr int kColumns = 2 * kLanes;
constexpr int64_t kDepth = 320;                 // words of a panel
constexpr int64_t kTaskRows = 8, kTaskColumns = 8;  // panels of a task
constexpr int64_t kMaxRows = 4096 / kRows * kRows;  // of A at a time, which bounds the copies

static_assert(kRows <= kLanes, "what `pack` writes beyond a word must be written again");

// Element (i, k) of a matrix; one of the strides is 1.
struct Matrix {
  const float* data;
  int64_t stride, k_stride;
};

#if defined(__AVX512BF16__)
constexpr bool kHasBf16 = true;
inline V pair_up(V low, V high) {
  const __m512i a = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)low));
  const __m512i b = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)high));
  return (V)_mm512_or_si512(a, _mm512_slli_epi32(b, 16));
}
inline V pairs(V first, V second) {  // 2 * kLanes neighbours -> kLanes words
  return (V)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
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
      x[i] = __builtin_shuffle(a, b, low);
      x[i + s] = __builtin_shuffle(a, b, high);
    }
  }
}

// Floats of a panel: whole vectors, one of them for what `pack` writes beyond the last word.
inline int64_t panel_size(int width, int64_t words) {
  return (words * width + 2 * kLanes - 1) / kLanes * kLanes;
}

// Memory of the calling thread that begins with a whole vector; the next call may move it.
inline float* panels(size_t size) {
  static thread_local std::vector<float> memory;
  if (memory.size() < size + kLanes) memory.resize(size + kLanes);
  void* first = memory.data();
  size_t space = memory.size() * sizeof(float);
  return static_cast<float*>(std::align(sizeof(V), size * sizeof(float), first, space));
}

// Words [0, words) of `valid` <= width rows of m to `to[word * width + row]`; k_left is what m has
// of k from here on.
template <bool kBf16>
void pack(Matrix m, int width, int64_t valid, int64_t words, int64_t k_left, float* to) {
  constexpr int per = kBf16 ? 2 : 1;
  if (m.stride == 1 && m.k_stride != 1) {
    for (int64_t w = 0; w < words; ++w, to += width) {
      const float* row = m.data + w * per * m.k_stride;
      const bool pair = kBf16 && w * 2 + 1 < k_left;
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
      const int64_t left = k_left - w * per, first = std::clamp<int64_t>(left, 0, kLanes),
                    second = std::clamp<int64_t>(left - kLanes, 0, kLanes);
      const float* from = m.data + j * m.stride + w * per;
      V x[kLanes];
      if (j + kLanes <= valid && left >= per * kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          x[i] = load(from + i * m.stride);
          if (kBf16) x[i] = pairs(x[i], load(from + i * m.stride + kLanes));
        }
      } else {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          x[i] = V{};
          if (j + i >= valid) continue;
          x[i] = load_part(from + i * m.stride, first);
          if (kBf16) x[i] = pairs(x[i], load_part(from + i * m.stride + kLanes, second));
        }
      }
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

// The tile of C that two panels give; of it rows x columns are written.
template <bool kBf16>
void tile(int64_t words, const float* a, const float* b, float* c, int64_t ldc, int64_t rows,
          int64_t columns, const float* bias, bool add) {
  V sum[kRows][2] = {};
  for (int64_t w = 0; w < words; ++w, a += kRows, b += kColumns) {
    const V b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const V x = splat(a[i]);
      if constexpr (kBf16) {
        sum[i][0] = dot(x, b0, sum[i][0]);
        sum[i][1] = dot(x, b1, sum[i][1]);
      } else {
        sum[i][0] += x * b0;
        sum[i][1] += x * b1;
      }
    }
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

inline int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

// Runs a loop on the calling thread; `Pool` runs it on all.
struct Alone {
  template <class F>
  void run(int64_t count, F body) {
    for (int64_t i = 0; i < count; ++i) body(i);
  }
};

// C (m, n) = A (m, k) B (k, n) + bias (n) or nullptr. `b` is B transposed: its element (j, k).
template <bool kBf16, class Runner>
void gemm(Runner& runner, int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, float* c,
          int64_t ldc, const float* bias) {
  constexpr int per = kBf16 ? 2 : 1;
  const int64_t words = blocks(k, per), depth = blocks(words, blocks(words, kDepth));
  const int64_t a_size = panel_size(kRows, depth), b_size = panel_size(kColumns, depth);
  const int64_t b_panels = blocks(n, kColumns), b_tasks = blocks(b_panels, kTaskColumns);
  for (int64_t top = 0; top < m; top += kMaxRows) {
    const int64_t rows = std::min(m - top, kMaxRows);
    const int64_t a_panels = blocks(rows, kRows), a_tasks = blocks(a_panels, kTaskRows);
    float* packed_a = panels(a_panels * a_size + b_panels * b_size);
    float* packed_b = packed_a + a_panels * a_size;
    for (int64_t w = 0; w < words; w += depth) {
      const int64_t count = std::min(depth, words - w), first = w * per;
      runner.run(a_tasks + b_tasks, [=](int64_t task) {
        const bool is_a = task < a_tasks;
        const Matrix& from = is_a ? a : b;
        const int width = is_a ? kRows : kColumns;
        const int64_t step = is_a ? kTaskRows : kTaskColumns, panels = is_a ? a_panels : b_panels;
        const int64_t begin = (is_a ? task : task - a_tasks) * step;
        for (int64_t p = begin; p < std::min(begin + step, panels); ++p) {
          const int64_t row = p * width, valid = std::min<int64_t>(width, (is_a ? rows : n) - row);
          const float* data =
              from.data + ((is_a ? top : 0) + row) * from.stride + first * from.k_stride;
          pack<kBf16>({data, from.stride, from.k_stride}, width, valid, count, k - first,
                      is_a ? packed_a + p * a_size : packed_b + p * b_size);
        }
      });
      runner.run(a_tasks * b_tasks, [=](int64_t task) {
        const int64_t i0 = task % a_tasks * kTaskRows, j0 = task / a_tasks * kTaskColumns;
        for (int64_t j = j0; j < std::min(j0 + kTaskColumns, b_panels); ++j) {
          for (int64_t i = i0; i < std::min(i0 + kTaskRows, a_panels); ++i) {
            const int64_t row = i * kRows, column = j * kColumns;
            tile<kBf16>(count, packed_a + i * a_size, packed_b + j * b_size,
                        c + (top + row) * ldc + column, ldc, std::min<int64_t>(kRows, rows - row),
                        std::min<int64_t>(kColumns, n - column), w || !bias ? nullptr : bias + column,
                        w > 0);
          }
        }
      });
    }
  }
}
