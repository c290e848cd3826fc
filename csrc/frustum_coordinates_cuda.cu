#include "frustum_coordinates.h"
#include "launch_cuda.h"

namespace renderpretrain {

template <typename T>
__global__ void frustum_coordinates_kernel(const T* points, int64_t point_stride, const T* matrices,
                                           DepthRange<T> range, int64_t num_points, int64_t count,
                                           T* coordinates, bool* valid) {
  const int64_t i = thread_index();
  if (i >= count) return;
  const int64_t view = i / num_points;
  const T* const from = points + view * point_stride + 3 * (i % num_points);
  const FrustumPoint<T> point = project(matrices + 12 * view, range, from[0], from[1], from[2]);
  coordinates[3 * i] = point.u;
  coordinates[3 * i + 1] = point.v;
  coordinates[3 * i + 2] = point.d;
  valid[i] = point.valid;
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_frustum_coordinates_cuda(int64_t type, const void* points, int64_t point_stride, const void* matrices,
                                int64_t num_views, int64_t num_points, double near, double far, double nearest,
                                void* coordinates, bool* valid, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t count = num_views * num_points;
    return launch(frustum_coordinates_kernel<T>, count, stream, static_cast<const T*>(points), point_stride,
                  static_cast<const T*>(matrices), DepthRange<T>{T(near), T(far), T(nearest)}, num_points,
                  count, static_cast<T*>(coordinates), valid);
  });
}
