#include "neus_cpu.h"
#include "common/parallel.h"

using namespace renderpretrain;

int rp_neus_alphas_cpu(int64_t type, const void* sdf, const void* cosines, const void* deltas,
                       const void* inv_s, int64_t count, void* alphas, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const NeusArrays<const T> from(sdf, cosines, deltas);
    return parallel_for(count, RP_PART, num_threads, [&](int64_t begin, int64_t end) {
      neus_row(from.from(begin), *static_cast<const T*>(inv_s), end - begin, static_cast<T*>(alphas) + begin);
    });
  });
}

int rp_neus_alphas_backward_cpu(int64_t type, const void* grad_alphas, const void* sdf, const void* cosines,
                                const void* deltas, const void* inv_s, int64_t count, void* grad_sdf,
                                void* grad_cosines, void* grad_deltas, double* inv_s_parts, void* grad_inv_s,
                                int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const NeusArrays<const T> from(sdf, cosines, deltas);
    const NeusArrays<T> to(grad_sdf, grad_cosines, grad_deltas);
    const int64_t num_parts = RP_NUM_PARTS(count);
    const int code = parallel_for(num_parts, 1, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t first = part * RP_PART;
        inv_s_parts[part] = neus_row_backward(static_cast<const T*>(grad_alphas) + first, from.from(first),
                                              *static_cast<const T*>(inv_s),
                                              std::min<int64_t>(RP_PART, count - first), to.from(first));
      }
    });
    *static_cast<T*>(grad_inv_s) = static_cast<T>(sum_parts(inv_s_parts, num_parts));
    return code;
  });
}
