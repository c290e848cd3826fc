#include "voxelize.h"

#include <algorithm>

#include "common/parallel.h"

using namespace renderpretrain;

constexpr int64_t kGrain = 1 << 13;  // points; tens of microseconds of work

int rp_voxel_index_cpu(int64_t type, const void* points, const bool* valid, const rp_grid* grid,
                       const rp_box* box, int64_t* index, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Voxelizer<T> voxelizer(*grid, *box);
    const int64_t num_voxels = grid->size_z * grid->size_y * grid->size_x;
    return parallel_for(grid->batch * grid->num_points, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end;) {
        const int64_t sample = i / grid->num_points;
        const int64_t stop = std::min(end, (sample + 1) * grid->num_points);
        for (; i < stop; ++i) {
          const int64_t voxel = voxelizer.voxel_of(static_cast<const T*>(points) + 3 * i, valid[i]);
          index[i] = voxel < 0 ? -1 : sample * num_voxels + voxel;
        }
      }
    });
  });
}
