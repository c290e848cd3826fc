#include "neus_cuda.h"
#include "composite_values_cuda.h"

using namespace renderpretrain;

int rp_neus_render_cuda(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                        const void* inv_s, const void* values, const void* t, const bool* valid,
                        const rp_rays* rays, void* out, void* depth, void* opacity, void* weights,
                        void* stream) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const NeusAlphas<T> alphas{static_cast<const T*>(sdf), static_cast<const T*>(cosines),
                               static_cast<const T*>(deltas), static_cast<const T*>(inv_s)};
    return composite_outputs<T, decltype(stored)>(*rays, alphas, values, t, valid, out, depth, opacity,
                                                  weights, stream);
  });
}

// Until they get their own, grad_cosines holds the alphas, grad_deltas the gradients by the weights and
// grad_sdf those by the alphas.
int rp_neus_render_backward_cuda(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                                 const void* inv_s, const void* values, const void* t, const bool* valid,
                                 const void* depth, const void* opacity, const void* weights,
                                 const void* grad_out, const void* grad_depth, const void* grad_opacity,
                                 const void* grad_weights, const rp_rays* rays, void*, void* grad_sdf,
                                 void* grad_cosines, void* grad_deltas, double* inv_s_parts, void* grad_inv_s,
                                 void* grad_values, void* stream) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    T *const by_sdf = static_cast<T*>(grad_sdf), *const by_cosines = static_cast<T*>(grad_cosines),
             *const by_deltas = static_cast<T*>(grad_deltas);
    const RayGradients<T> grads(grad_out, grad_depth, grad_opacity, grad_weights, depth, opacity);
    const int64_t count = rays->num_rays * rays->num_samples;
    int code = neus_alphas(sdf, cosines, deltas, inv_s, count, by_cosines, stream);
    if (code != RP_OK) return code;
    code = composite_outputs_backward<T, decltype(stored)>(*rays, by_cosines, values, t, valid, weights,
                                                           grads, by_deltas, by_sdf, grad_values, stream);
    if (code != RP_OK) return code;
    return neus_alphas_backward<T>(by_sdf, sdf, cosines, deltas, inv_s, count, by_sdf, by_cosines, by_deltas,
                                   inv_s_parts, grad_inv_s, stream);
  });
}
