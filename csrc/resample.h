// Quantiles of a histogram: the arithmetic both devices share.
#pragma once

#include "host_device.h"

namespace renderpretrain {

// First i in [0, count) with cdf[i] > target (or >= target where `reached`); count if there is none.
// Quantiles come in any order, so the halves are chosen without a branch that a CPU could mispredict.
RP_HOST_DEVICE int64_t first_above(const double* cdf, int64_t count, double target, bool reached) {
  int64_t low = 0;
  while (count > 0) {
    const int64_t half = count / 2;
    const double mass = cdf[low + half];
    const bool above = reached ? mass >= target : mass > target;
    low = above ? low : low + half + 1;
    count = above ? half : count - half - 1;
  }
  return low;
}

// cdf[i] = mass of the bins up to and including i; without any mass every bin gets 1.
template <typename T>
RP_HOST_DEVICE void accumulate_mass(const T* weights, int64_t num_bins, double* cdf) {
  double total = 0;
  for (int64_t i = 0; i < num_bins; ++i) {
    total += weights[i] > 0 ? static_cast<double>(weights[i]) : 0.0;
    cdf[i] = total;
  }
  if (total > 0) return;
  for (int64_t i = 0; i < num_bins; ++i) cdf[i] = static_cast<double>(i + 1);
}

// A bin i found by cdf[i] > target has mass: cdf[i - 1] <= target < cdf[i]. Where rounding or u = 1 leaves no
// such bin, the last bin with mass is the first whose cdf is the total.
template <typename T>
RP_HOST_DEVICE T quantile(const T* edges, const double* cdf, int64_t num_bins, T u) {
  const double total = cdf[num_bins - 1];
  const double clipped = u > 0 ? (u < 1 ? static_cast<double>(u) : 1.0) : 0.0;
  const double target = clipped * total;
  const int64_t bin = first_above(cdf, num_bins, target, false);
  if (bin == num_bins) return edges[first_above(cdf, num_bins, total, true) + 1];
  const double before = bin > 0 ? cdf[bin - 1] : 0.0;
  const double fraction = (target - before) / (cdf[bin] - before);
  const double low = edges[bin], high = edges[bin + 1];
  return static_cast<T>(low + fraction * (high - low));
}

}  // namespace renderpretrain
