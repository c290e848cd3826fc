#include "box_intersect.h"

#include "common/parallel.h"

using namespace renderpretrain;

constexpr int64_t kGrain = 1024;  // rays; tens of microseconds of work

int rp_box_intersect_cpu(int64_t type, const void* origins, const void* directions, int64_t num_rays,
                         const rp_box* box, void* t_near, void* t_far, bool* hit, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Box<T> bounds(*box);
    return parallel_for(num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        hit[ray] = box_intersect_ray(bounds, static_cast<const T*>(origins) + 3 * ray,
                                     static_cast<const T*>(directions) + 3 * ray,
                                     static_cast<T*>(t_near) + ray, static_cast<T*>(t_far) + ray);
      }
    });
  });
}
