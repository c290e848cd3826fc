#include "distortion.h"

#include <cmath>

#include "common/parallel.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 64;  // rays; tens of microseconds of work

// What a walk along a ray, in either direction, has met: the mass, and its spread as seen from here.
template <typename T>
struct Met {
  T mass = 0, spread = 0, here = 0;

  RP_HOST_DEVICE void go_to(T middle) {
    spread += mass * std::abs(middle - here);
    here = middle;
  }
};

template <typename T>
RP_HOST_DEVICE T loss_of_ray(const Intervals<T>& ray, int64_t begin, int64_t end) {
  Met<T> front;
  T loss = 0;
  for (int64_t i = begin; i < end; ++i) {
    front.go_to(ray.middle(i));
    loss += distortion_of(ray.weights[i], ray.length(i), front.spread);
    front.mass += ray.weights[i];
  }
  return loss;
}

// Front to back and back again; what the first walk met waits in the results. by_starts and by_ends may be
// null.
template <typename T>
RP_HOST_DEVICE void gradient_of_ray(const Intervals<T>& ray, T grad, int64_t begin, int64_t end,
                                    T* by_weights, T* by_starts, T* by_ends) {
  Met<T> front, behind;
  for (int64_t i = begin; i < end; ++i) {
    front.go_to(ray.middle(i));
    by_weights[i] = front.spread;
    if (by_starts != nullptr) by_starts[i] = front.mass;
    front.mass += ray.weights[i];
  }
  for (int64_t i = end - 1; i >= begin; --i) {
    const T weight = ray.weights[i];
    behind.go_to(ray.middle(i));
    by_weights[i] = grad * distortion_by_weight(weight, ray.length(i), by_weights[i] + behind.spread);
    if (by_starts != nullptr) {
      distortion_by_ends(grad, weight, by_starts[i] - behind.mass, by_starts + i, by_ends + i);
    }
    behind.mass += weight;
  }
}

}  // namespace

int rp_distortion_loss_cpu(int64_t type, const void* weights, const void* t_starts, const void* t_ends,
                           const int64_t* offsets, int64_t num_rays, int64_t num_samples, void* losses,
                           int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Segments rays{offsets, num_samples};
    const Intervals<T> intervals{static_cast<const T*>(weights), static_cast<const T*>(t_starts),
                                 static_cast<const T*>(t_ends)};
    return parallel_for(num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        static_cast<T*>(losses)[ray] = loss_of_ray(intervals, rays.begin(ray), rays.begin(ray + 1));
      }
    });
  });
}

int rp_distortion_loss_backward_cpu(int64_t type, const void* grad, const void* weights, const void* t_starts,
                                    const void* t_ends, const int64_t* offsets, int64_t num_rays,
                                    int64_t num_samples, void* by_weights, void* by_starts, void* by_ends,
                                    int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Segments rays{offsets, num_samples};
    const Intervals<T> intervals{static_cast<const T*>(weights), static_cast<const T*>(t_starts),
                                 static_cast<const T*>(t_ends)};
    return parallel_for(num_rays, kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t ray = begin; ray < end; ++ray) {
        gradient_of_ray(intervals, static_cast<const T*>(grad)[ray], rays.begin(ray), rays.begin(ray + 1),
                        static_cast<T*>(by_weights), static_cast<T*>(by_starts), static_cast<T*>(by_ends));
      }
    });
  });
}
