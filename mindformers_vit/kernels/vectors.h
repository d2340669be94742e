// Vectors of the widest kind the compiler was told of, and what the kernels compute with them.
#pragma once
#include <cstdint>
#include <cstring>

// What others may call. All else is hidden: the pool of threads too, which a process would share
// among all such libraries that it loads.
#define EXPORT extern "C" __attribute__((visibility("default")))

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
using V [[gnu::vector_size(kLanes * 4)]] = float;
using I [[gnu::vector_size(kLanes * 4)]] = int32_t;

inline int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

// n, or the next number that fills whole vectors.
inline int64_t padded(int64_t n) { return blocks(n, kLanes) * kLanes; }

inline V load(const float* from) {
  V x;
  std::memcpy(&x, from, sizeof(V));
  return x;
}

inline void store(float* to, V x) { std::memcpy(to, &x, sizeof(V)); }

// The first `count` lanes from memory, the others 0.
inline V load_part(const float* from, int64_t count) {
#if defined(__AVX512F__)
  return (V)_mm512_maskz_loadu_ps((1u << count) - 1, from);
#else
  V x{};
  std::memcpy(&x, from, count * sizeof(float));
  return x;
#endif
}

inline void store_part(float* to, V x, int64_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, (1u << count) - 1, (__m512)x);
#else
  std::memcpy(to, &x, count * sizeof(float));
#endif
}

// Calls f(i, load, store) over [0, n): full vectors, then the rest of one.
template <class F>
inline void each_vector(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, load, store);
  const int64_t rest = n - i;
  if (rest == 0) return;
  f(i, [rest](const float* from) { return load_part(from, rest); },
    [rest](float* to, V x) { store_part(to, x, rest); });
}

// The same bits in every lane; an addition would lose those of a pair of bf16.
inline V splat(float x) {
#if defined(__AVX512F__)
  return (V)_mm512_set1_ps(x);
#else
  return x - V{};
#endif
}

inline float sum_of(V x) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += x[i];
  return total;
}

inline I bits_of(V x) {
  I bits;
  std::memcpy(&bits, &x, sizeof(V));
  return bits;
}

inline V of_bits(I bits) {
  V x;
  std::memcpy(&x, &bits, sizeof(V));
  return x;
}

// 2^n for each n of a normal number.
inline V power_of_two(I n) {
  return of_bits((n + 127) << 23);
}

// e^x within 2 ulp where that is a normal number; 0 below, infinity above; NaN stays NaN.
// With n the integer next to x / ln 2, e^x = 2^n e^(x - n ln 2) and the second is a polynomial.
inline V exp(V x) {
  const V high = splat(88.72284f), low = splat(-87.33655f);
  V t = x > high ? high : x;
  t = t < low ? low : t;
  const V magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const V shifted = t * 1.44269504f + magic;
  const V n = shifted - magic;
  const V r = (t - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const I whole = bits_of(shifted) - bits_of(magic), half = whole >> 1;
  V y = p * power_of_two(half) * power_of_two(whole - half);  // 2^128 alone would overflow
  y = x > high ? splat(__builtin_inff()) : y;
  return x < low ? V{} : y;
}

inline V sqrt(V x) {
  float lanes[kLanes];
  store(lanes, x);
  for (float& lane : lanes) lane = __builtin_sqrtf(lane);
  return load(lanes);
}
