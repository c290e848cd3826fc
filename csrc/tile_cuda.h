// A tile: some channels of 64 points, channel by channel, which the threads of a block work on together.
//
// All threads of the block call each function that has a barrier, and may read what it wrote once it returns.
#pragma once

#include <cmath>

#include "common/pack_cuda.h"
#include "common/warp_cuda.h"

namespace renderpretrain {

using std::exp;
using std::log1p;

constexpr int kTile = 64;          // points
constexpr int kTileThreads = 128;  // of a block
constexpr int kTileWarps = kTileThreads / kWarp;
constexpr int kNear = 8;  // lanes that share a point or a row

// From row to row: four numbers of eight rows each lie in different banks of shared memory.
constexpr int kRow = kTile + 4;

// Where rows of a tile are: in shared memory or, where that is full, in the block's part of the scratch.
struct Rows {
  int first = 0;
  bool shared = true;
};

// Gives rows their places, first come, first served.
struct Planner {
  int shared_rows, shared_used = 0, scratch_used = 0;  // the latter two in numbers

  Rows rows(int64_t count) {
    const int numbers = static_cast<int>(count) * kRow;
    const bool fits = shared_used + numbers <= shared_rows * kRow;
    int& used = fits ? shared_used : scratch_used;
    used += numbers;
    return {used - numbers, fits};
  }
};

template <typename T>
struct Memory {
  T *shared, *scratch;

  __device__ __forceinline__ T* operator()(const Rows& rows, int row = 0) const {
    return (rows.shared ? shared : scratch) + rows.first + row * kRow;
  }
};

// Calls run(place) for every number of some rows.
template <typename Run>
__device__ __forceinline__ void for_rows(int rows, Run run) {
  for (int i = threadIdx.x; i < rows * kTile; i += kTileThreads) run(i / kTile * kRow + i % kTile);
  __syncthreads();
}

// Calls run(point, channel), neighbouring channels on neighbouring lanes. Without a barrier.
template <typename Run>
__device__ __forceinline__ void for_points(int count, int channels, Run run) {
  for (int j = threadIdx.x / kNear; j < count; j += kTileThreads / kNear) {
    for (int c = threadIdx.x % kNear; c < channels; c += kNear) run(j, c);
  }
}

// Rows that lie `stride` apart in blocks of `block` rows, which begin `step` apart: one matrix of every layer
// of a network is such a matrix. By default there is one block.
struct Blocks {
  int stride, block = 1 << 30, step = 0;

  __device__ __forceinline__ int row(int index) const {
    return index / block * step + index % block * stride;
  }
};

// totals, at their places, += the sums of rows. Without a barrier.
template <typename T>
__device__ __forceinline__ void add_row_sums(const T* tile, int rows, T* totals, Blocks places = {1}) {
  for (int first = 0; first < rows; first += kTileThreads / kNear) {
    const int row = first + threadIdx.x / kNear;
    T total = 0;
    for (int p = threadIdx.x % kNear; row < rows && p < kTile; p += kNear) total += tile[row * kRow + p];
    total = sum_of_lanes<kNear>(total);
    if (row < rows && threadIdx.x % kNear == 0) totals[places.row(row)] += total;
  }
}

// An activation, and of its argument what its derivatives are computed of: the slope itself, where the
// curvature follows from it.
template <typename T>
struct Activation {
  int64_t kind;
  T beta;

  __device__ __forceinline__ static T share_of(T x, T small) { return (x > 0 ? T(1) : small) / (1 + small); }

  __device__ __forceinline__ T value(T z, T* kept) const {
    const bool positive = z > 0;
    *kept = kind == RP_RELU ? T(positive) : z;
    if (kind == RP_RELU) return positive ? z : T(0);
    const T x = kind == RP_SILU ? z : beta * z, small = exp(positive ? -x : x), share = share_of(x, small);
    if (kind == RP_SILU) return z * share;
    *kept = share;
    return ((positive ? x : T(0)) + log1p(small)) / beta;
  }

  __device__ __forceinline__ T slope(T kept) const {
    if (kind != RP_SILU) return kept;
    const T small = exp(kept > 0 ? -kept : kept);
    return share_of(kept, small) * (1 + kept * share_of(-kept, small));
  }

  __device__ __forceinline__ T curvature(T kept) const {
    if (kind != RP_SILU) return beta * kept * (1 - kept);
    const T small = exp(kept > 0 ? -kept : kept), share = share_of(kept, small),
            rest = share_of(-kept, small);
    return share * rest * (2 + kept * (rest - share));
  }
};

// The logistic function in place of its argument, and the gradient by that in place of the one by its value.
template <typename T>
__device__ __forceinline__ void squash(T* tile, int rows) {
  for_rows(rows, [=](int i) {
    const T x = tile[i];
    tile[i] = Activation<T>::share_of(x, exp(x > 0 ? -x : x));
  });
}

template <typename T>
__device__ __forceinline__ void squash_backward(const T* tile, int rows, T* grads) {
  for_rows(rows, [=](int i) { grads[i] *= tile[i] * (1 - tile[i]); });
}

}  // namespace renderpretrain
