#include "common/launch_cuda.h"
#include "voxelize.h"

namespace renderpretrain {

template <typename T>
__global__ void voxel_index_kernel(const T* points, const bool* valid, Voxelizer<T> voxelizer,
                                   int64_t num_points, int64_t num_voxels, int64_t count, int64_t* index) {
  const int64_t i = thread_index();
  if (i >= count) return;
  const int64_t voxel = voxelizer.voxel_of(points + 3 * i, valid[i]);
  index[i] = voxel < 0 ? -1 : i / num_points * num_voxels + voxel;
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_voxel_index_cuda(int64_t type, const void* points, const bool* valid, const rp_grid* grid,
                        const rp_box* box, int64_t* index, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t count = grid->batch * grid->num_points;
    return launch(voxel_index_kernel<T>, count, stream, static_cast<const T*>(points), valid,
                  Voxelizer<T>(*grid, *box), grid->num_points, grid->size_z * grid->size_y * grid->size_x,
                  count, index);
  });
}
