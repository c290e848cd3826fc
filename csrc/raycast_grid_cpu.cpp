// Every owner walks all beams of one grid through its own range of rows, so no two threads write one voxel.
#include "raycast_grid.h"

#include <algorithm>

#include "common/parallel.h"

using namespace renderpretrain;

int rp_raycast_grid_cpu(int64_t type, const void* origins, const void* ends, const bool* valid,
                        const rp_grid* grid, int32_t* passed, int32_t* hits, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t num_voxels = grid->size_z * grid->size_y * grid->size_x;
    if (num_voxels == 0 || grid->batch == 0) return RP_OK;
    const int64_t per_grid = std::min((num_threads + grid->batch - 1) / grid->batch, grid->size_y);
    return parallel_for(grid->batch * per_grid, 1, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t owner = begin; owner < end; ++owner) {
        const int64_t batch = owner / per_grid, part = owner % per_grid;
        const Voxels rows{{0, part * grid->size_y / per_grid, 0},
                          {grid->size_x, (part + 1) * grid->size_y / per_grid, grid->size_z},
                          grid->size_x,
                          grid->size_y};
        int32_t* const passed_here = passed + batch * num_voxels;
        int32_t* const hits_here = hits + batch * num_voxels;
        for (int64_t i = batch * grid->num_points; i < (batch + 1) * grid->num_points; ++i) {
          if (!valid[i]) continue;
          const Beam beam(*grid, static_cast<const T*>(origins) + 3 * i, static_cast<const T*>(ends) + 3 * i);
          walk(beam, rows, [&](int64_t voxel) { ++passed_here[voxel]; });
          const int64_t last = beam.counts ? rows.flat(beam.end) : kNoVoxel;
          if (last != kNoVoxel) ++hits_here[last];
        }
      }
    });
  });
}
