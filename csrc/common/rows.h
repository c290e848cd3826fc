// The values along one ray, rows of channels: what a CPU does with them sixteen channels at a time.
#pragma once

#include <algorithm>

#include "common/vector.h"

namespace renderpretrain {

// Rows that are worked on together, at most a vector of weights; all are `channels` long.
template <typename T, typename V>
struct Rows {
  int64_t channels;
  const V* end;  // of the array they lie in: up to there a vector may be read past the end of a row
  int count = 0;
  const V* row[kLanes];
  T weight[kLanes];

  Rows(int64_t channels, const V* end) : channels(channels), end(end) {}

  RP_HOST_DEVICE void add(const V* address, T share) {
    row[count] = address;
    weight[count++] = share;
  }
};

// Zero in the lanes that are not marked.
template <typename T>
RP_HOST_DEVICE Vector<T> keep(Vector<T> value, const bool* marks) {
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Int;
  typedef int8_t Bytes __attribute__((vector_size(kLanes)));
  Bytes bytes;
  std::memcpy(&bytes, marks, sizeof(bytes));
  return __builtin_convertvector(bytes, Vector<Int>) != 0 ? value : Vector<T>{};
}

// The last `count` < kLanes numbers of a row; the lanes behind them are zero.
template <typename V>
RP_HOST_DEVICE auto load_tail(const V* from, int count, const V* end) {
#if defined(__AVX512F__)
  constexpr bool kMasked = std::is_same_v<V, float>;
#else
  constexpr bool kMasked = false;
#endif
  if constexpr (!kMasked && !std::is_same_v<V, double>) {
    if (end - from >= kLanes) {
      static constexpr int32_t kBits[2 * kLanes] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                                    -1, -1, -1, -1, -1, -1, -1, -1};
      const Vector<float> value = load(from);
      return (Vector<float>)((Vector<int32_t>)value & load(kBits + kLanes - count));
    }
  }
  return load_some(from, count);
}

// out[c] += sum_k weight[k] * row[k][c] over `num_vectors` vectors of channels from `first` on. Two sums that
// do not wait for each other.
template <int num_vectors, typename T, typename V>
RP_HOST_DEVICE void add_block(const Rows<T, V>& rows, int64_t first, T* out) {
  Vector<T> even[num_vectors], odd[num_vectors] = {};
  for (int j = 0; j < num_vectors; ++j) even[j] = load(out + first + j * kLanes);
  int k = 0;
  for (; k + 2 <= rows.count; k += 2) {
    for (int j = 0; j < num_vectors; ++j) {
      even[j] = fma(rows.weight[k], load(rows.row[k] + first + j * kLanes), even[j]);
      odd[j] = fma(rows.weight[k + 1], load(rows.row[k + 1] + first + j * kLanes), odd[j]);
    }
  }
  for (int j = 0; j < num_vectors && k < rows.count; ++j) {
    even[j] = fma(rows.weight[k], load(rows.row[k] + first + j * kLanes), even[j]);
  }
  for (int j = 0; j < num_vectors; ++j) store<T>(out + first + j * kLanes, even[j] + odd[j]);
}

// out += the weighted sum of the rows.
template <typename T, typename V>
RP_HOST_DEVICE void add_rows(const Rows<T, V>& rows, T* out) {
  int64_t c = 0;
  for (; c + 4 * kLanes <= rows.channels; c += 4 * kLanes) add_block<4>(rows, c, out);
  for (; c + kLanes <= rows.channels; c += kLanes) add_block<1>(rows, c, out);
  const int rest = static_cast<int>(rows.channels - c);
  if (rest == 0) return;
  Vector<T> even = load_some(out + c, rest), odd{};
  int k = 0;
  for (; k + 2 <= rows.count; k += 2) {
    even = fma(rows.weight[k], load_tail(rows.row[k] + c, rest, rows.end), even);
    odd = fma(rows.weight[k + 1], load_tail(rows.row[k + 1] + c, rest, rows.end), odd);
  }
  if (k < rows.count) even = fma(rows.weight[k], load_tail(rows.row[k] + c, rest, rows.end), even);
  store_some<T>(out + c, even + odd, rest);
}

template <typename T>
struct FourOf {
  typedef T type __attribute__((vector_size(4 * sizeof(T))));
};

template <typename T>
using Four = typename FourOf<T>::type;

// Rows become columns.
template <typename T>
RP_HOST_DEVICE void turn(Four<T>* rows) {
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Int;
  using Index = Four<Int>;
  const Four<T> a = __builtin_shuffle(rows[0], rows[1], Index{0, 4, 1, 5});
  const Four<T> b = __builtin_shuffle(rows[0], rows[1], Index{2, 6, 3, 7});
  const Four<T> c = __builtin_shuffle(rows[2], rows[3], Index{0, 4, 1, 5});
  const Four<T> d = __builtin_shuffle(rows[2], rows[3], Index{2, 6, 3, 7});
  rows[0] = __builtin_shuffle(a, c, Index{0, 1, 4, 5});
  rows[1] = __builtin_shuffle(a, c, Index{2, 3, 6, 7});
  rows[2] = __builtin_shuffle(b, d, Index{0, 1, 4, 5});
  rows[3] = __builtin_shuffle(b, d, Index{2, 3, 6, 7});
}

// A vector's lanes added up to four.
template <typename T>
RP_HOST_DEVICE Four<T> fold(Vector<T> value) {
  typedef T Eight __attribute__((vector_size(8 * sizeof(T))));
  Eight half[2];
  std::memcpy(half, &value, sizeof(value));
  half[0] += half[1];
  Four<T> quarter[2];
  std::memcpy(quarter, half, sizeof(quarter));
  return quarter[0] + quarter[1];
}

// The sums of four vectors.
template <typename T>
RP_HOST_DEVICE void sum_four(const Vector<T>* values, T* sums) {
  Four<T> rows[4];
  for (int i = 0; i < 4; ++i) rows[i] = fold<T>(values[i]);
  turn<T>(rows);
  const Four<T> total = (rows[0] + rows[1]) + (rows[2] + rows[3]);
  std::memcpy(sums, &total, sizeof(total));
}

// products[k] = <row[k], other>, for rows.count rounded up to four, whose last rows may be anything.
template <typename T, typename V>
RP_HOST_DEVICE void multiply_rows(const Rows<T, V>& rows, const T* other, T* products) {
  const int rest = static_cast<int>(rows.channels % kLanes);
  const int64_t whole = rows.channels - rest;
  const Vector<T> last = rest ? load_some(other + whole, rest) : Vector<T>{};
  for (int k = 0; k < rows.count; k += 4) {
    const V* row[4];
    for (int j = 0; j < 4; ++j) row[j] = rows.row[k + j < rows.count ? k + j : k];
    Vector<T> sums[4] = {};
    for (int64_t c = 0; c < whole; c += kLanes) {
      const Vector<T> factor = load(other + c);
      for (int j = 0; j < 4; ++j) sums[j] = fma<T>(load(row[j] + c), factor, sums[j]);
    }
    for (int j = 0; rest && j < 4; ++j) {
      sums[j] = fma<T>(load_tail(row[j] + whole, rest, rows.end), last, sums[j]);
    }
    sum_four(sums, products + k);
  }
}

// out[k] = weights[k] * row for k < count, rows one behind the other.
template <typename T>
RP_HOST_DEVICE void spread_row(const T* row, int64_t channels, const T* weights, int64_t count, T* out) {
  const int rest = static_cast<int>(channels % kLanes);
  const int64_t whole = channels - rest;
  const Vector<T> last = rest ? load_some(row + whole, rest) : Vector<T>{};
  for (int64_t k = 0; k < count; ++k, out += channels) {
    const Vector<T> weight = fill(weights[k]);
    for (int64_t c = 0; c < whole; c += kLanes) store<T>(out + c, weight * load(row + c));
    if (rest == 0) continue;
    // What a whole vector writes too far, the next rows put right.
    if ((count - 1 - k) * channels + rest >= kLanes) store<T>(out + whole, weight * last);
    else store_some<T>(out + whole, weight * last, rest);
  }
}

}  // namespace renderpretrain
