// Pinhole projection into a camera's frustum: the arithmetic both devices share.
#pragma once

#include "host_device.h"

namespace renderpretrain {

template <typename T>
struct DepthRange {
  T near, far, nearest;
};

template <typename T>
struct FrustumPoint {
  T u, v, d;
  bool valid;
};

// `m` is the view's matrix (3, 4).
template <typename T>
RP_HOST_DEVICE FrustumPoint<T> project(const T* m, const DepthRange<T>& range, T x, T y, T z) {
  const T depth = m[8] * x + m[9] * y + m[10] * z + m[11];
  const T divisor = depth > range.nearest ? depth : T(1);
  FrustumPoint<T> point;
  point.u = (m[0] * x + m[1] * y + m[2] * z + m[3]) / divisor;
  point.v = (m[4] * x + m[5] * y + m[6] * z + m[7]) / divisor;
  point.d = 2 * (depth - range.near) / (range.far - range.near) - 1;
  // Without short cuts, which would keep loops from being vectorised.
  point.valid = (depth > range.nearest) & (point.u >= -1) & (point.u < 1) & (point.v >= -1) & (point.v < 1) &
                (point.d > -1) & (point.d < 1);
  return point;
}

}  // namespace renderpretrain
