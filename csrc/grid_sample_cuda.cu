// A group of lanes per point, so that neighbouring lanes read neighbouring channels and the weights are
// computed once per lane, not once per channel.
#include "grid_sample.h"
#include "common/warp_cuda.h"

namespace renderpretrain {

// See rp_grid_sample and rp_grid_sample_backward; null is skipped.
template <typename T, typename V>
struct Pass {
  Grid<T> grid;
  const T *points, *directions, *values_in;
  const V* volume_in;
  T *values, *volume, *slopes;
};

// kGroup lanes, a power of two up to a warp, share a point.
template <int kGroup, typename T, typename V>
__global__ void pass_kernel(Pass<T, V> pass, int64_t num_points) {
  const Grid<T>& grid = pass.grid;
  const int64_t i = thread_index() / kGroup;
  const int lane = static_cast<int>(thread_index() % kGroup);
  const bool exists = i < num_points;  // every lane of the warp takes part in the shuffles below
  Cell<T> cell;
  const bool meets = exists && locate(grid, pass.points + 3 * i, &cell);
  const T* const direction = pass.directions && exists ? pass.directions + 3 * i : nullptr;
  const int64_t channels = grid.channels;
  const int64_t base = exists ? i / grid.num_points * grid.num_voxels() * channels : 0;
  int64_t voxel[kCorners];
  T weight[kCorners], product[kCorners];
  for (int k = 0; k < kCorners; ++k) {
    voxel[k] = meets ? voxel_of(grid, cell, k) : -1;
    weight[k] = voxel[k] < 0 ? T(0) : weight_of(grid, cell, direction, k);
    product[k] = 0;
  }
  if (exists) {
    for (int64_t c = lane; c < channels; c += kGroup) {
      const T value = pass.values_in ? pass.values_in[i * channels + c] : T(0);
      T total = 0;
      for (int k = 0; k < kCorners; ++k) {
        if (voxel[k] < 0) continue;
        const int64_t place = base + voxel[k] * channels + c;
        if (pass.values || pass.slopes) {
          const T read = to_float(pass.volume_in[place]);
          total += weight[k] * read;
          product[k] += value * read;
        }
        if (pass.volume) atomicAdd(pass.volume + place, weight[k] * value);
      }
      if (pass.values) pass.values[i * channels + c] = total;
    }
  }
  if (pass.slopes == nullptr) return;
  T slope[3] = {0, 0, 0};
  for (int k = 0; k < kCorners; ++k) {
    if (voxel[k] < 0) continue;
    T rates[3];
    slope_of(grid, cell, direction, k, rates);
    for (int axis = 0; axis < 3; ++axis) slope[axis] += product[k] * rates[axis];
  }
  for (int axis = 0; axis < 3; ++axis) {
    const T total = sum_of_lanes<kGroup>(slope[axis]);
    if (exists && lane == 0) pass.slopes[3 * i + axis] = total;
  }
}

template <typename T, typename V>
int run(const Pass<T, V>& pass, int64_t num_points, void* stream) {
  const int64_t channels = pass.grid.channels;
  if (channels <= 4) return launch(pass_kernel<4, T, V>, 4 * num_points, stream, pass, num_points);
  if (channels <= 8) return launch(pass_kernel<8, T, V>, 8 * num_points, stream, pass, num_points);
  if (channels <= 16) return launch(pass_kernel<16, T, V>, 16 * num_points, stream, pass, num_points);
  return launch(pass_kernel<32, T, V>, 32 * num_points, stream, pass, num_points);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_grid_sample_cuda(int64_t type, const void* points, int64_t stored_type, const void* volume,
                        const rp_grid* grid, void* values, void* stream) {
  return rp_grid_sample_backward_cuda(type, points, nullptr, nullptr, stored_type, volume, grid, values,
                                      nullptr, nullptr, stream);
}

int rp_grid_sample_backward_cuda(int64_t type, const void* points, const void* directions,
                                 const void* grad_values, int64_t stored_type, const void* volume,
                                 const rp_grid* grid, void* values, void* grad_volume, void* slopes,
                                 void* stream) {
  return with_types(type, stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using V = decltype(stored);
    const Pass<T, V> pass{Grid<T>(*grid),
                          static_cast<const T*>(points),
                          static_cast<const T*>(directions),
                          static_cast<const T*>(grad_values),
                          static_cast<const V*>(volume),
                          static_cast<T*>(values),
                          static_cast<T*>(grad_volume),
                          static_cast<T*>(slopes)};
    return run(pass, grid->batch * grid->num_points, stream);
  });
}
