#include "frustum_coordinates.h"

#include <algorithm>

#include "parallel.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 4096;  // points; tens of microseconds of work
constexpr int kTogether = 64;     // points whose coordinates are put axis by axis, to be vectorised

template <typename T>
struct Frustum {
  int64_t point_stride, num_points;
  DepthRange<T> range;
  const T *points, *matrices;
  T* coordinates;
  bool* valid;

  // Points of all views in a row.
  RP_HOST_DEVICE void run(int64_t begin, int64_t end) const {
    while (begin < end) {
      const int64_t view = begin / num_points, point = begin % num_points;
      const int count = static_cast<int>(std::min({end - begin, num_points - point, int64_t(kTogether)}));
      project_some(matrices + 12 * view, points + view * point_stride + 3 * point, count, begin);
      begin += count;
    }
  }

  RP_HOST_DEVICE void project_some(const T* matrix, const T* from, int count, int64_t to) const {
    T axis[3][kTogether] = {};
    bool inside[kTogether];
    for (int i = 0; i < count; ++i) {
      for (int k = 0; k < 3; ++k) axis[k][i] = from[3 * i + k];
    }
    T m[12];
    std::copy(matrix, matrix + 12, m);
    for (int i = 0; i < kTogether; ++i) {
      const FrustumPoint<T> point = project(m, range, axis[0][i], axis[1][i], axis[2][i]);
      axis[0][i] = point.u;
      axis[1][i] = point.v;
      axis[2][i] = point.d;
      inside[i] = point.valid;
    }
    for (int i = 0; i < count; ++i) {
      for (int k = 0; k < 3; ++k) coordinates[3 * (to + i) + k] = axis[k][i];
      valid[to + i] = inside[i];
    }
  }
};

}  // namespace

int rp_frustum_coordinates_cpu(int64_t type, const void* points, int64_t point_stride, const void* matrices,
                               int64_t num_views, int64_t num_points, double near, double far, double nearest,
                               void* coordinates, bool* valid, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Frustum<T> work{point_stride,
                          num_points,
                          {T(near), T(far), T(nearest)},
                          static_cast<const T*>(points),
                          static_cast<const T*>(matrices),
                          static_cast<T*>(coordinates),
                          valid};
    return parallel_for(num_views * num_points, kGrain, num_threads,
                        [&](int64_t begin, int64_t end) { work.run(begin, end); });
  });
}
