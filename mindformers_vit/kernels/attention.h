// softmax(q kᵀ / sqrt(d)) v of one head of one sample, read from the joint projection qkv
// (B, T, 3, h, d). The gradient computes the softmax again, so that only one number a row is kept.
#pragma once
#include <cmath>
#include <limits>
#include <vector>

#include "gemm.h"

struct Heads {
  int64_t batch, tokens, heads, width;
  int64_t stride() const { return heads * width; }  // from one token to the next in the output
  int64_t q(int64_t task) const {
    return task / heads * tokens * 3 * stride() + task % heads * width;
  }
  int64_t out(int64_t task) const { return task / heads * tokens * stride() + task % heads * width; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(width)); }
};

inline float* scratch(size_t size) {
  static thread_local std::vector<float> memory;
  if (memory.size() < size) memory.resize(size);
  return memory.data();
}

// scores (t, t) = q kᵀ
inline void scores_of(const Heads& heads, const float* q, float* scores) {
  Alone alone;
  const int64_t t = heads.tokens, row = 3 * heads.stride();
  gemm<false>(alone, t, t, heads.width, {q, row, 1}, {q + heads.stride(), row, 1}, scores, t,
              nullptr);
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

inline void attend(const Heads& heads, int64_t task, const float* qkv, float* out, float* log_sums) {
  Alone alone;
  const int64_t t = heads.tokens, row = 3 * heads.stride();
  const float* q = qkv + heads.q(task);
  float* scores = scratch(t * t);
  scores_of(heads, q, scores);
  for (int64_t i = 0; i < t; ++i) {
    float* s = scores + i * t;
    const float shift = highest_of(s, t) * heads.scale();
    V sum{};
    const int64_t whole = t / kLanes * kLanes;
    for (int64_t j = 0; j < whole; j += kLanes) {
      const V e = exp(load(s + j) * heads.scale() - shift);
      store(s + j, e);
      sum += e;
    }
    float total = sum_of(sum);
    if (whole < t) {
      const V e = exp(load_part(s + whole, t - whole) * heads.scale() - shift);
      store_part(s + whole, e, t - whole);
      for (int64_t j = whole; j < t; ++j) total += s[j];
    }
    const float factor = 1.0f / total;
    each_vector(t, [&](int64_t j, auto get, auto put) { put(s + j, get(s + j) * factor); });
    log_sums[task * t + i] = shift + std::log(total);
  }
  gemm<false>(alone, t, heads.width, t, {scores, t, 1}, {q + 2 * heads.stride(), 1, row},
              out + heads.out(task), heads.stride(), nullptr);
}

// With P the softmax and O = P v: dv = Pᵀ dO, dS = P (dO vᵀ - rowsum(dO O)) scale, dq = dS k,
// dk = dSᵀ q.
inline void attend_grad(const Heads& heads, int64_t task, const float* qkv, const float* out,
                        const float* log_sums, const float* dout, float* dqkv) {
  Alone alone;
  const int64_t t = heads.tokens, d = heads.width, wide = heads.stride(), row = 3 * wide;
  const float *q = qkv + heads.q(task), *k = q + wide, *v = k + wide;
  const float *o = out + heads.out(task), *grad = dout + heads.out(task);
  float* dq = dqkv + heads.q(task);
  float *p = scratch(2 * t * t), *ds = p + t * t;
  scores_of(heads, q, p);
  gemm<false>(alone, t, t, d, {grad, wide, 1}, {v, row, 1}, ds, t, nullptr);
  for (int64_t i = 0; i < t; ++i) {
    V products{};
    each_vector(d, [&](int64_t j, auto get, auto) {
      products += get(o + i * wide + j) * get(grad + i * wide + j);
    });
    const float mean = sum_of(products), shift = log_sums[task * t + i];
    each_vector(t, [&](int64_t j, auto get, auto put) {
      const V e = exp(get(p + i * t + j) * heads.scale() - shift);
      put(p + i * t + j, e);
      put(ds + i * t + j, e * (get(ds + i * t + j) - mean) * heads.scale());
    });
  }
  gemm<false>(alone, t, d, t, {p, 1, t}, {grad, 1, wide}, dq + 2 * wide, row, nullptr);
  gemm<false>(alone, t, d, t, {ds, t, 1}, {k, 1, row}, dq, row, nullptr);
  gemm<false>(alone, t, d, t, {ds, 1, t}, {q, 1, row}, dq + wide, row, nullptr);
}
