#include "neus_cuda.h"

using namespace renderpretrain;

int rp_neus_alphas_cuda(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                        const void* inv_s, int64_t count, void* alphas, void* stream) {
  return with_type(type, [&](auto zero) {
    return neus_alphas(sdf, cosines, deltas, inv_s, count, static_cast<decltype(zero)*>(alphas), stream);
  });
}

int rp_neus_alphas_backward_cuda(int64_t type, const void* grad_alphas, const void* sdf, const void* cosines,
                                 const void* deltas, const void* inv_s, int64_t count, void* grad_sdf,
                                 void* grad_cosines, void* grad_deltas, double* inv_s_parts, void* grad_inv_s,
                                 void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return neus_alphas_backward(static_cast<const T*>(grad_alphas), sdf, cosines, deltas, inv_s, count,
                                static_cast<T*>(grad_sdf), static_cast<T*>(grad_cosines),
                                static_cast<T*>(grad_deltas), inv_s_parts, grad_inv_s, stream);
  });
}
