// A thread per point and channel, so that neighbouring threads read neighbouring channels; for slope a warp
// per point.
#include "grid.h"
#include "launch_cuda.h"

namespace renderpretrain {

constexpr int kWarp = 32;

template <typename T>
__global__ void gather_kernel(const T* volume, const T* points, const T* directions, Grid<T> grid,
                              int64_t count, T* values) {
  const int64_t thread = thread_index();
  if (thread >= count) return;
  const int64_t point = thread / grid.channels;
  const int64_t channel = thread % grid.channels;
  const T* const base = volume + point / grid.num_points * grid.num_voxels() * grid.channels + channel;
  const T* const direction = directions ? directions + 3 * point : nullptr;
  T total = 0;
  Cell<T> cell;
  if (locate(grid, points + 3 * point, &cell)) {
    for (int k = 0; k < kCorners; ++k) {
      const int64_t voxel = voxel_of(grid, cell, k);
      if (voxel >= 0) total += weight_of(grid, cell, direction, k) * base[voxel * grid.channels];
    }
  }
  values[thread] = total;
}

template <typename T>
__global__ void scatter_kernel(const T* values, const T* points, const T* directions, Grid<T> grid,
                               int64_t count, T* volume) {
  const int64_t thread = thread_index();
  if (thread >= count) return;
  const int64_t point = thread / grid.channels;
  const int64_t channel = thread % grid.channels;
  T* const base = volume + point / grid.num_points * grid.num_voxels() * grid.channels + channel;
  const T* const direction = directions ? directions + 3 * point : nullptr;
  Cell<T> cell;
  if (!locate(grid, points + 3 * point, &cell)) return;
  for (int k = 0; k < kCorners; ++k) {
    const int64_t voxel = voxel_of(grid, cell, k);
    const T weight = weight_of(grid, cell, direction, k);
    // Points on voxel centres, as splat's nearest mode makes them, touch one voxel.
    if (voxel >= 0 && weight != 0) atomicAdd(base + voxel * grid.channels, weight * values[thread]);
  }
}

template <typename T>
__global__ void slope_kernel(const T* values, const T* volume, const T* points, const T* directions,
                             Grid<T> grid, int64_t count, T* slopes) {
  const int64_t thread = thread_index();
  if (thread >= count) return;  // whole warps leave together
  const int64_t point = thread / kWarp;
  const int lane = static_cast<int>(thread % kWarp);
  const T* const base = volume + point / grid.num_points * grid.num_voxels() * grid.channels;
  const T* const direction = directions ? directions + 3 * point : nullptr;
  T slope[3] = {0, 0, 0};
  Cell<T> cell;
  if (locate(grid, points + 3 * point, &cell)) {
    for (int k = 0; k < kCorners; ++k) {
      const int64_t voxel = voxel_of(grid, cell, k);
      if (voxel < 0) continue;
      T product = 0;
      for (int64_t c = lane; c < grid.channels; c += kWarp) {
        product += values[point * grid.channels + c] * base[voxel * grid.channels + c];
      }
      add_slope(grid, cell, direction, k, product, slope);
    }
  }
  for (int axis = 0; axis < 3; ++axis) {
    for (int step = kWarp / 2; step > 0; step /= 2) slope[axis] += __shfl_down_sync(~0u, slope[axis], step);
    if (lane == 0) slopes[3 * point + axis] = slope[axis];
  }
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_grid_gather_cuda(int64_t type, const void* volume, const void* points, const void* directions,
                        const rp_grid* grid, void* values, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t count = grid->batch * grid->num_points * grid->channels;
    return launch(gather_kernel<T>, count, stream, static_cast<const T*>(volume),
                  static_cast<const T*>(points), static_cast<const T*>(directions), Grid<T>(*grid), count,
                  static_cast<T*>(values));
  });
}

int rp_grid_scatter_cuda(int64_t type, const void* values, const void* points, const void* directions,
                         const rp_grid* grid, void* volume, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t count = grid->batch * grid->num_points * grid->channels;
    return launch(scatter_kernel<T>, count, stream, static_cast<const T*>(values),
                  static_cast<const T*>(points), static_cast<const T*>(directions), Grid<T>(*grid), count,
                  static_cast<T*>(volume));
  });
}

int rp_grid_slope_cuda(int64_t type, const void* values, const void* volume, const void* points,
                       const void* directions, const rp_grid* grid, void* slopes, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t count = grid->batch * grid->num_points * kWarp;
    return launch(slope_kernel<T>, count, stream, static_cast<const T*>(values),
                  static_cast<const T*>(volume), static_cast<const T*>(points),
                  static_cast<const T*>(directions), Grid<T>(*grid), count, static_cast<T*>(slopes));
  });
}
