#include "composite.h"

#include "parallel.h"

using namespace renderpretrain;

constexpr int64_t kGrain = 64;  // rays; tens of microseconds of work

int rp_composite_cpu(int64_t type, const void* alphas, const bool* valid, int64_t num_rays, int64_t num_samples,
                     void* weights, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return parallel_for(num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        const int64_t row = ray * num_samples;
        composite_ray(static_cast<const T*>(alphas) + row, valid ? valid + row : nullptr, num_samples, T(0),
                      static_cast<T*>(weights) + row);
      }
    });
  });
}

int rp_composite_backward_cpu(int64_t type, const void* grad_weights, const void* alphas,
                              const bool* valid, int64_t num_rays, int64_t num_samples, void* grad_alphas,
                              int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return parallel_for(num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        const int64_t row = ray * num_samples;
        composite_ray_backward(static_cast<const T*>(grad_weights) + row, static_cast<const T*>(alphas) + row,
                               valid ? valid + row : nullptr, num_samples, T(0),
                               static_cast<T*>(grad_alphas) + row);
      }
    });
  });
}
