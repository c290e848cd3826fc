// Pinhole projection into a camera's frustum: the arithmetic both devices share.
#pragma once

#include "common/host_device.h"

namespace renderpretrain {

// Depths in metres; (depth - near) * scale - 1 runs from -1 to 1.
template <typename T>
struct DepthRange {
  T near, scale, nearest;

  DepthRange(double near, double far, double nearest)
      : near(T(near)), scale(T(2 / (far - near))), nearest(T(nearest)) {}
};

// (x, y, z) becomes (u, v, d) by a view's matrix (3, 4); returns whether that is in the frustum. V is T, or a
// vector of them and the answer one of integers.
template <typename T, typename V>
RP_HOST_DEVICE auto project(const T* m, const DepthRange<T>& range, V* x, V* y, V* z) {
  const V depth = m[8] * *x + m[9] * *y + m[10] * *z + m[11];
  const V one = V{} + T(1);
  const V divisor = depth > range.nearest ? depth : one;
  const V u = (m[0] * *x + m[1] * *y + m[2] * *z + m[3]) / divisor;
  const V v = (m[4] * *x + m[5] * *y + m[6] * *z + m[7]) / divisor;
  const V d = (depth - range.near) * range.scale - T(1);
  *x = u;
  *y = v;
  *z = d;
  return (depth > range.nearest) & (u >= -one) & (u < one) & (v >= -one) & (v < one) & (d > -one) & (d < one);
}

}  // namespace renderpretrain
