#include "neus_upsample.h"

#include <algorithm>

#include "common/parallel.h"
#include "common/vector.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 32;  // rays; tens of microseconds of work

template <typename T>
struct Upsample {
  const T *positions, *sdf, *u;
  int64_t num_positions, count, u_stride;
  T inv_s;
  T* out;

  // The opacities of a ray's sections, sixteen at a time.
  RP_HOST_DEVICE void fill_alphas(const T* t, const T* distance, double* mass) const {
    T slopes[1 + kLanes] = {};  // the last one of the sections before, and these
    for (int64_t i = 0; i < num_positions - 1; i += kLanes) {
      const int64_t left = num_positions - 1 - i;
      const bool whole = left >= kLanes;
      const auto read = [&](const T* from) { return whole ? load(from) : load_some(from, int(left)); };
      const Vector<T> delta = read(t + i + 1) - read(t + i);
      const Vector<T> first = read(distance + i), second = read(distance + i + 1);
      const Vector<T> slope = section_slope<T>(delta, first, second);
      store(slopes + 1, slope);
      const Vector<T> alpha = section_alpha(delta, first, second, slope, load(slopes), inv_s);
      const Vector<double> wide = __builtin_convertvector(alpha, Vector<double>);
      whole ? store(mass + i, wide) : store_some(mass + i, wide, int(left));
      slopes[0] = slopes[kLanes];
    }
  }

  // The search for a quantile says how many positions lie before it.
  RP_HOST_DEVICE void merge(const T* t, const T* ray_u, const double* mass, T* merged) const {
    int64_t next = 0;
    for (int64_t i = 0; i < count; i += kTogether) {
      const int some = static_cast<int>(std::min<int64_t>(kTogether, count - i));
      T places[kTogether];
      int64_t sections[kTogether];
      quantiles(t, mass, num_positions - 1, ray_u + i, some, places, sections);
      for (int k = 0; k < some; ++k) {
        for (; next <= sections[k]; ++next) merged[next + i + k] = t[next];
        merged[next + i + k] = places[k];
      }
    }
    for (; next < num_positions; ++next) merged[next + count] = t[next];
  }

  RP_HOST_DEVICE void run(int64_t begin, int64_t end, double* mass) const {
    for (int64_t ray = begin; ray < end; ++ray) {
      const T* const t = positions + ray * num_positions;
      fill_alphas(t, sdf + ray * num_positions, mass);
      accumulate_sections<T>(num_positions - 1, mass);
      merge(t, u + ray * u_stride, mass, out + ray * (num_positions + count));
    }
  }
};

}  // namespace

int rp_neus_upsample_cpu(int64_t type, const void* positions, const void* sdf, const void* u,
                         int64_t num_rays, int64_t num_positions, int64_t count, int64_t u_stride,
                         double inv_s, double* mass, void* out, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Upsample<T> work{static_cast<const T*>(positions),
                           static_cast<const T*>(sdf),
                           static_cast<const T*>(u),
                           num_positions,
                           count,
                           u_stride,
                           static_cast<T>(inv_s),
                           static_cast<T*>(out)};
    return parallel_for(num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      // One row, the range's own, serves all its rays from the nearest cache.
      work.run(begin, end, mass + begin * (num_positions - 1));
    });
  });
}
