#include "voxelize.h"

#include "parallel.h"

using namespace renderpretrain;

constexpr int64_t kGrain = 1 << 13;  // points; tens of microseconds of work

int rp_voxel_index_cpu(int64_t type, const void* points, const bool* valid, const rp_grid* grid,
                       const rp_box* box, int64_t* index, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Voxelizer<T> voxelizer(*grid, *box);
    const int64_t num_voxels = grid->size_z * grid->size_y * grid->size_x;
    return parallel_for(grid->batch * grid->num_points, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t voxel = valid[i] ? voxelizer.voxel_of(static_cast<const T*>(points) + 3 * i) : -1;
        index[i] = voxel < 0 ? -1 : i / grid->num_points * num_voxels + voxel;
      }
    });
  });
}
