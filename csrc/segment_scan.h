// A linear recurrence along one ray: the arithmetic both devices share.
#pragma once

#include "common/segments.h"

namespace renderpretrain {

// What a sample does to the state: y -> factor * y + value. Without factors they are 1, without values 0.
template <typename T, bool kFactors, bool kValues>
struct Step {
  T factor = 1, value = 0;

  // This one and, after it, `next`.
  RP_HOST_DEVICE Step then(Step next) const {
    Step both;
    if (kFactors) both.factor = factor * next.factor;
    if (kValues) both.value = kFactors ? next.factor * value + next.value : value + next.value;
    return both;
  }

  RP_HOST_DEVICE T operator()(T state) const {
    const T scaled = kFactors ? factor * state : state;
    return kValues ? scaled + value : scaled;
  }
};

// One ray in the order it is walked: `way` is 1 front to back and -1 back to front.
template <typename T, bool kFactors, bool kValues>
struct Walk {
  using Step = renderpretrain::Step<T, kFactors, kValues>;

  const T *factors, *values;
  int64_t first, way, count;

  RP_HOST_DEVICE int64_t place(int64_t i) const { return first + way * i; }

  RP_HOST_DEVICE Step step(int64_t i) const {
    Step step;
    if (kFactors) step.factor = factors[place(i)];
    if (kValues) step.value = values[place(i)];
    return step;
  }
};

// Products start at 1, everything that adds at 0.
template <typename T, bool kValues>
constexpr T kStart = kValues ? T(0) : T(1);

template <typename T, bool kFactors, bool kValues>
RP_HOST_DEVICE Walk<T, kFactors, kValues> walk_ray(const Segments& rays, int64_t ray, bool reverse,
                                                   const T* factors, const T* values) {
  const int64_t begin = rays.begin(ray), count = rays.count(ray);
  return {factors, values, reverse ? begin + count - 1 : begin, reverse ? -1 : 1, count};
}

}  // namespace renderpretrain
