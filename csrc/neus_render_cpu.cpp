#include "composite_values.h"
#include "neus_row.h"
#include "parallel.h"

using namespace renderpretrain;

constexpr int64_t kGrain = 16;  // rays; tens of microseconds of work

int rp_neus_render_cpu(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                       const void* inv_s, const void* values, const void* t, const bool* valid,
                       const rp_rays* rays, void* out, void* depth, void* opacity, void* weights,
                       int64_t num_threads) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const CompositeRays<T, decltype(stored)> work(rays, values, t, valid);
    const NeusArrays<const T> from(sdf, cosines, deltas);
    return parallel_for(rays->num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        const int64_t row = ray * rays->num_samples;
        T* const alphas = static_cast<T*>(weights) + row;
        neus_row(from.from(row), *static_cast<const T*>(inv_s), rays->num_samples, alphas);
        work.forward(ray, alphas, static_cast<T*>(out), static_cast<T*>(depth), static_cast<T*>(opacity),
                     alphas);
      }
    });
  });
}

int rp_neus_render_backward_cpu(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                                const void* inv_s, const void* values, const void* t, const bool* valid,
                                const void* depth, const void* opacity, const void* weights,
                                const void* grad_out, const void* grad_depth, const void* grad_opacity,
                                const void* grad_weights, const rp_rays* rays, void* grad_sdf,
                                void* grad_cosines, void* grad_deltas, double* inv_s_parts, void* grad_inv_s,
                                void* grad_values, int64_t num_threads) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const CompositeRays<T, decltype(stored)> work(rays, values, t, valid);
    const NeusArrays<const T> from(sdf, cosines, deltas);
    const NeusArrays<T> to(grad_sdf, grad_cosines, grad_deltas);
    const RayGradients<T> grads(grad_out, grad_depth, grad_opacity, grad_weights, depth, opacity);
    const T sharpness = *static_cast<const T*>(inv_s);
    const int code = parallel_for(rays->num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        const int64_t row = ray * rays->num_samples;
        const NeusArrays<const T> ray_from = from.from(row);
        const NeusArrays<T> ray_to = to.from(row);
        // Until they get their gradients, one row holds the alphas and one the transmittances.
        T* const alphas = ray_to.cosines;
        neus_row(ray_from, sharpness, rays->num_samples, alphas);
        inv_s_parts[ray] = 0;
        work.backward(ray, alphas, grads, ray_to.sdf, [&](int64_t i, int count, const T* found) {
          inv_s_parts[ray] += neus_row_backward(found, ray_from.from(i), sharpness, count, ray_to.from(i));
        });
        if (!grad_values) continue;
        work.values.spread(ray, grads.grad_out, static_cast<const T*>(weights) + row,
                           static_cast<T*>(grad_values));
      }
    });
    *static_cast<T*>(grad_inv_s) = static_cast<T>(sum_parts(inv_s_parts, rays->num_rays));
    return code;
  });
}
