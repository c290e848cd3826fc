#include "composite_cuda.h"

namespace renderpretrain {

// A warp per ray; whole warps leave together.
template <typename T>
__global__ void composite_kernel(const T* alphas, const bool* valid, int64_t num_rays, int64_t num_samples,
                                 T* weights) {
  const int64_t ray = thread_index() / kWarp, row = ray * num_samples;
  if (ray >= num_rays) return;
  composite_by_warp([=](int64_t i) { return alphas[row + i]; }, valid ? valid + row : nullptr, num_samples,
                    T(0), [=](int64_t i, T weight) { weights[row + i] = weight; });
}

template <typename T>
__global__ void composite_backward_kernel(const T* grad_weights, const T* alphas, const bool* valid,
                                          int64_t num_rays, int64_t num_samples, T* grad_alphas) {
  const int64_t ray = thread_index() / kWarp, row = ray * num_samples;
  if (ray >= num_rays) return;
  composite_by_warp_backward([=](int64_t i) { return grad_weights[row + i]; }, alphas + row,
                             valid ? valid + row : nullptr, num_samples, T(0), grad_alphas + row);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_composite_cuda(int64_t type, const void* alphas, const bool* valid, int64_t num_rays,
                      int64_t num_samples, void* weights, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return launch(composite_kernel<T>, num_rays * kWarp, stream, static_cast<const T*>(alphas), valid,
                  num_rays, num_samples, static_cast<T*>(weights));
  });
}

int rp_composite_backward_cuda(int64_t type, const void* grad_weights, const void* alphas, const bool* valid,
                               int64_t num_rays, int64_t num_samples, void*, void* grad_alphas,
                               void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return launch(composite_backward_kernel<T>, num_rays * kWarp, stream, static_cast<const T*>(grad_weights),
                  static_cast<const T*>(alphas), valid, num_rays, num_samples, static_cast<T*>(grad_alphas));
  });
}
