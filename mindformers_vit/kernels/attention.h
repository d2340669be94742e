// softmax(q kᵀ / sqrt(d) + bias) v of one head of one sample, read from the joint projection qkv
// (B, T, 3, h, d); bias (h, T, T) or nullptr. The gradient computes the softmax again, so that only
// one number a row is kept. Task number: sample * h + head.
#pragma once
#include <cmath>
#include <limits>

#include "gemm.h"

using Small = Lanes<false>;  // for tiles a head's products are too small: slicing outweighs the rest

struct Heads {
  int64_t batch, tokens, heads, width;
  int64_t pitch() const { return (tokens + 15) / 16 * 16; }  // of scores: rows begin a cache line
  int64_t stride() const { return heads * width; }  // from one token to the next in the output
  int64_t q(int64_t task) const {
    return task / heads * tokens * 3 * stride() + task % heads * width;
  }
  int64_t out(int64_t task) const { return task / heads * tokens * stride() + task % heads * width; }
  int64_t bias(int64_t task) const { return task % heads * tokens * tokens; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(width)); }
};

// scores (t, t) in rows of `pitch`, which times the returned factor are the logits of the softmax
inline float scores_of(const Heads& heads, int64_t task, const float* qkv, const float* bias,
                       float* scores) {
  Alone alone;
  const int64_t t = heads.tokens, row = 3 * heads.stride();
  const float *q = qkv + heads.q(task), scale = heads.scale();
  gemm<Small>(alone, t, t, heads.width, {q, row, 1}, {q + heads.stride(), row, 1}, scores,
              heads.pitch(), nullptr);
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
  Alone alone;
  const int64_t t = heads.tokens, row = 3 * heads.stride(), pitch = heads.pitch();
  const float* v = qkv + heads.q(task) + 2 * heads.stride();
  float* scores = panels<2>(t * pitch);
  const float factor = scores_of(heads, task, qkv, bias, scores);
  for (int64_t i = 0; i < t; ++i) log_sums[task * t + i] = softmax(scores + i * pitch, t, factor);
  gemm<Small>(alone, t, heads.width, t, {scores, pitch, 1}, {v, 1, row}, out + heads.out(task),
              heads.stride(), nullptr);
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
  Alone alone;
  const int64_t t = heads.tokens, d = heads.width, wide = heads.stride(), row = 3 * wide;
  const int64_t pitch = heads.pitch();
  const float *q = qkv + heads.q(task), *k = q + wide, *v = k + wide;
  const float *o = out + heads.out(task), *grad = dout + heads.out(task), scale = heads.scale();
  float* dq = dqkv + heads.q(task);
  float *p = panels<2>(2 * t * pitch), *ds = p + t * pitch;
  const float factor = scores_of(heads, task, qkv, bias, p);
  gemm<Small>(alone, t, t, d, {grad, wide, 1}, {v, row, 1}, ds, pitch, nullptr);
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
  gemm<Small>(alone, t, d, t, {p, 1, pitch}, {grad, 1, wide}, dq + 2 * wide, row, nullptr);
  gemm<Small>(alone, t, d, t, {ds, pitch, 1}, {k, 1, row}, dq, row, nullptr);
  gemm<Small>(alone, t, d, t, {ds, 1, pitch}, {q, 1, row}, dq + wide, row, nullptr);
}
