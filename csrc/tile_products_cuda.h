// Matrix products of a tile: by fused multiply-adds where matrices are small, on tensor cores where they are
// not, there with every number in two parts, so that what comes out is float32's.
#pragma once

#include <type_traits>

#include "common/mma_cuda.h"
#include "tile_cuda.h"

namespace renderpretrain {

// Weights in shared memory: 16 columns of 64 rows, 8 numbers apart so that no two lanes of a tensor core's
// matrix meet in a bank, or as many of less.
constexpr int kStaged = 16 * (64 + 8);

// What tensor cores take at once; of less they would multiply mostly zeros.
constexpr int kLeastForTensorCores = 8;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template <typename T>
constexpr bool kTensorCores = std::is_same_v<T, float>;
#else
template <typename T>
constexpr bool kTensorCores = false;
#endif

__device__ __forceinline__ int at_most(int number, int most) { return number < most ? number : most; }

// A matrix by its rows, or, transposed, by its columns.
template <typename T>
struct Weights {
  const T* at;
  Blocks rows;
  bool transposed;
};

// Puts `count` columns of kRows rows into shared memory; beyond `rows` and `columns` are zeros.
template <int kRows, int kStride, typename T>
__device__ __forceinline__ void stage(const Weights<T>& weights, int row, int rows, int column, int columns,
                                      int count, T* staged) {
  if (weights.transposed) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    for (int k = warp; k < count; k += kTileWarps) {
      const T* const from = weights.at + weights.rows.row(column + k) + row;
      for (int m = lane; m < kRows; m += kWarp) {
        staged[k * kStride + m] = row + m < rows && column + k < columns ? from[m] : T(0);
      }
    }
  } else {
    // A warp has 4 columns of 8 rows at a time: a stride of 8 more or less than 32 keeps all in banks apart.
    for (int m = threadIdx.x / 4; m < kRows; m += kTileThreads / 4) {
      const T* const from = weights.at + weights.rows.row(row + m) + column;
      for (int k = threadIdx.x % 4; k < count; k += 4) {
        staged[k * kStride + m] = row + m < rows && column + k < columns ? from[k] : T(0);
      }
    }
  }
}

// A product: to = begin + bias + weights @ tile. Rows to begin with, and numbers of the bias, which lie as
// rows of the weights do, may be null.
template <typename T>
struct Product {
  int rows, depth;
  Weights<T> weights;
  const T *tile, *begin, *bias;
  T* to;

  __device__ __forceinline__ T first(int row, int point) const {
    const Blocks places{1, weights.rows.block, weights.rows.step};
    return (begin ? begin[row * kRow + point] : T(0)) + (bias ? bias[places.row(row)] : T(0));
  }
};

// By multiply-adds: a thread has kCount rows of four points.
template <int kCount, typename T>
__device__ __forceinline__ void multiply_by_threads(const Product<T>& product, T* staged) {
  constexpr int kRows = kCount * kTileThreads / (kTile / 4), kStride = kRows + 4, kDepth = kStaged / kStride;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int point = 4 * (lane % 8 + 8 * (warp % 2)), own = kCount * (lane / 8 + 4 * (warp / 2));
  const int rows = product.rows, depth = product.depth;
  for (int first = 0; first < rows; first += kRows) {
    Pack<4, T> sums[kCount];
#pragma unroll
    for (int r = 0; r < kCount; ++r) {
      const int row = first + own + r;
#pragma unroll
      for (int p = 0; p < 4; ++p) sums[r].at[p] = row < rows ? product.first(row, point + p) : T(0);
    }
    for (int column = 0; column < depth; column += kDepth) {
      const int count = at_most(depth - column, kDepth);
      __syncthreads();
      stage<kRows, kStride>(product.weights, first, rows, column, depth, count, staged);
      __syncthreads();
#pragma unroll 4
      for (int k = 0; k < count; ++k) {
        const Pack<4, T> other = pack_at<4>(product.tile + (column + k) * kRow + point);
        const Pack<kCount, T> factor = pack_at<kCount>(staged + k * kStride + own);
#pragma unroll
        for (int r = 0; r < kCount; ++r) {
#pragma unroll
          for (int p = 0; p < 4; ++p) sums[r].at[p] = fma(factor.at[r], other.at[p], sums[r].at[p]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kCount; ++r) {
      const int row = first + own + r;
      if (row < rows) *reinterpret_cast<Pack<4, T>*>(product.to + row * kRow + point) = sums[r];
    }
  }
}

// An outer product summed over points: grads (rows, columns) += a @ b^T, of tiles.
template <typename T>
struct Outer {
  int rows, columns;
  const T *a, *b;
  T* grads;
  Blocks places;  // of the rows of grads
};

// By multiply-adds: a thread has kRows rows and kColumns columns, neighbours of other threads, so that they
// read neighbouring rows of b.
template <int kRows, int kColumns, typename T>
__device__ __forceinline__ void outer_by_threads(const Outer<T>& outer) {
  const int rows = outer.rows, columns = outer.columns;
  const int down = (rows + kRows - 1) / kRows, across = (columns + kColumns - 1) / kColumns;
  for (int item = threadIdx.x; item < down * across; item += kTileThreads) {
    const int row = item / across, column = item % across;
    T sums[kRows][kColumns] = {};
#pragma unroll 4
    for (int p = 0; p < kTile; p += 4) {
      Pack<4, T> left[kRows], right[kColumns];
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        left[r] = pack_at<4>(outer.a + at_most(row + r * down, rows - 1) * kRow + p);
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        right[c] = pack_at<4>(outer.b + at_most(column + c * across, columns - 1) * kRow + p);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[r][c] = fma(left[r].at[i], right[c].at[i], sums[r][c]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int m = row + r * down, n = column + c * across;
        if (m < rows && n < columns) outer.grads[outer.places.row(m) + n] += sums[r][c];
      }
    }
  }
}

// A number as the sum of two that tensor cores take.
struct Split {
  uint32_t high, low;
};

__device__ __forceinline__ Split split(float value) {
  const uint32_t high = to_tf32(value);
  return {high, to_tf32(value - __uint_as_float(high))};
}

// sums += a * b without the product of the lower parts, which is below float32's last bit. Tensor cores cut
// their sums off instead of rounding them, which adds up; so they add eight products, and we the eights.
template <int kM, int kN>
__device__ __forceinline__ void multiply_split(const Split (&a)[kM][4], const Split (&b)[kN][2],
                                               float (&sums)[kM][kN][4]) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    const uint32_t high[4] = {a[m][0].high, a[m][1].high, a[m][2].high, a[m][3].high};
    const uint32_t low[4] = {a[m][0].low, a[m][1].low, a[m][2].low, a[m][3].low};
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const uint32_t other[2] = {b[n][0].high, b[n][1].high}, rest[2] = {b[n][0].low, b[n][1].low};
      float eight[4] = {};
      multiply_tf32(low, other, eight);
      multiply_tf32(high, rest, eight);
      multiply_tf32(high, other, eight);
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] += eight[i];
    }
  }
}

// On tensor cores: kAcross warps share the points, and each has 16 * kM rows from `first` on.
template <int kM, int kAcross>
__device__ __forceinline__ void multiply_on_tensor_cores(const Product<float>& product, int first,
                                                         float* staged) {
  constexpr int kRows = 16 * kM * kTileWarps / kAcross, kN = kTile / 8 / kAcross;
  constexpr int kStride = kRows + 8, kDepth = kStaged / kStride / 8 * 8;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, group = lane / 4, of = lane % 4;
  const int own = warp / kAcross * 16 * kM + group, points = warp % kAcross * 8 * kN;
  const int rows = product.rows, depth = product.depth;
  float sums[kM][kN][4];
#pragma unroll
  for (int i = 0; i < kM * kN * 4; ++i) {
    const int m = i / (4 * kN), n = i / 4 % kN, row = first + own + 16 * m + i % 4 / 2 * 8;
    sums[m][n][i % 4] = row < rows ? product.first(row, points + 8 * n + 2 * of + i % 2) : 0.0f;
  }
  for (int column = 0; column < depth; column += kDepth) {
    const int count = at_most((depth - column + 7) / 8 * 8, kDepth);
    __syncthreads();
    stage<kRows, kStride>(product.weights, first, rows, column, depth, count, staged);
    __syncthreads();
    for (int k = 0; k < count; k += 8) {
      Split a[kM][4], b[kN][2];
#pragma unroll
      for (int i = 0; i < kM * 4; ++i) {
        a[i / 4][i % 4] = split(staged[(k + of + i % 4 / 2 * 4) * kStride + own + 16 * (i / 4) + i % 2 * 8]);
      }
#pragma unroll
      for (int i = 0; i < kN * 2; ++i) {
        const int at = column + k + of + i % 2 * 4;
        b[i / 2][i % 2] = split(at < depth ? product.tile[at * kRow + points + 8 * (i / 2) + group] : 0.0f);
      }
      multiply_split(a, b, sums);
    }
  }
#pragma unroll
  for (int i = 0; i < kM * kN * 4; i += 2) {
    const int m = i / (4 * kN), n = i / 4 % kN, row = first + own + 16 * m + i % 4 / 2 * 8;
    const Pack<2, float> pair{sums[m][n][i % 4], sums[m][n][i % 4 + 1]};
    if (row < rows)
      *reinterpret_cast<Pack<2, float>*>(product.to + row * kRow + points + 8 * n + 2 * of) = pair;
  }
}

// On tensor cores: a warp has 16 * kM rows of 8 * kN columns at a time.
template <int kM, int kN>
__device__ __forceinline__ void outer_on_tensor_cores(const Outer<float>& outer) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, group = lane / 4, of = lane % 4;
  const int rows = outer.rows, columns = outer.columns;
  const int across = (columns + 8 * kN - 1) / (8 * kN), down = (rows + 16 * kM - 1) / (16 * kM);
  for (int item = warp; item < down * across; item += kTileWarps) {
    const int row = item / across * 16 * kM + group, column = item % across * 8 * kN;
    float sums[kM][kN][4] = {};
    for (int p = 0; p < kTile; p += 8) {
      Split left[kM][4], right[kN][2];
#pragma unroll
      for (int i = 0; i < kM * 4; ++i) {
        const int m = row + 16 * (i / 4) + i % 2 * 8;
        left[i / 4][i % 4] = split(m < rows ? outer.a[m * kRow + p + of + i % 4 / 2 * 4] : 0.0f);
      }
#pragma unroll
      for (int i = 0; i < kN * 2; ++i) {
        const int n = column + 8 * (i / 2) + group;
        right[i / 2][i % 2] = split(n < columns ? outer.b[n * kRow + p + of + i % 2 * 4] : 0.0f);
      }
      multiply_split(left, right, sums);
    }
#pragma unroll
    for (int i = 0; i < kM * kN * 4; ++i) {
      const int m = row + 16 * (i / (4 * kN)) + i % 4 / 2 * 8;
      const int n = column + 8 * (i / 4 % kN) + 2 * of + i % 2;
      if (m < rows && n < columns)
        outer.grads[outer.places.row(m) + n] += sums[i / (4 * kN)][i / 4 % kN][i % 4];
    }
  }
}

// Once in the program, not once per call: the networks call it some ten times. `to` is not the tile, nor what
// a function without a barrier before it still reads.
template <typename T>
__device__ __attribute__((noinline)) void multiply(Product<T> product) {
  using Four = Pack<4, T>;
  __shared__ Four memory[kStaged / 4];
  T* const staged = memory[0].at;
  bool done = false;
  if constexpr (kTensorCores<T>) {
    done = product.rows > kLeastForTensorCores && product.depth >= kLeastForTensorCores;
    int first = 0;
    for (; done && product.rows - first > 32; first += 64)
      multiply_on_tensor_cores<2, 2>(product, first, staged);
    if (done && product.rows - first > 16) multiply_on_tensor_cores<1, 2>(product, first, staged);
    else if (done && product.rows - first > 0) multiply_on_tensor_cores<1, 4>(product, first, staged);
  }
  if (!done && product.rows <= 8) multiply_by_threads<1>(product, staged);
  else if (!done && product.rows <= 16) multiply_by_threads<2>(product, staged);
  else if (!done) multiply_by_threads<4>(product, staged);
  __syncthreads();
}

// Without a barrier: what is read may change after the next one.
template <typename T>
__device__ __attribute__((noinline)) void add_outer(Outer<T> outer) {
  const int size = outer.rows * outer.columns;
  bool done = false;
  if constexpr (kTensorCores<T>) {
    done = outer.rows >= kLeastForTensorCores && outer.columns >= kLeastForTensorCores;
    if (done && size >= 64 * 64) outer_on_tensor_cores<2, 4>(outer);
    else if (done && size >= 32 * 32) outer_on_tensor_cores<1, 4>(outer);
    else if (done) outer_on_tensor_cores<1, 1>(outer);
  }
  if (!done && size <= 256) outer_by_threads<1, 2>(outer);
  else if (!done && size <= 512) outer_by_threads<2, 2>(outer);
  else if (!done) outer_by_threads<2, 4>(outer);
}

}  // namespace renderpretrain
