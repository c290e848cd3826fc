#include <algorithm>

#include "composite_cpu.h"

using namespace renderpretrain;

int rp_composite_cpu(int64_t type, const void* alphas, const bool* valid, int64_t num_rays,
                     int64_t num_samples, void* weights, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return for_groups<T>(num_rays, num_samples, valid, 0, num_threads, [&](const auto& group, int64_t ray) {
      const int64_t row = ray * num_samples;
      group.composite(static_cast<const T*>(alphas) + row, static_cast<T*>(weights) + row);
    });
  });
}

int rp_composite_backward_cpu(int64_t type, const void* grad_weights, const void* alphas, const bool* valid,
                              int64_t num_rays, int64_t num_samples, void* scratch, void* grad_alphas,
                              int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return for_groups<T>(num_rays, num_samples, valid, 0, num_threads, [&](const auto& group, int64_t ray) {
      const int64_t row = ray * num_samples;
      const T* const given = static_cast<const T*>(alphas) + row;
      T* const transmittances = static_cast<T*>(scratch) + ray * group.num_tiles();
      T* const grads = static_cast<T*>(grad_alphas) + row;
      int64_t reach[kLanes];
      group.trace(given, transmittances, reach);
      std::copy_n(static_cast<const T*>(grad_weights) + row, group.num_rays * num_samples, grads);
      for (int64_t k = 0; k < group.num_rays; ++k) {
        std::fill(grads + k * num_samples + reach[k], grads + (k + 1) * num_samples, T(0));
      }
      group.go_back(given, transmittances, grads);
    });
  });
}
