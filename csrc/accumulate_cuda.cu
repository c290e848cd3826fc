#include "composite_values_cuda.h"

using namespace renderpretrain;

int rp_accumulate_cuda(int64_t type, const void* weights, const void* values, const rp_rays* rays, void* out,
                       void* stream) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    return sum_values<T, decltype(stored)>(*rays, values, static_cast<const T*>(weights), out, stream);
  });
}

int rp_accumulate_backward_cuda(int64_t type, const void* grad_out, const void* weights, const void* values,
                                const rp_rays* rays, void* grad_weights, void* grad_values, void* stream) {
  return with_types(type, rays->stored_type, [&](auto zero, auto stored) {
    return multiply_values<decltype(zero), decltype(stored)>(*rays, values, nullptr, grad_out, weights,
                                                             grad_weights, grad_values, stream);
  });
}
