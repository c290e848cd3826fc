#include "frustum_coordinates.h"
#include "common/launch_cuda.h"

namespace renderpretrain {

template <typename T>
__global__ void frustum_coordinates_kernel(const T* points, int64_t point_stride, const T* matrices,
                                           DepthRange<T> range, int64_t num_points, int64_t count,
                                           T* coordinates, bool* valid) {
  const int64_t i = thread_index();
  if (i >= count) return;
  const int64_t view = i / num_points;
  const T* const from = points + view * point_stride + 3 * (i % num_points);
  T x = from[0], y = from[1], z = from[2];
  valid[i] = project(matrices + 12 * view, range, &x, &y, &z);
  coordinates[3 * i] = x;
  coordinates[3 * i + 1] = y;
  coordinates[3 * i + 2] = z;
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_frustum_coordinates_cuda(int64_t type, const void* points, int64_t point_stride, const void* matrices,
                                int64_t num_views, int64_t num_points, double near, double far,
                                double nearest, void* coordinates, bool* valid, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t count = num_views * num_points;
    return launch(frustum_coordinates_kernel<T>, count, stream, static_cast<const T*>(points), point_stride,
                  static_cast<const T*>(matrices), DepthRange<T>(near, far, nearest), num_points, count,
                  static_cast<T*>(coordinates), valid);
  });
}
