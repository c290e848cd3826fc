#include "composite_values_cpu.h"

using namespace renderpretrain;

int rp_composite_values_cpu(int64_t type, const void* alphas, const void* values, const void* t,
                            const bool* valid, const rp_rays* rays, void* out, void* depth, void* opacity,
                            void* weights, int64_t num_threads) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const CompositeRays<T, decltype(stored)> work(rays, values, t, valid);
    return work.for_groups(num_threads, [&](const RayGroup<T>& group, int64_t ray) {
      const int64_t row = ray * rays->num_samples;
      work.forward(group, ray, static_cast<const T*>(alphas) + row, static_cast<T*>(out),
                   static_cast<T*>(depth), static_cast<T*>(opacity), static_cast<T*>(weights) + row);
    });
  });
}

int rp_composite_values_backward_cpu(int64_t type, const void* alphas, const void* values, const void* t,
                                     const bool* valid, const void* depth, const void* opacity,
                                     const void* weights, const void* grad_out, const void* grad_depth,
                                     const void* grad_opacity, const void* grad_weights, const rp_rays* rays,
                                     void* scratch, void* grad_alphas, void* grad_values,
                                     int64_t num_threads) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const CompositeRays<T, decltype(stored)> work(rays, values, t, valid);
    const RayGradients<T> grads(grad_out, grad_depth, grad_opacity, grad_weights, depth, opacity);
    return work.for_groups(num_threads, [&](const RayGroup<T>& group, int64_t ray) {
      const int64_t row = ray * rays->num_samples;
      work.backward(group, ray, static_cast<const T*>(alphas) + row, grads, static_cast<T*>(scratch),
                    static_cast<T*>(grad_alphas) + row);
      work.spread(group, ray, grads, static_cast<const T*>(weights), static_cast<T*>(grad_values));
    });
  });
}
