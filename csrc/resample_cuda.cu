// A thread per ray sums its weights; then a thread per quantile searches.
#include "common/launch_cuda.h"
#include "resample.h"

namespace renderpretrain {

template <typename T>
__global__ void mass_kernel(const T* weights, int64_t num_rays, int64_t num_bins, double* cdf) {
  const int64_t ray = thread_index();
  if (ray < num_rays) accumulate_mass(weights + ray * num_bins, num_bins, cdf + ray * num_bins);
}

template <typename T>
__global__ void quantile_kernel(const T* edges, const double* cdf, const T* u, int64_t num_bins,
                                int64_t count, int64_t total, T* positions) {
  const int64_t i = thread_index();
  if (i >= total) return;
  const int64_t ray = i / count;
  int64_t bin;
  positions[i] = quantile(edges + ray * (num_bins + 1), cdf + ray * num_bins, num_bins, u[i], &bin);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_resample_cuda(int64_t type, const void* edges, const void* weights, const void* u, int64_t num_rays,
                     int64_t num_bins, int64_t count, double* cdf, void* positions, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int code =
        launch(mass_kernel<T>, num_rays, stream, static_cast<const T*>(weights), num_rays, num_bins, cdf);
    if (code != RP_OK) return code;
    return launch(quantile_kernel<T>, num_rays * count, stream, static_cast<const T*>(edges), cdf,
                  static_cast<const T*>(u), num_bins, count, num_rays * count, static_cast<T*>(positions));
  });
}
