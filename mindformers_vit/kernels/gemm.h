// C = A B (+ bias) of float32 matrices, in float32 or with bf16 products summed in float32.
//
// The scheme is the usual one (Goto & van de Geijn 2008): panels of A and B are copied so that the
// innermost loop reads them in order, a tile of C stays in registers. A task goes through the whole
// depth, chunk by chunk, so its part of C stays in the core's own cache. Each element of C is summed
// over k in one fixed order, whatever the threads do.
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
void gemm(int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, float* c, int64_t ldc,
          const float* bias) {
  if (k == 0) {  // a sum of nothing
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) c[i * ldc + j] = bias ? bias[j] : 0.0f;
  }
  if (m == 0 || n == 0 || k == 0) return;
  Pool& pool = Pool::get();
  const int64_t steps = blocks(k, F::kStep), chunks = blocks(steps, F::kDepth);
  const int64_t depth = blocks(steps, chunks) * F::kStep;
  const int64_t a_size = F::size(F::kRows, depth), b_size = F::size(F::kColumns, depth);
  const int64_t b_panels = blocks(n, F::kColumns), b_tasks = blocks(b_panels, F::kTask);
  const int64_t most = std::max(kTaskRows, kCopied / (chunks * a_size)) * F::kRows;
  for (int64_t top = 0; top < m; top += most) {
    const int64_t rows = std::min(m - top, most);
    const int64_t a_panels = blocks(rows, F::kRows), a_tasks = blocks(a_panels, kTaskRows);
    const int64_t groups = std::min(blocks(kTasks, b_tasks), a_tasks);
    float* packed_a = panels<0>(chunks * a_panels * a_size);
    pool.run(a_panels, [=](int64_t i) {
      const int64_t row = i * F::kRows, valid = std::min<int64_t>(F::kRows, rows - row);
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const int64_t first = chunk * depth;
        F::pack_a(a.from(top + row, first), valid, std::min(depth, k - first),
                  packed_a + (chunk * a_panels + i) * a_size);
      }
    });
    pool.run(groups * b_tasks, [=](int64_t task) {
      const int64_t j0 = task / groups * F::kTask, j1 = std::min(j0 + F::kTask, b_panels);
      const int64_t i0 = task % groups * a_panels / groups,
                    i1 = (task % groups + 1) * a_panels / groups;
      float* packed_b = panels<1>(F::kTask * b_size);
      typename F::Session session;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const int64_t first = chunk * depth, count = std::min(depth, k - first);
        const float* panel_a = packed_a + chunk * a_panels * a_size;
        for (int64_t j = j0; j < j1; ++j) {
          const int64_t column = j * F::kColumns;
          F::pack_b(b.from(column, first), std::min<int64_t>(F::kColumns, n - column), count,
                    packed_b + (j - j0) * b_size);
        }
        for (int64_t i = i0; i < i1; ++i) {
          for (int64_t j = j0; j < j1; ++j) {
            const int64_t row = i * F::kRows, column = j * F::kColumns;
            F::multiply(count, panel_a + i * a_size, packed_b + (j - j0) * b_size,
                        c + (top + row) * ldc + column, ldc,
                        std::min<int64_t>(F::kRows, rows - row),
                        std::min<int64_t>(F::kColumns, n - column),
                        chunk || !bias ? nullptr : bias + column, chunk > 0);
          }
        }
      }
    });
  }
}
