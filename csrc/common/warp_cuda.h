// Sums and scans over the 32 threads of a warp, all of which must take part.
#pragma once

#include "common/launch_cuda.h"

namespace renderpretrain {

constexpr int kWarp = 32;
constexpr unsigned kWholeWarp = ~0u;

// The sum over all lanes, in lane 0. With kGroup, a power of two, over as many neighbouring lanes, in the
// first.
template <int kGroup = kWarp, typename T>
__device__ T sum_of_lanes(T value) {
  for (int step = kGroup / 2; step > 0; step /= 2) value += __shfl_down_sync(kWholeWarp, value, step, kGroup);
  return value;
}

// value + those of all lower lanes.
template <typename T>
__device__ T sum_up_to(T value, int lane) {
  for (int step = 1; step < kWarp; step *= 2) {
    const T lower = __shfl_up_sync(kWholeWarp, value, step);
    if (lane >= step) value += lower;
  }
  return value;
}

// The value of the lane below; `first` in lane 0.
template <typename T>
__device__ T from_below(T value, T first, int lane) {
  const T lower = __shfl_up_sync(kWholeWarp, value, 1);
  return lane == 0 ? first : lower;
}

template <typename T>
__device__ T of_last_lane(T value) {
  return __shfl_sync(kWholeWarp, value, kWarp - 1);
}

}  // namespace renderpretrain
