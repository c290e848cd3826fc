// Where NeuS asks its field again: the arithmetic both devices share. The sections between neighbouring
// positions of a ray are the bins of a histogram.
#pragma once

#include <cmath>

#include "common/host_device.h"
#include "resample.h"

#ifndef __CUDACC__
#include "common/vector_math.h"
#endif

namespace renderpretrain {

using std::exp;

constexpr double kSectionEpsilon = 1e-5;  // keeps the quotients finite; the value of NeuS
constexpr double kPadding = 1e-5;         // mass every section gets
constexpr double kSteepest = 1e3;         // of the distance along the ray

// The comparisons let NaN pass. V is T or a vector of it.
template <typename T, typename V>
RP_HOST_DEVICE V at_most(V value, T limit) {
  return value > limit ? limit - V{} : value;
}

template <typename T, typename V>
RP_HOST_DEVICE V section_slope(V delta, V sdf, V next_sdf) {
  return (next_sdf - sdf) / (delta + T(kSectionEpsilon));
}

// (enter - leave + epsilon) / (enter + epsilon) for the logistic CDFs enter = 1 / (1 + a) and leave =
// 1 / (1 + b) at the two ends, multiplied out: one division, and no cancellation where both are nearly one.
// Past the largest exponent a CDF is nothing beside epsilon, and products stay finite.
template <typename T, typename V>
RP_HOST_DEVICE V section_alpha(V delta, V sdf, V next_sdf, V slope, V slope_before, T inv_s) {
  const T most = sizeof(T) == sizeof(float) ? T(40) : T(300);
  V smaller = slope_before < slope ? slope_before : slope;
  smaller = at_most<T>(smaller, T(0));
  smaller = -at_most<T>(V(-smaller), T(kSteepest));
  const V middle = T(0.5) * (sdf + next_sdf);
  const V drop = T(0.5) * smaller * delta;
  const V a = exp(at_most<T>(V((drop - middle) * inv_s), most));
  const V b = exp(at_most<T>(V((-drop - middle) * inv_s), most));
  const V epsilon = T(kSectionEpsilon) * ((a + T(1)) * (b + T(1)));
  return (b - a + epsilon) / (b + T(1) + epsilon);
}

// From the opacities of the sections to the running sum of their compositing weights, rounded to T, and
// padding, in place. NaN counts as no mass, as in resample.
template <typename T>
RP_HOST_DEVICE void accumulate_sections(int64_t num_sections, double* mass) {
  double transmittance = 1, total = 0;
  int64_t i = 0;
  // Past the dark there is only padding, and no denormal numbers, which are slow.
  for (; i < num_sections && !(transmittance < 1e-25); ++i) {
    const T weight = static_cast<T>(mass[i] * transmittance) + T(kPadding);
    transmittance *= 1 - mass[i];
    total += weight > 0 ? static_cast<double>(weight) : 0.0;
    mass[i] = total;
  }
  for (; i < num_sections; ++i) {
    total += static_cast<double>(T(kPadding));
    mass[i] = total;
  }
  if (!(total > 0)) spread_evenly(num_sections, mass);
}

}  // namespace renderpretrain
