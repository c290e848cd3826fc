// A tile: some channels of 64 points, channel by channel, which stays in cache while a small network works on
// it. Its matrix products, transposes and activations.
#pragma once

#include <algorithm>

#include "common/register.h"
#include "common/rows.h"
#include "common/vector_math.h"

namespace renderpretrain {

constexpr int kTile = 64;  // points

// A matrix that is read number by number: element (i, k) lies at i * row + k * column.
template <typename T>
struct Factor {
  const T* at;
  int64_t row, column;
};

// What a product is added to: what the sums hold, or one number for each of their rows, 0 where there is
// none.
template <typename T>
struct Start {
  bool held;
  const T* numbers;
};

// sums = start + factor @ other, for R rows and V registers of columns, of which a single one may be `some` <
// kWidth wide.
template <int R, int V, bool kWhole, typename T>
RP_HOST_DEVICE void multiply_block(const Factor<T>& factor, const T* other, int64_t other_row, int64_t depth,
                                   const Start<T>& start, T* sums, int64_t sums_row, int64_t some) {
  Register<T> sum[R][V];
  T edge[kWidth<T>] = {};
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if (!start.held) {
        sum[r][v] = (start.numbers ? start.numbers[r] : T{}) - Register<T>{};
      } else if (kWhole) {
        sum[r][v] = load_register(sums + r * sums_row + v * kWidth<T>);
      } else {
        std::copy_n(sums + r * sums_row, some, edge);
        sum[r][v] = load_register(edge);
      }
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Register<T> column[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) column[v] = load_register(other + k * other_row + v * kWidth<T>);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const T number = factor.at[r * factor.row + k * factor.column];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = multiply_add(number, column[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if (kWhole) {
        store_register(sums + r * sums_row + v * kWidth<T>, sum[r][v]);
      } else {
        store_register(edge, sum[r][v]);
        std::copy_n(edge, some, sums + r * sums_row);
      }
    }
  }
}

// As many rows at a time as there are registers for their sums.
template <int R, int V, bool kWhole, typename T>
void multiply_columns(int64_t rows, const Factor<T>& factor, const T* other, int64_t other_row, int64_t depth,
                      const Start<T>& start, T* sums, int64_t sums_row, int64_t some) {
  int64_t i = 0;
  for (; i + R <= rows; i += R) {
    const Factor<T> from{factor.at + i * factor.row, factor.row, factor.column};
    const Start<T> first{start.held, start.numbers ? start.numbers + i : nullptr};
    multiply_block<R, V, kWhole>(from, other, other_row, depth, first, sums + i * sums_row, sums_row, some);
  }
  for (; i < rows; ++i) {
    const Factor<T> from{factor.at + i * factor.row, factor.row, factor.column};
    const Start<T> first{start.held, start.numbers ? start.numbers + i : nullptr};
    multiply_block<1, V, kWhole>(from, other, other_row, depth, first, sums + i * sums_row, sums_row, some);
  }
}

// sums (rows, columns) = start + factor (rows, depth) @ other (depth, columns). Rows of `other` are readable
// up to a whole register.
template <typename T>
void multiply(int64_t rows, int64_t columns, int64_t depth, const Factor<T>& factor, const T* other,
              int64_t other_row, const Start<T>& start, T* sums, int64_t sums_row) {
  constexpr int64_t kOne = kWidth<T>;
  int64_t j = 0;
#if defined(__AVX512F__)
  for (; j + 4 * kOne <= columns; j += 4 * kOne) {
    multiply_columns<4, 4, true>(rows, factor, other + j, other_row, depth, start, sums + j, sums_row, kOne);
  }
  for (; j + 2 * kOne <= columns; j += 2 * kOne) {
    multiply_columns<8, 2, true>(rows, factor, other + j, other_row, depth, start, sums + j, sums_row, kOne);
  }
#else
  for (; j + 2 * kOne <= columns; j += 2 * kOne) {
    multiply_columns<4, 2, true>(rows, factor, other + j, other_row, depth, start, sums + j, sums_row, kOne);
  }
#endif
  for (; j + kOne <= columns; j += kOne) {
    multiply_columns<8, 1, true>(rows, factor, other + j, other_row, depth, start, sums + j, sums_row, kOne);
  }
  if (j < columns) {
    multiply_columns<8, 1, false>(rows, factor, other + j, other_row, depth, start, sums + j, sums_row,
                                  columns - j);
  }
}

// to (columns, rows) = from (rows, columns), whose rows begin `from_row` and `to_row` apart.
template <typename T>
void transpose(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4) {
      Four<T> block[4];
      for (int r = 0; r < 4; ++r) std::memcpy(&block[r], from + (i + r) * from_row + j, sizeof(block[r]));
      turn<T>(block);
      for (int r = 0; r < 4; ++r) std::memcpy(to + (j + r) * to_row + i, &block[r], sizeof(block[r]));
    }
    for (; j < columns; ++j) {
      for (int r = 0; r < 4; ++r) to[j * to_row + i + r] = from[(i + r) * from_row + j];
    }
  }
  for (; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[j * to_row + i] = from[i * from_row + j];
  }
}

// Rows of a tile, each filled with one number.
template <typename T>
void fill_rows(const T* numbers, int64_t rows, T* tile) {
  for (int64_t m = 0; m < rows; ++m) std::fill_n(tile + m * kTile, kTile, numbers[m]);
}

template <typename T>
void clear_rows(int64_t rows, T* tile) {
  std::fill_n(tile, rows * kTile, T{});
}

// totals[m] += the sum of row m.
template <typename T>
void add_row_sums(const T* tile, int64_t rows, T* totals) {
  for (int64_t m = 0; m < rows; ++m) {
    Vector<T> total{};
    for (int b = 0; b < kTile; b += kLanes) total += load(tile + m * kTile + b);
    totals[m] += sum<T>(total);
  }
}

// Values, slopes and curvatures of an activation at sixteen places.
template <typename T>
struct Activated {
  Vector<T> value, slope, curvature;
};

template <typename T>
RP_HOST_DEVICE Activated<T> relu(Vector<T> z) {
  return {z > 0 ? z : Vector<T>{}, z > 0 ? fill(T{1}) : Vector<T>{}, Vector<T>{}};
}

template <typename T>
RP_HOST_DEVICE Activated<T> silu(Vector<T> z) {
  const Vector<T> small = exp(z > 0 ? -z : z), share = 1 / (1 + small);
  const Vector<T> sigmoid = z > 0 ? share : small * share, rest = z > 0 ? small * share : share;
  return {z * sigmoid, sigmoid * (1 + z * rest), sigmoid * rest * (2 + z * (rest - sigmoid))};
}

// log(1 + e^x) / beta for x = beta z, by e^-|x|.
template <typename T>
RP_HOST_DEVICE Activated<T> softplus(Vector<T> z, T beta, T inverse) {
  const Vector<T> x = beta * z, small = exp(x > 0 ? -x : x), share = 1 / (1 + small);
  const Vector<T> value = (x > 0 ? x : Vector<T>{}) + log1p(small), rest = small * share;
  return {value * inverse, x > 0 ? share : rest, beta * (share * rest)};
}

// What is made of rows of z: their activation, plus a number for each row, and its slope and curvature, the
// latter two unless null.
template <typename T>
struct Activation {
  const T *z, *numbers;
  T *values, *slopes, *curvatures;
};

// Without slopes nothing is computed for them.
template <bool kSlopes, typename T, typename Run>
RP_HOST_DEVICE void activate_some(Run run, int64_t rows, const Activation<T>& to) {
  for (int64_t m = 0; m < rows; ++m) {
    const T number = to.numbers[m];
    for (int64_t i = m * kTile; i < (m + 1) * kTile; i += kLanes) {
      const Activated<T> found = run(load(to.z + i));
      store<T>(to.values + i, found.value + number);
      if (kSlopes) store<T>(to.slopes + i, found.slope);
      if (kSlopes && to.curvatures) store<T>(to.curvatures + i, found.curvature);
    }
  }
}

template <typename T, typename Run>
void activate_rows(Run run, int64_t rows, const Activation<T>& to) {
  if (to.slopes) activate_some<true>(run, rows, to);
  else activate_some<false>(run, rows, to);
}

template <typename T>
void activate(int64_t kind, T beta, int64_t rows, const Activation<T>& to) {
  if (kind == RP_RELU) {
    activate_rows([](Vector<T> z) { return relu<T>(z); }, rows, to);
  } else if (kind == RP_SILU) {
    activate_rows([](Vector<T> z) { return silu<T>(z); }, rows, to);
  } else {
    const T inverse = 1 / beta;
    activate_rows([=](Vector<T> z) { return softplus<T>(z, beta, inverse); }, rows, to);
  }
}

// The logistic function in place of its argument.
template <typename T>
void squash(int64_t rows, T* tile) {
  for (int64_t i = 0; i < rows * kTile; i += kLanes) {
    const Vector<T> x = load(tile + i), small = exp(x > 0 ? -x : x), share = 1 / (1 + small);
    store<T>(tile + i, x > 0 ? share : small * share);
  }
}

// Makes the gradient of what it gave that of its argument.
template <typename T>
void squash_backward(int64_t rows, const T* tile, T* grads) {
  for (int64_t i = 0; i < rows * kTile; i += kLanes) {
    const Vector<T> y = load(tile + i);
    store<T>(grads + i, load(grads + i) * (y * (1 - y)));
  }
}

}  // namespace renderpretrain
