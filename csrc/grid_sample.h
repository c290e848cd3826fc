// Trilinear weights on a voxel grid: the arithmetic both devices share. Python's splat is the gradient by the
// volume, and comes with grid_sample.
#pragma once

#include <cmath>

#include "common/host_device.h"

namespace renderpretrain {

// rp_grid in the floating type of the data, axes in the order x, y, z.
template <typename T>
struct Grid {
  int64_t channels, num_points, size[3];
  T scale[3], offset[3];

  explicit Grid(const rp_grid& grid)
      : channels(grid.channels),
        num_points(grid.num_points),
        size{grid.size_x, grid.size_y, grid.size_z},
        scale{T(grid.scale_x), T(grid.scale_y), T(grid.scale_z)},
        offset{T(grid.offset_x), T(grid.offset_y), T(grid.offset_z)} {}

  RP_HOST_DEVICE int64_t num_voxels() const { return size[0] * size[1] * size[2]; }
};

// The eight voxels around a point. Corner k lies at corner + (k & 1, k >> 1 & 1, k >> 2 & 1).
template <typename T>
struct Cell {
  int64_t corner[3];
  T share[3][2];  // weight of the lower and of the upper voxel, per axis
};

constexpr int kCorners = 8;

// False where none of the eight voxels is in the volume, a point with NaN or infinity included.
template <typename T>
RP_HOST_DEVICE bool locate(const Grid<T>& grid, const T* point, Cell<T>* cell) {
  for (int axis = 0; axis < 3; ++axis) {
    const T index = point[axis] * grid.scale[axis] + grid.offset[axis];
    if (!(index >= -1 && index < static_cast<T>(grid.size[axis]))) return false;
    const T low = std::floor(index);
    cell->corner[axis] = static_cast<int64_t>(low);
    cell->share[axis][1] = index - low;
    cell->share[axis][0] = 1 - cell->share[axis][1];
  }
  return true;
}

// Flat index of corner k, or -1 outside the volume; Index must hold the number of voxels.
template <typename Index = int64_t, typename T>
RP_HOST_DEVICE Index voxel_of(const Grid<T>& grid, const Cell<T>& cell, int k) {
  const Index x = static_cast<Index>(cell.corner[0]) + (k & 1);
  const Index y = static_cast<Index>(cell.corner[1]) + (k >> 1 & 1);
  const Index z = static_cast<Index>(cell.corner[2]) + (k >> 2 & 1);
  const Index width = static_cast<Index>(grid.size[0]), height = static_cast<Index>(grid.size[1]);
  const Index depth = static_cast<Index>(grid.size[2]);
  const bool inside = x >= 0 && x < width && y >= 0 && y < height && z >= 0 && z < depth;
  return inside ? (z * height + y) * width + x : -1;
}

// d(share of corner k along the axis) / d(point), per metre.
template <typename T>
RP_HOST_DEVICE T rate(const Grid<T>& grid, int axis, int k) {
  return (k >> axis & 1) ? grid.scale[axis] : -grid.scale[axis];
}

// w_k, or its derivative along the direction unless that is null. N is the grid's type or a vector of it.
template <typename T, typename N>
RP_HOST_DEVICE N weight_of(const Grid<T>& grid, const Cell<N>& cell, const N* direction, int k) {
  const N x = cell.share[0][k & 1], y = cell.share[1][k >> 1 & 1], z = cell.share[2][k >> 2 & 1];
  if (direction == nullptr) return x * y * z;
  return direction[0] * rate(grid, 0, k) * (y * z) + direction[1] * rate(grid, 1, k) * (x * z) +
         direction[2] * rate(grid, 2, k) * (x * y);
}

// d(weight_of corner k) / d(point). A share is linear, so of the second derivatives only the mixed ones are
// not zero.
template <typename T, typename N>
RP_HOST_DEVICE void slope_of(const Grid<T>& grid, const Cell<N>& cell, const N* direction, int k, N* slope) {
  const N x = cell.share[0][k & 1], y = cell.share[1][k >> 1 & 1], z = cell.share[2][k >> 2 & 1];
  const T dx = rate(grid, 0, k), dy = rate(grid, 1, k), dz = rate(grid, 2, k);
  if (direction == nullptr) {
    slope[0] = dx * (y * z);
    slope[1] = dy * (x * z);
    slope[2] = dz * (x * y);
  } else {
    const N along_x = direction[0] * dx, along_y = direction[1] * dy, along_z = direction[2] * dz;
    slope[0] = dx * (along_y * z + along_z * y);
    slope[1] = dy * (along_x * z + along_z * x);
    slope[2] = dz * (along_x * y + along_y * x);
  }
}

}  // namespace renderpretrain
