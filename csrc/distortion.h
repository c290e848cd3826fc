// The distortion of one ray's weights: the arithmetic both devices share.
#pragma once

#include "common/segments.h"

namespace renderpretrain {

template <typename T>
constexpr T kThird = T(1) / 3;  // dividing takes as long as all the rest

template <typename T>
struct Intervals {
  const T *weights, *t_starts, *t_ends;

  RP_HOST_DEVICE T middle(int64_t i) const { return T(0.5) * (t_starts[i] + t_ends[i]); }
  RP_HOST_DEVICE T length(int64_t i) const { return t_ends[i] - t_starts[i]; }
};

// The mass on one side of sample i is the sum of the weights there, the spread the sum of weight times
// distance to i; the loss is sum_i w_i (2 spread in front + w_i length / 3). Both grow from sample to sample,
// so nothing cancels; in m_i * mass - sum_j w_j m_j much would.
template <typename T>
RP_HOST_DEVICE T distortion_of(T weight, T length, T spread_in_front) {
  return weight * (2 * spread_in_front + kThird<T> * weight * length);
}

// Its derivatives: by the weight, with the spread of both sides, ...
template <typename T>
RP_HOST_DEVICE T distortion_by_weight(T weight, T length, T spread) {
  return 2 * (spread + kThird<T> * weight * length);
}

// ... and by the two ends of the interval, with the mass in front less that behind.
template <typename T>
RP_HOST_DEVICE void distortion_by_ends(T grad, T weight, T mass_difference, T* by_start, T* by_end) {
  const T by_half_middle = grad * weight * mass_difference, by_length = kThird<T> * grad * weight * weight;
  *by_start = by_half_middle - by_length;
  *by_end = by_half_middle + by_length;
}

}  // namespace renderpretrain
