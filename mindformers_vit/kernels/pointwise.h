// GELU, layer normalisation and AdamW on vectors and rows.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "threads.h"
#include "vectors.h"

// The normal distribution's Φ(x) as sigmoid(x P(x²)); P is that of models/layers/gelu.py.
inline V normal_cdf(V x) {
  const V u = x * x;
  V p = u * 3.691223104951291e-09f - 2.699704850783746e-07f;
  p = p * u + 7.981807357282378e-06f;
  p = p * u - 0.00011077378439949825f;
  p = p * u - 6.527615914819762e-05f;
  p = p * u + 0.07266712933778763f;
  p = p * u + 1.5957690477371216f;
  return 1.0f / (1.0f + exp(-p * x));
}

inline V normal_density(V x) { return exp(x * x * -0.5f) * 0.3989422804014327f; }

inline float square_distance(const float* x, const float* y, int64_t n) {
  V total{};
  each_vector(n, [&](int64_t i, auto get, auto) {
    const V difference = get(x + i) - get(y + i);
    total += difference * difference;
  });
  return sum_of(total);
}

inline void add_to(float* sums, const float* x, int64_t n) {
  each_vector(n, [&](int64_t i, auto get, auto put) { put(sums + i, get(sums + i) + get(x + i)); });
}

// out (n) = the sum over rows [0, m) of what f(row, sums) adds to its sums (n).
template <class F>
void sum_rows(int64_t m, int64_t n, float* out, F f) {
  constexpr int64_t kRowsOfPart = 64;
  const int64_t parts = blocks(m, kRowsOfPart);
  std::vector<float> sums(parts * n);
  Pool::get().run(parts, [&](int64_t part) {
    for (int64_t row = part * kRowsOfPart; row < std::min(m, (part + 1) * kRowsOfPart); ++row)
      f(row, sums.data() + part * n);
  });
  std::fill(out, out + n, 0.0f);
  for (int64_t part = 0; part < parts; ++part) add_to(out, sums.data() + part * n, n);
}

inline void norm_row(const float* x, const float* gamma, const float* beta, float eps, int64_t d,
                     float* y, float* mean_out, float* scale_out) {
  V total{};
  each_vector(d, [&](int64_t i, auto get, auto) { total += get(x + i); });
  const float mean = sum_of(total) / d;
  V square{};
  const int64_t whole = d / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    const V centred = load(x + i) - mean;
    square += centred * centred;
  }
  float squares = sum_of(square);
  for (int64_t i = whole; i < d; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / std::sqrt(squares / d + eps);
  each_vector(d, [&](int64_t i, auto get, auto put) {
    put(y + i, (get(x + i) - mean) * scale * get(gamma + i) + get(beta + i));
  });
  *mean_out = mean;
  *scale_out = scale;
}

// Adds dy x̂ and dy to the sums.
inline void norm_row_sums(const float* x, float mean, float scale, const float* dy, int64_t d,
                          float* dgamma, float* dbeta) {
  each_vector(d, [&](int64_t i, auto get, auto put) {
    const V g = get(dy + i), normed = (get(x + i) - mean) * scale;
    put(dgamma + i, get(dgamma + i) + g * normed);
    put(dbeta + i, get(dbeta + i) + g);
  });
}

// dx = r (γ dy - ⟨γ dy⟩ - x̂ ⟨γ dy x̂⟩), with ⟨⟩ the mean of a row.
inline void norm_row_dx(const float* x, const float* gamma, float mean, float scale,
                        const float* dy, int64_t d, float* dx) {
  V first{}, second{};
  each_vector(d, [&](int64_t i, auto get, auto put) {
    const V g = get(dy + i) * get(gamma + i), normed = (get(x + i) - mean) * scale;
    put(dx + i, g);  // γ dy as it is rounded in the mean, which may cancel it
    first += g;
    second += g * normed;
  });
  const float a = sum_of(first) / d, b = sum_of(second) / d;
  each_vector(d, [&](int64_t i, auto get, auto put) {
    const V normed = (get(x + i) - mean) * scale;
    put(dx + i, (get(dx + i) - a - normed * b) * scale);
  });
}

// `common` is (beta1, beta2, eps); optim/adamw.py has the formula.
inline void adamw_update(float* p, float* m, float* v, const float* g, float rate, float kept,
                         const float* common, int64_t n) {
  const float new1 = 1.0f - common[0], new2 = 1.0f - common[1], eps = common[2];
  each_vector(n, [&](int64_t i, auto get, auto put) {
    const V grad = get(g + i);
    V first = get(m + i), second = get(v + i);
    first += (grad - first) * new1;
    second += (grad * grad - second) * new2;
    put(m + i, first);
    put(v + i, second);
    put(p + i, get(p + i) * kept - rate * first / (sqrt(second) + eps));
  });
}
