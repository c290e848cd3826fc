#include "composite_values.h"

#include "parallel.h"

using namespace renderpretrain;

constexpr int64_t kGrain = 16;  // rays; tens of microseconds of work

int rp_composite_values_cpu(int64_t type, const void* alphas, const void* values, const void* t,
                            const bool* valid, const rp_rays* rays, void* out, void* depth, void* opacity,
                            void* weights, int64_t num_threads) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const CompositeRays<T, decltype(stored)> work(rays, values, t, valid);
    return parallel_for(rays->num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        const int64_t row = ray * rays->num_samples;
        work.forward(ray, static_cast<const T*>(alphas) + row, static_cast<T*>(out), static_cast<T*>(depth),
                     static_cast<T*>(opacity), static_cast<T*>(weights) + row);
      }
    });
  });
}

int rp_composite_values_backward_cpu(int64_t type, const void* alphas, const void* values, const void* t,
                                     const bool* valid, const void* depth, const void* opacity,
                                     const void* weights, const void* grad_out, const void* grad_depth,
                                     const void* grad_opacity, const void* grad_weights, const rp_rays* rays,
                                     void*, void* grad_alphas, void* grad_values, int64_t num_threads) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const CompositeRays<T, decltype(stored)> work(rays, values, t, valid);
    const RayGradients<T> grads(grad_out, grad_depth, grad_opacity, grad_weights, depth, opacity);
    return parallel_for(rays->num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        const int64_t row = ray * rays->num_samples;
        T* const into = static_cast<T*>(grad_alphas) + row;
        work.backward(ray, static_cast<const T*>(alphas) + row, grads, into,
                      [&](int64_t i, int count, const T* found) { std::copy_n(found, count, into + i); });
        if (!grad_values) continue;
        work.values.spread(ray, grads.grad_out, static_cast<const T*>(weights) + row,
                           static_cast<T*>(grad_values));
      }
    });
  });
}
