// The voxel of a point: the arithmetic both devices share.
#pragma once

#include <cmath>

#include "common/host_device.h"

namespace renderpretrain {

// A grid and the box it fills, in the type of the points; axes in the order x, y, z.
template <typename T>
struct Voxelizer {
  int64_t size[3];
  T scale[3], offset[3], lower[3], upper[3];

  Voxelizer(const rp_grid& grid, const rp_box& box)
      : size{grid.size_x, grid.size_y, grid.size_z},
        scale{static_cast<T>(grid.scale_x), static_cast<T>(grid.scale_y), static_cast<T>(grid.scale_z)},
        offset{static_cast<T>(grid.offset_x), static_cast<T>(grid.offset_y), static_cast<T>(grid.offset_z)},
        lower{static_cast<T>(box.lower_x), static_cast<T>(box.lower_y), static_cast<T>(box.lower_z)},
        upper{static_cast<T>(box.upper_x), static_cast<T>(box.upper_y), static_cast<T>(box.upper_z)} {}

  // (z * size_y + y) * size_x + x, or -1 outside the box, where NaN is. What is inside is in some voxel,
  // also where rounding of its index says otherwise.
  RP_HOST_DEVICE int64_t voxel_of(const T* point, bool valid) const {
    bool inside = valid;
    for (int axis = 0; axis < 3; ++axis) {
      inside &= point[axis] >= lower[axis] & point[axis] < upper[axis] & size[axis] > 0;
    }
    int64_t voxel = 0;
    for (int axis = 2; axis >= 0; --axis) {
      const T place = std::floor(point[axis] * scale[axis] + offset[axis] + T(0.5));
      const int64_t last = size[axis] - 1;
      // Compared before it is an integer, which infinities and what is beyond 2^63 cannot be.
      const int64_t step =
          place < static_cast<T>(last) ? static_cast<int64_t>(place > 0 ? place : T(0)) : last;
      voxel = voxel * size[axis] + step;
    }
    return inside ? voxel : -1;
  }
};

}  // namespace renderpretrain
