#include "frustum_coordinates.h"

#include <algorithm>

#include "common/parallel.h"
#include "common/vector.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 4096;  // points; tens of microseconds of work

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
      const T* const matrix = matrices + 12 * view;
      const T* const from = points + view * point_stride + 3 * point;
      const int64_t left = std::min(end - begin, num_points - point);
      if (left >= kLanes) {
        project_some(matrix, from, kLanes, begin);
      } else {
        project_some(matrix, from, static_cast<int>(left), begin);
      }
      begin += std::min<int64_t>(left, kLanes);
    }
  }

  // Inlined twice, so that a full vector is copied without a loop.
  RP_HOST_DEVICE void project_some(const T* matrix, const T* from, int count, int64_t to) const {
    Vector<T> axis[3] = {};
    for (int i = 0; i < count; ++i) {
      for (int k = 0; k < 3; ++k) axis[k][i] = from[3 * i + k];
    }
    const auto inside = project(matrix, range, &axis[0], &axis[1], &axis[2]);
    for (int i = 0; i < count; ++i) {
      for (int k = 0; k < 3; ++k) coordinates[3 * (to + i) + k] = axis[k][i];
      valid[to + i] = inside[i] != 0;
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
                          {near, far, nearest},
                          static_cast<const T*>(points),
                          static_cast<const T*>(matrices),
                          static_cast<T*>(coordinates),
                          valid};
    return parallel_for(num_views * num_points, kGrain, num_threads,
                        [&](int64_t begin, int64_t end) { work.run(begin, end); });
  });
}
