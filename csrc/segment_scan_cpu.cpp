#include "segment_scan.h"

#include <cmath>
#include <limits>

#include "common/parallel.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 64;  // rays; tens of microseconds of work

// A product this small is denormal, and each further one would cost a hundred cycles.
template <typename T>
RP_HOST_DEVICE bool is_denormal(T product) {
  return std::abs(product) < std::numeric_limits<T>::min();
}

// states[i] is the state before sample i. Four samples are made into one first, off the chain of states, in
// which every operation waits for the one before.
template <typename Walk, typename T>
RP_HOST_DEVICE void scan_ray(const Walk& walk, bool dims, T state, T* states) {
  int64_t i = 0;
  for (; i + 4 <= walk.count && !(dims && is_denormal(state)); i += 4) {
    const auto a = walk.step(i), b = walk.step(i + 1), c = walk.step(i + 2), d = walk.step(i + 3);
    const auto ab = a.then(b);
    states[walk.place(i)] = state;
    states[walk.place(i + 1)] = a(state);
    states[walk.place(i + 2)] = ab(state);
    states[walk.place(i + 3)] = ab.then(c)(state);
    state = ab.then(c.then(d))(state);
  }
  if (dims && is_denormal(state)) state = 0;
  for (; i < walk.count; ++i) {
    states[walk.place(i)] = state;
    state = walk.step(i)(state);
  }
}

template <typename T, bool kFactors, bool kValues>
int scan(const T* factors, const T* values, const Segments& rays, int64_t num_rays, bool reverse, T* states,
         int64_t num_threads) {
  return parallel_for(num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) {
      const auto walk = walk_ray<T, kFactors, kValues>(rays, ray, reverse, factors, values);
      scan_ray(walk, !kValues, kStart<T, kValues>, states);
    }
  });
}

}  // namespace

int rp_segment_scan_cpu(int64_t type, void* states, const void* factors, const void* values,
                        const int64_t* offsets, int64_t num_rays, int64_t num_samples, int64_t reverse,
                        int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto run = factors == nullptr  ? scan<T, false, true>
                     : values == nullptr ? scan<T, true, false>
                                         : scan<T, true, true>;
    return run(static_cast<const T*>(factors), static_cast<const T*>(values), {offsets, num_samples},
               num_rays, reverse != 0, static_cast<T*>(states), num_threads);
  });
}
