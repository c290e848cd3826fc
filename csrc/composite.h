// Alpha compositing along one ray: the arithmetic both devices share.
#pragma once

#include <cmath>

#include "host_device.h"

namespace renderpretrain {

// Nothing can be seen through this little transmittance: the smallest normal number over epsilon. Where it is
// reached the rest of the ray is zero instead of a tail of denormal numbers, each of which costs a CPU a hundred
// cycles.
template <typename T>
RP_HOST_DEVICE bool is_dark(T transmittance) {
  constexpr T kDark = static_cast<T>(sizeof(T) == sizeof(float) ? 1e-31 : 1e-292);
  return std::abs(transmittance) < kDark;
}

// weights[i] = alphas[i] * prod_{j < i} (1 - alphas[j])
template <typename T>
RP_HOST_DEVICE void composite_ray(const T* alphas, int64_t num_samples, T* weights) {
  T transmittance = 1;
  int64_t i = 0;
  for (; i < num_samples && !is_dark(transmittance); ++i) {
    weights[i] = alphas[i] * transmittance;
    transmittance *= 1 - alphas[i];
  }
  for (; i < num_samples; ++i) weights[i] = 0;
}

// dL/dalpha[i] = T[i] * (dL/dw[i] - behind[i]), with T[i] the transmittance in front of sample i and
// behind[i] the gradient of everything past it as seen through it. No division by 1 - alpha: an opaque sample
// is exact.
template <typename T>
RP_HOST_DEVICE void composite_ray_backward(const T* grad_weights, const T* alphas, int64_t num_samples,
                                           T* grad_alphas) {
  T transmittance = 1;
  int64_t lit = 0;  // samples in front of the dark
  for (; lit < num_samples && !is_dark(transmittance); ++lit) {
    grad_alphas[lit] = transmittance;
    transmittance *= 1 - alphas[lit];
  }
  T behind = 0;
  for (int64_t i = num_samples - 1; i >= 0; --i) {
    grad_alphas[i] = i < lit ? grad_alphas[i] * (grad_weights[i] - behind) : T(0);
    behind = alphas[i] * grad_weights[i] + (1 - alphas[i]) * behind;
  }
}

}  // namespace renderpretrain
