// The operators that mindformers_vit computes on CPU itself, in MindSpore's ahead-of-time form:
// `params` holds the addresses of the inputs, then of the outputs; 0 means done. `cells.py` binds
// them and says what each computes. float32, C-contiguous.
//
// Sums over rows are made of partial sums of fixed parts, added in order.
#include "attention.h"
#include "pointwise.h"

namespace {

constexpr int64_t kChunk = 1 << 14;       // elements of a task of an elementwise loop
constexpr int64_t kWorthSlicing = 256;    // the least dimension of a float32 product by tiles

struct Arguments {
  void** params;
  int* ndims;
  int64_t** shapes;
  float* operator[](int i) const { return static_cast<float*>(params[i]); }
  int64_t dim(int i, int axis) const { return shapes[i][axis]; }
  int64_t size(int i) const {
    int64_t n = 1;
    for (int axis = 0; axis < ndims[i]; ++axis) n *= shapes[i][axis];
    return n;
  }
  int64_t last(int i) const { return shapes[i][ndims[i] - 1]; }
};

// f(first, count) over the chunks of n elements.
template <class F>
void each_chunk(int64_t n, F f) {
  Pool::get().run(blocks(n, kChunk), [&](int64_t task) {
    f(task * kChunk, std::min(kChunk, n - task * kChunk));
  });
}

// f(i) over m rows of d elements.
template <class F>
void each_row(int64_t m, int64_t d, F f) {
  const int64_t rows = std::max<int64_t>(1, kChunk / std::max<int64_t>(1, d));
  Pool::get().run(blocks(m, rows), [&](int64_t task) {
    for (int64_t i = task * rows; i < std::min(m, (task + 1) * rows); ++i) f(i);
  });
}

// A part of the input i.
struct Chunk {
  int i;
  int64_t first, size;
};

// All parts of the inputs [0, inputs).
std::vector<Chunk> chunks_of(const Arguments& args, int inputs) {
  std::vector<Chunk> chunks;
  for (int i = 0; i < inputs; ++i)
    for (int64_t first = 0; first < args.size(i); first += kChunk)
      chunks.push_back({i, first, std::min(kChunk, args.size(i) - first)});
  return chunks;
}

template <bool kBf16>
void multiply(int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, float* c, const float* bias) {
  if (!kBf16 && std::min({m, n, k}) < kWorthSlicing)
    gemm<Lanes<false>>(m, n, k, a, b, c, n, bias);
  else
    gemm<Format<kBf16>>(m, n, k, a, b, c, n, bias);
}

// x (M, K), w (N, K), bias (N) or nullptr -> x wᵀ + bias (M, N)
template <bool kBf16>
void linear(const Arguments& args, const float* x, const float* bias, float* y) {
  const int64_t m = args.dim(0, 0), k = args.dim(0, 1), n = args.dim(1, 0);
  multiply<kBf16>(m, n, k, {x, k, 1}, {args[1], k, 1}, y, bias);
}

// dy (M, N), w (N, K) -> dy w (M, K)
template <bool kBf16>
void linear_dx(const Arguments& args, int w, float* dx) {
  const int64_t m = args.dim(0, 0), n = args.dim(0, 1), k = args.dim(w, 1);
  multiply<kBf16>(m, k, n, {args[0], n, 1}, {args[w], 1, k}, dx, nullptr);
}

// dy (M, N), x (M, K) -> dyᵀ x (N, K)
template <bool kBf16>
void linear_dw(const Arguments& args, const float* x) {
  const int64_t m = args.dim(0, 0), n = args.dim(0, 1), k = args.dim(1, 1);
  multiply<kBf16>(n, k, m, {args[0], 1, n}, {x, 1, k}, args[2], nullptr);
}

// gelu(x), in memory of the calling thread
const float* gelu_of(const float* x, int64_t size) {
  float* y = panels<2>(size);
  each_chunk(size, [&](int64_t first, int64_t n) {
    each_vector(n, [&](int64_t i, auto get, auto put) {
      const V v = get(x + first + i);
      put(y + first + i, v * normal_cdf(v));
    });
  });
  return y;
}

// dy gelu'(x); dx may be dy
void gelu_gradient(const float* x, const float* dy, float* dx, int64_t size) {
  each_chunk(size, [&](int64_t first, int64_t n) {
    each_vector(n, [&](int64_t i, auto get, auto put) {
      const V v = get(x + first + i);
      put(dx + first + i, get(dy + first + i) * (normal_cdf(v) + v * normal_density(v)));
    });
  });
}

Heads heads_of(const Arguments& args) {
  return {args.dim(0, 0), args.dim(0, 1), args.dim(0, 3), args.dim(0, 4)};
}

}  // namespace

#define OPERATOR(name)                                                                        \
  static void run_##name(const Arguments& args, int count);                                   \
  EXPORT int name(int count, void** params, int* ndims, int64_t** shapes,                     \
                      const char** dtypes, void*, void*) {                                    \
    for (int i = 0; i < count; ++i)                                                           \
      if (std::strcmp(dtypes[i], "float32") != 0) return 1;                                   \
    run_##name({params, ndims, shapes}, count);                                               \
    return 0;                                                                                 \
  }                                                                                           \
  static void run_##name([[maybe_unused]] const Arguments& args, [[maybe_unused]] int count)

// 0: done; anything else: this process may not use what the library was compiled for.
EXPORT int start(int threads) {
  Pool::get().resize(threads);
  return may_multiply() ? 0 : 1;
}
EXPORT int has_bf16() { return kHasBf16; }
EXPORT int lanes() { return kLanes; }
EXPORT int tiles() { return kTiles; }

// x (M, K), w (N, K), bias (N) or nothing -> x wᵀ + bias (M, N)
OPERATOR(linear_fp32) { linear<false>(args, args[0], count == 4 ? args[2] : nullptr, args[count - 1]); }
OPERATOR(linear_bf16) { linear<true>(args, args[0], count == 4 ? args[2] : nullptr, args[count - 1]); }

// dy (M, N), w (N, K) -> dy w (M, K)
OPERATOR(linear_dx_fp32) { linear_dx<false>(args, 1, args[2]); }
OPERATOR(linear_dx_bf16) { linear_dx<true>(args, 1, args[2]); }

// dy (M, N), x (M, K) -> dyᵀ x (N, K)
OPERATOR(linear_dw_fp32) { linear_dw<false>(args, args[1]); }
OPERATOR(linear_dw_bf16) { linear_dw<true>(args, args[1]); }

// x (M, N) -> sums of its columns (N)
OPERATOR(column_sums) {
  const int64_t n = args.dim(0, 1);
  sum_rows(args.dim(0, 0), n, args[1],
           [&](int64_t row, float* sums) { add_to(sums, args[0] + row * n, n); });
}

// x (M, K), w (N, K), bias (N) -> gelu(x) wᵀ + bias (M, N); the activations are not kept
OPERATOR(gelu_linear_fp32) { linear<false>(args, gelu_of(args[0], args.size(0)), args[2], args[3]); }
OPERATOR(gelu_linear_bf16) { linear<true>(args, gelu_of(args[0], args.size(0)), args[2], args[3]); }

// dy (M, N), x (M, K), w (N, K) -> (dy w) gelu'(x) (M, K)
OPERATOR(gelu_linear_dx_fp32) {
  linear_dx<false>(args, 2, args[3]);
  gelu_gradient(args[1], args[3], args[3], args.size(1));
}
OPERATOR(gelu_linear_dx_bf16) {
  linear_dx<true>(args, 2, args[3]);
  gelu_gradient(args[1], args[3], args[3], args.size(1));
}

// dy (M, N), x (M, K) -> dyᵀ gelu(x) (N, K)
OPERATOR(gelu_linear_dw_fp32) { linear_dw<false>(args, gelu_of(args[1], args.size(1))); }
OPERATOR(gelu_linear_dw_bf16) { linear_dw<true>(args, gelu_of(args[1], args.size(1))); }

// x -> gelu(x)
OPERATOR(gelu) {
  each_chunk(args.size(0), [&](int64_t first, int64_t n) {
    const float* x = args[0] + first;
    float* y = args[1] + first;
    each_vector(n, [&](int64_t i, auto get, auto put) {
      const V v = get(x + i);
      put(y + i, v * normal_cdf(v));
    });
  });
}

// x, dy -> dy gelu'(x)
OPERATOR(gelu_grad) { gelu_gradient(args[0], args[1], args[2], args.size(0)); }

// x (M, D), gamma (D), beta (D), eps (1) -> y (M, D), mean (M), 1 / deviation (M)
OPERATOR(layer_norm) {
  const int64_t d = args.dim(0, 1);
  each_row(args.dim(0, 0), d, [&](int64_t i) {
    norm_row(args[0] + i * d, args[1], args[2], args[3][0], d, args[4] + i * d, args[5] + i,
             args[6] + i);
  });
}

// x (M, D), mean (M), 1 / deviation (M), dy (M, D) -> dgamma (D), dbeta (D)
OPERATOR(layer_norm_sums) {
  const int64_t d = args.dim(0, 1);
  std::vector<float> both(2 * d);
  sum_rows(args.dim(0, 0), 2 * d, both.data(), [&](int64_t i, float* sums) {
    norm_row_sums(args[0] + i * d, args[1][i], args[2][i], args[3] + i * d, d, sums, sums + d);
  });
  std::copy_n(both.data(), d, args[4]);
  std::copy_n(both.data() + d, d, args[5]);
}

// x (M, D), gamma (D), mean (M), 1 / deviation (M), dy (M, D) -> dx (M, D)
OPERATOR(layer_norm_dx) {
  const int64_t d = args.dim(0, 1);
  each_row(args.dim(0, 0), d, [&](int64_t i) {
    norm_row_dx(args[0] + i * d, args[1], args[2][i], args[3][i], args[4] + i * d, d,
                args[5] + i * d);
  });
}

// x, y (M, D) -> the means of the rows of (x - y)² (M)
OPERATOR(row_errors) {
  const int64_t d = args.dim(0, 1);
  each_row(args.dim(0, 0), d, [&](int64_t i) {
    args[2][i] = square_distance(args[0] + i * d, args[1] + i * d, d) / d;
  });
}

// x, y (M, D), the gradients of the means (M) -> dx (M, D)
OPERATOR(row_errors_dx) {
  const int64_t d = args.dim(0, 1);
  each_row(args.dim(0, 0), d, [&](int64_t i) {
    const float factor = args[2][i] * 2 / d;
    each_vector(d, [&](int64_t j, auto get, auto put) {
      const int64_t at = i * d + j;
      put(args[3] + at, (get(args[0] + at) - get(args[1] + at)) * factor);
    });
  });
}

// qkv (B, T, 3, h, d), bias (h, T, T) or nothing -> out (B, T, h, d), log of the softmax's
// denominators (B, h, T)
OPERATOR(attention) {
  const Heads heads = heads_of(args);
  const float* bias = count == 4 ? args[1] : nullptr;
  Pool::get().run(heads.batch * heads.heads, [&](int64_t task) {
    attend(heads, task, args[0], bias, args[count - 2], args[count - 1]);
  });
}

// qkv, out, log denominators, dout (B, T, h, d) -> dqkv
OPERATOR(attention_grad) {
  const Heads heads = heads_of(args);
  Pool::get().run(heads.batch * heads.heads, [&](int64_t task) {
    attend_grad(heads, task, args[0], nullptr, args[1], args[2], args[3], args[4], nullptr);
  });
}

// qkv, bias, out, log denominators, dout -> dqkv, dbias; a thread goes through the batch of a head
// in order, so that dbias has one sum
OPERATOR(biased_attention_grad) {
  const Heads heads = heads_of(args);
  Pool::get().run(heads.heads, [&](int64_t head) {
    std::fill_n(args[6] + heads.bias(head), heads.tokens * heads.tokens, 0.0f);
    for (int64_t task = head; task < heads.batch * heads.heads; task += heads.heads)
      attend_grad(heads, task, args[0], args[1], args[2], args[3], args[4], args[5], args[6]);
  });
}

// n parameters, n of m, n of v, n gradients, rates (n), kept (n), (beta1, beta2, eps) -> unused (1);
// parameters, m and v are changed in place
OPERATOR(adamw) {
  const int n = (count - 4) / 4;
  const float *rates = args[4 * n], *kept = args[4 * n + 1], *common = args[4 * n + 2];
  const std::vector<Chunk> chunks = chunks_of(args, n);
  Pool::get().run(chunks.size(), [&](int64_t task) {
    const auto [i, first, size] = chunks[task];
    adamw_update(args[i] + first, args[n + i] + first, args[2 * n + i] + first,
                 args[3 * n + i] + first, rates[i], kept[i], common, size);
  });
  args[count - 1][0] = 0;
}

// any number of arrays -> the sum of all their squares (1)
OPERATOR(sum_of_squares) {
  const std::vector<Chunk> chunks = chunks_of(args, count - 1);
  std::vector<double> parts(chunks.size());
  Pool::get().run(chunks.size(), [&](int64_t task) {
    const float* from = args[chunks[task].i] + chunks[task].first;
    V total{};
    each_vector(chunks[task].size, [&](int64_t j, auto get, auto) {
      const V x = get(from + j);
      total += x * x;
    });
    parts[task] = sum_of(total);
  });
  double total = 0;
  for (double part : parts) total += part;
  args[count - 1][0] = static_cast<float>(total);
}
