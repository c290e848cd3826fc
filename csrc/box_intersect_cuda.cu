#include "box_intersect.h"
#include "common/launch_cuda.h"

namespace renderpretrain {

template <typename T>
__global__ void box_intersect_kernel(const T* origins, const T* directions, int64_t num_rays, Box<T> box,
                                     T* t_near, T* t_far, bool* hit) {
  const int64_t ray = thread_index();
  if (ray >= num_rays) return;
  hit[ray] = box_intersect_ray(box, origins + 3 * ray, directions + 3 * ray, t_near + ray, t_far + ray);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_box_intersect_cuda(int64_t type, const void* origins, const void* directions, int64_t num_rays,
                          const rp_box* box, void* t_near, void* t_far, bool* hit, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return launch(box_intersect_kernel<T>, num_rays, stream, static_cast<const T*>(origins),
                  static_cast<const T*>(directions), num_rays, Box<T>(*box), static_cast<T*>(t_near),
                  static_cast<T*>(t_far), hit);
  });
}
