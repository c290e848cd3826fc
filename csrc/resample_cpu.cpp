#include "resample.h"

#include <algorithm>

#include "common/parallel.h"

using namespace renderpretrain;

constexpr int64_t kGrain = 16;  // rays; tens of microseconds of work

int rp_resample_cpu(int64_t type, const void* edges, const void* weights, const void* u, int64_t num_rays,
                    int64_t num_bins, int64_t count, double* cdf, void* positions, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return parallel_for(num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      double* const mass = cdf + begin * num_bins;  // one row, the range's own, serves all its rays
      for (int64_t ray = begin; ray < end; ++ray) {
        accumulate_mass(static_cast<const T*>(weights) + ray * num_bins, num_bins, mass);
        int64_t bins[kTogether];
        for (int64_t i = 0; i < count; i += kTogether) {
          const int some = static_cast<int>(std::min<int64_t>(kTogether, count - i));
          quantiles(static_cast<const T*>(edges) + ray * (num_bins + 1), mass, num_bins,
                    static_cast<const T*>(u) + ray * count + i, some,
                    static_cast<T*>(positions) + ray * count + i, bins);
        }
      }
    });
  });
}
