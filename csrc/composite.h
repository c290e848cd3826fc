// Alpha compositing along one ray: the arithmetic both devices share.
#pragma once

#include <cmath>

#include "common/host_device.h"

namespace renderpretrain {

// Keeps the expected depth of an empty ray at 0 instead of 0/0.
template <typename T>
constexpr T kOpacityEpsilon = static_cast<T>(1e-10);

// Below the larger of this and early_stop a ray ends: the smallest normal number over epsilon. The rest of
// the ray is zero instead of a tail of denormal numbers, each of which costs a CPU a hundred cycles.
template <typename T>
constexpr T kDark = static_cast<T>(sizeof(T) == sizeof(float) ? 1e-31 : 1e-292);

template <typename T>
RP_HOST_DEVICE T end_of_light(T early_stop) {
  return early_stop > kDark<T> ? early_stop : kDark<T>;
}

// The three steps along a ray, or with V a vector of T along several at once.

// Transmittance behind a sample, zero where the ray ends.
template <typename T, typename V>
RP_HOST_DEVICE V dim(V transmittance, V alpha, T end) {
  const V rest = transmittance * (T(1) - alpha);
  return rest < end && rest > -end ? V{} : rest;
}

// The gradient of a ray depends on more samples than those with a weight: the first sample that ends the
// light hides what its own derivative brings to light. So `visible`, the transmittance, starts at 1 once more
// behind that sample, an upper bound; where it is zero then, nothing matters any more. `lit` is 1 until then.
template <typename T, typename V>
RP_HOST_DEVICE void dim_visible(V alpha, T end, bool stops_early, V* visible, V* lit) {
  const V rest = dim(*visible, alpha, end);
  const V again = stops_early ? V{} : *lit;
  *lit = rest == T(0) ? V{} : *lit;
  *visible = rest == T(0) ? again : rest;
}

// One step of the way back to the camera: dL/dalpha[i] = T[i] * (dL/dw[i] - behind), where behind is the
// gradient of everything past sample i as seen through it. No division by 1 - alpha: an opaque sample is
// exact.
template <typename T, typename V>
RP_HOST_DEVICE V step_back(V alpha, V transmittance, V grad_weight, V* behind) {
  const V grad_alpha = transmittance * (grad_weight - *behind);
  *behind = alpha * grad_weight + (T(1) - alpha) * *behind;
  return grad_alpha;
}

// `valid` may be null; samples that are not valid are as if they were not there.
RP_HOST_DEVICE bool is_valid(const bool* valid, int64_t i) { return valid == nullptr || valid[i]; }

// What the outputs of one ray, but for its values, say about its weights.
template <typename T>
struct RayGradient {
  const T* weights;  // of each sample, or null
  T opacity, depth_slope, depth;

  RP_HOST_DEVICE T at(int64_t i, T t) const {
    const T by_depth = depth_slope != 0 ? depth_slope * (t - depth) : T(0);  // t may be infinite
    return opacity + by_depth + (weights ? weights[i] : T(0));
  }
};

// The gradients of all outputs, each null where there is none, and the outputs that they are taken at.
template <typename T>
struct RayGradients {
  const T *grad_out, *grad_depth, *grad_opacity, *grad_weights;
  const T *depth, *opacity;

  RayGradients(const void* out, const void* depths, const void* opacities, const void* weights,
               const void* depth, const void* opacity)
      : grad_out(static_cast<const T*>(out)),
        grad_depth(static_cast<const T*>(depths)),
        grad_opacity(static_cast<const T*>(opacities)),
        grad_weights(static_cast<const T*>(weights)),
        depth(static_cast<const T*>(depth)),
        opacity(static_cast<const T*>(opacity)) {}

  RP_HOST_DEVICE RayGradient<T> of(int64_t ray, int64_t num_samples) const {
    return {grad_weights ? grad_weights + ray * num_samples : nullptr,
            grad_opacity ? grad_opacity[ray] : T(0),
            grad_depth ? grad_depth[ray] / (opacity[ray] + kOpacityEpsilon<T>) : T(0), depth[ray]};
  }
};

}  // namespace renderpretrain
