// A warp per ray takes 32 samples at a time: the steps up to each lane are made into one, which acts on the
// state the samples before have left.
#include "segment_scan.h"
#include "common/warp_cuda.h"

namespace renderpretrain {

template <typename T, bool kFactors, bool kValues>
__device__ Step<T, kFactors, kValues> steps_up_to(Step<T, kFactors, kValues> step, int lane) {
  for (int distance = 1; distance < kWarp; distance *= 2) {
    Step<T, kFactors, kValues> lower;
    if (kFactors) lower.factor = __shfl_up_sync(kWholeWarp, step.factor, distance);
    if (kValues) lower.value = __shfl_up_sync(kWholeWarp, step.value, distance);
    if (lane >= distance) step = lower.then(step);
  }
  return step;
}

template <typename T, bool kFactors, bool kValues>
__global__ void segment_scan_kernel(const T* factors, const T* values, Segments rays, int64_t num_rays,
                                    bool reverse, T* states) {
  const int64_t ray = thread_index() / kWarp;
  const int lane = static_cast<int>(thread_index() % kWarp);
  if (ray >= num_rays) return;  // whole warps leave together
  const auto walk = walk_ray<T, kFactors, kValues>(rays, ray, reverse, factors, values);
  T before = kStart<T, kValues>;
  for (int64_t i = lane; i - lane < walk.count; i += kWarp) {
    Step<T, kFactors, kValues> step;
    if (i < walk.count) step = walk.step(i);
    const T after = steps_up_to(step, lane)(before);
    const T state = from_below(after, before, lane);
    if (i < walk.count) states[walk.place(i)] = state;
    before = of_last_lane(after);
  }
}

template <typename T, bool kFactors, bool kValues>
int scan(const T* factors, const T* values, const Segments& rays, int64_t num_rays, bool reverse, T* states,
         void* stream) {
  return launch(segment_scan_kernel<T, kFactors, kValues>, num_rays * kWarp, stream, factors, values, rays,
                num_rays, reverse, states);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_segment_scan_cuda(int64_t type, void* states, const void* factors, const void* values,
                         const int64_t* offsets, int64_t num_rays, int64_t num_samples, int64_t reverse,
                         void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto run = factors == nullptr  ? scan<T, false, true>
                     : values == nullptr ? scan<T, true, false>
                                         : scan<T, true, true>;
    return run(static_cast<const T*>(factors), static_cast<const T*>(values), {offsets, num_samples},
               num_rays, reverse != 0, static_cast<T*>(states), stream);
  });
}
