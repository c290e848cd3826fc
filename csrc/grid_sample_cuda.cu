// A group of lanes per point, so that neighbouring lanes read neighbouring channels and the weights are
// computed once per lane, not once per channel; where memory allows, a lane takes four channels at once.
#include "grid_sample.h"
#include "common/pack_cuda.h"
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

// kGroup lanes, a power of two up to a warp, share a point, each with kPack channels at a time. Index holds
// the numbers of the points and of a sample's volume.
template <int kGroup, int kPack, typename Index, typename T, typename V>
__global__ void pass_kernel(Pass<T, V> pass, Index num_points) {
  const Grid<T>& grid = pass.grid;
  const Index i = static_cast<Index>(thread_index() / kGroup);
  const int lane = static_cast<int>(threadIdx.x % kGroup);
  const bool exists = i < num_points;  // every lane of the warp takes part in the shuffles below
  Cell<T> cell;
  const bool meets = exists && locate(grid, pass.points + int64_t{3} * i, &cell);
  const T* const direction = pass.directions && exists ? pass.directions + int64_t{3} * i : nullptr;
  const Index channels = static_cast<Index>(grid.channels);
  const int64_t sample = exists ? i / static_cast<Index>(grid.num_points) : 0;
  const int64_t base = sample * grid.num_voxels() * channels, row = static_cast<int64_t>(i) * channels;
  Index place[kCorners];  // of a corner's channels within the sample's
  T weight[kCorners], product[kCorners];
  for (int k = 0; k < kCorners; ++k) {
    const Index voxel = meets ? voxel_of<Index>(grid, cell, k) : -1;
    place[k] = voxel < 0 ? -1 : voxel * channels;
    weight[k] = voxel < 0 ? T(0) : weight_of(grid, cell, direction, k);
    product[k] = 0;
  }
  if (exists) {
    for (Index c = kPack * lane; c < channels; c += kPack * kGroup) {
      const auto value = pass.values_in ? pack_at<kPack>(pass.values_in + row + c) : Pack<kPack, T>{};
      Pack<kPack, T> total{};
      for (int k = 0; k < kCorners; ++k) {
        if (place[k] < 0) continue;
        const int64_t at = base + place[k] + c;
        if (pass.values || pass.slopes) {
          const auto stored = pack_at<kPack>(pass.volume_in + at);
          for (int j = 0; j < kPack; ++j) {
            const T read = to_float(stored.at[j]);
            total.at[j] += weight[k] * read;
            product[k] += value.at[j] * read;
          }
        }
        if (pass.volume) {
          Pack<kPack, T> share;
          for (int j = 0; j < kPack; ++j) share.at[j] = weight[k] * value.at[j];
          add_atomically(pass.volume + at, share);
        }
      }
      if (pass.values) *reinterpret_cast<Pack<kPack, T>*>(pass.values + row + c) = total;
    }
  }
  if (pass.slopes == nullptr) return;
  T slope[3] = {0, 0, 0};
  for (int k = 0; k < kCorners; ++k) {
    if (place[k] < 0) continue;
    T rates[3];
    slope_of(grid, cell, direction, k, rates);
    for (int axis = 0; axis < 3; ++axis) slope[axis] += product[k] * rates[axis];
  }
  for (int axis = 0; axis < 3; ++axis) {
    const T total = sum_of_lanes<kGroup>(slope[axis]);
    if (exists && lane == 0) pass.slopes[int64_t{3} * i + axis] = total;
  }
}

template <int kGroup, int kPack, typename Index, typename T, typename V>
int run_group(const Pass<T, V>& pass, int64_t num_points, void* stream) {
  return launch(pass_kernel<kGroup, kPack, Index, T, V>, kGroup * num_points, stream, pass,
                static_cast<Index>(num_points));
}

template <int kPack, typename Index, typename T, typename V>
int run_packs(const Pass<T, V>& pass, int64_t num_points, void* stream) {
  const int64_t packs = pass.grid.channels / kPack;
  if (packs <= 4) return run_group<4, kPack, Index>(pass, num_points, stream);
  if (packs <= 8) return run_group<8, kPack, Index>(pass, num_points, stream);
  if (packs <= 16) return run_group<16, kPack, Index>(pass, num_points, stream);
  return run_group<32, kPack, Index>(pass, num_points, stream);
}

template <typename T, typename V>
int run(const Pass<T, V>& pass, int64_t num_points, void* stream) {
  if constexpr (sizeof(T) == sizeof(float)) {
    const bool aligned = is_aligned_to_four(pass.values_in) && is_aligned_to_four(pass.volume_in) &&
                         is_aligned_to_four(pass.values) && is_aligned_to_four(pass.volume);
    const int64_t channels = pass.grid.channels;
    const bool small = num_points <= INT32_MAX && pass.grid.num_voxels() * channels <= INT32_MAX;
    if (aligned && small && channels % 4 == 0) return run_packs<4, int32_t>(pass, num_points, stream);
  }
  return run_packs<1, int64_t>(pass, num_points, stream);
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
