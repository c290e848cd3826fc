// Alpha compositing along one ray: the arithmetic both devices share.
#pragma once

#include <cmath>

#include "host_device.h"

namespace renderpretrain {

// Keeps the expected depth of an empty ray at 0 instead of 0/0.
template <typename T>
constexpr T kOpacityEpsilon = static_cast<T>(1e-10);

// Nothing can be seen through this little transmittance: the smallest normal number over epsilon. Where it is
// reached the rest of the ray is zero instead of a tail of denormal numbers, each of which costs a CPU a hundred
// cycles.
template <typename T>
RP_HOST_DEVICE bool is_dark(T transmittance) {
  constexpr T kDark = static_cast<T>(sizeof(T) == sizeof(float) ? 1e-31 : 1e-292);
  return std::abs(transmittance) < kDark;
}

// Below `early_stop` the ray ends. Samples that are not valid are as if they were not there; a null pointer
// means that all are valid.
template <typename T>
RP_HOST_DEVICE bool ends(T transmittance, T early_stop) {
  return is_dark(transmittance) || std::abs(transmittance) < early_stop;
}

RP_HOST_DEVICE bool is_valid(const bool* valid, int64_t i) { return valid == nullptr || valid[i]; }

// weights[i] = alphas[i] * prod_{j < i} (1 - alphas[j]); the two may be the same memory.
template <typename T>
RP_HOST_DEVICE void composite_ray(const T* alphas, const bool* valid, int64_t num_samples, T early_stop,
                                  T* weights) {
  T transmittance = 1;
  int64_t i = 0;
  for (; i < num_samples && !ends(transmittance, early_stop); ++i) {
    const T alpha = is_valid(valid, i) ? alphas[i] : T(0);
    weights[i] = alpha * transmittance;
    transmittance *= 1 - alpha;
  }
  for (; i < num_samples; ++i) weights[i] = 0;
}

// Writes the transmittance in front of every sample, zero past the ray's end, and returns how many samples
// the gradient depends on. Without an early stop these are more than those with a weight: an opaque sample
// hides what its own derivative brings to light.
template <typename T>
RP_HOST_DEVICE int64_t trace_ray(const T* alphas, const bool* valid, int64_t num_samples, T early_stop,
                                 T* transmittances) {
  T transmittance = 1;
  int64_t i = 0;
  for (; i < num_samples && !ends(transmittance, early_stop); ++i) {
    transmittances[i] = transmittance;
    if (is_valid(valid, i)) transmittance *= 1 - alphas[i];
  }
  for (int64_t j = i; j < num_samples; ++j) transmittances[j] = 0;
  if (early_stop > 0) return i;
  transmittance = 1;
  for (; i < num_samples && !is_dark(transmittance); ++i) {
    if (is_valid(valid, i)) transmittance *= 1 - alphas[i];
  }
  return i;
}

// One step of the way back to the camera: dL/dalpha[i] = T[i] * (dL/dw[i] - behind), where behind is the
// gradient of everything past sample i as seen through it. No division by 1 - alpha: an opaque sample is exact.
template <typename T>
RP_HOST_DEVICE T step_back(T alpha, T transmittance, T grad_weight, T* behind) {
  const T grad_alpha = transmittance * (grad_weight - *behind);
  *behind = alpha * grad_weight + (1 - alpha) * *behind;
  return grad_alpha;
}

// grad_alphas must not be the memory of another argument.
template <typename T>
RP_HOST_DEVICE void composite_ray_backward(const T* grad_weights, const T* alphas, const bool* valid,
                                           int64_t num_samples, T early_stop, T* grad_alphas) {
  const int64_t reach = trace_ray(alphas, valid, num_samples, early_stop, grad_alphas);
  T behind = 0;
  for (int64_t i = num_samples - 1; i >= 0; --i) {
    const bool counts = i < reach && is_valid(valid, i);
    grad_alphas[i] = counts ? step_back(alphas[i], grad_alphas[i], grad_weights[i], &behind) : T(0);
  }
}

// What the outputs of one ray, but for its values, say about its weights.
template <typename T>
struct RayGradient {
  const T* weights;  // of each sample, or null
  T opacity, depth_slope, depth;

  RP_HOST_DEVICE T at(int64_t i, T t) const {
    return opacity + depth_slope * (t - depth) + (weights ? weights[i] : T(0));
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
