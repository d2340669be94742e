// C = A B (+ bias) of float32 matrices, in float32 or with bf16 products summed in float32.
//
// The scheme is the usual one (Goto & van de Geijn 2008): panels of A and B are copied so that the
// innermost loop reads them in order, a tile of C stays in registers. A task goes through the whole
// depth, chunk by chunk, so its part of C stays in the core's own cache. Vectors can read rows of A
// in place, which is sooner where B is so small that its panels serve all tasks. Each element of C is
// summed over k in one fixed order, whatever the threads do.
//
// What a panel looks like and what multiplies two of them is a "format": `Lanes` of vectors, or
// the `Tiles` of a CPU that has AMX.
#pragma once
#include "lanes.h"
#include "threads.h"
#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && !defined(NO_TILES)
#include "tiles.h"
constexpr bool kTiles = true;
template <bool kBf16>
using Format = Tiles<kBf16 ? 1 : 3>;
#else
constexpr bool kTiles = false;
template <bool kBf16>
using Format = Lanes<kBf16>;
inline bool may_multiply() { return true; }
#endif

constexpr int64_t kTaskRows = 8;       // panels of a task, at the least
constexpr int64_t kTasks = 8;          // that a product should have, for the threads
constexpr int64_t kCopied = 8 << 20;   // floats of A at a time, in panels
constexpr int64_t kSmall = 512 << 10;  // floats of B, in panels, that all tasks may share

// Memory of the calling thread that begins with a whole cache line; the next call with the same
// number may move it.
template <int kNumber>
float* panels(size_t size) {
  static thread_local std::vector<float> memory;
  if (memory.size() < size + 16) memory.resize(size + 16);
  void* first = memory.data();
  size_t space = memory.size() * sizeof(float);
  return static_cast<float*>(std::align(64, size * sizeof(float), first, space));
}

// C (m, n) = A (m, k) B (k, n) + bias (n) or nullptr. `b` is B transposed: its element (j, k).
template <class F>
struct Product {
  int64_t m, n, k;
  Matrix a, b;
  float* c;
  int64_t ldc;
  const float* bias;
  int64_t chunks = blocks(blocks(k, F::kStep), F::kDepth);
  int64_t depth = blocks(blocks(k, F::kStep), chunks) * F::kStep;
  int64_t a_size = F::size(F::kRows, depth), b_size = F::size(F::kColumns, depth);
  int64_t a_panels = blocks(m, F::kRows), b_panels = blocks(n, F::kColumns);

  int64_t rows(int64_t i) const { return std::min<int64_t>(F::kRows, m - i * F::kRows); }
  int64_t columns(int64_t j) const { return std::min<int64_t>(F::kColumns, n - j * F::kColumns); }
  int64_t length(int64_t chunk) const { return std::min(depth, k - chunk * depth); }

  void pack_a(int64_t i, int64_t chunk, float* to) const {
    F::pack_a(a.from(i * F::kRows, chunk * depth), rows(i), length(chunk), to);
  }
  void pack_b(int64_t j, int64_t chunk, float* to) const {
    F::pack_b(b.from(j * F::kColumns, chunk * depth), columns(j), length(chunk), to);
  }
  // multiply(where the tile of C is, its columns, what to begin with, whether to add to it)
  template <class M>
  void tile(int64_t i, int64_t j, int64_t chunk, M multiply) const {
    const int64_t column = j * F::kColumns;
    multiply(c + i * F::kRows * ldc + column, columns(j), chunk || !bias ? nullptr : bias + column,
             chunk > 0);
  }

  // B is small: all of it in panels first. A task is some rows of A, read where they lie.
  void by_rows() const {
    float* packed_b = panels<0>(chunks * b_panels * b_size);
    const auto panel_b = [=](int64_t j, int64_t chunk) {
      return packed_b + (chunk * b_panels + j) * b_size;
    };
    Pool::get().run(b_panels, [&](int64_t j) {
      for (int64_t chunk = 0; chunk < chunks; ++chunk) pack_b(j, chunk, panel_b(j, chunk));
    });
    Pool::get().run(a_panels, [&](int64_t i) {
      float* last = rows(i) < F::kRows ? panels<1>(a_size) : nullptr;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const int64_t count = length(chunk);
        const float* from = a.from(i * F::kRows, chunk * depth).data;
        if (last) pack_a(i, chunk, last);
        for (int64_t j = 0; j < b_panels; ++j) {
          tile(i, j, chunk, [&](float* to, int64_t width, const float* first, bool add) {
            const float* panel = panel_b(j, chunk);
            if (last) F::multiply(count, last, panel, to, ldc, rows(i), width, first, add);
            else F::multiply_rows(count, from, a.stride, panel, to, ldc, width, first, add);
          });
        }
      }
    });
  }

  // All of A in panels first; a task copies some panels of B, which stay in the core's own cache.
  void by_blocks() const {
    const int64_t b_tasks = blocks(b_panels, F::kTask), a_tasks = blocks(a_panels, kTaskRows);
    const int64_t groups = std::min(blocks(kTasks, b_tasks), a_tasks);
    float* packed_a = panels<0>(chunks * a_panels * a_size);
    const auto panel_a = [=](int64_t i, int64_t chunk) {
      return packed_a + (chunk * a_panels + i) * a_size;
    };
    Pool::get().run(a_panels, [&](int64_t i) {
      for (int64_t chunk = 0; chunk < chunks; ++chunk) pack_a(i, chunk, panel_a(i, chunk));
    });
    Pool::get().run(groups * b_tasks, [&](int64_t task) {
      const int64_t j0 = task / groups * F::kTask, j1 = std::min(j0 + F::kTask, b_panels);
      const int64_t i0 = task % groups * a_panels / groups,
                    i1 = (task % groups + 1) * a_panels / groups;
      float* packed_b = panels<1>(F::kTask * b_size);
      [[maybe_unused]] typename F::Session session;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        for (int64_t j = j0; j < j1; ++j) pack_b(j, chunk, packed_b + (j - j0) * b_size);
        const int64_t count = length(chunk);
        for (int64_t i = i0; i < i1; ++i) {
          for (int64_t j = j0; j < j1; ++j) {
            tile(i, j, chunk, [&](float* to, int64_t width, const float* first, bool add) {
              F::multiply(count, panel_a(i, chunk), packed_b + (j - j0) * b_size, to, ldc, rows(i),
                          width, first, add);
            });
          }
        }
      }
    });
  }
};

template <class F>
void gemm(int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, float* c, int64_t ldc,
          const float* bias) {
  if (k == 0) {  // a sum of nothing
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) c[i * ldc + j] = bias ? bias[j] : 0.0f;
  }
  if (m == 0 || n == 0 || k == 0) return;
  const Product<F> all{m, n, k, a, b, c, ldc, bias};
  if constexpr (std::is_same_v<F, Lanes<false>>) {
    const int64_t size = all.chunks * all.b_panels * all.b_size;
    if (a.k_stride == 1 && size <= kSmall && all.a_panels >= kTasks) return all.by_rows();
  }
  const int64_t most = std::max(kTaskRows, kCopied / (all.chunks * all.a_size)) * F::kRows;
  for (int64_t top = 0; top < m; top += most)
    Product<F>{std::min(m - top, most), n, k, a.from(top, 0), b, c + top * ldc, ldc, bias}.by_blocks();
}
