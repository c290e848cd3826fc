#include "composite.h"
#include "common/launch_cuda.h"

namespace renderpretrain {

template <typename T>
__global__ void composite_kernel(const T* alphas, const bool* valid, int64_t num_rays, int64_t num_samples,
                                 T* weights) {
  const int64_t ray = thread_index();
  const int64_t row = ray * num_samples;
  if (ray < num_rays)
    composite_ray(alphas + row, valid ? valid + row : nullptr, num_samples, T(0), weights + row);
}

template <typename T>
__global__ void composite_backward_kernel(const T* grad_weights, const T* alphas, const bool* valid,
                                          int64_t num_rays, int64_t num_samples, T* grad_alphas) {
  const int64_t ray = thread_index();
  const int64_t row = ray * num_samples;
  if (ray < num_rays)
    composite_ray_backward(grad_weights + row, alphas + row, valid ? valid + row : nullptr, num_samples, T(0),
                           grad_alphas + row);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_composite_cuda(int64_t type, const void* alphas, const bool* valid, int64_t num_rays,
                      int64_t num_samples, void* weights, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return launch(composite_kernel<T>, num_rays, stream, static_cast<const T*>(alphas), valid, num_rays,
                  num_samples, static_cast<T*>(weights));
  });
}

int rp_composite_backward_cuda(int64_t type, const void* grad_weights, const void* alphas, const bool* valid,
                               int64_t num_rays, int64_t num_samples, void*, void* grad_alphas,
                               void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return launch(composite_backward_kernel<T>, num_rays, stream, static_cast<const T*>(grad_weights),
                  static_cast<const T*>(alphas), valid, num_rays, num_samples, static_cast<T*>(grad_alphas));
  });
}
