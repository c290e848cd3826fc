// A tile: some channels of 64 points, channel by channel, which the threads of a block work on together.
//
// All threads of the block call each function that has a barrier, and may read what it wrote once it returns.
#pragma once

#include <cmath>

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

// Neighbouring numbers, read at once.
template <int kCount, typename T>
struct alignas(kCount * sizeof(T) < 16 ? kCount * sizeof(T) : 16) Pack {
  T at[kCount];
};

template <int kCount, typename T>
__device__ __forceinline__ Pack<kCount, T> pack_at(const T* from) {
  return *reinterpret_cast<const Pack<kCount, T>*>(from);
}

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

// totals[m] += the sum of row m.
template <typename T>
__device__ __forceinline__ void add_row_sums(const T* tile, int rows, T* totals) {
  for (int first = 0; first < rows; first += kTileThreads / kNear) {
    const int row = first + threadIdx.x / kNear;
    T total = 0;
    for (int p = threadIdx.x % kNear; row < rows && p < kTile; p += kNear) total += tile[row * kRow + p];
    total = sum_of_lanes<kNear>(total);
    if (row < rows && threadIdx.x % kNear == 0) totals[row] += total;
  }
  __syncthreads();
}

// An activation and its first two derivatives; tile_cpu.h has the same for many places at a time.
template <typename T>
struct Activation {
  int64_t kind;
  T beta;

  __device__ __forceinline__ static T share_of(T x, T small) { return (x > 0 ? T(1) : small) / (1 + small); }

  __device__ __forceinline__ T value(T z) const {
    if (kind == RP_RELU) return z > 0 ? z : T(0);
    const T x = kind == RP_SILU ? z : beta * z, small = exp(x > 0 ? -x : x);
    if (kind == RP_SILU) return z * share_of(x, small);
    return ((x > 0 ? x : T(0)) + log1p(small)) / beta;
  }

  __device__ __forceinline__ T slope(T z) const {
    if (kind == RP_RELU) return z > 0 ? T(1) : T(0);
    const T x = kind == RP_SILU ? z : beta * z, small = exp(x > 0 ? -x : x), share = share_of(x, small);
    return kind == RP_SILU ? share * (1 + z * share_of(-x, small)) : share;
  }

  __device__ __forceinline__ T curvature(T z) const {
    if (kind == RP_RELU) return T(0);
    const T x = kind == RP_SILU ? z : beta * z, small = exp(x > 0 ? -x : x);
    const T share = share_of(x, small), rest = share_of(-x, small);
    return kind == RP_SILU ? share * rest * (2 + z * (rest - share)) : beta * (share * rest);
  }
};

template <typename T>
__device__ __forceinline__ T sigmoid(T x) {
  return Activation<T>::share_of(x, exp(x > 0 ? -x : x));
}

}  // namespace renderpretrain
