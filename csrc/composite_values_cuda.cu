#include "composite_values_cuda.h"

using namespace renderpretrain;

int rp_composite_values_cuda(int64_t type, const void* alphas, const void* values, const void* t,
                             const bool* valid, const rp_rays* rays, void* out, void* depth, void* opacity,
                             void* weights, void* stream) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const GivenAlphas<T> given{static_cast<const T*>(alphas)};
    return composite_outputs<T, decltype(stored)>(*rays, given, values, t, valid, out, depth, opacity,
                                                  weights, stream);
  });
}

int rp_composite_values_backward_cuda(int64_t type, const void* alphas, const void* values, const void* t,
                                      const bool* valid, const void* depth, const void* opacity,
                                      const void* weights, const void* grad_out, const void* grad_depth,
                                      const void* grad_opacity, const void* grad_weights, const rp_rays* rays,
                                      void* scratch, void* grad_alphas, void* grad_values, void* stream) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    const RayGradients<T> grads(grad_out, grad_depth, grad_opacity, grad_weights, depth, opacity);
    return composite_outputs_backward<T, decltype(stored)>(*rays, static_cast<const T*>(alphas), values, t,
                                                           valid, weights, grads, static_cast<T*>(scratch),
                                                           static_cast<T*>(grad_alphas), grad_values, stream);
  });
}
