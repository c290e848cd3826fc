#include "composite_values_cpu.h"
#include "neus_cpu.h"

using namespace renderpretrain;

int rp_neus_render_cpu(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                       const void* inv_s, const void* values, const void* t, const bool* valid,
                       const rp_rays* rays, void* out, void* depth, void* opacity, void* weights,
                       int64_t num_threads) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const CompositeRays<T, decltype(stored)> work(rays, values, t, valid);
    const NeusArrays<const T> from(sdf, cosines, deltas);
    return work.for_groups(num_threads, [&](const RayGroup<T>& group, int64_t ray) {
      const int64_t row = ray * rays->num_samples, count = group.num_rays * rays->num_samples;
      T* const alphas = static_cast<T*>(weights) + row;
      neus_row(from.from(row), *static_cast<const T*>(inv_s), count, alphas);
      work.forward(group, ray, alphas, static_cast<T*>(out), static_cast<T*>(depth), static_cast<T*>(opacity),
                   alphas);
    });
  });
}

int rp_neus_render_backward_cpu(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                                const void* inv_s, const void* values, const void* t, const bool* valid,
                                const void* depth, const void* opacity, const void* weights,
                                const void* grad_out, const void* grad_depth, const void* grad_opacity,
                                const void* grad_weights, const rp_rays* rays, void* scratch, void* grad_sdf,
                                void* grad_cosines, void* grad_deltas, double* inv_s_parts, void* grad_inv_s,
                                void* grad_values, int64_t num_threads) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const CompositeRays<T, decltype(stored)> work(rays, values, t, valid);
    const NeusArrays<const T> from(sdf, cosines, deltas);
    const NeusArrays<T> to(grad_sdf, grad_cosines, grad_deltas);
    const RayGradients<T> grads(grad_out, grad_depth, grad_opacity, grad_weights, depth, opacity);
    const T sharpness = *static_cast<const T*>(inv_s);
    const int code = work.for_groups(num_threads, [&](const RayGroup<T>& group, int64_t ray) {
      const int64_t row = ray * rays->num_samples, count = group.num_rays * rays->num_samples;
      // Until they get their own, grad_cosines holds the alphas and grad_sdf the gradients by them.
      const NeusArrays<T> here = to.from(row);
      neus_row(from.from(row), sharpness, count, here.cosines);
      work.backward(group, ray, here.cosines, grads, static_cast<T*>(scratch), here.sdf);
      inv_s_parts[ray / kLanes] = neus_row_backward(here.sdf, from.from(row), sharpness, count, here);
      work.spread(group, ray, grads, static_cast<const T*>(weights), static_cast<T*>(grad_values));
    });
    const int64_t num_groups = (rays->num_rays + kLanes - 1) / kLanes;
    *static_cast<T*>(grad_inv_s) = static_cast<T>(sum_parts(inv_s_parts, num_groups));
    return code;
  });
}
