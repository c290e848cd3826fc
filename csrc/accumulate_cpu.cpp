#include "composite_values_cpu.h"

using namespace renderpretrain;

constexpr int64_t kGrain = 16;  // rays; tens of microseconds of work

int rp_accumulate_cpu(int64_t type, const void* weights, const void* values, const rp_rays* rays, void* out,
                      int64_t num_threads) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const RayValues<T, decltype(stored)> work(rays, values);
    return parallel_for(rays->num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        work.sum(ray, static_cast<const T*>(weights) + ray * rays->num_samples, static_cast<T*>(out));
      }
    });
  });
}

int rp_accumulate_backward_cpu(int64_t type, const void* grad_out, const void* weights, const void* values,
                               const rp_rays* rays, void* grad_weights, void* grad_values,
                               int64_t num_threads) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const RayValues<T, decltype(stored)> work(rays, values);
    const T* const grad = static_cast<const T*>(grad_out);
    return parallel_for(rays->num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        const int64_t row = ray * rays->num_samples;
        if (grad_weights) {
          work.multiply(ray, grad, nullptr, rays->num_samples, static_cast<T*>(grad_weights) + row);
        }
        if (grad_values) {
          work.spread(ray, grad, static_cast<const T*>(weights) + row, static_cast<T*>(grad_values));
        }
      }
    });
  });
}
