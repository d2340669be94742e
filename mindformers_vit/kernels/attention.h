// softmax(q kᵀ / sqrt(d) + bias) v of one head of one sample, read from the joint projection qkv
// (B, T, 3, h, d); bias (h, T, T) or nullptr. The gradient computes the softmax again, so that only
// one number a row is kept. Task number: sample * h + head.
//
// A head's matrices are too small for panels of both: of its products B alone is copied, in whole
// vectors one row after the other, and A is read where it lies.
#pragma once
#include <cmath>
#include <limits>

#include "gemm.h"

// `kRows` rows of C = A B, of B `kVectors` vectors, of which `columns` are written.
template <int kRows, int kVectors>
inline void few_rows(int64_t k, Matrix a, const float* b, int64_t ldb, float* c, int64_t ldc,
                     int64_t columns) {
  V sum[kRows][kVectors] = {};
  for (; k > 0; --k, a.data += a.k_stride, b += ldb) {
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const V x = splat(a.data[i * a.stride]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[i][v] += x * load(b + v * kLanes);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      float* to = c + i * ldc + v * kLanes;
      if (columns >= (v + 1) * kLanes) store(to, sum[i][v]);
      else store_part(to, sum[i][v], columns - v * kLanes);
    }
  }
}

template <int kVectors>
inline void few_columns(int64_t m, int64_t k, Matrix a, const float* b, int64_t ldb, float* c,
                        int64_t ldc, int64_t columns) {
  constexpr int kRows = 6;  // with 4 vectors each, nearly as many sums as there are registers
  if (m < kRows) {
    for (int64_t i = 0; i < m; ++i)
      few_rows<1, kVectors>(k, a.from(i, 0), b, ldb, c + i * ldc, ldc, columns);
    return;
  }
  for (int64_t i = 0; i < m; i += kRows) {
    const int64_t row = std::min(i, m - kRows);  // the last ones may come twice
    few_rows<kRows, kVectors>(k, a.from(row, 0), b, ldb, c + row * ldc, ldc, columns);
  }
}

// C (m, n) = A (m, k) B (k, n), B in rows of padded(n).
inline void product(int64_t m, int64_t n, int64_t k, Matrix a, const float* b, float* c,
                    int64_t ldc) {
  constexpr int kMost = kLanes == 16 ? 4 : 2;
  for (int64_t j = 0; j < n;) {
    const int64_t left = blocks(n - j, kLanes), vectors = left < kMost ? 1 + left / 2 : kMost;
    const auto part = vectors == kMost ? few_columns<kMost>
                      : vectors == 2   ? few_columns<2>
                                       : few_columns<1>;
    part(m, k, a, b + j, padded(n), c + j, ldc, n - j);
    j += vectors * kLanes;
  }
}

// A copy of t rows of d numbers for `product`.
inline void copy_rows(const float* from, int64_t stride, int64_t t, int64_t d, float* to) {
  for (; t > 0; --t, from += stride, to += padded(d))
    each_vector(d, [&](int64_t j, auto get, auto) { store(to + j, get(from + j)); });
}

struct Heads {
  int64_t batch, tokens, heads, width;
  int64_t pitch() const { return blocks(tokens, 16) * 16; }  // of scores: rows begin a cache line
  int64_t copy() const { return std::max(tokens * padded(width), width * pitch()); }
  int64_t stride() const { return heads * width; }  // from one token to the next in the output
  int64_t q(int64_t task) const {
    return task / heads * tokens * 3 * stride() + task % heads * width;
  }
  int64_t out(int64_t task) const { return task / heads * tokens * stride() + task % heads * width; }
  int64_t bias(int64_t task) const { return task % heads * tokens * tokens; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(width)); }
};

// scores (t, t) in rows of `pitch`, which times the returned factor are the logits of the softmax;
// kᵀ is copied
inline float scores_of(const Heads& heads, int64_t task, const float* qkv, const float* bias,
                       float* scores, float* copy) {
  const int64_t t = heads.tokens, row = 3 * heads.stride();
  const float *q = qkv + heads.q(task), scale = heads.scale();
  Lanes<false>::pack({q + heads.stride(), row, 1}, padded(t), t, heads.width, copy);
  product(t, t, heads.width, {q, row, 1}, copy, scores, heads.pitch());
  if (!bias) return scale;
  bias += heads.bias(task);
  for (int64_t i = 0; i < t; ++i, scores += heads.pitch(), bias += t) {
    each_vector(t, [&](int64_t j, auto get, auto put) {
      put(scores + j, get(scores + j) * scale + get(bias + j));
    });
  }
  return 1.0f;
}

inline float highest_of(const float* x, int64_t n) {
  V tops = splat(-std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) tops = load(x + i) > tops ? load(x + i) : tops;
  float top = tops[0];
  for (int lane = 1; lane < kLanes; ++lane) top = tops[lane] > top ? tops[lane] : top;
  for (; i < n; ++i) top = x[i] > top ? x[i] : top;
  return top;
}

// s (n) becomes softmax(factor s); returns the log of the denominator.
inline float softmax(float* s, int64_t n, float factor) {
  const int64_t whole = n / kLanes * kLanes;
  const float shift = highest_of(s, n) * factor;
  V sum{};
  for (int64_t j = 0; j < whole; j += kLanes) {
    const V e = exp(load(s + j) * factor - shift);
    store(s + j, e);
    sum += e;
  }
  float total = sum_of(sum);
  if (whole < n) {
    const V e = exp(load_part(s + whole, n - whole) * factor - shift);
    store_part(s + whole, e, n - whole);
    for (int64_t j = whole; j < n; ++j) total += s[j];
  }
  const float part = 1.0f / total;
  each_vector(n, [&](int64_t j, auto get, auto put) { put(s + j, get(s + j) * part); });
  return shift + std::log(total);
}

inline void attend(const Heads& heads, int64_t task, const float* qkv, const float* bias,
                   float* out, float* log_sums) {
  const int64_t t = heads.tokens, d = heads.width, wide = heads.stride(), pitch = heads.pitch();
  const float* v = qkv + heads.q(task) + 2 * wide;
  float *scores = panels<2>(t * pitch + heads.copy()), *copy = scores + t * pitch;
  const float factor = scores_of(heads, task, qkv, bias, scores, copy);
  for (int64_t i = 0; i < t; ++i) log_sums[task * t + i] = softmax(scores + i * pitch, t, factor);
  copy_rows(v, 3 * wide, t, d, copy);
  product(t, d, t, {scores, pitch, 1}, copy, out + heads.out(task), wide);
}

inline float inner(const float* a, const float* b, int64_t n) {
  V products{};
  each_vector(n, [&](int64_t i, auto get, auto) { products += get(a + i) * get(b + i); });
  return sum_of(products);
}

// With P the softmax and O = P v: dv = Pᵀ dO, dbias += P (dO vᵀ - rowsum(dO O)), which times the
// scale is dS; dq = dS k, dk = dSᵀ q.
inline void attend_grad(const Heads& heads, int64_t task, const float* qkv, const float* bias,
                        const float* out, const float* log_sums, const float* dout, float* dqkv,
                        float* dbias) {
  const int64_t t = heads.tokens, d = heads.width, wide = heads.stride(), row = 3 * wide;
  const int64_t pitch = heads.pitch();
  const float *q = qkv + heads.q(task), *k = q + wide, *v = k + wide;
  const float *o = out + heads.out(task), *grad = dout + heads.out(task), scale = heads.scale();
  float* dq = dqkv + heads.q(task);
  float *p = panels<2>(2 * t * pitch + heads.copy()), *ds = p + t * pitch, *copy = ds + t * pitch;
  const float factor = scores_of(heads, task, qkv, bias, p, copy);
  Lanes<false>::pack({v, row, 1}, padded(t), t, d, copy);
  product(t, t, d, {grad, wide, 1}, copy, ds, pitch);
  for (int64_t i = 0; i < t; ++i) {
    const float mean = inner(o + i * wide, grad + i * wide, d), shift = log_sums[task * t + i];
    float* sums = dbias ? dbias + heads.bias(task) + i * t : nullptr;
    each_vector(t, [&](int64_t j, auto get, auto put) {
      const V e = exp(get(p + i * pitch + j) * factor - shift);
      const V dlogit = e * (get(ds + i * pitch + j) - mean);
      put(p + i * pitch + j, e);
      if (sums) put(sums + j, get(sums + j) + dlogit);
      put(ds + i * pitch + j, dlogit * scale);
    });
  }
  copy_rows(grad, wide, t, d, copy);
  product(t, d, t, {p, 1, pitch}, copy, dq + 2 * wide, row);
  copy_rows(k, row, t, d, copy);
  product(t, d, t, {ds, pitch, 1}, copy, dq, row);
  copy_rows(q, row, t, d, copy);
  product(t, d, t, {ds, 1, pitch}, copy, dq + wide, row);
}
