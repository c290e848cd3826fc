// Light along a ray on CUDA: a warp walks it 32 samples at a time, a lane for each. What the steps up to a
// lane, or from it on, come to is found by the lanes together.
#pragma once

#include "composite.h"
#include "common/warp_cuda.h"

namespace renderpretrain {

// Of 32 samples: the transmittance in front of the lane's own, that behind the last, and the lane of the
// sample that ends the light, kWarp if none does.
template <typename T>
struct Light {
  T before, behind;
  int dark;
};

// `start` is the transmittance in front of the first lane.
template <typename T>
__device__ Light<T> light_of(T alpha, T start, T end, int lane) {
  T share = 1 - alpha;
  for (int step = 1; step < kWarp; step *= 2) {
    const T lower = __shfl_up_sync(kWholeWarp, share, step);
    if (lane >= step) share *= lower;
  }
  const T after = start * share, before = from_below(after, start, lane), last = of_last_lane(after);
  const unsigned ends = __ballot_sync(kWholeWarp, after < end && after > -end);
  const int dark = ends == 0 ? kWarp : __ffs(static_cast<int>(ends)) - 1;
  return {lane > dark ? T(0) : before, ends == 0 ? last : T(0), dark};
}

// Calls visit(i, weight) for every sample of a ray, whose opacities alpha(i) gives.
template <typename T, typename Alpha, typename Visit>
__device__ void composite_by_warp(Alpha alpha, const bool* valid, int64_t num_samples, T early_stop,
                                  Visit visit) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const T end = end_of_light(early_stop);
  T start = 1;
  for (int64_t i = lane; i - lane < num_samples; i += kWarp) {
    const T own = i < num_samples && is_valid(valid, i) ? alpha(i) : T(0);
    const Light<T> light = light_of(own, start, end, lane);
    if (i < num_samples) visit(i, own * light.before);
    start = light.behind;
  }
}

// How many samples of a ray, from the first on, its gradient depends on. What is lit in front of them goes to
// `lit`; see dim_visible.
template <typename T>
__device__ int64_t reach_of(const T* alphas, const bool* valid, int64_t num_samples, T early_stop, T* lit) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const T end = end_of_light(early_stop);
  T start = 1;
  bool again = !(early_stop > 0);  // light begins once more behind the sample that ends it
  bool shines = true;
  for (int64_t i = lane; i - lane < num_samples; i += kWarp) {
    const T own = i < num_samples && is_valid(valid, i) ? alphas[i] : T(0);
    Light<T> light = light_of(own, start, end, lane);
    if (i < num_samples) lit[i] = shines ? light.before : T(0);
    if (light.dark < kWarp && again) {
      again = shines = false;
      light = light_of(lane > light.dark ? own : T(0), T(1), end, lane);
    }
    if (light.dark < kWarp) return i - lane + light.dark + 1;
    start = light.behind;
  }
  return num_samples;
}

// Gradients by opacities from those by weights, which grad(i) gives; grad_alphas is no other argument.
template <typename T, typename Grad>
__device__ void composite_by_warp_backward(Grad grad, const T* alphas, const bool* valid, int64_t num_samples,
                                           T early_stop, T* grad_alphas) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int64_t reach = reach_of(alphas, valid, num_samples, early_stop, grad_alphas);
  T behind = 0;  // the last of the 32
  for (int64_t i = (num_samples - 1) / kWarp * kWarp + lane; i >= 0; i -= kWarp) {
    const bool counts = i < reach && is_valid(valid, i);
    const T alpha = counts ? alphas[i] : T(0), own = counts ? grad(i) : T(0);
    T share = 1 - alpha, front = alpha * own;
    for (int step = 1; step < kWarp; step *= 2) {
      const T further = __shfl_down_sync(kWholeWarp, front, step);
      const T rest = __shfl_down_sync(kWholeWarp, share, step);
      if (lane + step < kWarp) front += share * further, share *= rest;
    }
    front += share * behind;
    const T next = __shfl_down_sync(kWholeWarp, front, 1);
    const T seen = lane + 1 < kWarp ? next : behind;
    if (i < num_samples) grad_alphas[i] = counts ? grad_alphas[i] * (own - seen) : T(0);
    behind = __shfl_sync(kWholeWarp, front, 0);
  }
}

}  // namespace renderpretrain
