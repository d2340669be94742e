// Images of 8 bits resized as Pillow 12 does it, to the bit, and normalised. `data/pixels.py` calls
// them. A pixel has 4 bytes, the last of which is not used.
//
// Pillow turns the weights of a filter into integers of 22 bits and sums them in integers, first
// along the rows, then along the columns; between the two are bytes.
#include "vectors.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#pragma STDC FP_CONTRACT OFF  // a weight may not be rounded once where Pillow rounds twice

namespace {

constexpr int kBits = 22;
constexpr int kPixels = kLanes / 4;  // of a vector
using Four [[gnu::vector_size(16)]] = int32_t;

inline I load_bytes(const uint8_t* from) {
  I wide;
  for (int i = 0; i < kLanes; ++i) wide[i] = from[i];
  return wide;
}

// Sums of weights times bytes, rounded to bytes.
template <class Sums>
inline void store_bytes(uint8_t* to, Sums sum) {
  sum = (sum + (1 << (kBits - 1))) >> kBits;
  sum = sum < 0 ? Sums{} : sum;
  sum = sum > 255 ? 255 - Sums{} : sum;
  for (size_t i = 0; i < sizeof(Sums) / 4; ++i) to[i] = sum[i];
}

[[gnu::optimize("fp-contract=off")]] double filter(double x, bool cubic) {
  if (!cubic) return x < 1 ? 1 - x : 0;
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

// How each of `result` places is made from `size` ones.
struct Weights {
  int64_t count;                // weights of a place, the last of them may be 0
  std::vector<int64_t> first;   // (result): which place the first weight is of
  std::vector<int32_t> values;  // (result, count)

  [[gnu::optimize("fp-contract=off")]] Weights(int64_t size, int64_t result, bool cubic)
      : first(result) {
    const double scale = double(size) / result, wide = std::max(scale, 1.0);
    const double support = (cubic ? 2 : 1) * wide, per_place = 1 / wide;
    count = 2 * int64_t(std::ceil(support)) + 1;
    values.resize(result * count);
    std::vector<double> found(count);
    for (int64_t i = 0; i < result; ++i) {
      const double centre = (i + 0.5) * scale;
      first[i] = std::max<int64_t>(centre - support + 0.5, 0);
      const int64_t number = std::min<int64_t>(centre + support + 0.5, size) - first[i];
      double total = 0;
      for (int64_t j = 0; j < number; ++j) {
        found[j] = filter(std::abs((j + first[i] - centre + 0.5) * per_place), cubic);
        total += found[j];
      }
      for (int64_t j = 0; j < number; ++j) {
        const double weight = found[j] / total * (1 << kBits);
        values[i * count + j] = int32_t(weight < 0 ? weight - 0.5 : weight + 0.5);
      }
    }
  }

  int64_t vectors() const { return (count + kPixels - 1) / kPixels; }
};

// (height, width) -> (height, result). `readable` pixels of a row, at least `vectors` full, are
// there to be read; those beyond the width have the weight 0.
void along_rows(const uint8_t* from, int64_t stride, int64_t height, int64_t readable,
                const Weights& weights, uint8_t* to, int64_t to_stride) {
  const int64_t result = weights.first.size(), vectors = weights.vectors();
  std::vector<int64_t> first(result);
  std::vector<I> spread(result * vectors);  // each weight for the 4 bytes of its pixel
  for (int64_t i = 0; i < result; ++i) {
    first[i] = std::min(weights.first[i], readable - vectors * kPixels);
    for (int64_t j = 0; j < weights.count; ++j) {
      const int64_t at = j + weights.first[i] - first[i];
      if (at >= vectors * kPixels) break;
      for (int byte = 0; byte < 4; ++byte)
        spread[i * vectors + at / kPixels][at % kPixels * 4 + byte] =
            weights.values[i * weights.count + j];
    }
  }
  for (int64_t y = 0; y < height; ++y, from += stride, to += to_stride)
    for (int64_t i = 0; i < result; ++i) {
      I sum{};
      for (int64_t v = 0; v < vectors; ++v)
        sum += load_bytes(from + 4 * (first[i] + v * kPixels)) * spread[i * vectors + v];
      Four pixels[kPixels];
      std::memcpy(pixels, &sum, sizeof sum);
      for (int p = 1; p < kPixels; ++p) pixels[0] += pixels[p];
      store_bytes(to + 4 * i, pixels[0]);
    }
}

// (height, stride) -> (result, stride)
void along_columns(const uint8_t* from, int64_t stride, const Weights& weights, int64_t height,
                   uint8_t* to) {
  for (size_t i = 0; i < weights.first.size(); ++i, to += stride) {
    const int32_t* values = &weights.values[i * weights.count];
    const int64_t count = std::min(weights.count, height - weights.first[i]);
    for (int64_t x = 0; x < stride; x += kLanes) {
      const uint8_t* column = from + weights.first[i] * stride + x;
      I sum{};
      for (int64_t j = 0; j < count; ++j, column += stride) sum += load_bytes(column) * values[j];
      store_bytes(to + x, sum);
    }
  }
}

}  // namespace

// The box (left, top, width, height) of an image of `image_width` pixels a row, resized to
// (result_width, result_height), whose rows are filled up to a multiple of 16 bytes.
// 1: the image is too narrow for that, and nothing is written.
EXPORT int resize_pixels(const uint8_t* image, int64_t image_width, const int64_t* box,
                             int64_t result_width, int64_t result_height, int cubic, uint8_t* to) {
  const int64_t left = box[0], top = box[1], width = box[2], height = box[3];
  const Weights wide(width, result_width, cubic), tall(height, result_height, cubic);
  const int64_t readable = image_width - left;
  if (readable < wide.vectors() * kPixels) return 1;
  const int64_t stride = (4 * result_width + 15) / 16 * 16;
  std::vector<uint8_t> rows(height * stride);
  along_rows(image + 4 * (top * image_width + left), 4 * image_width, height, readable, wide,
             rows.data(), stride);
  along_columns(rows.data(), stride, tall, height, to);
  return 0;
}

// (count) pixels -> (3, count): each byte's number in the table (3, 256) of its channel.
EXPORT void normalize_pixels(const uint8_t* image, int64_t count, const float* table,
                                 float* to) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t c = 0; c < 3; ++c) to[c * count + i] = table[256 * c + image[4 * i + c]];
}
