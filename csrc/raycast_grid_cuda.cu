// A thread per beam. Sums of whole numbers do not depend on the order of the atomic additions.
#include "common/launch_cuda.h"
#include "raycast_grid.h"

namespace renderpretrain {

template <typename T>
__global__ void raycast_grid_kernel(const T* origins, const T* ends, const bool* valid, rp_grid grid,
                                    int32_t* passed, int32_t* hits) {
  const int64_t i = thread_index();
  if (i >= grid.batch * grid.num_points || !valid[i]) return;
  const Voxels box{{0, 0, 0}, {grid.size_x, grid.size_y, grid.size_z}, grid.size_x, grid.size_y};
  const int64_t first = i / grid.num_points * grid.size_z * grid.size_y * grid.size_x;
  const Beam beam(grid, origins + 3 * i, ends + 3 * i);
  walk(beam, box, [&](int64_t voxel) { atomicAdd(passed + first + voxel, 1); });
  const int64_t last = beam.counts ? box.flat(beam.end) : kNoVoxel;
  if (last != kNoVoxel) atomicAdd(hits + first + last, 1);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_raycast_grid_cuda(int64_t type, const void* origins, const void* ends, const bool* valid,
                         const rp_grid* grid, int32_t* passed, int32_t* hits, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return launch(raycast_grid_kernel<T>, grid->batch * grid->num_points, stream,
                  static_cast<const T*>(origins), static_cast<const T*>(ends), valid, *grid, passed, hits);
  });
}
