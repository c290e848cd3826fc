// A warp per ray takes 32 samples at a time; what lies in front of a lane are the lanes below it and what was
// carried over from the samples before.
#include "distortion.h"
#include "common/warp_cuda.h"

namespace renderpretrain {

// The walk of csrc/distortion_cpu.cpp by 32 samples, front to back or back to front.
template <typename T>
struct WarpMet {
  T mass = 0, spread = 0, here = 0;  // behind the last lane

  // For this lane's sample, which must weigh nothing where there is none, the mass met and its spread.
  __device__ void go_to(T weight, T middle, int lane, T* met_mass, T* met_spread) {
    const T mass_here = mass + sum_up_to(weight, lane);
    *met_mass = from_below(mass_here, mass, lane);
    const T distance = middle - from_below(middle, here, lane);
    *met_spread = spread + sum_up_to(*met_mass * (distance < 0 ? -distance : distance), lane);
    mass = of_last_lane(mass_here);
    spread = of_last_lane(*met_spread);
    here = of_last_lane(middle);
  }
};

template <typename T>
__global__ void distortion_loss_kernel(Intervals<T> intervals, Segments rays, int64_t num_rays, T* losses) {
  const int64_t ray = thread_index() / kWarp;
  const int lane = static_cast<int>(thread_index() % kWarp);
  if (ray >= num_rays) return;  // whole warps leave together
  const int64_t begin = rays.begin(ray), end = rays.begin(ray + 1);
  WarpMet<T> front;
  T loss = 0;
  for (int64_t i = begin + lane; i - lane < end; i += kWarp) {
    const bool inside = i < end;
    const T weight = inside ? intervals.weights[i] : T(0);
    T mass, spread;
    front.go_to(weight, inside ? intervals.middle(i) : T(0), lane, &mass, &spread);
    if (inside) loss += distortion_of(weight, intervals.length(i), spread);
  }
  loss = of_last_lane(sum_up_to(loss, lane));
  if (lane == 0) losses[ray] = loss;
}

template <typename T>
__global__ void distortion_loss_backward_kernel(const T* grad, Intervals<T> intervals, Segments rays,
                                                int64_t num_rays, T* by_weights, T* by_starts, T* by_ends) {
  const int64_t ray = thread_index() / kWarp;
  const int lane = static_cast<int>(thread_index() % kWarp);
  if (ray >= num_rays) return;  // whole warps leave together
  const int64_t begin = rays.begin(ray), end = rays.begin(ray + 1);
  WarpMet<T> front, behind;
  T mass, spread;
  for (int64_t i = begin + lane; i - lane < end; i += kWarp) {
    const bool inside = i < end;
    const T weight = inside ? intervals.weights[i] : T(0);
    front.go_to(weight, inside ? intervals.middle(i) : T(0), lane, &mass, &spread);
    if (inside) by_weights[i] = spread;
    if (inside && by_starts != nullptr) by_starts[i] = mass;
  }
  __syncwarp();  // the same samples fall to other lanes on the way back
  for (int64_t i = end - 1 - lane; i + lane >= begin; i -= kWarp) {
    const bool inside = i >= begin;
    const T weight = inside ? intervals.weights[i] : T(0);
    behind.go_to(weight, inside ? intervals.middle(i) : T(0), lane, &mass, &spread);
    if (!inside) continue;
    by_weights[i] = grad[ray] * distortion_by_weight(weight, intervals.length(i), by_weights[i] + spread);
    if (by_starts != nullptr) {
      distortion_by_ends(grad[ray], weight, by_starts[i] - mass, by_starts + i, by_ends + i);
    }
  }
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_distortion_loss_cuda(int64_t type, const void* weights, const void* t_starts, const void* t_ends,
                            const int64_t* offsets, int64_t num_rays, int64_t num_samples, void* losses,
                            void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Intervals<T> intervals{static_cast<const T*>(weights), static_cast<const T*>(t_starts),
                                 static_cast<const T*>(t_ends)};
    return launch(distortion_loss_kernel<T>, num_rays * kWarp, stream, intervals,
                  Segments{offsets, num_samples}, num_rays, static_cast<T*>(losses));
  });
}

int rp_distortion_loss_backward_cuda(int64_t type, const void* grad, const void* weights,
                                     const void* t_starts, const void* t_ends, const int64_t* offsets,
                                     int64_t num_rays, int64_t num_samples, void* by_weights, void* by_starts,
                                     void* by_ends, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Intervals<T> intervals{static_cast<const T*>(weights), static_cast<const T*>(t_starts),
                                 static_cast<const T*>(t_ends)};
    return launch(distortion_loss_backward_kernel<T>, num_rays * kWarp, stream, static_cast<const T*>(grad),
                  intervals, Segments{offsets, num_samples}, num_rays, static_cast<T*>(by_weights),
                  static_cast<T*>(by_starts), static_cast<T*>(by_ends));
  });
}
